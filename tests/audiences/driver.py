"""One person and their audiences in memory: events in, timers by the clock, changes out."""

from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace

from audiences import evaluate
from audiences.definition import Audience, problems
from audiences.evaluate import Entered, Exited, Memory, TraitChanged
from audiences.plan import compile_plan
from events.event import Event, Seen
from profiles import traits
from profiles.computed.definition import ComputedTrait
from profiles.computed.definition import problems as trait_problems
from profiles.profile import ExternalId, Profile

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400_000
HOUR = 3_600_000
UNIT = timedelta(milliseconds=1)


def ms(text):
    """Return the instant of `2025-01-05 12:00` or `2025-01-05`."""
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH) // UNIT


def when(instant_ms):
    """Return an instant as tests write it."""
    return (EPOCH + timedelta(milliseconds=instant_ms)).strftime("%Y-%m-%d %H:%M")


def audience(where, **more):
    """Return an audience from plain data."""
    return msgspec.convert({"where": where, **more}, Audience)


def trait(**definition):
    """Return a computed trait from plain data."""
    return msgspec.convert(definition, ComputedTrait)


def plan_of(audiences=None, computed=None, since=None):
    """Return the plan of plain definitions; they must be without problems."""
    audiences = {
        key: value if isinstance(value, Audience) else audience(value)
        for key, value in (audiences or {}).items()
    }
    computed = {
        key: value if isinstance(value, ComputedTrait) else trait(**value)
        for key, value in (computed or {}).items()
    }
    for key in audiences:
        assert problems(key, audiences, computed) == []
    for key in computed:
        assert trait_problems(computed[key]) == []
    return compile_plan(audiences, computed, since)


def occurred(name, at, received=None, id=None, source="web", context=None, **properties):
    """Return an event; received when it happened unless told."""
    timestamp = at if isinstance(at, int) else ms(at)
    at_ms = (
        timestamp if received is None else received if isinstance(received, int) else ms(received)
    )
    return Seen(
        name, timestamp, at_ms, id or f"m{timestamp}-{at_ms}", source, properties, context or {}
    )


def observe(plan, event, states):
    """Let an event into the leaves it concerns; return the computations to look at again."""
    return evaluate.observe(evaluate.asked(plan, event), event, states)


class Person:
    """A profile, its states and its timers."""

    def __init__(self, plan, born="2025-01-01", ids=(("user_id", "u1"),)):
        self.plan = plan
        self.states = Memory()
        self.now = ms(born) if isinstance(born, str) else born
        self.log = []
        self.profile = Profile("p1", "users", self.now, self.now, "", "", "", "")
        self.identify(*ids)

    def identify(self, *ids):
        """Give the person identifiers."""
        before = self.profile.ids
        added = tuple(ExternalId(*id, self.now, "web", "m") for id in ids)
        self.profile = replace(self.profile, ids=before + added)
        self.settle(evaluate.identified(self.plan, before, self.profile))

    def sees(self, *events):
        """Let events arrive; earlier timers fire before."""
        for event in events:
            self.until(event.at_ms, before=True)
            self.settle(observe(self.plan, event, self.states))

    def has(self, at=None, **values):
        """Let an identify call with traits arrive."""
        if at is not None:
            self.until(ms(at), before=True)
        event = Event(
            "web", f"m{self.now}", "identify", self.now, self.now, self.now, b"", {"traits": values}
        )
        changed = traits.merge(self.profile.traits, event)
        self.profile = replace(self.profile, traits={**self.profile.traits, **changed})
        self.settle(self.plan.reading(changed))

    def until(self, at, before=False):
        """Let time pass; timers due by then fire, each at its instant."""
        at = at if isinstance(at, int) else ms(at)
        assert at >= self.now, "time goes on only"
        while True:
            due = evaluate.next_flip(self.profile.flips)
            if not due or due > at or (before and due == at):
                break
            self.now = max(due, self.now)
            self.fire()
        self.now = at

    def fire(self):
        """Look at what is due now."""
        self.settle(evaluate.due_keys(self.profile, self.now))

    def settle(self, touched, announce=()):
        """Look at computations again."""
        self.apply(
            evaluate.settle(self.plan, self.profile, touched, self.states, self.now, announce)
        )

    def apply(self, settled):
        """Take over what has been settled."""
        self.profile = replace(
            self.profile,
            computed=settled.computed,
            memberships=settled.memberships,
            flips=settled.flips,
        )
        for change in settled.changes:
            match change:
                case TraitChanged(key, value, _):
                    self.log.append((when(self.now), key, value))
                case Entered(key, _):
                    self.log.append((when(self.now), "enter", key))
                case Exited(key, _):
                    self.log.append((when(self.now), "exit", key))

    def inside(self, key):
        """Return whether the person is in the audience."""
        standing = self.profile.memberships.get(key)
        return standing is not None and standing.inside

    def value(self, key):
        """Return the computed trait's value."""
        found = self.profile.computed.get(key)
        return None if found is None else found.value
