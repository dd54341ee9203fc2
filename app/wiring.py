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

from app.engine import TOPIC
from app.settings import WrongSetting, from_environment
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


def _give_up(error: Exception) -> None:
    """Say why in one place, without a traceback: nothing was begun that needs an orderly end."""
    print(f"watersmeet: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def build() -> Application:
    """Return the application for the settings in the environment."""
    try:
        settings = from_environment(os.environ)
    except WrongSetting as error:
        print(f"watersmeet: {error}", file=sys.stderr)
        sys.exit(2)
    embedded.register()
    app = Application(
        "watersmeet",
        broker=settings.broker,
        datadir=str(settings.data / "faust"),
        web_enabled=False,
        web_host=settings.host,
        web_port=settings.port,
        topic_disable_leader=True,
        producer_threaded=False,
        loghandlers=[],
        worker_redirect_stdouts=False,
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
