"""The plan: all audiences and computed traits of a space, made ready for use once.

Equal questions share a leaf; leaves are found by the event's name and, where a condition pins a
property to a few texts, by that text, so that an event touches only what it can change.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from audiences.conditions import Test, View, below, every, on_value, some
from audiences.definition import Audience, Condition, Performed, references
from audiences.leaves import Bounds, Fold, Kept, Latest, Leaf, Match, Newest, Spans, Tally, reader
from events import paths
from events.durations import millis
from events.operators import NEVER, Check, Operators, Verdict
from profiles.computed.catalogue import KINDS
from profiles.computed.definition import ComputedTrait
from profiles.profile import Membership
from profiles.windows import Window, window

YEARS_OF_HISTORY_MS = 3 * 365 * 86_400_000
"""How far before its creation a computation looks (audiences B4)."""

ELIGIBLE = ("user_id", "email", "android.idfa", "ios.idfa")
"""A person with an identifier of one of these types may be in any audience (audiences B1)."""

NOBODY, ANONYMOUS, KNOWN = 0, 1, 2
"""How well a person is known, as far as audiences care (audiences B1)."""

LEAF_ID_BYTES = 8


class Computation:
    """A computed trait or an audience, ready for use."""

    __slots__ = ("audience", "computed", "dependents", "key", "leaf", "leaves", "opens_to", "rank",
                 "test", "version")

    def __init__(self, key: str) -> None:
        self.key = key
        self.rank = 0
        """Its place in the order of evaluation: what it reads comes before it."""
        self.version = ""
        """A hash of what it computes, and since when: one that was taken away and came back counts
        its transitions anew, and its messages are others (audiences M9)."""
        self.audience: Audience | None = None
        self.computed: ComputedTrait | None = None
        self.opens_to = KNOWN
        """Who may be in it: KNOWN persons only, or ANONYMOUS ones too."""
        self.test: Test = lambda _view: -NEVER
        """Of an audience."""
        self.leaf: Fold | Kept | Latest | None = None
        """Of a computed trait."""
        self.leaves: tuple[bytes, ...] = ()
        self.dependents: tuple[str, ...] = ()
        """The computations that read it."""


class Group(Struct, frozen=True):
    """The leaves of one event name: those to be asked always, and those by a property's text."""

    always: tuple[Leaf, ...]
    pinned: tuple[tuple[str, dict[str, tuple[Leaf, ...]]], ...]


class Plan(Struct, frozen=True):
    """All computations of a space. ``order`` holds them so that each comes after what it reads."""

    order: tuple[Computation, ...]
    computations: dict[str, Computation]
    leaves: dict[bytes, Leaf]
    events: dict[str, Group]
    traits: dict[str, tuple[str, ...]]
    """Custom trait (first step of the path) -> the computations that read it."""
    dates: dict[str, tuple[paths.Path, ...]]
    """Custom trait -> the paths below it that are compared as dates."""
    unprompted: tuple[str, ...]
    """Audiences that a known person may be in who has done nothing and has no traits."""
    unprompted_anonymous: tuple[str, ...]
    """The same for an anonymous person."""
    eligible: frozenset[str]
    since: dict[str, int]
    small: frozenset[bytes]
    """The leaves whose state may stand in the profile itself."""
    closed: frozenset[str]
    """The audiences that are not looked at for who may not enter: all that they ask of events
    stands in the profile, where `identified` finds it."""

    def reading(self, traits: Iterable[str]) -> tuple[str, ...]:
        """Return the computations that read one of these custom traits."""
        return tuple(key for trait in traits for key in self.traits.get(trait, ()))


class Changes(Struct, frozen=True):
    """What another set of definitions means for profiles that were up to date with the old one."""

    computations: tuple[str, ...]
    """New or edited: to be evaluated again."""
    gone: tuple[str, ...]
    leaves: frozenset[bytes]
    """New leaves that history has something to say to: to be rebuilt."""
    gone_leaves: frozenset[bytes]
    connected: tuple[tuple[str, str], ...]
    """(computation, destination) newly connected: present members are to be sent (WS-22, M12)."""


def compile_plan(
    audiences: Mapping[str, Audience],
    computed: Mapping[str, ComputedTrait],
    since: Mapping[str, int] | None = None,
    eligible: Iterable[str] = ELIGIBLE,
) -> Plan:
    """Return the plan of definitions in which `problems` found nothing.

    ``since`` gives the instant (ms) at which each computation was created; absent: 0.
    """
    since = since or {}
    compiler = _Compiler(audiences, computed, since)
    order = compiler.compile()
    computations = {computation.key: computation for computation in order}
    known = frozenset(eligible)
    return Plan(
        order=tuple(order),
        computations=computations,
        leaves=compiler.leaves,
        events=_by_event(compiler.leaves.values()),
        traits={key: tuple(readers) for key, readers in sorted(compiler.traits.items())},
        dates={key: tuple(sorted(found)) for key, found in sorted(compiler.dates.items())},
        unprompted=_unprompted(order, KNOWN),
        unprompted_anonymous=_unprompted(order, ANONYMOUS),
        eligible=known,
        since={key: since.get(key, 0) for key in computations},
        small=frozenset(id for id, leaf in compiler.leaves.items() if leaf.small),
        closed=frozenset(
            one.key for one in order
            if one.audience is not None and one.opens_to == KNOWN
            and all(compiler.leaves[id].small for id in one.leaves)
        ),
    )


def changed(old: Plan | None, new: Plan) -> Changes:
    """Return what is to be done for profiles that are up to date with ``old`` (None: nothing)."""
    before: Mapping[str, Computation] = old.computations if old else {}
    touched = [
        computation.key for computation in new.order
        if computation.key not in before or before[computation.key].version != computation.version
    ]
    old_leaves: Mapping[bytes, Leaf] = old.leaves if old else {}
    instants = frozenset(old.since.values()) if old else frozenset[int]()
    connected = [
        (key, destination)
        for key, computation in new.computations.items()
        if key in before and (computation.audience is None or computation.audience.history)
        for destination in _destinations(computation) - _destinations(before[key])
    ]
    return Changes(
        computations=tuple(touched),
        gone=tuple(sorted(key for key in before if key not in new.computations)),
        leaves=frozenset(
            id for id, leaf in new.leaves.items()
            # With history off, one that was created just now has seen nothing yet (B3).
            if id not in old_leaves
            and (not leaf.match.received_ms or leaf.match.received_ms in instants)
        ),
        gone_leaves=frozenset(id for id in old_leaves if id not in new.leaves),
        connected=tuple(sorted(connected)),
    )


def created(old: Mapping[str, int], plan_keys: Iterable[str], now_ms: int) -> dict[str, int]:
    """Return the instant of creation of each key: the one known, or now for a new key."""
    return {key: old.get(key, now_ms) for key in sorted(plan_keys)}


def _unprompted(order: Iterable[Computation], standing: int) -> tuple[str, ...]:
    """Return the audiences that hold, or come to hold by time, for who has done nothing."""
    view = View({}, {}, {}, _Nothing(), 0)
    found: list[str] = []
    for computation in order:
        if computation.audience is None or standing < computation.opens_to:
            continue
        verdict = computation.test(view)
        if verdict > -NEVER:
            found.append(computation.key)
        if verdict > 0:
            view.memberships = {**view.memberships, computation.key: Membership(True, 0, 0, 1)}
    return tuple(found)


class _Nothing:
    """The states of a person who has done nothing."""

    def get(self, _leaf_id: bytes) -> None:
        return None

    def put(self, _leaf_id: bytes, _value: Any) -> None:
        raise AssertionError("nothing is written while compiling")

    def delete(self, _leaf_id: bytes) -> None:
        raise AssertionError("nothing is written while compiling")


class _Compiler:
    def __init__(
        self, audiences: Mapping[str, Audience], computed: Mapping[str, ComputedTrait],
        since: Mapping[str, int],
    ) -> None:
        self._audiences = audiences
        self._computed = computed
        self._since = since
        self.leaves: dict[bytes, Leaf] = {}
        self.traits: dict[str, list[str]] = {}
        self.dates: dict[str, set[paths.Path]] = {}
        self._dependents: dict[str, list[str]] = {}
        self._own: list[bytes] = []
        self._reads: set[str] = set()
        self._key = ""

    def compile(self) -> list[Computation]:
        order = []
        for key in sorted(self._computed):
            order.append(self._trait(key, self._computed[key]))
        for key in self._in_order():
            order.append(self._audience(key, self._audiences[key]))
        for rank, computation in enumerate(order):
            computation.rank = rank
            computation.dependents = tuple(self._dependents.get(computation.key, ()))
        return order

    def _in_order(self) -> list[str]:
        """Return the audiences, each after those it refers to, else by key. No cycle: B6."""
        needs = {
            key: sorted({target for _, target in references(audience.where)} & set(self._audiences))
            for key, audience in self._audiences.items()
        }
        depth: dict[str, int] = {}
        waiting = sorted(needs)
        while waiting:
            ready = [key for key in waiting if all(target in depth for target in needs[key])]
            assert ready, "audiences refer to one another in a circle"
            for key in ready:
                depth[key] = 1 + max((depth[target] for target in needs[key]), default=0)
            waiting = [key for key in waiting if key not in depth]
        return sorted(depth, key=lambda key: (depth[key], key))

    # ---- computed traits
    def _trait(self, key: str, definition: ComputedTrait) -> Computation:
        self._key, self._own, self._reads = key, [], set()
        computation = Computation(key)
        computation.computed = definition
        span = _window(definition)
        match, form = self._match(definition, True, span)
        property = None if definition.property is UNSET else definition.property
        frequency = definition.min_frequency if definition.type == "most_frequent" else 0
        id = _hash("trait", definition.type, property, frequency, span.low_ms, span.high_ms, form)
        kind = KINDS[definition.type]
        read = reader(kind, property)
        leaf: Fold | Kept | Latest
        if span.open and not match.timed:
            leaf = Fold(id, match, kind, read, frequency)
        elif kind.newest and span.low_ms == -NEVER and not match.timed:
            leaf = Latest(id, match, kind, read, span.high_ms)
        else:
            leaf = Kept(id, match, kind, read, frequency, span)
        computation.leaf = self._keep(leaf)
        computation.leaves = tuple(self._own)
        computation.version = _hash("trait", self._since.get(key, 0), id).hex()
        return computation

    # ---- audiences
    def _audience(self, key: str, definition: Audience) -> Computation:
        self._key, self._own, self._reads = key, [], set()
        computation = Computation(key)
        computation.audience = definition
        computation.opens_to = ANONYMOUS if definition.include_anonymous else KNOWN
        computation.test = self._condition(definition.where)
        computation.leaves = tuple(dict.fromkeys(self._own))
        computation.version = _hash(
            "audience", self._since.get(key, 0), msgspec.to_builtins(definition.where),
            definition.include_anonymous, sorted(self._reads), *computation.leaves,
        ).hex()
        return computation

    def _condition(self, condition: Condition) -> Test:
        if condition.all is not UNSET:
            return every([self._condition(part) for part in condition.all])
        if condition.any is not UNSET:
            return some([self._condition(part) for part in condition.any])
        if condition.not_ is not UNSET:
            inner = self._condition(condition.not_)
            return lambda view: -inner(view)
        if condition.performed is not UNSET:
            return self._performed(condition.performed)
        if condition.trait is not UNSET:
            return every([self._asked(*one) for one in sorted(condition.trait.items())])
        if condition.audience is not UNSET:
            return self._member(condition.audience)
        assert condition.everyone is True, "problems() refuses what is not built"
        return lambda _view: NEVER

    def _performed(self, definition: Performed) -> Test:
        span = window(definition.within, definition.between)
        bounds = _bounds(definition)
        match, form = self._match(definition, self._audiences[self._key].history, span)
        id = _hash("performed", bounds.low, bounds.high, span.low_ms, span.high_ms, form)
        leaf: Tally | Newest | Spans
        if span.low_ms > -NEVER or match.timed:
            leaf = Spans(id, match, bounds, span)
        elif span.open:
            leaf = Tally(id, match, bounds)
        else:
            leaf = Newest(id, match, bounds, span.high_ms)
        verdict = self._keep(leaf).verdict
        return lambda view: verdict(view.states, view.now_ms)

    def _asked(self, path: str, operators: Operators) -> Test:
        steps = paths.parse(path)
        check = Check(operators)
        root = steps[0]
        if len(steps) == 1 and root in self._computed:
            self._depend(root)
            return on_value(lambda view: view.computed.get(root), check)
        if len(steps) == 1 and root in self._audiences:
            self._depend(root)

            def inside(view: View) -> Verdict:
                standing = view.memberships.get(root)
                return check.at([] if standing is None else [standing.inside], view.now_ms)

            return inside
        if len(steps) > 1 and root in self._computed:
            self._depend(root)
            return below(lambda view: view.computed.get(root), steps[1:], check)
        if check.dated:
            self.dates.setdefault(root, set()).add(steps[1:])
        readers = self.traits.setdefault(root, [])
        if self._key not in readers:
            readers.append(self._key)
        if len(steps) == 1:
            return on_value(lambda view: view.traits.get(root), check)
        return below(lambda view: view.traits.get(root), steps[1:], check)

    def _member(self, key: str) -> Test:
        self._depend(key)

        def inside(view: View) -> Verdict:
            standing = view.memberships.get(key)
            return NEVER if standing is not None and standing.inside else -NEVER

        return inside

    def _depend(self, key: str) -> None:
        self._reads.add(key)
        dependents = self._dependents.setdefault(key, [])
        if self._key not in dependents:
            dependents.append(self._key)

    # ---- leaves
    def _match(
        self, definition: Performed | ComputedTrait, history: bool | str, span: Window
    ) -> tuple[Match, list[Any]]:
        """Return which events count, and that as plain data for the leaf's id."""
        created_ms = self._since.get(self._key, 0)
        received_ms = created_ms if history is False else 0
        lookback_ms = millis(history) if isinstance(history, str) else YEARS_OF_HISTORY_MS
        # What is too old for the lookback has left a window that is no longer than it anyhow.
        within = not span.open and span.high_ms <= lookback_ms
        floor_ms = 0 if within or received_ms else max(created_ms - lookback_ms, 0)
        excluded = tuple(sorted(set(definition.exclude_sources)))
        match = Match(definition.event, definition.where, excluded, floor_ms, received_ms)
        return match, [definition.event, definition.where, excluded, floor_ms, received_ms]

    def _keep(self, leaf: Any) -> Any:
        leaf = self.leaves.setdefault(leaf.id, leaf)
        if self._key not in leaf.readers:
            leaf.readers = (*leaf.readers, self._key)
        self._own.append(leaf.id)
        return leaf


def _bounds(performed: Performed) -> Bounds:
    if isinstance(performed.exactly, int):
        return Bounds(performed.exactly, performed.exactly)
    if isinstance(performed.at_most, int):
        return Bounds(0, performed.at_most)
    return Bounds(performed.at_least if isinstance(performed.at_least, int) else 1, None)


def _window(definition: ComputedTrait) -> Window:
    if definition.window is UNSET:
        return Window()
    return window(definition.window.within, definition.window.between)


def _destinations(computation: Computation) -> set[str]:
    definition = computation.audience or computation.computed
    return {connection.to for connection in definition.destinations} if definition else set()


def _hash(*parts: Any) -> bytes:
    form = msgspec.json.encode([_plain(part) for part in parts], order="deterministic")
    return blake2b(form, digest_size=LEAF_ID_BYTES).digest()


def _plain(part: Any) -> Any:
    return part.hex() if isinstance(part, bytes) else part


def _by_event(leaves: Iterable[Leaf]) -> dict[str, Group]:
    """Return the leaves by event name, and where the condition pins a property, by its text."""
    always: dict[str, list[Leaf]] = {}
    pinned: dict[str, dict[str, dict[str, list[Leaf]]]] = {}
    for leaf in sorted(leaves, key=lambda leaf: leaf.id):
        name = leaf.match.event
        pin = leaf.match.pinned
        if pin is None:
            always.setdefault(name, []).append(leaf)
        else:
            for text in dict.fromkeys(pin[1]):
                texts = pinned.setdefault(name, {}).setdefault(pin[0], {})
                texts.setdefault(text, []).append(leaf)
    return {
        name: Group(
            tuple(always.get(name, ())),
            tuple(
                (property, {text: tuple(found) for text, found in texts.items()})
                for property, texts in sorted(pinned.get(name, {}).items())
            ),
        )
        for name in sorted({*always, *pinned})
    }
