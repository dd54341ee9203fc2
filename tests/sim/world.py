"""The whole worker under one seed: one thread, one generator, no sleeping, no files.

Production code runs as it is: the log, the envelope codec, the engine, the fused runner, all
stages, the queues of outbound. Only its ports differ: a disk in memory, a store that forgets its
last batches at a crash, a clock, destinations. Which of the possible steps comes next, and what
fails, is drawn from the seed; two runs of a seed are the same to the byte.
"""

import errno
import random
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec
from xxhash import xxh3_128

from agents.delivery import JOBS
from agents.records import Received, Tick
from app.engine import TOPIC, Engine
from app.reader import StoreReader
from app.replay import digest, put_back, replay
from app.state import _check
from events.calls import Refused, accept, request_context
from events.timestamps import iso
from events.wire import decode_call
from runtime.envelope import pack
from runtime.fused import POISON, Written
from tests.sim.odds import JUMPS, WAIT_ODDS, WAITS, odds_of
from tests.sim.people import Call, Client, histories
from tests.sim.ports import START_MS, SimClock, SimLog, Ticket
from tests.sim.sink import SimOutbound, Sink
from tests.sim.store import LaggingStore
from tests.sim.workspace import DAY, EDITIONS, MINUTE, WRITE_KEYS
from tests.transport.simdisk import Fault, PowerLoss, SimFiles
from transport.log import NotDurable

_encode = msgspec.json.Encoder().encode

LOG = "/data/log"


class Crash(BaseException):
    """The process dies here."""


class Broken(AssertionError):
    """A promise is broken; the text says which."""


@dataclass(frozen=True)
class Less:
    """What is taken out of a seed's run, to make it shorter."""

    faults: frozenset[str] = frozenset()
    """Fields of `Odds` that are as if nothing failed."""
    calls: frozenset[int] = frozenset()
    """Calls that are not made, by number."""


NOTHING_LESS = Less()


@dataclass
class Request:
    """A batch on its way: what the client waits for, and what the server made of it."""

    client: Client
    calls: list[Call]
    message_ids: list[str]
    repeated: bool
    answered: bool = False


@dataclass
class Task:
    """A coroutine of the worker, stepped by the simulator."""

    what: str
    work: Coroutine[Any, Any, Any]
    request: Request | None = None
    ready: bool = False


@dataclass
class Base:
    """A copy of the state as of a record, verified by replay."""

    applied: int
    digest: str
    rows: dict[bytes, bytes]


@dataclass
class Outcome:
    """What became of a run. ``failure`` empty: all promises were kept."""

    seed: int
    trace: str
    failure: str = ""
    steps: int = 0
    events: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)
    journal: list[bytes] = field(default_factory=list)
    """The records of the log."""


class World:
    """Everything there is in one run. `run` below is the entry."""

    def __init__(
        self, seed: int, *, long: bool = False, keep: bool = False, less: Less = NOTHING_LESS
    ) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.odds = odds_of(rng, long)
        self.clients = histories(rng, self.odds.calls)
        self.odds.calm(less.faults)
        for client in self.clients:
            client.calls = [call for call in client.calls if call.number not in less.calls]
        self.files = SimFiles(rng)
        self.clock = SimClock()
        self.sink = Sink()
        self.trace = xxh3_128(str(seed).encode())
        self.keep_lines = keep
        self.lines: list[str] = []
        self.counts: Counter[str] = Counter()
        self.steps = 0
        self.calm = False
        self.edition = 0
        self.tickets: list[Ticket] = []
        self.tasks: list[Task] = []
        self.flying: dict[int, Request] = {}
        """Client -> the request it waits for."""
        self.sent: dict[int, int] = {}
        """Client -> how many of its calls are answered 200."""
        self.stamped: dict[tuple[int, int], str] = {}
        self.old: list[tuple[int, Client, list[Call]]] = []
        """What was answered 200, and when."""
        self.accepted: dict[str, int] = {}
        """messageId answered 200 -> in how many requests."""
        self.journal: list[bytes] = []
        """What the log held durably, by offset: it may never change."""
        self.store = LaggingStore()
        self.bases: list[Base] = []
        self.log: SimLog
        self.engine: Engine
        self.outbound: SimOutbound
        self.down = True
        self.uncommitted = 0
        self.where = "start"

    # ---- bookkeeping ----------------------------------------------------------------------------
    def tell(self, line: str) -> None:
        self.trace.update(line.encode())
        if self.keep_lines:
            self.lines.append(f"{self.steps} {self.clock.ms - START_MS} {line}")

    def point(self, name: str) -> None:
        """A named step: the process may die here."""
        self.where = name
        self.counts[f"point {name}"] += 1
        if self.odds.crash and not self.calm and self.rng.random() < self.odds.crash:
            self.counts[f"crash {name}"] += 1
            raise Crash(name)

    def demand(self, held: bool, what: str) -> None:
        if not held:
            raise Broken(what)

    # ---- start and death ------------------------------------------------------------------------
    def boot(self) -> None:
        """Start the worker as `app.worker` does: log, state, the rest of the log, definitions."""
        files = self.files
        rng = self.rng
        while True:
            try:
                log = SimLog.open(
                    LOG, files, segment_bytes=self.odds.segment_bytes,
                    identity=lambda: f"{rng.getrandbits(128):032x}",
                )
                log.world = self  # type: ignore[attr-defined]
                self.log = log  # type: ignore[assignment]
                log.create(TOPIC, 1)
                self._same_log()
                break
            except (OSError, NotDurable):
                self.counts["start failed"] += 1
                files.fault, files.capacity = None, None
                files.kill()
        self.point("log opened")
        self.store.point = self.point
        _check(self.store, self.log)  # raises when the state leads the log
        self.engine = Engine(self.log, self.store, self.clock)  # type: ignore[arg-type]
        runner = self.engine.runner
        end = self.log.durable_end(TOPIC, 0)
        self.demand(runner.applied < end, "the state leads the log")
        runner.put_back = put_back(self.log, runner.applied + 1, end)
        self.outbound = SimOutbound(
            StoreReader(self.store), lambda: self.engine.runner.definitions, self.clock.now_ms,
            self.sink, rng, self.odds.mood,
        )
        self.outbound.repeats = self.odds.repeat_results
        self.engine.listeners.append(self._committed)
        self.tickets, self.tasks, self.uncommitted = [], [], 0
        self.down = False
        while self._apply():
            self.point("recovery")
        self._commit()
        wanted = EDITIONS[self.edition].define
        while wanted.hash != runner.definitions.hash:
            self._start("define", self.engine.define(wanted))
            if self.log._dirty:
                self._sync()
            if self.tasks:
                self._answer(0)
            while self._apply():
                pass
            self._commit()
            if wanted.hash != runner.definitions.hash:
                files.fault, files.capacity = None, None
        self.outbound.start()
        self.point("started")

    def _same_log(self) -> None:
        """What was durable is there, unchanged, and in its place."""
        log = self.log
        at, end = log.start(TOPIC, 0), log.durable_end(TOPIC, 0)
        self.demand(
            end >= len(self.journal), f"the log ends at {end}, {len(self.journal)} were durable"
        )
        while at < end:
            for record in log.read(TOPIC, 0, at, 500):
                if record.offset < len(self.journal):
                    self.demand(
                        record.value == self.journal[record.offset], "a record of the log changed"
                    )
                else:
                    self.demand(record.offset == len(self.journal), "the log has a hole")
                    self.journal.append(record.value)
                at = record.offset + 1

    def die(self, power: bool) -> None:
        """The process, or the machine, stops."""
        self.counts["power cut" if power else "kill"] += 1
        for task in self.tasks:
            task.work.close()
        self.tasks, self.tickets = [], []
        self.down = True
        self.files.lose_power_at = -1
        if power:
            self.files.power_cut()
        else:
            self.files.kill()
        self.store.crash(self.rng)
        if self.odds.damage and self.rng.random() < self.odds.damage:
            # The state cannot be read any more: a new one begins at the oldest base.
            self.counts["state lost"] += 1
            self.store = LaggingStore(self.bases[0].rows if self.bases else None)
        for request in self.flying.values():
            request.answered = True  # not at all, as the client finds out in time
        self.tell(f"dead {'power' if power else 'kill'} at {self.where}")

    # ---- the worker's steps ---------------------------------------------------------------------
    def _start(
        self, what: str, work: Coroutine[Any, Any, Any], request: Request | None = None
    ) -> None:
        task = Task(what, work, request)
        self.tasks.append(task)
        self._step(task)

    def _step(self, task: Task) -> None:
        """Let a coroutine go on until it waits or ends."""
        task.ready = False
        try:
            task.work.send(None)
        except StopIteration:
            self.tasks.remove(task)
            self._ended(task, True)
        except NotDurable:
            self.tasks.remove(task)
            self._ended(task, False)

    def _ended(self, task: Task, fine: bool) -> None:
        request = task.request
        if task.what == "report" and not fine:
            self.counts["results not logged"] += 1
        if request is None:
            return
        self.tell(f"answer {200 if fine else 503} {','.join(request.message_ids)}")
        if fine:
            for message_id in request.message_ids:
                self.accepted[message_id] = self.accepted.get(message_id, 0) + 1
        else:
            self.counts["503"] += 1
        self.point("answered")
        if request.repeated or request.answered:
            return
        request.answered = True
        if fine and (self.calm or self.rng.random() >= self.odds.lost_answer):
            place = self.clients.index(request.client)
            self.sent[place] = self.sent.get(place, 0) + len(request.calls)
            self.old.append((self.clock.ms, request.client, request.calls))
        elif fine:
            self.counts["applied but timed out"] += 1
        self.flying.pop(self.clients.index(request.client), None)

    def _sync(self) -> None:
        self.point("before sync")
        before = self.log.durable_end(TOPIC, 0)
        self.log.sync()
        end = self.log.durable_end(TOPIC, 0)
        at = before
        while at < end:
            for record in self.log.read(TOPIC, 0, at):
                self.demand(record.offset == len(self.journal), "a record is durable twice")
                self.journal.append(record.value)
                at = record.offset + 1
        for task in self.tasks:
            task.ready = True  # at worst it waits on
        if not self.log.healthy:
            # Who waited is told in the next turn of the loop, long before the disk is tried again.
            for task in list(self.tasks):
                self._step(task)
        self.point("after sync")

    def _answer(self, place: int) -> None:
        self.point("before answer")
        self._step(self.tasks[place])

    def _apply(self) -> bool:
        """Apply one record. Return whether there was one."""
        runner = self.engine.runner
        records = self.log.read(TOPIC, 0, runner.applied + 1, 10)
        if not records:
            return False
        record = records[0]
        self.demand(record.value == self.journal[record.offset], "a reader got another record")
        self.engine.apply(record.offset, record.value, record.cached)  # type: ignore[arg-type]
        self.uncommitted += 1
        self.point("applied")
        return True

    def _commit(self) -> None:
        if self.uncommitted:
            self.point("before commit")
            self.engine.commit()
            self.uncommitted = 0
            applied, end = self.engine.runner.applied, self.log.durable_end(TOPIC, 0)
            self.demand(applied < end, "the state leads the log")
            self.point("after commit")

    def _committed(self, written: Written) -> None:
        self.outbound.committed(written.rows.get(JOBS.prefix, {}))

    # ---- HTTP -----------------------------------------------------------------------------------
    def _post(self, client: Client, calls: list[Call], repeated: bool) -> None:
        """What `app.web.ingest` does with a batch, and what it needs of the HTTP around it."""
        now_ms = self.clock.ms
        place = self.clients.index(client)
        context = request_context(
            type=None, project_id=client.source, channel=WRITE_KEYS[client.source],
            client_side=False, received_at_ms=now_ms, sent_at=iso(now_ms + client.skew_ms),
            new_message_id=lambda: f"api-{self.rng.getrandbits(32):08x}",
        )  # fmt: skip
        accepted: list[Received] = []
        ids: set[str] = set()
        for call in calls:
            body = dict(call.body)
            if call.dated:
                stamp = self.stamped.setdefault(
                    (place, call.number), iso(now_ms + client.skew_ms - call.late_ms)
                )
                body["timestamp"] = stamp
            decoded = decode_call(_encode(body))
            result = accept(decoded, context) if isinstance(decoded, dict) else decoded
            if isinstance(result, Refused):
                self.counts[f"refused {result.code}"] += 1
            elif result.message_id not in ids:
                ids.add(result.message_id)
                accepted.append(result)
        request = Request(client, calls, [one.message_id for one in accepted], repeated)
        if not repeated:
            self.flying[place] = request
        self.tell(f"post {','.join(request.message_ids)}")
        if accepted:
            self._start("accept", self.engine.accept(now_ms, accepted), request)
        else:
            self._ended(Task("accept", None, request), True)  # type: ignore[arg-type]

    # ---- choosing -------------------------------------------------------------------------------
    def choices(self) -> dict[str, float]:
        """Return the steps that are possible now, by how likely they are."""
        weights = self.odds.weights
        found: dict[str, float] = {"wait": weights["wait"]}
        if any(
            place not in self.flying and self.sent.get(place, 0) < len(client.calls)
            for place, client in enumerate(self.clients)
        ):
            found["send"] = weights["send"]
        if self.flying and any(one.answered for one in self.flying.values()):
            found["give up"] = 3.0
        if self.down:
            found["boot"] = 5.0
            return found
        if self.log._dirty:
            found["sync"] = weights["sync"]
        if any(task.ready for task in self.tasks):
            found["answer"] = weights["answer"]
        if self.engine.runner.applied + 1 < self.log.durable_end(TOPIC, 0):
            found["apply"] = weights["apply"]
        if self.uncommitted >= self.odds.commit_every or (
            self.uncommitted and "apply" not in found
        ):
            found["commit"] = weights["commit"]
        found["persist"] = weights["persist"]
        if not any(task.what == "beat" for task in self.tasks):
            found["beat"] = weights["beat"]
        found["launch"] = weights["launch"]
        if self.outbound.flights:
            found["land"] = weights["land"]
        if self.outbound.results and not any(task.what == "report" for task in self.tasks):
            found["report"] = weights["report"]
        if self.calm:
            return found
        if self.old and self.odds.repeat:
            found["repeat"] = self.odds.repeat * 4
        if self.odds.crash:
            found["kill"] = self.odds.crash * 2
        if self.odds.power:
            found["lose power"] = self.odds.crash * 5
        if self.odds.disk:
            found["disk fault"] = self.odds.disk * 10
            if self.files.fault is not None or self.files.capacity is not None:
                found["disk mended"] = 2.0
        if self.odds.jumps:
            found["jump"] = 0.3
        if self.odds.editions:
            found["edit"] = 0.2
        if self.odds.bases:
            found["base"] = 0.25
            found["retain"] = 0.3
        found["redrive"] = 0.2
        return found

    def step(self) -> None:
        """One step of somebody."""
        self.steps += 1
        found = self.choices()
        name = self.rng.choices(list(found), list(found.values()))[0]
        self.counts[name] += 1
        try:
            getattr(self, "do_" + name.replace(" ", "_"))()
        except Crash:
            self.die(self.odds.power > 0 and self.rng.random() < self.odds.power)
        except PowerLoss:
            self.die(self.odds.power == 0 or self.rng.random() < 0.8)
        except OSError:
            # A disk that cannot be read, or folders that cannot be changed: the worker stops.
            self.counts["stopped by the disk"] += 1
            self.die(False)

    def do_wait(self) -> None:
        wait_ms = self.rng.choices(WAITS, WAIT_ODDS)[0]
        if wait_ms >= MINUTE and self.rng.random() < 0.8:
            wait_ms += self.rng.randrange(1000)  # seldom just as long as a window
        self.clock.ms += wait_ms
        self.tell(f"wait {wait_ms}")

    def do_send(self) -> None:
        idle = [
            place for place, client in enumerate(self.clients)
            if place not in self.flying and self.sent.get(place, 0) < len(client.calls)
        ]
        place = self.rng.choice(idle)
        client = self.clients[place]
        first = self.sent.get(place, 0)
        calls = client.calls[first : first + self.rng.choice((1, 1, 2, 3, 8))]
        if self.down:
            return  # refused: the client tries again later
        self._post(client, calls, False)

    def do_give_up(self) -> None:
        """A client's patience ends: it will send the same again."""
        for place in [place for place, one in self.flying.items() if one.answered]:
            del self.flying[place]

    def do_repeat(self) -> None:
        """A proxy or an importer sends old calls again, sometimes just when the window ends."""
        sent_ms, client, calls = self.rng.choice(self.old)
        if self.rng.random() < 0.2:
            self.clock.ms = max(self.clock.ms, sent_ms + DAY - self.rng.choice((0, 0, 1)))
        self._post(client, calls, True)

    def do_boot(self) -> None:
        self.tell("boot")
        self.boot()

    def do_sync(self) -> None:
        self.tell(f"sync {len(self.tickets)}")
        self._sync()

    def do_answer(self) -> None:
        ready = [place for place, task in enumerate(self.tasks) if task.ready]
        self._answer(self.rng.choice(ready))

    def do_apply(self) -> None:
        self._apply()
        self.tell(f"apply {self.engine.runner.applied}")

    def do_commit(self) -> None:
        self.tell("commit")
        self._commit()

    def do_persist(self) -> None:
        self._commit()
        self.store.persist()
        self.point("persisted")

    def do_beat(self) -> None:
        before = self.log.end(TOPIC, 0)
        self._start("beat", self.engine.beat())
        if self.log.end(TOPIC, 0) > before:
            self.tell("beat")

    def do_launch(self) -> None:
        where = self.outbound.launch()
        if where:
            self.tell(f"launch {where}")
            self.point("launched")

    def do_land(self) -> None:
        self.tell(f"land {self.outbound.land()}")
        self.point("landed")

    def do_report(self) -> None:
        group = self.outbound.results[: self.rng.choice((1, 2, 100))]
        self.tell(f"report {len(group)}")
        self._start("report", self._report(group))

    async def _report(self, group: list[Any]) -> None:
        outbound = self.outbound
        await self.engine.results(group)
        self.point("results logged")
        del outbound.results[: len(group)]

    def do_kill(self) -> None:
        self.where = "between steps"
        self.die(False)

    def do_lose_power(self) -> None:
        """The machine will stop within one of the next calls to the disk."""
        self.files.lose_power_at = self.files.calls + self.rng.choice((1, 1, 2, 3, 5, 9))

    def do_disk_fault(self) -> None:
        files = self.files
        if self.rng.random() < 0.2:
            files.capacity = files._used() + self.rng.choice((0, 100, 2000))
            self.tell("disk full")
            return
        code = self.rng.choice((errno.EIO, errno.ENOSPC, errno.EMFILE, "short"))
        kind = self.rng.choice(("", "write", "sync", "open", "sync_dir", "truncate", "read"))
        nth = (files.counts.get(kind, 0) if kind else files.calls) + self.rng.choice((1, 1, 2, 3))
        files.fault = Fault(nth, code, kind, forever=self.rng.random() < 0.3)
        self.tell(f"disk fault {code} {kind}")

    def do_disk_mended(self) -> None:
        if self.files.fault is not None:
            self.counts["disk fault hit"] += self.files.fault.hits > 0
        self.files.fault = self.files.capacity = None

    def do_jump(self) -> None:
        jump_ms = self.rng.choice(JUMPS)
        self.clock.ms = max(self.clock.ms + jump_ms, START_MS - DAY)
        self.tell(f"jump {jump_ms}")

    def do_edit(self) -> None:
        """The operator changes the folder, and has it taken in without a restart."""
        self.edition = self.rng.randrange(len(EDITIONS))
        wanted = EDITIONS[self.edition].define
        if wanted.hash != self.engine.runner.definitions.hash:
            self.tell(f"edition {self.edition}")
            self._start("define", self.engine.define(wanted))

    def do_redrive(self) -> None:
        """Poison is put back after a fix."""
        for key, row in StoreReader(self.store).scan(POISON):
            self.tell(f"redrive {key.decode()}")
            self._start("redrive", self.engine.redrive(key.decode()))
            planted = row.error.startswith(("ValueError", "OverflowError", "TypeError"))
            self.demand(planted, row.error)
            return

    def do_base(self) -> None:
        """Copy the state, verified by a replay from the base before (`app.state.make_base`)."""
        self._commit()
        applied = self.engine.runner.applied
        self.demand(applied < self.log.durable_end(TOPIC, 0), "the state leads the log")
        if self.bases and self.bases[-1].applied >= applied:
            return
        self.store.persist()
        base = Base(applied, digest(self.store), self.store.copy())
        earlier = self.bases[-1] if self.bases else None
        if earlier is None and self.log.start(TOPIC, 0) > 0:
            return
        trial = LaggingStore(earlier.rows if earlier else None)
        replay(trial, self.log, applied + 1)
        self.demand(digest(trial) == base.digest, "a base is not what a replay gives")
        self.bases = [*self.bases, base][-2:]
        self.tell(f"base {applied} {base.digest}")

    def do_retain(self) -> None:
        if self.bases:
            start = self.log.retain(
                TOPIC, 0, self.bases[0].applied + 1, max_bytes=self.rng.choice((0, 3000))
            )
            self.tell(f"retain {start}")
            self.point("retained")

    # ---- the end --------------------------------------------------------------------------------
    @property
    def unsent(self) -> bool:
        return any(
            self.sent.get(place, 0) < len(client.calls) for place, client in enumerate(self.clients)
        )

    def settle(self) -> None:
        """Faults stop; everything has to come to rest. The last record is a tick."""
        last_tick = -1
        if not self.down and self.odds.crash and self.rng.random() < 0.5:
            self.die(self.odds.power > 0 and self.rng.random() < self.odds.power)
        self.calm = True
        self.files.fault = self.files.capacity = None
        self.files.lose_power_at = -1
        self.odds.lost_answer = self.odds.repeat_results = 0.0
        if not self.down:
            self.outbound.mood, self.outbound.repeats = "fine", 0.0
        self.odds.mood = "fine"
        for _ in range(200 + 60 * self.odds.calls):
            if self.down:
                self.do_boot()
            self.do_give_up()
            while self.log._dirty or any(task.ready for task in self.tasks):
                self._sync()
                while any(task.ready for task in self.tasks):
                    self.do_answer()
            while self._apply():
                pass
            self._commit()
            if self.unsent:
                self.do_send()
                continue
            while self.outbound.launch():
                pass
            while self.outbound.flights:
                self.do_land()
            if self.outbound.results:
                self.do_report()
                continue
            end = self.log.end(TOPIC, 0)
            self._start("beat", self.engine.beat())
            if self.log.end(TOPIC, 0) > end:
                continue
            if self._rest():
                continue
            if last_tick == end - 1:
                return
            now_ms = self.clock.ms
            work = self.engine._append(pack("tick", now_ms, [Tick()]), now_ms, [Tick()])
            self._start("tick", work)
            last_tick = end
        raise Broken(f"it does not come to rest: {self.choices()}")

    def _rest(self) -> bool:
        """Let the time pass that somebody waits for. Return whether somebody does."""
        due = self.outbound.next_ms()
        now_ms = self.clock.ms
        if due is not None:
            self.clock.ms = max(now_ms, due)
            return True
        at_ms = self.engine.runner.at_ms
        if self.clock.ms <= at_ms:
            self.clock.ms = at_ms + 1
            return True
        return False
