"""What must hold when a run has come to rest."""

from collections import Counter
from typing import Any

import msgspec

from agents.delivery import DEAD, JOBS, job_number
from agents.identity import ACCOUNTS, OWNERS, REDIRECTS
from agents.profile_tables import HISTORY, MEMBERS, PROFILES
from app.engine import TOPIC, runner_over
from app.reader import StoreReader
from app.replay import digest, replay
from profiles.profile import Profile
from runtime.fused import POISON, SETTLED
from tests.sim.oracle import Oracle, Person
from tests.sim.store import LaggingStore
from tests.sim.world import Broken, World
from usage import mtu

Message = tuple[str, str, Any]
"""Destination, queue, what is told."""


def check(world: World) -> None:
    """Raise Broken for the first promise that was not kept."""
    log, store, engine = world.log, world.store, world.engine
    found = digest(store)
    world.tell(f"digest {found}")
    world.demand(engine.runner.applied + 1 == log.durable_end(TOPIC, 0), "not all is applied")
    world.demand(engine.in_flight == 0, f"{engine.in_flight} events are in flight at rest")
    _answered(world)
    oracle = Oracle()
    jobs = Jobs(log.identity)
    for offset, value in enumerate(world.journal):
        first = len(oracle.messages)
        oracle.record(offset, value)
        canonical = [
            (destination, _canonical(oracle, queue), what)
            for destination, queue, what in oracle.messages[first:]
        ]
        oracle.messages[first:] = canonical
        jobs.record(offset, value)
    world.demand(digest(jobs.store) == found, "the state is not that of an undisturbed run")
    if world.bases:
        rebuilt = LaggingStore(world.bases[0].rows)
        replay(rebuilt, log)
        world.demand(digest(rebuilt) == found, "a rebuild from the oldest base gives another state")
    reader = StoreReader(store)
    _counters(reader, oracle)
    _people(reader, oracle)
    _accounts(reader, oracle)
    _messages(jobs, oracle)
    _delivered(world, reader, jobs)


def same(found: Any, wanted: Any, what: str) -> None:
    """Raise Broken unless both are equal, whole or key by key."""
    if found == wanted:
        return
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}, key=repr):
            if found.get(key) != wanted.get(key):
                same(found.get(key), wanted.get(key), f"{what}: {key}")
    raise Broken(f"{what}: is {found!r}, should be {wanted!r}")


def _answered(world: World) -> None:
    """What was answered 200 is in the log."""
    logged: Counter[str] = Counter()
    for value in world.journal:
        _, kind, _, items = msgspec.msgpack.decode(value)
        if kind == "event":
            logged.update(item[1] for item in items)
    for message_id, times in world.accepted.items():
        world.demand(logged[message_id] >= times, f"{message_id} was answered 200 and is lost")


def _counters(reader: StoreReader, oracle: Oracle) -> None:
    settled = {name: reader.counter(name) for name in ("logged", *SETTLED)}
    same(settled, {name: oracle.counts[name] for name in settled}, "counters")
    same(sum(settled.values()), 2 * settled["logged"], "counters do not balance")
    same({key.decode() for key, _ in reader.scan(POISON)}, set(oracle.poison), "set aside")
    for month, wanted in oracle.usage().items():
        report = mtu.report(month, reader.counters(f"{mtu.PREFIX}{month}"))
        found = {"all": {name: report[name] for name in wanted["all"]}, **report["by_source"]}  # type: ignore[dict-item]
        same(found, wanted, f"usage of {month}")


def _canonical(oracle: Oracle, id: str) -> str:
    while id in oracle.people and oracle.people[id].survivor:
        id = oracle.people[id].survivor
    return id


def _people(reader: StoreReader, oracle: Oracle) -> None:
    found = {key.decode(): row for key, row in reader.scan(PROFILES) if row.collection == "users"}
    same(set(found), set(oracle.people), "people")
    history: dict[str, list[tuple[int, str]]] = {}
    for key, _ in reader.scan(HISTORY):
        id, rest = key.split(b"\0", 1)
        mine = history.setdefault(_canonical(oracle, id.decode()), [])
        mine.append((int.from_bytes(rest[:8], "big"), rest[8:].decode()))
    members: dict[str, set[str]] = {}
    for key, _ in reader.scan(MEMBERS):
        audience, id = key.decode().split("\0")
        members.setdefault(audience, set()).add(id)
    owners = {}
    for key, owner in reader.scan(OWNERS):
        _, type, value = key.decode().split("\0", 2)
        owners[type, value] = owner.profile_id
    same(owners, oracle.owner, "owners")
    redirects = {key.decode().split("\0")[1]: row.survivor for key, row in reader.scan(REDIRECTS)}
    same(redirects, {p.id: p.survivor for p in oracle.people.values() if p.survivor}, "redirects")
    for id, person in oracle.people.items():
        profile = found[id]
        same(profile.survivor, person.survivor, f"survivor of {id}")
        if person.survivor:
            continue
        if oracle.defined > 1:
            oracle.look(person, oracle.at)
        _person(profile, person, oracle)
        events = [(event.stamp, event.mid) for event in person.events]
        same(sorted(history.get(id, [])), sorted(events), f"history of {id}")
    for audience in sorted({*oracle.plain["audiences"]} - {"starting_now"}):
        inside = {p.id for p in oracle.living() if p.inside.get(audience)}
        same(members.get(audience, set()), inside, f"members of {audience}")
        same(reader.counter(f"audience:{audience}:size"), len(inside), f"size of {audience}")
    same(reader.counter("profiles"), len(oracle.living()), "number of people")


def _person(profile: Profile, person: Person, oracle: Oracle) -> None:
    id = person.id
    same([(one.type, one.value) for one in profile.ids], [one[:2] for one in person.ids],
         f"ids of {id}")  # fmt: skip
    same(profile.created_at_ms, person.created, f"birth of {id}")
    same(set(profile.links), person.links, f"accounts of {id}")
    traits = {key: (trait.order, trait.value) for key, trait in profile.traits.items()}
    wanted = dict(person.traits)
    for key in oracle.changed:  # what was taken away may stay as a custom trait
        traits.pop(key, None)
        wanted.pop(key, None)
    same(traits, wanted, f"traits of {id}")
    keys = oracle.plain["computed_traits"]
    computed = {key: one.value for key, one in profile.computed.items()}
    expected = {key: value for key, value in person.computed.items() if key in keys}
    for key in oracle.changed:
        for one in (computed, expected):
            if one.get(key, 0) in (None, 0):
                one.pop(key, None)
    same(computed, expected, f"computed traits of {id}")
    inside = {key for key, one in profile.memberships.items() if one.inside}
    expected = {key for key in oracle.plain["audiences"] if person.inside.get(key)}
    if any(one.at == oracle.created.get("starting_now") for one in person.events):
        # Received in the instant of the audience's creation: before it or after it.
        inside.discard("starting_now")
        expected.discard("starting_now")
    same(inside, expected, f"audiences of {id}")


def _accounts(reader: StoreReader, oracle: Oracle) -> None:
    mapped = {key.decode().split("\0")[1]: row for key, row in reader.scan(ACCOUNTS)}
    same({key: row.profile_id for key, row in mapped.items()},
         {key: one["id"] for key, one in oracle.accounts.items()}, "accounts")  # fmt: skip
    for group, account in oracle.accounts.items():
        profile = reader.get(PROFILES, account["id"].encode())
        same(profile is not None, account["called"], f"account {group} is there")
        if profile is None:
            continue
        traits = {key: (trait.order, trait.value) for key, trait in profile.traits.items()}
        same(traits, account["traits"], f"traits of account {group}")
        people = {_canonical(oracle, id) for id in profile.links}
        wanted = {_canonical(oracle, id) for id in account["people"]}
        same(people, wanted, f"people of account {group}")
        rows = reader.scan(HISTORY, profile.id.encode() + b"\0")
        events = [key[len(profile.id) + 9 :].decode() for key, _ in rows]
        wanted = sorted(event.mid for event in account["events"])
        same(sorted(events), wanted, f"history of account {group}")


# ---- messages ------------------------------------------------------------------------------------
class Job:
    def __init__(self, number: int, destination: str, queue: str, message_id: str, body: bytes):
        self.number, self.destination, self.queue = number, destination, queue
        self.message_id, self.body = message_id, body
        self.attempts = 0
        self.before: list[int] = []
        """Numbers of the jobs that the same person had waiting, or behind her, by then."""


class Jobs:
    """An undisturbed run over the log, a batch a record: all jobs there ever were, as they came."""

    def __init__(self, identity: str) -> None:
        self.store = LaggingStore()
        self.all: list[Job] = []
        self.dead: set[int] = set()
        """Numbers of the jobs that became dead letters, which are let go of in time."""
        self._runner = runner_over(self.store, identity)
        self._queues: dict[tuple[str, str], list[int]] = {}

    def record(self, offset: int, value: bytes) -> None:
        self._runner.apply(offset, value)
        rows = self._runner.commit().rows
        for key, redirect in rows.get(REDIRECTS.prefix, {}).items():
            loser = key.decode().split("\0")[1]
            for destination, queue in list(self._queues):
                if queue == loser:
                    old = self._queues.pop((destination, queue))
                    self._queues.setdefault((destination, redirect.survivor), []).extend(old)
        self.dead |= {job_number(key) for key, row in rows.get(DEAD.prefix, {}).items() if row}
        jobs = rows.get(JOBS.prefix, {})
        found = {job_number(key): (key, row) for key, row in jobs.items() if row}
        last = self.all[-1].number if self.all else 0
        for number in sorted(found):
            if number <= last:
                self.all[number - 1].attempts = found[number][1].attempts
                continue
            key, row = found[number]
            destination, rest = key[:-9].decode().split("\0", 1)
            job = Job(number, destination, rest, row.message_id, row.body)
            mine = self._queues.setdefault((destination, rest), [])
            job.before = list(mine)
            mine.append(number)
            self.all.append(job)


def told(job: Job) -> Any:
    """Return what a job says, as the oracle would put it."""
    body = msgspec.json.decode(job.body)
    if job.destination == "feed":
        return ("event", body["messageId"])
    properties = body["properties"]
    bearer = ("", "")
    for type, key in (("user_id", "userId"), ("anonymous_id", "anonymousId")):
        if key in body:
            bearer = (type, body[key])
    if "audience_key" in properties:
        key = properties["audience_key"]
        what = "enter" if body["event"] == "Audience Entered" else "exit"
        assert properties[key] is (what == "enter")
        return ("audience", key, what, bearer)
    if "trait_key" in properties:
        key = properties["trait_key"]
        return ("trait", key, properties[key], bearer)
    del properties["journey_metadata"]
    context = properties.pop("journey_context")
    return ("journey", body["event"], context, properties, bearer)


def _messages(jobs: Jobs, oracle: Oracle) -> None:
    """Each person's messages are those that the oracle would send, in order."""
    ids: dict[str, bytes] = {}
    found: dict[tuple[str, str], list[Any]] = {}
    for job in jobs.all:
        what = told(job)
        if job.destination != "feed" and what[1] not in oracle.twins:
            first = ids.setdefault(job.message_id, job.body)
            same(job.body, first, f"a second message with the id {job.message_id}")
        if what[1] not in oracle.changed:
            found.setdefault((job.destination, job.queue), []).append(what)
    wanted: dict[tuple[str, str], list[Any]] = {}
    for destination, queue, what in oracle.messages:
        if what[1] not in oracle.changed:
            wanted.setdefault((destination, queue), []).append(what)
    for place in sorted({*found, *wanted}):
        person = oracle.people.get(place[1])
        if person is None or not person.tied:
            mine, theirs = found.get(place, []), wanted.get(place, [])
            for number, (one, other) in enumerate(zip(mine, theirs, strict=False)):
                same(one, other, f"message {number} to {place}")
            same(mine, theirs, f"messages to {place}")


def _delivered(world: World, reader: StoreReader, jobs: Jobs) -> None:
    """Every message arrived, or is known to be given up; repeats are equal; order was kept."""
    first: dict[int, int] = {}
    final: dict[int, int] = {}
    for place, one in enumerate(world.sink.received):
        job = jobs.all[one.number - 1]
        wanted = (job.message_id, job.body, job.destination)
        same((one.message_id, one.body, one.destination), wanted, f"what came as {one.number}")
        first.setdefault(one.number, place)
        if one.final:
            final.setdefault(one.number, place)
    waiting = {job_number(key) for key, _ in reader.scan(JOBS)}
    enabled = world.engine.runner.definitions.destinations
    for job in jobs.all:
        if job.attempts > world.sink.attempts[job.number]:
            raise Broken(f"job {job.number} counts {job.attempts} attempts, there were fewer")
        ended = job.number in final or job.number in jobs.dead
        parked = job.number in waiting and not enabled[job.destination].enabled
        if not ended and not parked:
            raise Broken(f"job {job.number} to {job.destination} never arrived")
        if job.number in waiting and not parked:
            raise Broken(f"job {job.number} to {job.destination} waits for ever")
        # In a batch an earlier one of the same person comes along, and is answered with it.
        alone = enabled[job.destination].batch_size == 1
        for mine, theirs in ((first, final if alone else first), (final, final)):
            behind = max((theirs[one] for one in job.before if one in theirs), default=-1)
            if mine.get(job.number, behind) < behind:
                raise Broken(f"job {job.number} overtook an earlier one of {job.queue}")
