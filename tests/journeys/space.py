"""People under a scripted clock, moved by the journeys' rules as the stage `profile` moves them.

Everything kept goes through msgpack, as if the worker were restarted between any two inputs.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import yaml
from msgspec.structs import replace

from events.event import Seen
from journeys import checks, moves
from journeys.definition import Journey, version_of
from journeys.instance import Running, next_due
from journeys.kind import References
from journeys.plan import compile_plan
from journeys.view import View
from profiles.profile import Computed, ExternalId, Membership, Profile, Trait

DAY = datetime(2025, 3, 1, tzinfo=UTC)
DAY_MS = 86_400_000
REFERENCES = References(
    frozenset({"vip", "staff"}), frozenset({"mailer", "push", "log", "d4", "d5", "d6"})
)


def ms(text: str) -> int:
    """`10:00`, `11:59:59`, `12:00:00.500`, `+1 12:00` (the next day) -> milliseconds."""
    days, _, clock = text.rpartition(" ")
    parts = [*clock.split(":"), "0"][:3]
    seconds = int(parts[0]) * 3600 + int(parts[1]) * 60 + float(parts[2])
    return int(DAY.timestamp() * 1000) + int(days or 0) * DAY_MS + round(seconds * 1000)


def clock(at_ms: int) -> str:
    """Milliseconds -> what `ms` reads, without needless zeros."""
    moment = timedelta(milliseconds=at_ms - int(DAY.timestamp() * 1000))
    hours, rest = divmod(moment.seconds, 3600)
    text = f"{hours:02}:{rest // 60:02}"
    if rest % 60 or moment.microseconds:
        text += f":{rest % 60:02}"
    if moment.microseconds:
        text += f".{moment.microseconds // 1000:03}"
    return f"+{moment.days} {text}" if moment.days else text


def journey(text: str) -> Journey:
    """A journey from its YAML; it must be free of problems."""
    made = msgspec.convert(yaml.safe_load(text), Journey)
    found = checks.problems("j", made, REFERENCES)
    assert not found, found
    return made


class Person:
    def __init__(self, id: str) -> None:
        self.profile = Profile(id, "users", 0, 0, "", "", "", "")
        self.history: list[Seen] = []
        self.kept = b""

    @property
    def running(self) -> Running | None:
        return msgspec.msgpack.decode(self.kept, type=Running) if self.kept else None


class Space:
    def __init__(self, *texts: str, **named: str) -> None:
        self.journeys: dict[str, Journey] = {}
        self.older: dict[tuple[str, str], Journey] = {}
        self.people: dict[str, Person] = {}
        self.messages: list[tuple[str, str, str, dict]] = []
        self.counts: Counter = Counter()
        self.seen_ids: set[str] = set()
        self.down = False
        self.now_ms = ms("00:00")
        for place, text in enumerate(texts):
            named["j" if not place else f"j{place}"] = text
        self.define(**named)

    def define(self, **texts: str) -> None:
        for key, text in texts.items():
            if key in self.journeys:
                old = self.journeys[key]
                self.older[key, version_of(old)] = old
            self.journeys[key] = journey(text)
        self.plan = compile_plan(self.journeys, self.older)

    def remove(self, key: str) -> None:
        del self.journeys[key]
        self.plan = compile_plan(self.journeys, self.older)

    def person(self, who: str) -> Person:
        if who not in self.people:
            self.people[who] = Person(who)
            self.identify(who, user_id=who)
        return self.people[who]

    def identify(self, who: str, **ids: str) -> None:
        person = self.people[who]
        more = tuple(ExternalId(type, value, 0, "web", "m") for type, value in ids.items())
        person.profile = replace(person.profile, ids=(*person.profile.ids, *more))

    def traits(self, who: str, **values: object) -> None:
        person = self.person(who)
        now = {key: Trait(value, 0, 0, "m", "web") for key, value in values.items()}
        person.profile = replace(person.profile, traits={**person.profile.traits, **now})

    def computed(self, who: str, **values: object) -> None:
        person = self.person(who)
        now = {key: Computed(value, 0) for key, value in values.items()}
        person.profile = replace(person.profile, computed={**person.profile.computed, **now})

    def audience(self, who: str, key: str, inside: bool = True) -> Profile:
        person = self.person(who)
        standing = {**person.profile.memberships, key: Membership(inside, 0, 0, 1)}
        person.profile = replace(person.profile, memberships=standing)
        return person.profile

    # ---- inputs -------------------------------------------------------------------------------
    def track(
        self,
        at: str,
        event: str,
        who: str = "m",
        timestamp: str | None = None,
        id: str | None = None,
        before: Profile | None = None,
        **properties: object,
    ) -> None:
        """An event received at an instant; `before`: the person before it, if it changed that."""
        at_ms = ms(at)
        person = self.person(who)
        self.advance(at_ms, person)
        message_id = id or f"m{len(self.seen_ids) + 1}"
        if message_id in self.seen_ids:
            return  # as the stage `intake` does
        self.seen_ids.add(message_id)
        stamp_ms = ms(timestamp) if timestamp else at_ms
        seen = Seen(event, stamp_ms, at_ms, message_id, "web", properties, {})
        person.history.append(seen)
        if event in self.plan.events:
            view = View(person.profile, before or person.profile)
            self.keep(person, moves.offer(self.plan, person.running, seen, view, at_ms), at_ms)

    def advance(self, at_ms: int, person: Person) -> None:
        """What is due before an input fires before it (T3), but see the docstring of `moves`."""
        assert at_ms >= self.now_ms, "time runs forward"
        self.now_ms = at_ms
        if not self.down:
            self.ring(at_ms - 1)
            return
        due_ms = next_due(person.running)
        if due_ms and due_ms < at_ms and at_ms - due_ms <= moves.OVERDUE_MS:
            self.fire(person, due_ms, at_ms)

    def until(self, at: str) -> None:
        """Let time pass, up to and with an instant."""
        self.now_ms = ms(at)
        self.ring(self.now_ms)

    def ring(self, at_ms: int) -> None:
        while True:
            due = [(next_due(one.running), who) for who, one in self.people.items()]
            due_ms, who = min(((d, w) for d, w in due if d and d <= at_ms), default=(0, ""))
            if not due_ms:
                return
            self.fire(self.people[who], due_ms, due_ms)

    def fire(self, person: Person, due_ms: int, now_ms: int) -> None:
        view = View(person.profile, person.profile)
        outcome = moves.fire(self.plan, person.running, view, due_ms, now_ms)
        assert outcome is not None and outcome.due_ms != due_ms
        self.keep(person, outcome, now_ms)

    def stop(self, at: str) -> None:
        """The engine goes down; what is received meanwhile waits in the log."""
        self.until(at)
        self.down = True

    def start(self, at: str) -> None:
        """It is up again and has worked off the log; the tick behind it rings."""
        self.down = False
        self.now_ms = ms(at)
        for _, person in sorted(self.people.items()):
            while 0 < (due_ms := next_due(person.running)) <= self.now_ms:
                self.fire(person, due_ms, self.now_ms)

    def merge(self, at: str, survivor: str, loser: str) -> None:
        """The loser becomes part of the survivor."""
        at_ms = ms(at)
        kept, gone = self.person(survivor), self.person(loser)
        self.advance(at_ms, kept)
        before = kept.profile
        kept.profile = replace(before, ids=(*before.ids, *gone.profile.ids))
        outcome = moves.unite(
            self.plan, kept.running, gone.running, list(kept.history), list(gone.history),
            View(kept.profile, before), at_ms,
        )  # fmt: skip
        kept.history += gone.history
        del self.people[loser]
        if outcome is not None:
            self.keep(kept, outcome, at_ms)

    def keep(self, person: Person, outcome: moves.Outcome | None, at_ms: int) -> None:
        if outcome is None:
            return
        person.kept = msgspec.msgpack.encode(outcome.running) if outcome.running else b""
        assert outcome.due_ms == next_due(person.running)
        self.counts.update(outcome.counts)
        for send in outcome.sends:
            message = msgspec.json.decode(send.body)
            assert message["messageId"] == send.message_id
            self.messages.append((clock(at_ms), send.destination, person.profile.id, message))

    # ---- what a person would see --------------------------------------------------------------
    @property
    def sent(self) -> list[str]:
        """`12:00 N1 c1`: instant, event, and the cart if there is one."""
        found = []
        for at, _, _, message in self.messages:
            context = message["properties"]["journey_context"]
            carts = {one.get("cart_id") for one in context.values()} - {None}
            found.append(" ".join([at, message["event"], *sorted(map(str, carts))]))
        return found

    @property
    def last(self) -> dict:
        """The last message."""
        return self.messages[-1][3]

    def count(self, what: str, step: str = "", key: str = "j") -> int:
        """How often something was counted, over all versions."""
        return sum(
            by for (journey, _, where, name), by in self.counts.items()
            if (journey, where, name) == (key, step, what)
        )  # fmt: skip

    @property
    def waiting(self) -> list[str]:
        """`m start c1`: who waits where, and with which key."""
        return sorted(
            " ".join(filter(None, (who, one.step, one.key)))
            for who, person in self.people.items()
            if person.running
            for one in person.running.instances
        )

    def balanced(self) -> None:
        """The counts balance: waiting = arrived - left, and every entry is accounted for."""
        standing: Counter = Counter()
        for person in self.people.values():
            for one in person.running.instances if person.running else ():
                standing[one.journey, one.version, one.step] += 1
        arrived: Counter = Counter()
        entered: Counter = Counter()
        for (key, version, step, what), by in self.counts.items():
            if what in ("arrived", "left"):
                arrived[key, version, step] += by if what == "arrived" else -by
            ends = ("completed", "exited", "merged_duplicate", "expired", "stopped")
            if not step and what in ("entered", *ends):
                entered[key, version] += by if what == "entered" else -by
        assert {k: v for k, v in arrived.items() if v} == dict(standing)
        inside: Counter = Counter()
        for (key, version, _), by in standing.items():
            inside[key, version] += by
        assert {k: v for k, v in entered.items() if v} == dict(inside)
