"""The engine of one process: log, state and the fused runner, and what happens around a commit.

Faust feeds it (`app/wiring.py`), HTTP appends to it, and after each commit it tells the archive
and outbound what is new. It knows nothing of HTTP and nothing of what the stages decide.
"""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from agents import delivery, identity, intake, usage
from agents.definitions import EMPTY, compile_definitions
from agents.definitions import TABLES as DEFINITION_TABLES
from agents.profile import STAGE as PROFILE
from agents.profile import sweeping
from agents.profile_tables import TIMERS
from agents.records import Continue, Define, Received, Redrive, Result, Tick
from app.clock import Clock
from app.kinds import KINDS
from app.steps import step
from runtime.envelope import pack
from runtime.fused import POISON, Runner, Written
from tables.store import Store, after
from transport.log import Log, NotDurable

logger = logging.getLogger(__name__)

TOPIC = "raw"
STAGES = (intake.STAGE, identity.STAGE, PROFILE, usage.STAGE, delivery.STAGE)
COMMIT_EVENTS = 2_000
COMMIT_SECONDS = 0.05
"""Under load commits are this far apart, so that a person touched often is written seldom; what
comes after a pause is committed at once."""
YIELD_EVENTS = 200
BACKLOG_EVENTS = 20_000
BACKLOG_BYTES = 64 << 20
TICK_SECONDS = 0.2
SWEEP_PROFILES = 200


class Overloaded(Exception):
    """More is waiting than can be applied soon; try again in ``retry_after_s``."""

    def __init__(self, retry_after_s: int = 1) -> None:
        super().__init__("more events are waiting than can be applied soon")
        self.retry_after_s = retry_after_s


def runner_over(store: Store, log_identity: str) -> Runner:
    """Return the runner of all stages over a store: the same in worker, rebuild and simulator."""
    return Runner(store, log_identity, STAGES, KINDS, compile_definitions,
                  tables=DEFINITION_TABLES, first=EMPTY)


class Engine:
    """One log, one state, one runner."""

    def __init__(self, log: Log, store: Store, clock: Clock) -> None:
        """Take up the state where it stands; `apply` brings it up to the log."""
        self.log = log
        self.store = store
        self.clock = clock
        self.runner = runner_over(store, log.identity)
        self.listeners: list[Callable[[Written], None]] = []
        self._uncommitted = 0
        self._unwritten_events = 0
        self._committed_at = 0.0
        self._waiting_events = 0
        self._waiting_bytes = 0
        self._appended: dict[int, tuple[int, int]] = {}
        self._tick_at = self._continue_at = -1
        self._redriven: dict[str, int] = {}
        """Set-aside event -> the record that takes it up again."""
        self._rung_ms = 0

    # ---- in --------------------------------------------------------------------------------------
    @property
    def caught_up(self) -> bool:
        """Return whether all that is durable is applied."""
        return self.runner.applied + 1 >= self.log.durable_end(TOPIC, 0)

    async def accept(self, received_at_ms: int, calls: list[Received]) -> None:
        """Append one request's calls; return when they are durable.

        Raises Overloaded before memory grows, NotDurable when the disk fails.
        """
        if self._waiting_events > BACKLOG_EVENTS or self._waiting_bytes > BACKLOG_BYTES:
            raise Overloaded
        value = pack("event", received_at_ms, calls)
        await self._append(value, received_at_ms, calls, len(calls))

    async def _append(self, value: bytes, at_ms: int, items: list[Any], events: int = 0) -> int:
        offset = self.log.append(TOPIC, 0, value, None, at_ms, items)
        self._passed(offset)  # of one that stood there and was lost, whose caller knows not yet
        self._appended[offset] = counted = events, len(value)
        self._waiting_events += events
        self._waiting_bytes += len(value)
        step("log.appended")
        try:
            await self.log.flush()
        except NotDurable:
            if self._appended.get(offset) is counted:
                self._passed(offset)
            raise
        step("log.synced")
        return offset

    def _passed(self, offset: int) -> int:
        """Count a record out; return how many events it had."""
        events, size = self._appended.pop(offset, (0, 0))
        self._waiting_events -= events
        self._waiting_bytes -= size
        return events

    async def results(self, results: list[Result]) -> None:
        """Log what destinations answered."""
        step("sent")
        now = self.clock.now_ms()
        await self._append(pack("result", now, results), now, results)
        step("result.logged")

    async def define(self, definition: Define) -> None:
        """Put new definitions in force, from this place of the log on."""
        now = self.clock.now_ms()
        await self._append(pack("define", now, [definition]), now, [definition])
        step("define.logged")

    async def redrive(self, poison_id: str) -> None:
        """Take up a set-aside event again; nothing while a try is on its way or when one succeeded.

        A replay takes the last try in the log for the one that did (`app.replay.put_back`).
        """
        waits = self._redriven.get(poison_id, -1) > self.runner.applied
        if waits or self.runner.get(POISON, poison_id.encode()) is None:
            return
        now = self.clock.now_ms()
        self._redriven[poison_id] = self.log.end(TOPIC, 0)
        await self._append(pack("redrive", now, [Redrive(poison_id)]), now, [Redrive(poison_id)])

    # ---- applied ---------------------------------------------------------------------------------
    def apply(self, offset: int, value: bytes, items: list[Any] | None) -> int:
        """Apply a durable record. Return how many items it had."""
        count = self.runner.apply(offset, value, items)
        self._uncommitted += count
        self._unwritten_events += self._passed(offset)
        return count

    @property
    def full(self) -> bool:
        """Return whether enough is applied to be worth a commit, however much still waits."""
        return self._uncommitted >= COMMIT_EVENTS

    @property
    def rested(self) -> bool:
        """Return whether the last commit is long enough ago for another."""
        return monotonic() >= self._committed_at + COMMIT_SECONDS

    async def pace(self) -> None:
        """Commit what waits for the pause between commits to be over."""
        while True:
            await asyncio.sleep(COMMIT_SECONDS / 2)
            if self._uncommitted and self.rested:
                self.commit()

    def commit(self) -> None:
        """Write what was applied, and tell who listens."""
        if not self._uncommitted:
            return
        self._committed_at = monotonic()
        self._uncommitted = self._unwritten_events = 0
        step("applied")
        written = self.runner.commit()
        self._armed(written)
        step("committed")
        for listener in self.listeners:
            listener(written)
        step("told")

    @property
    def in_flight(self) -> int:
        """Return how many events are in the log and not in the state."""
        return self._waiting_events + self._unwritten_events

    async def until_applied(self) -> None:
        """Return when all that is in the log now is applied and written."""
        end = self.log.end(TOPIC, 0)
        while self.runner.applied + 1 < end or self._uncommitted:  # noqa: ASYNC110, rarely asked
            await asyncio.sleep(0.005)

    def _armed(self, written: Written) -> None:
        """Look again from the earliest timer that this commit armed: it may ring before those that
        were known."""
        for key, row in written.rows.get(TIMERS.prefix, {}).items():
            if row is not None:
                self._rung_ms = min(self._rung_ms, int.from_bytes(key[:8], "big"))

    @property
    def next_due_ms(self) -> int:
        """Return the instant of the earliest timer; 0: there is none."""
        start = TIMERS.prefix + self._rung_ms.to_bytes(8, "big")
        for key, _ in self.store.scan(start, after(TIMERS.prefix)):
            self._rung_ms = int.from_bytes(key[2:10], "big")
            return self._rung_ms
        return 0

    # ---- time and sweeps -------------------------------------------------------------------------
    async def tend(self) -> None:
        """Log a tick whenever a timer is due, and a step of the sweep while there is one."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self.beat()
            except NotDurable as error:
                logger.warning("a tick could not be logged: %s", error)

    async def beat(self) -> None:
        """Do what is due now, once."""
        now = self.clock.now_ms()
        if self._tick_at <= self.runner.applied:
            due = self.next_due_ms
            if due and due <= now:
                self._tick_at = await self._append(pack("tick", now, [Tick()]), now, [Tick()])
                step("tick.logged")
        if self._continue_at <= self.runner.applied and sweeping(self.runner):
            more = [Continue(SWEEP_PROFILES)]
            self._continue_at = await self._append(pack("continue", now, more), now, more)
