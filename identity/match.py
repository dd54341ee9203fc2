"""Whose event is this? Matching, with limits and demotion (identity 5), over plain data.

The caller looks up who owns the event's identifiers and hands over their nodes. Here it is
decided which identifiers are used and which profiles become one; then the new node is made.
"""

from binascii import b2a_base64
from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Final

from msgspec import Struct

from events.event import Id
from identity.settings import DEFAULT_LIMIT, Settings

_EVER: Final = (DEFAULT_LIMIT, 0)

Violation = tuple[str, str]
"""(kind, type); the type is empty for the system's own limits."""
MERGES: Final[Violation] = ("merge_limit_exceeded", "")
MAPPINGS: Final[Violation] = ("mapping_limit_exceeded", "")


class Node(Struct, frozen=True, gc=False, array_like=True):
    """A live profile as matching sees it."""

    created_at_ms: int
    message_id: str
    """The event that created it; with the anchor it makes the profile's id."""
    anchor: Id
    """The best-ranked id of that event (identity U1)."""
    members: dict[str, dict[str, int]]
    """Type -> value -> when it was mapped, in the order of mapping."""
    absorbed: tuple[str, ...] = ()
    """The profiles merged into this one, directly or not: as many as there were merges."""


class Pass(Struct, frozen=True, gc=False, array_like=True):
    """One turn of the loop that ended in a demotion."""

    demoted: Id
    violations: tuple[Violation, ...]


class Match(Struct, frozen=True, gc=False):
    """The decision. ``profiles``: none, create; one, add; more, merge; in order of the best ids."""

    used: tuple[Id, ...]
    profiles: tuple[str, ...]
    passes: tuple[Pass, ...] = ()

    @property
    def demoted(self) -> tuple[Id, ...]:
        """Return the ids that gave way, in the order in which they did."""
        return tuple(one.demoted for one in self.passes)


def match(
    ids: Collection[Id],
    owners: Mapping[Id, str],
    nodes: Mapping[str, Node],
    settings: Settings,
    at_ms: int,
) -> Match:
    """Return which of an event's ids are used, and which profiles they belong to.

    ``owners`` holds the profile of each id that has one, ``nodes`` exactly those profiles. At
    least one id is needed; at least one is used.
    Cost: linear in the ids and the types of the profiles; `targeted` has a square of the ids.
    Rule: identity L1 to L7, A1 to A7.
    """
    ranked = settings.ranked(ids)
    # The two usual claims, which cannot violate anything: new ids of different types, and ids
    # that sit on one profile already (L5).
    if not owners:
        if len(ranked) == 1 or len({id[0] for id in ranked}) == len(ranked):
            return Match(ranked, ())
    elif len(nodes) == 1 and len(owners) == len(ranked):
        return Match(ranked, tuple(nodes))
    if settings.targeted:
        return _targeted(ranked, owners, nodes, settings, at_ms)
    return _strict(ranked, owners, nodes, settings, at_ms)


def survivor(nodes: Mapping[str, Node]) -> str:
    """Return the oldest profile, of equally old ones that with the smallest id. Rule: A8."""
    return min(nodes, key=lambda id: (nodes[id].created_at_ms, id))


def profile_id(prefix: str, space: str, message_id: str, id: Id) -> str:
    """Return the id of a profile that a message creates: ``prefix`` is `use_` or `acc_`.

    It depends on nothing else, so reading the log again gives the same. Rule: identity A10.
    """
    text = f"{space}\0{message_id}\0{id[0]}\0{id[1]}".encode()
    digest = blake2b(text, digest_size=18).digest()
    return prefix + b2a_base64(digest, newline=False).translate(_LETTERS).decode()


def united(nodes: Iterable[tuple[str, Node]]) -> Node:
    """Return the node of several profiles made one, the survivor first. Rule: A3, A8."""
    (_, first), *others = nodes
    members = {type: dict(values) for type, values in first.members.items()}
    absorbed = first.absorbed
    for id, node in others:
        for type, values in node.members.items():
            members.setdefault(type, {}).update(values)
        absorbed = (*absorbed, id, *node.absorbed)
    return Node(first.created_at_ms, first.message_id, first.anchor, members, absorbed)


def extended(node: Node, ids: Iterable[Id], at_ms: int) -> Node:
    """Return the node with further ids, mapped now. Rule: A2."""
    members = dict(node.members)
    for type, value in ids:
        members[type] = {**members.get(type, {}), value: at_ms}
    return Node(node.created_at_ms, node.message_id, node.anchor, members, node.absorbed)


_LETTERS: Final = bytes.maketrans(b"+/", b"xz")
"""Ids are put into addresses and selected by double click: letters and digits only."""


# ---- demotion -----------------------------------------------------------------------------------
def _strict(
    ranked: tuple[Id, ...],
    owners: Mapping[Id, str],
    nodes: Mapping[str, Node],
    settings: Settings,
    at_ms: int,
) -> Match:
    """Drop the worst id until nothing is violated (A4).

    The would-be profile is built up from the best id on: what violates nothing yet is used.
    """
    would = _WouldBe(nodes, settings, at_ms)
    found: list[tuple[Violation, ...]] = []
    settled = 0
    for place, id in enumerate(ranked, 1):
        would.add(id, owners.get(id))
        violations = tuple(sorted(would.violations))
        found.append(violations)
        if not violations:
            settled = place
            profiles = tuple(would.profiles)
    assert settled, "a single id never violates a limit (A6)"
    passes = tuple(
        Pass(ranked[place], found[place]) for place in range(len(ranked) - 1, settled - 1, -1)
    )
    return Match(ranked[:settled], profiles, passes)


def _targeted(
    ranked: tuple[Id, ...],
    owners: Mapping[Id, str],
    nodes: Mapping[str, Node],
    settings: Settings,
    at_ms: int,
) -> Match:
    """Drop the worst id that clears a violation when it goes, else the worst one (A4)."""
    used = list(ranked)
    passes: list[Pass] = []
    while True:
        would = _WouldBe(nodes, settings, at_ms)
        holding: dict[str, int] = {}
        for id in used:
            owner = owners.get(id)
            would.add(id, owner)
            if owner is not None:
                holding[owner] = holding.get(owner, 0) + 1
        if not would.violations:
            return Match(tuple(used), tuple(would.profiles), tuple(passes))
        for id in reversed(used):
            owner = owners.get(id)
            if (owner is None or holding[owner] == 1) and would.clears(id, owner):
                break
        else:
            id = used[-1]
        used.remove(id)
        passes.append(Pass(id, tuple(sorted(would.violations))))


class _Sum:
    """How many values of a type: together, and on the two profiles that have most today."""

    __slots__ = ("most", "most_of", "second", "total")

    def __init__(self) -> None:
        self.total = self.most = self.second = 0
        self.most_of = ""

    def unite(self, profile: str, count: int) -> None:
        self.total += count
        if count > self.most:
            self.second, self.most, self.most_of = self.most, count, profile
        elif count > self.second:
            self.second = count

    def exceeds(self, limit: int) -> bool:
        return self.total > limit and self.total > self.most

    def would_exceed(self, limit: int, profile: str | None, fewer: int) -> bool:
        """Tell the same without ``fewer`` values: all of a profile's, or of an unmapped id."""
        total = self.total - fewer
        return total > limit and total > (self.second if profile == self.most_of else self.most)


class _WouldBe:
    """The profile that would result, built up id by id, and what it violates (A7, L3 to L7).

    A violation never goes away as ids are added: each adds at least as much to the whole as to
    the profile that has most.
    """

    def __init__(self, nodes: Mapping[str, Node], settings: Settings, at_ms: int) -> None:
        self.profiles: dict[str, None] = {}
        self.violations: set[Violation] = set()
        self._nodes = nodes
        self._limits = settings.limits
        self._most_merges = settings.most_merges
        self._most_mappings = settings.most_mappings
        self._at_ms = at_ms
        self._sums: dict[str, _Sum] = {}
        self._all = _Sum()
        self._merges = -1

    def add(self, id: Id, owner: str | None) -> None:
        if owner is None:
            self._sum(id[0]).total += 1
            self._all.total += 1
            self._check(id[0])
        elif owner not in self.profiles:
            node = self._nodes[owner]
            self.profiles[owner] = None
            self._merges += 1 + len(node.absorbed)
            self._all.unite(owner, sum(map(len, node.members.values())))
            for type, values in node.members.items():
                self._sum(type).unite(owner, self._count(type, values))
                self._check(type)
            if len(self.profiles) > 1 and self._merges > self._most_merges:
                self.violations.add(MERGES)
        else:
            return
        if self._all.exceeds(self._most_mappings):
            self.violations.add(MAPPINGS)

    def clears(self, id: Id, owner: str | None) -> bool:
        """Tell whether a violation goes with the id. Its owner has no other id on the event."""
        if owner is None:
            type = id[0]
            kind = self._kind(type)
            if kind in self.violations and not self._sums[type].would_exceed(
                self._limits.get(type, _EVER)[0], None, 1
            ):
                return True
            return MAPPINGS in self.violations and not self._all.would_exceed(
                self._most_mappings, None, 1
            )
        node = self._nodes[owner]
        if MERGES in self.violations and (
            len(self.profiles) <= 2 or self._merges - 1 - len(node.absorbed) <= self._most_merges
        ):
            return True
        if MAPPINGS in self.violations:
            fewer = sum(map(len, node.members.values()))
            if not self._all.would_exceed(self._most_mappings, owner, fewer):
                return True
        return any(
            self._kind(type) in self.violations
            and not self._sums[type].would_exceed(
                self._limits.get(type, _EVER)[0], owner, self._count(type, values)
            )
            for type, values in node.members.items()
        )

    def _sum(self, type: str) -> _Sum:
        found = self._sums.get(type)
        if found is None:
            found = self._sums[type] = _Sum()
        return found

    def _count(self, type: str, values: Mapping[str, int]) -> int:
        """Count the values of a type that its limit bounds: all, or those added lately (L2, L3)."""
        period_ms = self._limits.get(type, _EVER)[1]
        if not period_ms:
            return len(values)
        since_ms = self._at_ms - period_ms
        return sum(at_ms > since_ms for at_ms in values.values())

    def _check(self, type: str) -> None:
        kind = self._kind(type)
        if self._sums[type].exceeds(self._limits.get(type, _EVER)[0]):
            self.violations.add(kind)

    def _kind(self, type: str) -> Violation:
        periodic = self._limits.get(type, _EVER)[1]
        return ("value_time_limit_exceeded" if periodic else "value_limit_exceeded", type)
