"""What audiences make of two profiles that become one (identity 6, audiences M6).

States unite leaf by leaf; results are then looked at again and compared with both former ones: an
exit is told when either was inside; an entry when the person, by the id that messages now bear,
was not. So a merge alone tells nobody of an exit and an entry.
"""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from audiences.calls import address
from audiences.evaluate import identified
from audiences.plan import LEAF_ID_BYTES, Plan
from profiles.profile import Computed, ExternalId, Membership, Profile


class United(Struct, frozen=True):
    """What the survivor holds until `settle` has looked at ``touched``, given ``announce``."""

    computed: dict[str, Computed]
    memberships: dict[str, Membership]
    flips: dict[str, int]
    touched: tuple[str, ...]
    announce: frozenset[str]


def unite(plan: Plan, key: bytes, one: Any, other: Any) -> Any:
    """Return a leaf's row over the events of both; None when the leaf is no longer.

    ``key`` is the row's: it begins with the leaf's id. To be called for every row of either side.
    """
    leaf = plan.leaves.get(key[:LEAF_ID_BYTES])
    if leaf is None:
        return None
    if one is None or other is None:
        return one if other is None else other
    return leaf.unite(key, one, other)


def unite_results(
    plan: Plan,
    survivor: Profile,
    loser: Profile,
    ids: tuple[ExternalId, ...],
    rows: Iterable[bytes],
) -> United:
    """Return the results of both, and what has to be looked at again.

    ``ids`` are the united identifiers, ``rows`` the keys of the states that the loser hands over.
    The caller unites traits and states, then settles.
    """
    bearer = loser if address(ids) in {(id.type, id.value) for id in loser.ids} else survivor
    other = survivor if bearer is loser else loser
    computed = _computed(bearer, other)
    memberships = {
        key: _standing(survivor.memberships.get(key), loser.memberships.get(key))
        for key in sorted({*survivor.memberships, *loser.memberships})
    }
    announce = frozenset(
        key for key, standing in memberships.items()
        if standing.inside and not _inside(bearer, key)
    )
    flips = {**loser.flips, **survivor.flips}
    whole = replace(survivor, ids=ids, memberships=memberships, flips=flips)
    touched: list[str] = []
    for id in sorted({key[:LEAF_ID_BYTES] for key in rows}):
        if id in plan.leaves:
            touched += plan.leaves[id].readers
    touched += plan.reading(sorted(loser.traits))
    touched += [*sorted(computed), *memberships, *sorted(flips)]
    touched += identified(plan, survivor.ids, whole)
    return United(computed, memberships, flips, tuple(dict.fromkeys(touched)), announce)


def _computed(bearer: Profile, other: Profile) -> dict[str, Computed]:
    """Return the bearer's values, numbered so that no number comes twice."""
    united: dict[str, Computed] = {}
    for key in sorted({*bearer.computed, *other.computed}):
        mine, theirs = bearer.computed.get(key), other.computed.get(key)
        if mine is None or theirs is None:
            # Without a value of its own, the bearer is told of the first one whatever it is.
            united[key] = mine or Computed(None, theirs.updated_at_ms, theirs.changes)  # type: ignore[union-attr]
        else:
            united[key] = Computed(
                mine.value, mine.updated_at_ms, max(mine.changes, theirs.changes))
    return united


def _standing(one: Membership | None, other: Membership | None) -> Membership:
    """Return the membership of two persons that are one: inside when either was."""
    if one is None or other is None:
        found = one or other
        assert found is not None
        return found
    entries = [standing.entered_at_ms for standing in (one, other) if standing.inside]
    return Membership(
        bool(entries),
        min(entries) if entries else max(one.entered_at_ms, other.entered_at_ms),
        max(one.exited_at_ms, other.exited_at_ms),
        max(one.transitions, other.transitions),
    )


def _inside(profile: Profile, key: str) -> bool:
    standing = profile.memberships.get(key)
    return standing is not None and standing.inside
