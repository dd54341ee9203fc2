"""The worker: opens the folder, follows the log, listens, and lets go in order.

Order of a start: the log (its lock is the fence), the state, the log's rest applied, the
workspace's definitions in force, and only then HTTP takes anything.
"""

import asyncio
import contextlib
import gc
import logging
import os
import sys
from collections.abc import AsyncIterable, Coroutine, Mapping
from typing import Any, NoReturn

from aiohttp import web

from agents.definitions import Compiled
from agents.delivery import JOBS
from agents.records import Define
from app import commands, state
from app.archive import Archiver, ArchiveRefused, catch_up
from app.clock import Clock
from app.engine import TOPIC, YIELD_EVENTS, Engine, Overloaded
from app.folder import files
from app.outbound import Outbound
from app.reader import StoreReader
from app.replay import put_back
from app.retention import Retention
from app.settings import Settings
from app.steps import files as disk
from app.steps import step
from app.web import ingest, listener, server
from app.web.access import load_token
from events.event import Received
from events.version import VERSION
from runtime.fused import Written
from sources.keys import SourceIndex
from transport import control, embedded
from transport.log import NotDurable
from workspace.definitions import digest, load, normal_form

logger = logging.getLogger("watersmeet")


class CannotStart(Exception):
    """The worker cannot start; the text says why, in the operator's words."""


class Worker:
    """One process on one data folder."""

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        """Open nothing yet."""
        self.settings = settings
        self.env = env
        self.clock = Clock(settings.clock)
        self.engine: Engine
        self.outbound: Outbound
        self.archiver: Archiver
        self.ready = False
        self._tasks: list[asyncio.Task[Any]] = []
        self._runner: web.AppRunner | None = None
        self._control: control.Server | None = None
        self._opened = False
        self._stopping = False

    # ---- start -----------------------------------------------------------------------------------
    def open(self) -> None:
        """Open log and state, and say where to go on. Raises CannotStart, LogRefused."""
        settings = self.settings
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._same_clock()
        log = embedded.log_at(
            settings.log_folder, files=disk(), segment_bytes=settings.segment_bytes
        )
        log.create(TOPIC, 1)
        store = state.open_state(settings.data, log)
        self.engine = engine = Engine(log, store, self.clock)
        engine.runner.put_back = put_back(
            log, engine.runner.applied + 1, log.durable_end(TOPIC, 0)
        )
        self.reader = StoreReader(
            store, lambda error: self.broken("the state cannot be read", error)
        )
        try:
            self.archiver = Archiver(settings.data / "archive", log.identity, disk())
            catch_up(self.archiver, log, TOPIC, engine.runner.codec, self.reader)
        except ArchiveRefused as error:
            raise CannotStart(str(error)) from error
        self.outbound = Outbound(
            self.reader, lambda: engine.runner.definitions, engine.results, self.clock.now_ms,
            settings.outbound_allow, self.env,
        )
        self.retention = Retention(settings, engine, self.archiver)
        engine.listeners.append(self._committed)
        embedded.start_at(TOPIC, 0, engine.runner.applied + 1)
        self._opened = True

    def _same_clock(self) -> None:
        """A folder that lived on a scripted clock stays on one, and no other may get one."""
        mark = self.settings.data / "scripted-clock"
        fresh = not self.settings.log_folder.exists()
        if self.clock.scripted and fresh:
            mark.touch()
        if self.clock.scripted != mark.exists():
            raise CannotStart(
                "WATERSMEET_CLOCK is for tests: a data folder made with it is only used with it, "
                f"and {self.settings.data} was made {'with' if mark.exists() else 'without'} it"
            )

    async def follow(self, batches: AsyncIterable[list[embedded.LogMessage]]) -> None:
        """Apply what the log delivers; the only place where state is written."""
        engine = self.engine
        held = 0
        async for messages in batches:
            for message in messages:
                held += engine.apply(message.offset, message.value, message.cached)
                if held >= YIELD_EVENTS:
                    held = 0
                    if engine.full:
                        engine.commit()
                        await self.archiver.room()
                    await asyncio.sleep(0)
            if engine.rested:
                engine.commit()

    async def serve(self) -> None:
        """Catch up, take the definitions in force, then listen."""
        self._tend(self.archiver.run())
        self._tend(self.engine.pace())
        for do in (self._listen, self._caught_up, self._define, self._caught_up):
            await do()
            if self._stopping:
                return
        self.engine.commit()
        await self.outbound.start()
        self._tend(self.engine.tend())
        self._tend(self.retention.run())
        # what is built by now stays: else each of the collections that a body of 100,000 small
        # lists causes walks all of it, half a second in all
        gc.collect()
        gc.freeze()
        # Decoded rows live long and hold no cycles: with Python's own thresholds the looking for
        # cycles among them took a tenth of the throughput.
        gc.set_threshold(400_000, 50, 1000)
        self.ready = True
        self._greet()

    async def _caught_up(self) -> None:
        while not (self.engine.caught_up or self._stopping):  # noqa: ASYNC110, a start waits once, commits are many
            await asyncio.sleep(0.01)

    def _tend(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what runs as long as the worker; the worker does not outlive it."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    async def _define(self) -> None:
        """Put the folder's definitions in force, if they are not."""
        found, problems = files(self.settings.config)
        definitions, more = load(found, self.env)
        errors = [problem for problem in (*problems, *more) if not problem.warning]
        if definitions is None or problems:
            raise CannotStart("\n".join(
                ["the workspace cannot be used:", *map(str, errors), "see: faust -A app check"]
            ))
        for problem in more:
            logger.warning("%s", problem)
        body = normal_form(definitions)
        if digest(body) != self.engine.runner.definitions.hash:
            await self.engine.define(Define(body, digest(body), VERSION))

    async def _listen(self) -> None:
        token, self.token_place = load_token(self.settings.data, self.env)
        app = server.build(self, token)
        try:
            self._runner = await listener.start(app, self.settings.host, self.settings.port)
        except OSError as error:
            raise CannotStart(
                f"port {self.settings.port} on {self.settings.host} cannot be used "
                f"({error.strerror}): stop what uses it, or set WATERSMEET_PORT"
            ) from error
        self._control = control.Server(
            commands.socket_of(self.settings.data), commands.handlers(self)
        )
        await self._control.start()

    def _greet(self) -> None:
        """Say where it is and how to begin."""
        address = f"http://{self.settings.host}:{self.settings.port}"
        keys = self.engine.runner.definitions.sources.by_write_key
        usable = [key for key, known in keys.items() if known.source.enabled]
        # A call from the shell is a server's: others would have this machine for the visitor's.
        key = min(usable, key=lambda key: keys[key].source.type != "server", default=None)
        print(f"\nWatersmeet {VERSION} is ready at {address}")
        print(f"Access token: {self.token_place}")
        if key is not None:
            token = "$(cat " + str(self.settings.data / "token") + ")" \
                if not self.settings.token else "$WATERSMEET_TOKEN"
            print(
                f"Write key: {key} (source {keys[key].key})\n\n"
                "Send a first event:\n"
                f"  curl -u {key}: {address}/v1/identify -H 'Content-Type: application/json' "
                "-d '{\"userId\":\"u1\",\"traits\":{\"email\":\"ann@example.com\"}}'\n"
                "Read the person:\n"
                f"  curl -u \"{token}:\" "
                f"{address}/v1/spaces/default/collections/users/profiles/user_id:u1/traits\n",
                flush=True,
            )

    # ---- after a commit --------------------------------------------------------------------------
    def _committed(self, written: Written) -> None:
        self.archiver.take(written)
        jobs = written.rows.get(JOBS.prefix)
        if jobs:
            self.outbound.committed(jobs)

    # ---- what the tracking API asks --------------------------------------------------------------
    def source_index(self) -> SourceIndex:
        """Return the sources as they are defined now. Raises NotDurable before they are known."""
        if not self.ready:
            raise ingest.NotDurable
        index: SourceIndex = self.engine.runner.definitions.sources
        return index

    def definitions(self) -> Compiled:
        """Return the definitions in force."""
        found: Compiled = self.engine.runner.definitions
        return found

    def in_flight(self) -> int:
        """Return how many events are accepted and not in the state."""
        return self.engine.in_flight

    def now_ms(self) -> int:
        """Return the clock's instant."""
        return self.clock.now_ms()

    async def append(self, received_at_ms: int, calls: list[Received]) -> None:
        """Make the calls durable."""
        try:
            await self.engine.accept(received_at_ms, calls)
        except Overloaded as error:
            raise ingest.Overloaded(error.retry_after_s) from error
        except NotDurable as error:
            raise ingest.NotDurable from error
        step("answer")

    def amiss(self) -> list[str]:
        """Return why the platform does not serve now, a sentence each."""
        reasons = []
        if not self.ready:
            reasons.append("starting: the log is being applied")
        if self.engine.log.trouble is not None:
            reasons.append(f"the log cannot be written: {self.engine.log.trouble}")
        if self.archiver.problem:
            reasons.append(self.archiver.problem)
        return reasons

    def gauges(self) -> dict[str, float]:
        """Return present values worth watching."""
        now_ms = self.clock.now_ms()
        due_ms = self.engine.next_due_ms
        return {
            "log_records": self.engine.log.durable_end(TOPIC, 0),
            "timers_behind_seconds": max(0, now_ms - due_ms) / 1000 if due_ms else 0,
        }

    # ---- stop ------------------------------------------------------------------------------------
    async def stop_listening(self) -> None:
        """Take nothing more from outside; log what destinations answered."""
        self.ready = False
        self._stopping = True  # also when a start is not through
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._runner is not None:
            await self._runner.cleanup()
        if self._control is not None:
            await self._control.stop()
        if self._opened:
            await self.outbound.stop()
        step("stop.listening")

    async def close(self) -> None:
        """Write what was applied and let go of the folder."""
        if not self._opened:
            return
        self._opened = False
        self.engine.commit()
        await self.archiver.close()
        step("stop.archived")
        self.engine.store.close()
        self.engine.log.close()
        step("stop.closed")

    # ---- when something is not as it must be ----------------------------------------------------
    def _ended(self, task: asyncio.Task[None]) -> None:
        """Stop when one of the tasks breaks: timers that no longer fire would go unnoticed."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self.broken("the worker cannot go on", error)

    def broken(self, what: str, error: Exception) -> NoReturn:
        """Stop at once, in no order: the log holds all that was accepted, and no more is known.

        A state that cannot be read is built anew, by this process in a new guise.
        """
        if not state.unreadable(error):
            logger.error("%s; the worker stops, nothing accepted is lost", what, exc_info=error)
            os._exit(70)
        logger.error("the state cannot be read (%s): the worker starts anew and rebuilds it", error)
        state.distrust(self.settings.data, str(error))
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606, this program
