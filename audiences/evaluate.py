"""What an event, a trait, an identifier or the passing of time changes in a person's audiences.

`observe` lets an event into the leaves that `asked` finds and names the computations to look at
again; `settle` looks at those and at what depends on them, each after what it reads, and returns
what changed. Results are always recomputed from state, never toggled (audiences E3).
"""

from bisect import insort
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from msgspec import Struct

from audiences.conditions import View
from audiences.leaves import Leaf
from audiences.ledger import States
from audiences.plan import ANONYMOUS, KNOWN, NOBODY, Computation, Plan
from events import paths
from events.event import Seen
from events.operators import NEVER, instant
from profiles.profile import Computed, ExternalId, Membership, Profile, Trait


class TraitChanged(Struct, frozen=True, gc=False):
    """A computed trait has a new value; None: none any more. ``number`` counts its values."""

    key: str
    value: Any
    number: int


class Entered(Struct, frozen=True, gc=False):
    """The person is in the audience now. ``number`` counts entries and exits (M9)."""

    key: str
    number: int


class Exited(Struct, frozen=True, gc=False):
    """The person is out of the audience now."""

    key: str
    number: int


Change = TraitChanged | Entered | Exited


class Settled(Struct, frozen=True, gc=False):
    """What the profile holds now: whole maps, the profile's own objects where nothing changed."""

    computed: dict[str, Computed]
    memberships: dict[str, Membership]
    flips: dict[str, int]
    changes: tuple[Change, ...]


def asked(plan: Plan, seen: Seen) -> tuple[Leaf, ...]:
    """Return the leaves that the event may concern: those of its name, and of its texts where
    they pin a property. An event that no condition names costs one look-up."""
    group = plan.events.get(seen.name)
    if group is None:
        return ()
    leaves = group.always
    for property, texts in group.pinned:
        value = seen.properties.get(property)
        if type(value) is str and value in texts:
            leaves += texts[value]
    return leaves


def observe(leaves: Iterable[Leaf], seen: Seen, states: States) -> tuple[str, ...]:
    """Let an event into the leaves it may concern; return the computations to look at again.

    Keys may repeat. The event's own ``at_ms`` is now.
    """
    touched: tuple[str, ...] = ()
    now_ms, timestamp_ms = seen.at_ms, seen.timestamp_ms
    for leaf in leaves:
        match = leaf.match
        takes = match.takes
        if (
            timestamp_ms >= match.floor_ms
            and (takes is None or takes(seen))
            and leaf.record(states, seen, now_ms)
        ):
            touched += leaf.readers
    return touched


def settle(
    plan: Plan,
    profile: Profile,
    touched: Iterable[str],
    states: States,
    now_ms: int,
    announce: Collection[str] = (),
) -> Settled:
    """Look at the touched computations and their dependents again; return what holds now.

    ``announce`` names audiences whose entry is told although the person counts as inside already,
    and computed traits whose value is told again (after a merge, see `unite`). Changes come in the
    order of evaluation: computed traits, then audiences, each after those it refers to.
    """
    computations, order = plan.computations, plan.order
    waiting = sorted({computations[key].rank for key in touched if key in computations})
    pass_ = _Pass(plan, profile, states, now_ms, announce)
    at = 0
    while at < len(waiting):
        computation = order[waiting[at]]
        at += 1
        if pass_.look_at(computation):
            for key in computation.dependents:  # all of a higher rank
                rank = computations[key].rank
                if rank not in waiting:
                    insort(waiting, rank, at)
    return Settled(pass_.computed, pass_.memberships, pass_.flips, tuple(pass_.changes))


def due_keys(profile: Profile, now_ms: int) -> list[str]:
    """Return the computations whose flip instant has come: to be settled at ``now_ms`` (E2, E3)."""
    return [key for key, instant in profile.flips.items() if instant <= now_ms]


def next_flip(flips: dict[str, int]) -> int:
    """Return the earliest instant at which time may change something; 0: never (E2)."""
    instant = min(flips.values(), default=NEVER)
    return 0 if instant == NEVER else instant


class _Pass(View):
    """One settling: copies a map only when something in it changes."""

    __slots__ = ("announce", "changes", "flips", "profile", "standing", "unprompted")
    computed: dict[str, Computed]
    memberships: dict[str, Membership]

    def __init__(
        self, plan: Plan, profile: Profile, states: States, now_ms: int, announce: Collection[str]
    ) -> None:
        self.traits = profile.traits
        self.computed = profile.computed
        self.memberships = profile.memberships
        self.flips = profile.flips
        self.states = states
        self.now_ms = now_ms
        self.profile = profile
        self.announce = announce
        self.standing = standing(plan, profile.ids)
        self.unprompted = plan.unprompted
        self.changes: list[Change] = []

    def look_at(self, computation: Computation) -> bool:
        """Evaluate; return whether the result changed."""
        if computation.leaf is not None:
            return self._trait(computation)
        return self._audience(computation)

    def _trait(self, computation: Computation) -> bool:
        key, leaf, now_ms = computation.key, computation.leaf, self.now_ms
        assert leaf is not None
        value, until = leaf.value(self.states, now_ms)
        self._flip(key, until)
        before = self.computed.get(key)
        if before is None:
            if value is None or value == leaf.empty:  # 0 is written after another value only (T5)
                return False
        elif same(before.value, value) and key not in self.announce:
            return False
        number = 1 if before is None else before.changes + 1
        if self.computed is self.profile.computed:
            self.computed = dict(self.profile.computed)
        self.computed[key] = Computed(value, now_ms, number)
        self.changes.append(TraitChanged(key, value, number))
        return True

    def _audience(self, computation: Computation) -> bool:
        key, now_ms = computation.key, self.now_ms
        verdict = computation.test(self)
        if self.standing >= computation.opens_to:
            inside = verdict > 0
            if (verdict != NEVER and verdict != -NEVER) or key in self.flips:
                self._flip(key, abs(verdict))
        else:
            inside = False
            # No timer for who may not enter: a mark, so that it is looked at when they may.
            self._flip(key, NEVER, marked=verdict > -NEVER and key not in self.unprompted)
        before = self.memberships.get(key)
        was_inside = before is not None and before.inside
        if inside is was_inside and not (inside and key in self.announce):
            return False
        number = before.transitions + 1 if before else 1
        entered_ms = before.entered_at_ms if before and was_inside else now_ms
        exited_ms = now_ms if not inside else before.exited_at_ms if before else 0
        if self.memberships is self.profile.memberships:
            self.memberships = dict(self.profile.memberships)
        self.memberships[key] = Membership(inside, entered_ms, exited_ms, number)
        self.changes.append(Entered(key, number) if inside else Exited(key, number))
        return inside is not was_inside

    def _flip(self, key: str, instant: int, marked: bool = False) -> None:
        wanted = None if instant == NEVER and not marked else instant
        if self.flips.get(key) == wanted:
            return
        if self.flips is self.profile.flips:
            self.flips = dict(self.profile.flips)
        if wanted is None:
            del self.flips[key]
        else:
            self.flips[key] = wanted


def same(one: Any, other: Any) -> bool:
    """Return whether two values of a trait are the same to who reads JSON: 1 is not true."""
    return bool(one == other) and (type(one) is bool) is (type(other) is bool)


# ---- identifiers -------------------------------------------------------------------------------
def standing(plan: Plan, ids: Iterable[ExternalId]) -> int:
    """Return KNOWN for who may be in any audience, ANONYMOUS, or NOBODY (audiences B1)."""
    found = NOBODY
    for id in ids:
        if id.type in plan.eligible:
            return KNOWN
        if id.type == "anonymous_id":
            found = ANONYMOUS
    return found


def identified(plan: Plan, before: Iterable[ExternalId], profile: Profile) -> tuple[str, ...]:
    """Return the computations to look at again because the person's identifiers changed (B1).

    ``before`` are the identifiers from before; () for a new person. Nothing, unless the person may
    now be in audiences that were closed before, or the reverse.
    """
    old, new = standing(plan, before), standing(plan, profile.ids)
    if old == new:
        return ()
    prompted = (*sorted(profile.flips), *sorted(profile.memberships))
    if new == NOBODY:
        return prompted
    prompted += plan.reading(sorted(profile.traits))
    for id in sorted(profile.leaves):
        if id in plan.leaves:
            prompted += plan.leaves[id].readers
    return (*(plan.unprompted_anonymous if new == ANONYMOUS else plan.unprompted), *prompted)


def open_to(plan: Plan, profile: Profile, touched: tuple[str, ...]) -> tuple[str, ...]:
    """Return the computations worth looking at: for who is not known, no closed audience (B1)."""
    if standing(plan, profile.ids) == KNOWN:
        return touched
    closed = plan.closed
    return tuple([key for key in touched if key not in closed])


def unreadable(plan: Plan, traits: Mapping[str, Trait]) -> int:
    """Return how many of these traits' values conditions compare as dates although they are none.

    Such a value counts as missing (audiences 4.4); the number is for the metrics.
    """
    return sum(
        value is not None and instant(value) is None
        for key in traits if key in plan.dates
        for path in plan.dates[key]
        for value in paths.each(path)(traits[key].value)
    )


# ---- definitions ---------------------------------------------------------------------------------
def rebuild(plan: Plan, leaves: Collection[bytes], events: Iterable[Seen]) -> dict[bytes, Any]:
    """Return the rows of these leaves after a person's whole history, in whatever order (B3).

    The rows of a leaf are those whose keys begin with its id: put them in place of what was there.
    """
    states = Memory()
    for seen in events:
        observe([leaf for leaf in asked(plan, seen) if leaf.id in leaves], seen, states)
    return states.rows


class Memory:
    """States in memory."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Any] = {}

    def get(self, key: bytes) -> Any:
        """Return the state, or None."""
        return self.rows.get(key)

    def put(self, key: bytes, value: Any) -> None:
        """Keep a state."""
        self.rows[key] = value

    def delete(self, key: bytes) -> None:
        """Forget a state."""
        self.rows.pop(key, None)
