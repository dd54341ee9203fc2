"""What must hold when all partitions have come to rest (protocol 12)."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from agents.definitions import EMPTY, compile_definitions
from agents.definitions import TABLES as DEFINITION_TABLES
from agents.delivery import JOBS, WAITING, destination_of, job_number, queue_of
from agents.history import occurrences
from agents.identity import ACCOUNTS, NODES, OWNERS, REDIRECTS
from agents.identity import STAGE as IDENTITY
from agents.person import is_inside
from agents.profile_tables import HISTORY, MEMBERS, PROFILES
from agents.records import Arrive, Claim, Define, MergeOut
from agents.routed import desk, home, lane, writer
from agents.routed.records import Placed
from app import partitions as net
from app.reader import StoreReader
from audiences.evaluate import Memory, open_to, rebuild, settle
from events.event import Event
from events.timestamps import iso
from runtime.envelope import pack
from runtime.fused import POISON, SETTLED, Kind, Runner
from runtime.routed import Item, Origin
from runtime.stage import Stage
from tables.store import MemoryStore
from tests.routed.world import Broken, Place, World
from tests.sim.checks import same
from usage import mtu

Message = tuple[str, str]
"""Destination and messageId."""
Applied = tuple[Place, Arrive, tuple[int, int]]


class View:
    """The state of all partitions of a stage, and of all stages."""

    def __init__(self, world: World) -> None:
        self.readers = {place: StoreReader(owner.store) for place, owner in world.owners.items()}

    def rows(self, stage: str, table: Any) -> Iterable[tuple[bytes, Any]]:
        """Yield the rows of a table, of all partitions."""
        for place, reader in self.readers.items():
            if place[0] == stage:
                yield from reader.scan(table)

    def counter(self, name: str) -> int:
        """Return a counter, summed over all partitions."""
        return sum(reader.counter(name) for reader in self.readers.values())


def check(world: World) -> None:
    """Raise Broken for the first promise that was not kept."""
    for place, owner in world.owners.items():
        assert owner.part is not None
        same(owner.part.applied + 1, len(world.inboxes[place].records), f"applied of {place}")
    view = View(world)
    _nothing_waits(view)
    _counters(view)
    _rebuilt(world)
    order = _graph(world, view)
    accepted = _accepted(world)
    _histories(world, view, accepted)
    _in_order(world, accepted)
    _merges(world, order)
    _timers(world)
    _usage(world, view)
    _members(view)
    _recomputed(world)
    _jobs(world, view)


def demand(holds: bool, otherwise: str) -> None:
    """Raise Broken unless it holds."""
    if not holds:
        raise Broken(otherwise)


def _nothing_waits(view: View) -> None:
    for stage, table in (("intake", lane.QUEUE), ("profile", home.LINES), ("profile", home.GIVEN),
                         ("delivery", desk.HELD), ("delivery", desk.GIVEN)):
        for key, row in view.rows(stage, table):
            raise Broken(f"{table.name} of {stage} keeps {key!r}: {str(row)[:200]}")
    for key, flight in view.rows("intake", lane.FLIGHTS):
        demand(flight.sent <= flight.answered, f"the fast path of {key!r} stays shut: {flight}")


def _counters(view: View) -> None:
    settled = {name: view.counter(name) for name in SETTLED}
    same(sum(settled.values()), view.counter("logged"), f"events that are accounted for {settled}")
    poison = sum(1 for reader in view.readers.values() for _ in reader.scan(POISON))
    same(settled["set_aside"], poison, "set aside")


# ---- each partition from its own inbox ---------------------------------------------------------
def _rebuilt(world: World) -> None:
    """A partition's rows are those of an undisturbed run over its inbox, so is each batch of its
    changelog; what it says to others in such a run is what they got from it, once, in that order.
    """
    sent: dict[tuple[Place, Place], list[Item]] = defaultdict(list)
    for place, inbox in world.inboxes.items():
        store, logged = MemoryStore(), MemoryStore()
        part = world.open(place, store)
        for entry in world.changelogs[place]:
            same(entry.base, part.applied, f"where a batch in the changelog of {place} begins")
            for offset in range(entry.base + 1, entry.upto + 1):
                part.apply(offset, inbox.records[offset])
            checkpoint = part.prepare(world.route)
            for stage, number, items in (one for phase in checkpoint.phases for one in phase):
                sent[place, (stage, number)] += items
            for one, other in ((entry.puts, checkpoint.puts),
                               (entry.deletes, checkpoint.deletes)):
                same(sorted(one), sorted(other), f"batch {entry.upto} of {place}")
            part.complete(checkpoint)
            logged.write(entry.puts, entry.deletes)
        rows = _rows(store)
        same(_rows(world.owners[place].store), rows, f"rows of {place}, and from its inbox")
        same(_rows(logged), rows, f"changelog of {place}, and from its inbox")
    got: dict[tuple[Place, Place], dict[Origin, Item]] = defaultdict(dict)
    for place, inbox in world.inboxes.items():
        for batch in inbox.records:
            if batch.kind == "mail":
                for item in batch.items:
                    origin = item.origin
                    got[(origin.stage, origin.partition), place].setdefault(origin, item)
    for way in sorted({*sent, *got}):
        came, left = list(got[way].values()), sent[way]
        for one, other in zip(came, left, strict=False):
            # As bytes: a list and a tuple are one and the same there.
            if net.WIRE.encode([one]) != net.WIRE.encode([other]):
                same(one, other, f"mail from {way[0]} to {way[1]}")
        same(len(came), len(left), f"pieces of mail from {way[0]} to {way[1]}")


def _rows(store: MemoryStore) -> dict[bytes, bytes]:
    return dict(store.scan(b"", b"\xff\xff\xff"))


# ---- whose event ---------------------------------------------------------------------------------
def _graph(world: World, view: View) -> list[tuple[Claim, list[str]]]:
    """The graph is what `identity` alone makes of its inbox, claim after claim. Return the claims
    in that order, with who was merged away by each."""
    order: list[tuple[Claim, list[str]]] = []

    def decide(state: Any, claim: Claim) -> None:
        writer.decide(state, claim)
        losers = [record.loser for _, _, record in state._effects if isinstance(record, MergeOut)]
        order.append((claim, losers))

    class Alone(Runner):
        """Sends nothing to anybody."""

        def out(self, stage: str, key: str, record: Any) -> None:
            self._effects.append((stage, key, record))

        def _balanced(self) -> None:
            pass

    stage = Stage("identity", {Claim: decide}, IDENTITY.tables)
    kinds = {"claim": Kind(Claim, ("identity",), control=False),
             "define": Kind(Define, (), define=True)}
    store = MemoryStore()
    alone = Alone(store, "alone", (stage,), kinds, compile_definitions, tables=DEFINITION_TABLES,
                  first=EMPTY)
    offset = 0
    seen: set[Origin] = set()
    for batch in world.inboxes["identity", 0].records:
        records: list[tuple[str, int, Any]] = []
        if batch.kind == "define":
            records = [("define", batch.at_ms, item) for item in batch.items]
        for item in batch.items if batch.kind == "mail" else ():
            if item.origin not in seen:
                seen.add(item.origin)
                if isinstance(item.record, Placed):
                    records.append(("claim", item.at_ms, item.record.claim))
        for kind, at_ms, record in records:
            alone.apply(offset, pack(kind, at_ms, [record]))
            alone.commit()
            offset += 1
    reader = StoreReader(store)
    for table in (OWNERS, NODES, REDIRECTS, ACCOUNTS):
        same(dict(view.rows("identity", table)), dict(reader.scan(table)), table.name)
    return order


def _accepted(world: World) -> dict[int, tuple[int, int, int]]:
    """Return of each event, by its instant of receipt, where it was accepted."""
    return {
        record.received_at_ms: (number, offset, index)
        for number in range(world.partitions)
        for offset, batch in enumerate(world.inboxes["intake", number].records)
        if batch.kind == "event"
        for index, record in enumerate(batch.items)
    }


def _applied(world: World) -> list[Applied]:
    return [(place, *rest) for place, _, what, *rest in world.notes if what == "applied"]


def _addressed(world: World) -> dict[int, str]:
    """Return of each event, by its instant of receipt, the profile it was sent to."""
    return {rest[1]: rest[0] for _, _, what, *rest in world.notes if what == "sent"}


def _histories(world: World, view: View, accepted: dict[int, tuple[int, int, int]]) -> None:
    """Every event that was accepted, and not counted otherwise, was applied once and is in the
    history of the profile that owns its best-ranked identifier."""
    applied = Counter(record.event.received_at_ms for _, record, _ in _applied(world))
    for received, times in applied.items():
        demand(received in accepted, f"an event of {received} was never accepted")
        same(times, 1, f"times that the event of {received} was applied")
    aside = {_received(record) for _, _, what, record, *_ in world.notes if what == "aside"}
    same(len({*applied} | aside), view.counter("applied") + view.counter("set_aside"),
         "events applied or set aside")
    redirects = {key.split(b"\0", 1)[1].decode(): row.survivor
                 for key, row in view.rows("identity", REDIRECTS)}
    owners = {tuple(key.decode().split("\0", 2)[1:]): row.profile_id
              for key, row in view.rows("identity", OWNERS)}
    accounts = {row.profile_id for _, row in view.rows("identity", ACCOUNTS)}
    rows: Counter[int] = Counter()
    for key, row in view.rows("profile", HISTORY):
        id = key.split(b"\0", 1)[0].decode()
        if id in accounts:
            continue
        rows[row.received_at_ms] += 1
        while id in redirects:
            id = redirects[id]
        same(id, owners[row.used[0]], f"profile of the event of {row.received_at_ms}")
    repeats = {record.event.received_at_ms for _, record, _ in _applied(world)
               if record.event.repeat_of_ms >= 0}
    for received in sorted({*applied, *rows}):
        if rows[received] == 0 and received in repeats:
            continue
        same((rows[received], applied[received]), (1, 1), f"history of the event of {received}")


def _received(record: Any) -> int:
    return record.event.received_at_ms if hasattr(record, "event") else record.received_at_ms


def _in_order(world: World, accepted: dict[int, tuple[int, int, int]]) -> None:
    """The events of one visitor and one person were applied in the order of acceptance.

    Of one visitor: of one routing id, as it was sent, since how it is written chooses the lane. Not
    of one person are those whose routing id gave way to others.
    """
    last: dict[Any, tuple[int, int, int]] = {}
    for _, record, _ in _applied(world):
        data = record.event.data
        sent = data.get("anonymousId") or data.get("userId") or ""
        type = "anonymous_id" if data.get("anonymousId") else "user_id"
        if not sent or (type, sent) not in record.used:
            continue
        place = accepted[record.event.received_at_ms]
        key = type, sent
        before = last.get(key)
        if before is not None:
            same(place[0], before[0], f"lane of {key}")
            demand(before < place,
                   f"{key}: the event at {place} was applied after that at {before}")
        last[key] = place


def _merges(world: World, order: list[tuple[Claim, list[str]]]) -> None:
    """Whoever was merged is there before the event that caused it is applied, and does nothing
    more on its own from then on."""
    addressed = _addressed(world)
    needs = {claim.event.received_at_ms: losers for claim, losers in order if losers}
    taken: set[str] = set()
    given: dict[str, tuple[Place, tuple[int, int]]] = {}
    for place, _, what, *rest in world.notes:
        if what == "taken":
            taken.add(rest[1])
        elif what == "give":
            given[rest[0]] = (place, rest[1])
        elif what == "applied":
            record, at = rest
            for loser in needs.get(record.event.received_at_ms, ()):
                demand(loser in taken, f"an event was applied before {loser} had handed over")
            id = record.profile_id
            if id in given and addressed[record.event.received_at_ms] == id:
                demand(at < given[id][1],
                       f"{id} goes on alone after it was merged")


# ---- time ----------------------------------------------------------------------------------------
def _timers(world: World) -> None:
    """No timer fires before an input that was there first; a late one lets what waits go first.

    What another profile handed over is exempt: when the timer fired they were two persons.
    """
    addressed = _addressed(world)
    fired: dict[str, int] = {}
    for _, _, what, *rest in world.notes:
        if what == "timer":
            fired[rest[0]] = max(fired.get(rest[0], 0), rest[1])
        elif what == "hasty":
            raise Broken(f"a late timer of {rest[0]} fired before what waits")
        elif what == "applied":
            event: Event = rest[0].event
            id = rest[0].profile_id
            if addressed[event.received_at_ms] == id and event.at_ms <= fired.get(id, -1):
                raise Broken(f"an event of {event.at_ms} at {id} was applied after "
                             f"a timer due at {fired[id]}")


# ---- who was there -------------------------------------------------------------------------------
def _usage(world: World, view: View) -> None:
    """Usage is what the plain sets give, over all calls that were kept, on whatever lanes."""
    calls: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for _, _, what, *rest in world.notes:
        if what == "kept":
            at_ms, record = rest
            data = msgspec.json.decode(record.body)
            month = iso(at_ms)[:7]
            calls[month].append((record.source, data.get("userId") or "",
                                 data.get("anonymousId") or ""))
    counters = Counter[str]()
    for reader in view.readers.values():
        counters.update(dict(reader.counters(mtu.PREFIX)))
    for month, mine in sorted(calls.items()):
        report: Any = mtu.report(month, counters.items())
        for source in ("", *sorted({call[0] for call in mine})):
            some = [call for call in mine if source in ("", call[0])]
            anonymous = {id for _, _, id in some if id}
            linked = {id for _, user, id in some if id and user}
            users = {user for _, user, _ in some if user}
            found = report["by_source"][source] if source else report
            same([found[name] for name in ("identified", "anonymous", "anonymous_identified",
                                           "api_calls")],
                 [len(users), len(anonymous), len(linked), len(some)],
                 f"usage of {month} {source}")


# ---- what was made of it -------------------------------------------------------------------------
def _members(view: View) -> None:
    inside: dict[str, set[str]] = defaultdict(set)
    live = Counter[str]()
    for _, profile in view.rows("profile", PROFILES):
        if not profile.survivor:
            live[profile.collection] += 1
        for key in profile.memberships:
            if is_inside(profile, key):
                demand(not profile.survivor, f"the tombstone {profile.id} is in {key}")
                inside[key].add(profile.id)
    members: dict[str, set[str]] = defaultdict(set)
    for key, _ in view.rows("profile", MEMBERS):
        audience, id = key.decode().split("\0")
        members[audience].add(id)
    same(dict(members), dict(inside), "members")
    sizes = Counter[str]()
    for reader in view.readers.values():
        for name, value in reader.counters("audience:"):
            sizes[name.split(":")[1]] += value
    same({key: size for key, size in sizes.items() if size},
         {key: len(ids) for key, ids in inside.items()}, "sizes")
    same(view.counter("profiles"), live["users"], "number of people")


def _recomputed(world: World) -> None:
    """What a person is in and what is computed of them follows from their whole history, whatever
    way it came together."""
    for number in range(world.partitions):
        part = world.owners["profile", number].part
        assert part is not None
        plan = part.definitions.plan
        for _, profile in part.scan(PROFILES):
            if profile.survivor or profile.collection != "users":
                continue
            states = Memory()
            states.rows = rebuild(plan, list(plan.leaves), occurrences(part, profile))
            keys = open_to(plan, profile, tuple(plan.computations))
            blank = replace(profile, computed={}, memberships={}, flips={})
            settled = settle(plan, blank, keys, states, world.now_ms)
            for what, found, wanted in (
                ("audiences", {key: one.inside for key, one in profile.memberships.items()},
                 {key: one.inside for key, one in settled.memberships.items()}),
                ("traits", {key: one.value for key, one in profile.computed.items()},
                 {key: one.value for key, one in settled.computed.items()}),
            ):
                for key in sorted({*found, *wanted}):
                    same(found.get(key) or None, wanted.get(key) or None,
                         f"{what} of {profile.id}: {key}")


def _jobs(world: World, view: View) -> None:
    """Each job waits, or came to an end; after all that its person was told before."""
    waiting: dict[Message, int] = {}
    lines: Counter[bytes] = Counter()
    for key, row in view.rows("delivery", JOBS):
        if ":" in queue_of(key):
            continue
        lines[key[:-9]] += 1
        message = destination_of(key), row.message_id
        demand(message not in waiting, f"the job {message} is there twice")
        waiting[message] = job_number(key)
    same(dict(view.rows("delivery", WAITING)), dict(lines), "jobs that are said to wait")
    dead = {(rest[0], rest[1]) for _, _, what, *rest in world.notes if what == "buried"}
    first: dict[Message, int] = {}
    final: dict[Message, int] = {}
    bodies: dict[Message, bytes] = {}
    for at, (destination, message_id, body, settled) in enumerate(world.sink):
        message = destination, message_id
        first.setdefault(message, at)
        same(body, bodies.setdefault(message, body), f"what {message} says")
        if settled:
            final.setdefault(message, at)
        elif message in dead:  # it was tried for long enough: the last time counts
            final[message] = at
    never = len(world.sink)
    told: set[Message] = set()
    last: dict[tuple[str, str], tuple[int, int]] = {}
    """By destination and person: when all so far had come to an end, the last number waiting."""
    for _, _, what, *rest in world.notes:
        if what == "taken":
            survivor, loser = rest
            for destination, queue in [key for key in last if key[1] == loser]:
                mine, other = last.get((destination, survivor), (-1, -1)), last[destination, queue]
                last[destination, survivor] = max(mine[0], other[0]), max(mine[1], other[1])
        elif what == "job":
            queue, destination, message_id = rest
            message = destination, message_id
            demand(message not in told, f"the job {message} was sent twice")
            told.add(message)
            demand(message in waiting or message in final, f"the job {message} is lost")
            settled_at, number = last.get((destination, queue), (-1, -1))
            if message in waiting:
                demand(number < waiting[message], f"{message} stands before an earlier one")
                number = waiting[message]
            if message in first:
                demand(settled_at < first[message], f"{message} overtook an earlier one")
            last[destination, queue] = max(settled_at, final.get(message, never)), number
    for message in (*waiting, *first):
        demand(message in told, f"nobody sent the job {message}")
