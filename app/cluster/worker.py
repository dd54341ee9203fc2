"""The worker on Kafka: it owns some partition numbers, and takes in what HTTP brings for all.

One Faust agent a stage applies what comes to its inboxes. Who owns which number is agreed in a
consumer group; that alone is no fence (`app.cluster.lot`). The owner of number 0 lets time pass
and enters the first definitions.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterable, Coroutine, Mapping
from typing import Any, NoReturn

import msgspec
from aiohttp import web

from agents.definitions import EMPTY, Compiled
from agents.delivery import JOBS, queue_of
from agents.profile_tables import SWEEP
from agents.records import Continue, Received, Result, Tick
from app.clock import Clock
from app.cluster import definitions
from app.cluster.lot import BATCH, Lot, Records
from app.cluster.peers import add_routes, advertised, peers
from app.cluster.topics import Names
from app.cluster.union import Union
from app.outbound import Outbound
from app.partitions import STAGES, route
from app.reader import StoreReader
from app.settings import Settings
from app.web import ingest, listener, server
from app.web.access import Access, load_token
from app.worker import CannotStart
from events.version import VERSION
from runtime.envelope import pack
from runtime.stage import place
from sources.keys import SourceIndex
from tables.store import shared_cache
from transport import kafka

logger = logging.getLogger("watersmeet")

TICK_SECONDS = 1.0
SWEEP_PROFILES = 200
READ_BYTES = 4 << 20
PENDING_EVENTS = 20_000
"""Accepted events that wait for the brokers, above which more are refused for now."""

class _Ids(msgspec.Struct):
    """What of a call tells its lane: see `agents.routed.lane.lane_of_call`."""

    anonymousId: str | None = None  # noqa: N815
    userId: str | None = None  # noqa: N815


_ids = msgspec.json.Decoder(_Ids).decode

Work = tuple[int, Records]
"""A partition number, and records of one stage's inbox of it."""


class ClusterWorker:
    """One of the processes of a workspace on Kafka."""

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        """Open nothing yet."""
        self.settings = settings
        self.env = env
        self.clock = Clock(settings.clock)
        self.partitions = settings.partitions
        self.ready = False
        self.lots: dict[int, Lot] = {}
        self.channels: dict[str, Any] = {}
        """Stage -> the Faust channel of its agent."""
        self.names = Names(settings.workspace)
        self._kafka = kafka.parse(settings.broker, env)
        self._outbox = kafka.Outbox(self._kafka)
        self._inbox = kafka.Inbox(self._kafka)
        self._cache = shared_cache()
        self.name = advertised(settings.host, settings.port)
        self.own = Union(self._readers)
        """What the partitions here hold."""
        self.reader = Union(self._readers, peers(
            self.name, self.partitions, lambda: self._membership.owners, settings.token
        ))
        """What all workers' partitions hold; asking the others blocks."""
        self._changes: asyncio.Queue[tuple[set[int], set[int]]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[Any]] = []
        self._runner: web.AppRunner | None = None
        self._pending = 0
        self.warnings: list[str] = []
        self._outbound = self._new_outbound()
        self._membership = kafka.Membership(
            self._kafka, self.names.group, self.names.inbox("intake"),
            self.name,
            assigned=lambda came: self._changes.put_nowait((came, set())),
            revoked=lambda gone: self._changes.put_nowait((set(), gone)),
            session_s=settings.session_seconds,
        )

    def _readers(self) -> list[tuple[str, StoreReader]]:
        return [pair for lot in list(self.lots.values()) if lot.ready
                for pair in list(lot.readers.items())]

    def _new_outbound(self) -> Outbound:
        return Outbound(
            self.own, self.definitions, self._results, self.now_ms,
            self.settings.outbound_allow, self.env,
        )

    # ---- start -----------------------------------------------------------------------------------
    async def open(self) -> None:
        """Reach the brokers, and see that the topics are as they must be. Raises CannotStart."""
        self.settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (self.settings.data / "log").exists():
            raise CannotStart(
                f"{self.settings.data} holds an embedded log, and the broker is Kafka: what is "
                "there would be left behind; give another WATERSMEET_DATA"
            )
        topics = self.names.topics(self.partitions)
        try:
            await kafka.ensure_topics(self._kafka, topics)
            self.warnings = await kafka.check_brokers(self._kafka, [one.name for one in topics])
            await self._outbox.open()
            await self._inbox.open()
        except kafka.TopicDiffers as error:
            raise CannotStart(
                f"{error}; the number of partitions was set at the first start, "
                "set WATERSMEET_PARTITIONS to that"
            ) from error
        except kafka.NotReached as error:
            raise CannotStart(f"the Kafka brokers cannot be reached: {error}") from error
        for warning in self.warnings:
            logger.warning("%s", warning)

    async def serve(self) -> None:
        """Join the group, take up partitions, listen."""
        for work in (self._settle(), self._feed(), self._tend()):
            self._start(work)
        try:
            await self._membership.open()
        except kafka.NotReached as error:
            raise CannotStart(f"the Kafka brokers cannot be reached: {error}") from error
        self._start(self._membership.failed())
        token, where = load_token(self.settings.data, self.env)
        try:
            self._runner = await listener.start(
                self._web(token), self.settings.host, self.settings.port
            )
        except OSError as error:
            raise CannotStart(
                f"port {self.settings.port} on {self.settings.host} cannot be used "
                f"({error.strerror}): stop what uses it, or set WATERSMEET_PORT"
            ) from error
        while not self._settled:  # noqa: ASYNC110, a start waits once
            await asyncio.sleep(0.05)
        self._compare()
        self.ready = True
        print(f"\nWatersmeet {VERSION} is ready at http://{self.settings.host}:"
              f"{self.settings.port}, {self.partitions} partitions\nAccess token: {where}",
              flush=True)

    def _compare(self) -> None:
        """Say so when this folder is not what is in force."""
        try:
            hash = definitions.read(self.settings.config, self.env).hash
        except definitions.Unusable as error:
            logger.warning("%s", error)
            return
        if hash != self.definitions().hash:
            logger.warning(
                "the definitions in %s (%s) are not those in force (%s): "
                "put them in force with `faust -A app apply`",
                self.settings.config, hash, self.definitions().hash,
            )

    def _web(self, token_hash: bytes) -> web.Application:
        app = server.build(self, token_hash, run=asyncio.to_thread, own=self.own)
        add_routes(app, Access(token_hash), self.own)
        return app

    @property
    def _settled(self) -> bool:
        """Return whether all partitions that are this worker's are here, with definitions."""
        lots = [self.lots.get(number) for number in self._membership.owned]
        return bool(lots) and all(
            lot is not None and lot.ready and lot.parts["profile"].definitions.hash
            for lot in lots
        )

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    # ---- partitions come and go ------------------------------------------------------------------
    async def _settle(self) -> None:
        """Take up and give up numbers, one change after the other."""
        while True:
            came, gone = await self._changes.get()
            for number in sorted(gone):
                await self._give_up(number)
            for number in sorted(came):
                await self._take_up(number)
            await self._outbound_anew()

    async def _take_up(self, number: int) -> None:
        if number not in self._membership.owned or number in self.lots:
            return
        lot = self.lots[number] = Lot(
            number, self.partitions, self.names, self.settings.data / "partitions",
            self._kafka, self._outbox, self._cache, self.now_ms,
        )
        try:
            self._inbox.add(await lot.open())
            logger.info("partition %d is here", number)
        except (kafka.NotReached, kafka.Fenced, kafka.Unknown) as error:
            logger.warning("partition %d cannot be taken up yet: %s", number, error)
            del self.lots[number]
            await lot.close()
            await asyncio.sleep(0.5)
            self._changes.put_nowait(({number}, set()))

    async def _give_up(self, number: int) -> None:
        lot = self.lots.pop(number, None)
        if lot is None:
            return
        self._inbox.remove([(self.names.inbox(stage), number) for stage in lot.parts])
        await lot.close()

    async def _outbound_anew(self) -> None:
        """What waits for delivery is read anew: it may be other partitions' now."""
        await self._outbound.stop()
        self._outbound = self._new_outbound()
        if self.definitions().hash:
            await self._outbound.start()

    # ---- the work --------------------------------------------------------------------------------
    async def _feed(self) -> None:
        """Give the agents what comes to the inboxes of the partitions that are here."""
        stages = {self.names.inbox(stage): stage for stage in STAGES}
        while True:
            found: dict[tuple[str, int], Records] = {}
            for topic, number, offset, value in await self._inbox.read(READ_BYTES, 0.2):
                found.setdefault((topic, number), []).append((offset, value))
            for (topic, number), records in found.items():
                for at in range(0, len(records), BATCH):
                    work: Work = (number, records[at:at + BATCH])
                    await self.channels[stages[topic]].put(work)

    async def follow(self, stage: str, works: AsyncIterable[Work]) -> None:
        """Apply what comes to a stage's inboxes: the agent of the stage."""
        async for number, records in works:
            lot = self.lots.get(number)
            if lot is None or not lot.ready:
                continue
            try:
                written = await lot.work(stage, records)
            except (kafka.Fenced, kafka.Unknown) as error:
                if lot.lost or self.lots.get(number) is not lot:
                    continue  # another of its stages has said so, or it was given up
                lot.lost = True
                wait_s = 0.5
                if isinstance(error, kafka.Fenced):
                    logger.warning("partition %d: fenced, another worker has taken over", number)
                    # Who was fenced is told last that it is no owner: to take the partition up at
                    # once would fence the successor in its turn.
                    wait_s = self.settings.session_seconds + 1
                else:
                    logger.warning("partition %d is taken up anew: %s", number, error)
                self._changes.put_nowait((set(), {number}))
                asyncio.get_running_loop().call_later(
                    wait_s, self._changes.put_nowait, ({number}, set())
                )
            else:
                if stage == "delivery" and (jobs := written.get(JOBS.prefix)):
                    self._outbound.committed(jobs)

    async def _tend(self) -> None:
        """Let time pass, enter the first definitions, go on with sweeps."""
        while True:
            await asyncio.sleep(TICK_SECONDS if self.ready else 0.1)
            now_ms = self.now_ms()
            first = self.lots.get(0)
            if first is not None and first.ready:
                if not first.parts["intake"].definitions.hash:
                    await self._define()
                await self._outbox.send([
                    (self.names.inbox("intake"), number, pack("tick", now_ms, [Tick()]))
                    for number in range(self.partitions)
                ])
            await self._outbox.send([
                (self.names.inbox("profile"), lot.number,
                 pack("continue", now_ms, [Continue(SWEEP_PROFILES)]))
                for lot in self.lots.values()
                if lot.ready and lot.parts["profile"].get(SWEEP, b"") is not None
            ])
            if self._outbound.closing and self.definitions().hash:
                await self._outbound.start()

    async def _define(self) -> None:
        """Enter the folder's definitions: there are none yet."""
        try:
            define = definitions.read(self.settings.config, self.env)
        except definitions.Unusable as error:
            raise CannotStart(str(error)) from error
        await definitions.enter(
            self._outbox, self.names, self.partitions, define, self.now_ms()
        )
        first = self.lots.get(0)
        while first is not None and first.ready and not first.parts["intake"].definitions.hash:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def _results(self, results: list[Result]) -> None:
        """Log what destinations answered, where the jobs are."""
        found: dict[int, list[Result]] = {}
        for result in results:
            number = route("delivery", queue_of(result.job), self.partitions)
            found.setdefault(number, []).append(result)
        now_ms = self.now_ms()
        await self._outbox.send([
            (self.names.inbox("delivery"), number, pack("result", now_ms, some))
            for number, some in found.items()
        ])

    # ---- what HTTP asks --------------------------------------------------------------------------
    def definitions(self) -> Compiled:
        """Return the definitions in force, as the first partition here has them."""
        for lot in self.lots.values():
            if lot.ready:
                found: Compiled = lot.parts["profile"].definitions
                return found
        return EMPTY

    def in_flight(self) -> int:
        """Return how many events wait for the brokers here, and records in the inboxes."""
        behind = sum(
            max(0, (self._inbox.end(self.names.inbox(stage), lot.number) or 0) - part.applied - 1)
            for lot in self.lots.values() for stage, part in lot.parts.items()
        )
        return self._pending + behind

    def source_index(self) -> SourceIndex:
        """Return the sources as they are defined now. Raises NotDurable before they are known."""
        if not self.ready:
            raise ingest.NotDurable
        return self.definitions().sources

    def now_ms(self) -> int:
        """Return the clock's instant."""
        return self.clock.now_ms()

    async def append(self, received_at_ms: int, calls: list[Received]) -> None:
        """Make the calls durable, each in the lane of its visitor."""
        if self._pending > PENDING_EVENTS:
            raise ingest.Overloaded
        lanes: dict[int, list[Received]] = {}
        for call in calls:
            ids = _ids(call.body)
            number = place(ids.anonymousId or ids.userId or "", self.partitions)
            lanes.setdefault(number, []).append(call)
        self._pending += len(calls)
        try:
            await self._outbox.send([
                (self.names.inbox("intake"), number, pack("event", received_at_ms, some))
                for number, some in lanes.items()
            ])
        except kafka.Broken as error:
            self.broken("the brokers took something out of order", error)
        finally:
            self._pending -= len(calls)

    def amiss(self) -> list[str]:
        """Return why the platform does not serve now, a sentence each."""
        return [] if self.ready else ["starting: partitions are being taken up"]

    def gauges(self) -> dict[str, float]:
        """Return present values worth watching."""
        return {"partitions_owned": sum(lot.ready for lot in self.lots.values())}

    # ---- stop ------------------------------------------------------------------------------------
    async def stop_listening(self) -> None:
        """Take nothing more from outside; log what destinations answered; leave the group."""
        self.ready = False
        if self._runner is not None:
            await self._runner.cleanup()
        await self._outbound.stop()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    async def close(self) -> None:
        """Let the partitions go: the others take them up at once."""
        for number in list(self.lots):
            await self._give_up(number)
        await self._membership.close()
        await self._inbox.close()
        await self._outbox.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, CannotStart):
            print(f"watersmeet: {error}", flush=True)
            os._exit(1)
        if isinstance(error, Exception):
            self.broken("the worker cannot go on", error)

    def broken(self, what: str, error: Exception) -> NoReturn:
        """Stop at once, in no order: what was accepted is on the brokers."""
        logger.error("%s; the worker stops, nothing accepted is lost", what, exc_info=error)
        os._exit(70)
