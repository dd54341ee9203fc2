"""The application: one page that says what runs, and in which order it starts and stops.

    HTTP -> raw log -> [ intake -> identity -> profile -> delivery ] -> outbound -> partners
                            |-> usage, archive

On the embedded log one Faust agent runs all stages (runtime/fused.py).
"""

import logging
import os
import sys
from collections.abc import Iterable
from typing import Any

import faust

from app.cluster.worker import ClusterWorker
from app.engine import TOPIC
from app.partitions import STAGES
from app.settings import Settings, WrongSetting, from_environment
from app.state import StateRefused
from app.worker import CannotStart, Worker
from transport import embedded
from transport.log import LogRefused

logger = logging.getLogger("watersmeet")


class Application(faust.App):
    """Faust's application, with the worker around its consumer."""

    worker: Worker

    class BootStrategy(faust.App.BootStrategy):
        """Faust's web server opens `/router` and `/table` to anyone: ours is the only one."""

        enable_web = False

    def on_init_dependencies(self) -> Iterable[Any]:
        """Open log and state before Faust makes its consumer, which would open the log too."""
        try:
            self.worker.open()
        except (CannotStart, LogRefused, StateRefused) as error:
            _give_up(error)
        return super().on_init_dependencies()

    async def on_started(self) -> None:
        """Consume, catch up, then listen."""
        await super().on_started()
        try:
            await self.worker.serve()
        except CannotStart as error:
            _give_up(error)

    async def on_stop(self) -> None:
        """Stop listening, then consuming."""
        await self.worker.stop_listening()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        """Write what was applied and let go of the folder."""
        await super().on_shutdown()
        await self.worker.close()


class ClusterApplication(faust.App):
    """The same on Kafka: Faust runs the agents, the worker itself reads and writes the topics."""

    worker: ClusterWorker

    class BootStrategy(faust.App.BootStrategy):
        """Faust's own consumer would commit past what is under way (design, traps)."""

        enable_web = False
        enable_kafka = False

    async def on_first_start(self) -> None:
        """Reach the brokers first."""
        try:
            await self.worker.open()
        except CannotStart as error:
            _give_up(error)
        await super().on_first_start()

    async def on_started(self) -> None:
        """Take up partitions, then listen."""
        await super().on_started()
        self.flow_control.resume()  # else a consumer would do it: channels are shut until then
        try:
            await self.worker.serve()
        except CannotStart as error:
            _give_up(error)

    async def on_stop(self) -> None:
        """Stop listening, then applying."""
        await self.worker.stop_listening()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        """Let the partitions go."""
        await super().on_shutdown()
        await self.worker.close()


def _give_up(error: Exception) -> None:
    """Say why in one place, without a traceback: nothing was begun that needs an orderly end."""
    print(f"watersmeet: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def build() -> faust.App:
    """Return the application for the settings in the environment."""
    try:
        settings = from_environment(os.environ)
    except WrongSetting as error:
        print(f"watersmeet: {error}", file=sys.stderr)
        sys.exit(2)
    return _on_kafka(settings) if settings.on_kafka else _embedded(settings)


def _on_kafka(settings: Settings) -> ClusterApplication:
    """Return the application whose stages have partitions, an agent each."""
    try:
        worker = ClusterWorker(settings, os.environ)
    except ValueError as error:
        print(f"watersmeet: WATERSMEET_BROKER: {error}", file=sys.stderr)
        sys.exit(2)
    app = ClusterApplication("watersmeet", broker=settings.broker, **_options(settings))
    app.worker = worker
    for stage in STAGES:
        channel = worker.channels[stage] = app.channel(maxsize=worker.partitions * 2)
        app.agent(channel, name=stage, concurrency=min(worker.partitions, 8))(
            _follower(worker, stage)
        )
    return app


def _follower(worker: ClusterWorker, stage: str) -> Any:
    async def follow(stream: Any) -> None:
        """One stage, on each record of its inboxes in order."""
        try:
            await worker.follow(stage, stream)
        except Exception as error:  # noqa: BLE001, whatever it is: it stops the worker
            worker.broken(f"stage {stage} cannot go on", error)

    return follow


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "datadir": str(settings.data / "faust"),
        "web_enabled": False,
        "web_host": settings.host,
        "web_port": settings.port,
        "topic_disable_leader": True,
        "producer_threaded": False,
        "loghandlers": [],
        "worker_redirect_stdouts": False,
    }


def _embedded(settings: Settings) -> Application:
    """Return the application of one process on the embedded log."""
    embedded.register()
    app = Application(
        "watersmeet",
        broker=settings.broker,
        **_options(settings),
    )
    app.worker = Worker(settings, os.environ)
    raw = embedded.topic(app, TOPIC)

    @app.agent(raw, name="fused", concurrency=1)
    async def fused(stream: Any) -> None:
        """All stages, on each record of the raw log in order."""
        try:
            await app.worker.follow(embedded.batches(stream))
        except Exception as error:  # noqa: BLE001, whatever it is: it stops the worker
            # Faust would start the agent again behind what it failed on. A worker that cannot
            # go on stops: its log holds all that was accepted, and the next start says the same.
            app.worker.broken("the stages cannot go on", error)

    return app
