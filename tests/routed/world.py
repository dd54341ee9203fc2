"""The routed mode in one thread: inboxes, changelogs, and workers that may be slow, crash, or wake
up after somebody else has taken their partition over.

A seed decides everything. One step is one step of one worker's checkpoint, a record from outside,
or a fault. What the partitions did is noted for `tests.routed.checks`.
"""

import contextlib
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from xxhash import xxh3_128

from agents import delivery, merging, person, profile
from agents.definitions import EMPTY, compile_definitions
from agents.definitions import TABLES as DEFINITION_TABLES
from agents.delivery import JOBS, JobRow, destination_of, queue_of
from agents.profile_tables import SWEEP
from agents.records import Arrive, Continue, Define, Job, Received, Result, Tick
from agents.routed import home, lane, writer
from agents.routed.records import Give
from app import partitions as net
from app.reader import StoreReader
from events.calls import Refused, accept, request_context
from events.timestamps import iso
from journeys import moves
from runtime.envelope import Batch
from runtime.fused import PROGRESS, Progress
from runtime.routed import Checkpoint, Item, Partition
from runtime.stage import Stage
from tables.store import MemoryStore
from tests.sim.people import Call, histories
from tests.sim.stages import put, sim_stages
from tests.sim.workspace import DAY, EDITIONS, HOUR, MINUTE

Place = tuple[str, int]
START_MS = 1_750_000_000_000


class Broken(Exception):
    """A promise was not kept."""


@dataclass(eq=False)
class Flight:
    """An attempt under way, out of a partition's store."""

    place: Place
    key: bytes
    row: JobRow


class Fenced(Exception):
    """The changelog has another writer by now."""


# ---- the stages ----------------------------------------------------------------------------------
class SimPartition(Partition):
    """A partition that notes what it does."""

    def _load(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        """The offset of the input, what was done, and more."""
        super()._load()

    def note(self, *what: Any) -> None:
        """Note something about the present input."""
        self.notes.append((self.position, *what))

    def attempt(self, handler: Any, record: Any, place: tuple[int, int]) -> bool:
        mark = len(self.notes)
        self.place = place
        done = super().attempt(handler, record, place)
        if not done:
            del self.notes[mark:]
            self.note("aside", record)
        return done

    def out(self, stage: str, key: str, record: Any) -> None:
        if self._caught is None and isinstance(record, Job) and ":" not in record.queue:
            self.note("job", record.queue, record.destination, record.message_id)
        super().out(stage, key, record)


class Poisoned(Exception):
    """What an event does that breaks a rule."""


def _noting(stage: Stage) -> Stage:
    """Let the stage note what is addressed to whom."""
    if stage.name != "profile":
        return stage
    event, give = stage.handlers[Arrive], stage.handlers[Give]

    def noted_event(state: Any, record: Arrive) -> None:
        state.note("sent", record.profile_id, record.event.received_at_ms)
        event(state, record)

    def noted_give(state: Any, order: Give) -> None:
        state.note("give", order.loser, (state.position, state.index))
        give(state, order)

    return Stage(stage.name, {**stage.handlers, Arrive: noted_event, Give: noted_give},
                 stage.tables)


@contextlib.contextmanager
def routed_stages() -> Iterator[Mapping[str, Stage]]:
    """Yield the production stages, with bugs that only poison events meet, noting what they do."""
    arrive, admit, decide = home.arrive, lane.admit, writer.decide
    take_over, fire = home.take_over, profile.fire
    due_keys, move, bury = person.due_keys, moves.fire, delivery._bury
    firing: list[Any] = []

    def noted_arrive(state: Any, record: Arrive) -> None:
        arrive(state, record)
        if record.event.name == "Poison":
            raise Poisoned
        if record.event.name == "Poison Row":
            state.put(profile.CONDITIONS, b"left behind", 1 << 70)  # which nothing can keep
        state.note("applied", record, state.place)

    def poisonous_admit(state: Any, record: Received, repeat_of_ms: int) -> None:
        admit(state, record, repeat_of_ms)
        if b'"Poison Lane"' in record.body:
            raise Poisoned
        state.note("kept", state.at_ms, record)

    def poisonous_decide(state: Any, claim: Any) -> None:
        decide(state, claim)
        if claim.event.name == "Poison Claim":
            raise Poisoned

    def noted_take_over(state: Any, hand: Any) -> None:
        take_over(state, hand)
        state.note("taken", hand.survivor, hand.profile.id)

    def noted_fire(state: Any, one: Any, before_ms: int, **rest: Any) -> Any:
        firing.append(state)
        try:
            return fire(state, one, before_ms, **rest)
        finally:
            firing.pop()

    def noted_due_keys(one: Any, flip_ms: int) -> Any:
        firing[-1].note("timer", one.id, flip_ms)
        return due_keys(one, flip_ms)

    def noted_move(plan: Any, running: Any, view: Any, due_ms: int, now_ms: int) -> Any:
        state, id = firing[-1], view.profile.id
        line = state.get(home.LINES, id.encode())
        waiting = line.waiting if line is not None else ()
        late = now_ms - due_ms > MINUTE
        state.note("timer", id, due_ms)
        if late and any(one.arrive and one.at_ms <= now_ms for one in waiting):
            state.note("hasty", id, due_ms)
        return move(plan, running, view, due_ms, now_ms)

    def noted_bury(state: Any, number: int, letter: Any) -> None:
        state.note("buried", letter.destination, letter.message_id)
        bury(state, number, letter)

    with sim_stages(), put(
        (delivery, "_bury", noted_bury),
        (home, "arrive", noted_arrive), (lane, "admit", poisonous_admit),
        (writer, "decide", poisonous_decide), (home, "take_over", noted_take_over),
        (profile, "fire", noted_fire), (merging, "fire", noted_fire),
        (person, "due_keys", noted_due_keys), (moves, "fire", noted_move),
    ):
        yield {name: _noting(stage) for name, stage in net.STAGES.items()}


# ---- one worker's hold on one partition ----------------------------------------------------------
class Inbox:
    """A totally ordered inbox; ``wake`` is called when something comes in."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.records: list[Batch] = []
        self._wake = wake

    def put(self, batch: Batch) -> None:
        """Append a record."""
        self.records.append(batch)
        self._wake()

    def send(self, items: list[Item]) -> None:
        """Append what another stage sends."""
        self.put(Batch("mail", 0, net.WIRE.decode(net.WIRE.encode(items))))


@dataclass
class Logged:
    """A batch in a changelog."""

    epoch: int
    base: int
    upto: int
    puts: list[tuple[bytes, bytes]]
    deletes: list[bytes]


class Owner:
    """Works on a partition: takes it over, then makes one checkpoint after the other."""

    ORDER: tuple[str, ...] = ("send", "log", "write")
    """Of a checkpoint."""

    def __init__(self, world: "World", place: Place, epoch: int, store: MemoryStore) -> None:
        self.world = world
        self.place = place
        self.epoch = epoch
        self.store = store
        self.part: SimPartition | None = None
        self.working = True
        """Whether it is amid a take-over or a checkpoint."""
        self._life = self._live()

    @property
    def ready(self) -> bool:
        """Return whether there is something to do."""
        return self.working or self.unread

    @property
    def unread(self) -> bool:
        """Return whether the inbox holds more than is applied."""
        assert self.part is not None
        return self.part.applied + 1 < len(self.world.inboxes[self.place].records)

    def step(self) -> str:
        """Do one step. Raises Fenced."""
        return next(self._life)

    def _live(self) -> Iterator[str]:
        yield from self.take_over()
        world, part = self.world, self.part
        assert part is not None
        while True:
            base = part.applied
            records = world.inboxes[self.place].records
            for _ in range(world.rng.randint(1, world.odds.most)):
                offset = part.applied + 1
                if offset == len(records):
                    break
                part.apply(offset, records[offset])
            self.working = True
            checkpoint = part.prepare(world.route)
            world.note(self.place, part)
            yield "applied"
            for act in self.ORDER:
                if act == "send":
                    yield from self.send(checkpoint)
                elif act == "log":
                    yield from self.log(base, checkpoint)
                else:
                    part.complete(checkpoint)
                    if act != self.ORDER[-1]:
                        yield "written"
            self.working = False
            yield "done"

    def take_over(self) -> Iterator[str]:
        """Fence whoever had the partition, then read the changelog."""
        yield from self.fence()
        self.read()

    def fence(self) -> Iterator[str]:
        """From now on the changelog takes no batch of older owners."""
        self.world.epochs[self.place] = self.epoch
        yield "fenced"

    def read(self) -> None:
        """Bring the local store up to the changelog, and open it."""
        row = self.store.get(PROGRESS.prefix)
        applied = -1 if row is None else msgspec.msgpack.decode(row, type=Progress).applied
        for batch in self.world.changelogs[self.place]:
            if batch.upto > applied:
                self.store.write(batch.puts, batch.deletes)
        self.part = self.world.open(self.place, self.store)
        self.working = False

    def send(self, checkpoint: Checkpoint) -> Iterator[str]:
        """Let others see what the checkpoint sends: each phase when the one before is there."""
        rng = self.world.rng
        for sends in checkpoint.phases:
            for stage, number, items in rng.sample(sends, len(sends)):
                for some in self.envelopes(items):
                    self.world.inboxes[stage, number].send(some)
                    yield "sent"

    def envelopes(self, items: list[Item]) -> list[list[Item]]:
        """Return the items as one envelope or two, in order."""
        rng = self.world.rng
        if len(items) > 1 and rng.random() < 0.2:
            cut = rng.randrange(1, len(items))
            return [items[:cut], items[cut:]]
        return [items]

    def log(self, base: int, checkpoint: Checkpoint) -> Iterator[str]:
        """Append the batch to the changelog."""
        self.world.append(self, Logged(self.epoch, base, checkpoint.applied,
                                       checkpoint.puts, checkpoint.deletes))
        yield "logged"


# ---- the world -----------------------------------------------------------------------------------
@dataclass
class Odds:
    """What a seed is like."""

    partitions: int = 4
    calls: int = 30
    most: int = 3
    feed: float = 0.3
    tick: float = 0.1
    crash: float = 0.0
    lost: float = 0.3
    zombie: float = 0.0
    editions: bool = False
    deliver: float = 0.0
    """How often a destination is called, or answers."""
    mood: tuple[int, ...] = (200,)
    """What destinations answer."""
    twice: float = 0.0
    """How often a messageId is sent again by another visitor."""
    poison: float = 0.0
    untidy: float = 0.0
    """How often an anonymousId comes with a blank, and so by another lane."""
    burst: int = 0
    """Calls at once, whenever all is at rest; 0: they come one by one beside the work."""
    grain_ms: int = 1
    """Of the clock at the door."""
    strangers: int = 0
    """Visitors whose profile somebody else's event merges with another."""
    slow: dict[Place, float] = field(default_factory=dict)
    late: dict[Place, float] = field(default_factory=dict)
    """Whom ticks and definitions reach late."""
    stall: float = 0.0
    """How often somebody stops for a while."""
    pace: tuple[int, ...] = (1, 1000)


def odds_of(rng: random.Random) -> Odds:
    """Return the odds of a seed: quiet ones, ones with one kind of trouble, storms."""
    odds = Odds()
    odds.partitions = rng.choice((1, 2, 2, 3, 3, 4, 4, 5, 8, 16))
    odds.calls = rng.choice((10, 20, 40, 60))
    odds.most = rng.choice((1, 2, 4, 12))
    # Slow feeding lets the fast path open, fast feeding lets things meet.
    odds.feed = rng.choice((0.02, 0.05, 0.1, 0.3, 0.6))
    odds.tick = rng.choice((0.02, 0.1, 0.4)) if odds.partitions < 8 else rng.choice((0.02, 0.1))
    odds.deliver = rng.choice((0.0, 0.02, 0.1))
    odds.mood = rng.choice(((200,), (200, 200, 500), (200, 500, 400)))
    odds.pace = rng.choice((
        (1, 5, 20), (1, 5, 20, 1000, 10_000), (1, 1000, MINUTE, 10 * MINUTE, 30 * MINUTE),
        (1, 5, 1000, MINUTE, HOUR, DAY, 7 * DAY),
    ))  # fmt: skip
    kinds = ("crash", "zombie", "editions", "twice")
    kind = rng.choice(("quiet", "one", "one", "storm"))
    chosen = {"quiet": (), "one": (rng.choice(kinds),), "storm": kinds}[kind]
    if "crash" in chosen:
        odds.crash = rng.choice((0.003, 0.01, 0.03))
        odds.lost = rng.choice((0.1, 0.5))
    if "zombie" in chosen:
        odds.zombie = rng.choice((0.003, 0.01, 0.03))
    odds.editions = "editions" in chosen
    odds.poison = rng.choice((0.0, 0.0, 0.05))
    odds.untidy = rng.choice((0.0, 0.0, 0.2))
    odds.burst = rng.choice((0, 0, 2, 5, 12))
    odds.strangers = rng.choice((0, 0, 1, 2, 3))
    odds.grain_ms = rng.choice((1, 1, 1000, HOUR))
    odds.twice = rng.choice((0.05, 0.2)) if "twice" in chosen else 0.0
    places = [(stage, n) for stage in net.STAGES for n in net.numbers(stage, odds.partitions)]
    # Even schedules hardly ever meet the holes: a slow partition, a slow stage.
    for _ in range(rng.choice((0, 1, 1, 2))):
        stage = rng.choice(("intake", "intake", "profile", "identity", *sorted(net.STAGES)))
        place = rng.choice([place for place in places if place[0] == stage])
        odds.slow[place] = rng.choice((0.8, 0.95, 0.99))
    odds.stall = rng.choice((0.0, 0.01, 0.03))
    if rng.random() < 0.5:
        odds.late = {place: 0.97 for place in places if rng.random() < 0.3}
    if rng.random() < 0.4:
        stage = rng.choice(sorted(net.STAGES))
        for place in places:
            if place[0] == stage:
                odds.slow[place] = max(odds.slow.get(place, 0.0), rng.choice((0.7, 0.9)))
    return odds


def strangers(rng: random.Random, count: int) -> list[tuple[str, deque[Call]]]:
    """Return visitors who are merged while they go on: by events of others, on other lanes. Only
    their grants can be stale."""
    clients = []
    for number in range(count):
        visitor = {"anonymousId": f"s{number}{rng.choice(('', '', ' '))}"}
        user, email = f"v{number}", f"v{number}@shop.test"
        view = {"type": "track", "event": "Product Viewed", "properties": {"name": "p0"}}
        calls = [{"type": "identify", "userId": user, "traits": {}, **visitor},
                 {"type": "identify", "anonymousId": f"t{number}", "traits": {"email": email}},
                 *({**view, **visitor} for _ in range(rng.choice((6, 12, 18))))]
        thirds = [{"type": "identify", "userId": user, "traits": {"email": email}}]
        if rng.random() < 0.5:  # a merge of merges
            thirds.append({"type": "track", "event": "Signed Up", "userId": user,
                           "properties": {"email": f"v{(number + 1) % count}@shop.test"}})
        for third in thirds:
            calls.insert(rng.randrange(4, len(calls)), third)
        clients.append((rng.choice(("web", "server")), deque(
            Call(0, {**body, "messageId": f"s-{number}-{at}"}) for at, body in enumerate(calls))))
    return clients


class World:
    """Everything there is in one run."""

    def __init__(self, seed: int, stages: Mapping[str, Stage], *, keep: bool = False) -> None:
        self.seed = seed
        self.stages = stages
        self.rng = rng = random.Random(seed)
        self.odds = odds = odds_of(rng)
        self.partitions = odds.partitions
        self.places = [(stage, n) for stage in stages for n in net.numbers(stage, odds.partitions)]
        self.awake: dict[Place, None] = dict.fromkeys(self.places)
        """Whose owner has something to do, or may have."""
        self.inboxes = {place: Inbox(partial(self.awake.setdefault, place))
                        for place in self.places}
        self.changelogs: dict[Place, list[Logged]] = {place: [] for place in self.places}
        self.epochs = dict.fromkeys(self.places, 0)
        self.notes: list[tuple[Any, ...]] = []
        """What partitions did: place, offset, what, and more."""
        self.noted = dict.fromkeys(self.places, -1)
        self.trace = xxh3_128(str(seed).encode())
        self.lines: list[str] | None = [] if keep else None
        self.counts: Counter[str] = Counter()
        self.steps = 0
        self.resting = False
        self.stalled: dict[Place, int] = {}
        self.now_ms = START_MS
        self.clients = [(client.source, deque(client.calls))
                        for client in histories(rng, odds.calls)]
        if odds.strangers:
            self.clients += strangers(rng, odds.strangers)
        self.unsent = sum(len(calls) for _, calls in self.clients)
        self.bodies: list[dict[str, Any]] = []
        self.on_the_way: dict[Place, deque[Batch]] = {place: deque() for place in self.places}
        """From outside, not yet appended; in order for each inbox."""
        self.ticked_ms = 0
        self.flights: list[Flight] = []
        self.answered: dict[Place, set[tuple[bytes, int]]] = defaultdict(set)
        """Attempts whose result is in the inbox, by who made them."""
        self.sink: list[tuple[str, str, bytes, bool]] = []
        """What was told of persons: destination, messageId, body, and whether that settled it."""
        self.kinds = {stage: net.kinds(stage) for stage in stages}
        self.owners = {place: Owner(self, place, 1, MemoryStore()) for place in self.places}
        self.zombies: list[Owner] = []
        self.define(EDITIONS[0].define)
        for place in self.places:
            self._append(place)

    def open(self, place: Place, store: MemoryStore) -> SimPartition:
        """Return a partition over its store."""
        stage, number = place
        return SimPartition(store, f"{stage}-{number}", self.stages[stage], number,
                            self.partitions, self.kinds[stage], compile_definitions,
                            tables=DEFINITION_TABLES, first=EMPTY)

    def route(self, stage: str, key: str) -> int:
        """Return the partition of a key."""
        return net.route(stage, key, self.partitions)

    def append(self, owner: Owner, batch: Logged) -> None:
        """Append to a changelog. Raises Fenced for all but its last owner."""
        if owner.epoch < self.epochs[owner.place]:
            raise Fenced
        self.changelogs[owner.place].append(batch)

    def note(self, place: Place, part: SimPartition) -> None:
        """Take the notes of a batch. What is done a second time after a crash is the same, and what
        follows from it may have happened already: so the first time counts."""
        last = self.noted[place]
        self.notes += [(place, *note) for note in part.notes if note[0] > last]
        self.noted[place] = max(last, part.applied)
        part.notes.clear()

    def tell(self, line: str) -> None:
        """Add to the trace."""
        self.trace.update(line.encode())
        if self.lines is not None:
            self.lines.append(f"{self.steps:>6} {line}")

    # ---- from outside
    def define(self, define: Define) -> None:
        """Put definitions on the way to every inbox."""
        for place in self.places:
            self.on_the_way[place].append(Batch("define", self.now_ms, [define]))

    def tick(self, at_ms: int) -> None:
        """Put a tick on the way to every lane."""
        for number in range(self.partitions):
            self.on_the_way["intake", number].append(Batch("tick", at_ms, [Tick()]))

    def sweep(self, number: int) -> None:
        """Let a profile partition bring some more profiles up to date."""
        self.inboxes["profile", number].put(
            Batch("continue", self.now_ms, [Continue(self.rng.choice((1, 3, 50)))]))

    def _append(self, place: Place) -> None:
        self.inboxes[place].put(self.on_the_way[place].popleft())

    def feed(self) -> None:
        """Let somebody send a call, or a few in one request."""
        rng = self.rng
        source, calls = rng.choice([pair for pair in self.clients if pair[1]])
        lanes: dict[int, list[Received]] = {}
        for _ in range(min(len(calls), rng.choice((1, 1, 1, 2, 3)))):
            call = calls.popleft()
            self.unsent -= 1
            self.now_ms += rng.choice(self.odds.pace)
            body = dict(call.body)
            if rng.random() < self.odds.poison and body["type"] == "track":
                body["event"] = rng.choice(
                    ("Poison", "Poison Row", "Poison Lane", "Poison Claim", "Poison Claim"))
            if rng.random() < self.odds.untidy and isinstance(body.get("anonymousId"), str):
                body["anonymousId"] += " "
            if call.dated:
                body["timestamp"] = iso(self.now_ms - call.late_ms)
            self._received(source, body, lanes)
            if rng.random() < self.odds.twice and self.bodies:
                again = dict(rng.choice(self.bodies))
                if rng.random() < 0.5:
                    again["anonymousId"] = f"a{rng.randrange(9)}"
                self.now_ms += 1
                self._received(source, again, lanes)
            self.bodies.append(body)
        at_ms = self.now_ms - self.now_ms % self.odds.grain_ms
        for number, records in sorted(lanes.items()):
            self.inboxes["intake", number].put(Batch("event", at_ms, records))
        self.tell(f"fed {sorted(lanes)} {self.now_ms - START_MS}")

    def _received(self, source: str, body: dict[str, Any], lanes: dict[int, list[Any]]) -> None:
        now_ms = self.now_ms
        context = request_context(
            type=None, project_id=source, channel="server", client_side=False,
            received_at_ms=now_ms, new_message_id=lambda: f"new-{now_ms}",
        )
        taken = accept(dict(body), context)
        if isinstance(taken, Refused):
            return
        data = msgspec.json.decode(taken.body)
        lanes.setdefault(lane.lane_of_call(data, self.partitions), []).append(
            Received(source, taken.message_id, now_ms, taken.timestamp_ms, taken.body))

    # ---- destinations
    def deliver(self) -> None:
        """Call a destination with the first job of some queue, or let one answer."""
        rng = self.rng
        place = "delivery", rng.randrange(self.partitions)
        if self.flights and rng.random() < 0.6:
            self._land(self.flights.pop(rng.randrange(len(self.flights))))
            return
        under_way = {one.key[:-9] for one in self.flights if one.place == place}
        told = self.answered[place]
        first: dict[bytes, tuple[bytes, JobRow]] = {}
        for key, row in StoreReader(self.owners[place].store).scan(JOBS):
            first.setdefault(key[:-9], (key, row))
        heads = [head for queue, head in first.items()
                 if queue not in under_way and head[1].next_ms <= self.now_ms
                 and (head[0], head[1].attempts) not in told]
        if heads:
            key, row = rng.choice(heads)
            self.flights.append(Flight(place, key, row))
            self.tell(f"calls {destination_of(key)} with {row.message_id}")

    def _land(self, flight: Flight) -> None:
        status = self.rng.choice(self.odds.mood)
        row = flight.row
        if ":" not in queue_of(flight.key):
            self.sink.append((destination_of(flight.key), row.message_id, row.body, status != 500))
        self.tell(f"answers {status} to {row.message_id}")
        self.answered[flight.place].add((flight.key, row.attempts))
        result = Result(flight.key, row.attempts + 1, status, "", "")
        self.inboxes[flight.place].put(Batch("result", self.now_ms, [result]))

    # ---- a step
    def step(self) -> None:
        """Whatever happens next."""
        self.steps += 1
        rng, odds = self.rng, self.odds
        feeds = odds.burst * self.resting if odds.burst else int(rng.random() < odds.feed)
        for _ in range(feeds):
            if self.unsent:
                self.feed()
                self._around()
        waiting = self._carry()
        self.resting = not self.work() and not waiting

    def _around(self) -> None:
        """What else may come from outside beside a call."""
        rng, odds = self.rng, self.odds
        if rng.random() < odds.tick:
            self._tick()
        if odds.editions and rng.random() < 0.1:
            number = rng.randrange(len(EDITIONS))
            self.define(EDITIONS[number].define)
            self.tell(f"edition {number}")
        if odds.editions and rng.random() < 0.2:
            self.sweep(rng.randrange(self.partitions))

    def _carry(self) -> list[Place]:
        """Let something from outside arrive; return for whom there may be more."""
        rng = self.rng
        if rng.random() < self.odds.deliver:
            self.deliver()
        waiting = [place for place in self.places if self.on_the_way[place]]
        if waiting and rng.random() < 0.5:
            place = rng.choice(waiting)
            if rng.random() >= self.odds.late.get(place, 0.0):
                self._append(place)
        return [place for place in waiting if self.on_the_way[place]]

    def _tick(self) -> None:
        """Let the ticker write: it is never ahead of the clock, and never goes back."""
        at_ms = max(self.ticked_ms + 1, self.now_ms - self.rng.choice((0, 0, 1, 1000)))
        if at_ms <= self.now_ms:
            self.ticked_ms = at_ms
            self.tick(at_ms)

    def work(self) -> bool:
        """Let some worker do a step; return whether one had something to do."""
        rng = self.rng
        ready = [self.owners[place] for place in self.awake]
        ready += [zombie for zombie in self.zombies if zombie.ready]
        if not ready:
            return False
        owner = rng.choice(ready)
        if rng.random() < self.odds.slow.get(owner.place, 0.0):
            return True
        if self.stalled.get(owner.place, 0) > self.steps:
            return True
        if rng.random() < self.odds.stall:
            self.stalled[owner.place] = self.steps + rng.choice((20, 100, 400))
        zombie = owner is not self.owners[owner.place]
        try:
            did = owner.step()
        except Fenced:
            self.tell(f"fenced out {owner.place}")
            self.counts["fenced out"] += 1
            self.zombies.remove(owner)
            return True
        self.tell(f"{owner.place} {owner.epoch} {did}")
        self.counts[("zombie " if zombie else "") + did] += 1
        if not zombie:
            if not owner.ready:
                del self.awake[owner.place]
            self._fault(owner, did)
        return True

    def _fault(self, owner: Owner, did: str) -> None:
        rng, odds, place = self.rng, self.odds, owner.place
        if rng.random() < odds.crash:
            lost = rng.random() < odds.lost
            self.counts[f"crash {did}"] += 1
            self.tell(f"crash {place} {did}{' lost' if lost else ''}")
            store = MemoryStore() if lost else owner.store
            self.flights = [one for one in self.flights if one.place != place]
            self.answered.pop(place, None)
            self._replace(owner, store)
        elif rng.random() < odds.zombie and owner.part is not None:
            self.counts[f"left alive {did}"] += 1
            self.tell(f"left alive {place} {did}")
            self.zombies.append(owner)
            self._replace(owner, MemoryStore())

    def _replace(self, owner: Owner, store: MemoryStore) -> None:
        self.owners[owner.place] = Owner(self, owner.place, owner.epoch + 1, store)
        self.awake[owner.place] = None

    # ---- the end
    def settle(self) -> None:
        """Let everything come to rest, time included."""
        while self.unsent:
            self.step()
        self.drain()
        for _ in range(50):
            self.odds.crash = self.odds.zombie = 0.0
            sweeping = [n for n in range(self.partitions)
                        if self.owners["profile", n].store.get(SWEEP.prefix) is not None]
            self.now_ms += 1
            self.tick(self.now_ms)
            self.drain()
            if not sweeping:
                return
            for number in sweeping:
                self.sweep(number)
        raise Broken("the sweep has no end")

    def drain(self) -> None:
        """Work until nobody has anything to do."""
        limit = self.steps + 400_000
        while True:
            self.steps += 1
            if self.steps > limit:
                raise Broken("it never comes to rest")
            waiting = self._carry()
            if not self.work():
                if not waiting:
                    return
                for place in waiting:
                    self._append(place)


Plant = Callable[[], contextlib.AbstractContextManager[None]]
