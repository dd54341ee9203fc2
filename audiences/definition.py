"""An audience as a workspace file defines it (audiences 3, 4, 10)."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from events import filters, operators, paths
from events.filters import Where
from events.operators import Duration, Operators, Trouble
from profiles.computed.definition import ComputedTrait, Send, duration, known, window_bounds

PRIMARY_CONDITIONS = 50
"""How many conditions an audience may hold (audiences B7)."""
DEPTH = 10
"""How deep groups may nest (audiences 4.3)."""


Times = Annotated[int, Meta(ge=0, le=100_000)]
Group = Annotated[tuple["Condition", ...], Meta(min_length=1)]


class Performed(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often the person did something; at least once when no number is given."""

    event: Annotated[
        str, Meta(min_length=1, description="the name of the event; pages are `Page Viewed`",
                  examples=["Order Completed"])
    ]
    at_least: Annotated[Times | UnsetType, Meta(description="times or more; from 1")] = UNSET
    exactly: Annotated[Times | UnsetType, Meta(description="times, no more and no fewer")] = UNSET
    at_most: Annotated[Times | UnsetType, Meta(description="times or fewer")] = UNSET
    within: Annotated[
        Duration | UnsetType, Meta(description="of late, this long", examples=["7d"])
    ] = UNSET
    between: Annotated[
        tuple[Duration, Duration] | UnsetType,
        Meta(description="longer ago than the first, not than the second",
             examples=[["30d", "90d"]]),
    ] = UNSET
    where: Annotated[Where, Meta(description="which of these events count")] = field(
        default_factory=dict)
    exclude_sources: Annotated[
        tuple[str, ...], Meta(description="sources whose events do not count")
    ] = ()
    any_item: Annotated[Any | UnsetType, Meta(description="not supported yet")] = UNSET


class Condition(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One condition: exactly one of its fields."""

    all: Annotated[Group | UnsetType, Meta(description="every one of these holds")] = UNSET
    any: Annotated[Group | UnsetType, Meta(description="at least one of these holds")] = UNSET
    not_: Annotated["Condition | UnsetType", Meta(
        description="this does not hold")] = field(default=UNSET, name="not")
    performed: Annotated[Performed | UnsetType, Meta(
        description="the person did something so many times")] = UNSET
    trait: Annotated[dict[str, Operators] | UnsetType, Meta(
        description="a custom trait, a computed one, or an audience's true or false",
        examples=[{"plan": {"one_of": ["pro", "team"]}}])] = UNSET
    audience: Annotated[str | UnsetType, Meta(
        description="the person is in this audience", examples=["recent_buyers"])] = UNSET
    everyone: Annotated[Literal[True] | UnsetType, Meta(description="always")] = UNSET
    last_performed: Annotated[Any | UnsetType, Meta(description="not supported yet")] = UNSET
    funnel: Annotated[Any | UnsetType, Meta(description="not supported yet")] = UNSET
    consent: Annotated[Any | UnsetType, Meta(description="not supported yet")] = UNSET
    subscription: Annotated[Any | UnsetType, Meta(description="not supported yet")] = UNSET
    random_bucket: Annotated[Any | UnsetType, Meta(description="not supported yet")] = UNSET
    manual: Annotated[Any | UnsetType, Meta(description="not supported yet")] = UNSET
    message: Annotated[Any | UnsetType, Meta(description="not supported yet")] = UNSET
    broadcast: Annotated[Any | UnsetType, Meta(description="not supported yet")] = UNSET
    users: Annotated[Any | UnsetType, Meta(description="not supported yet")] = UNSET


BUILT = ("all", "any", "not_", "performed", "trait", "audience", "everyone")


class Connection(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A destination that is told who enters and who leaves (audiences 6)."""

    to: Annotated[str, Meta(description="the key of the destination", examples=["webhook"])]
    send: Annotated[
        Send,
        Meta(description="identify with true or false, track by the names below"),
    ] = ("track",)
    enter_event: Annotated[str, Meta(min_length=1, description="the track of an entry")] = (
        "Audience Entered")
    exit_event: Annotated[str, Meta(min_length=1, description="the track of an exit")] = (
        "Audience Exited")


class Audience(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A group of people, kept up to date by their events and by time (audiences B1 to B7)."""

    where: Annotated[Condition, Meta(description="who belongs to it")]
    name: Annotated[str, Meta(max_length=255, description="how people call it")] = ""
    description: Annotated[str, Meta(description="for people")] = ""
    include_anonymous: Annotated[bool, Meta(
        description="also people of whom only an anonymous id is known")] = False
    history: Annotated[bool | Duration, Meta(
        description="whether events from before its creation count; or how far back",
        examples=[True, "90d"])] = True
    destinations: Annotated[
        tuple[Connection, ...], Meta(description="who is told of entries and exits")
    ] = ()
    level: Annotated[
        Literal["user", "account"], Meta(description="account: not supported yet")
    ] = "user"


def normal_form(definition: Audience | ComputedTrait) -> bytes:
    """Return the definition with its keys sorted: equal bytes mean that nothing changed (Y6)."""
    return msgspec.json.encode(msgspec.to_builtins(definition), order="deterministic")


def references(where: Condition) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the keys that name an audience, and the audience; also traits, which may be one."""
    for at, condition in walk(where):
        if isinstance(condition.audience, str):
            yield ((*at, "audience"), condition.audience)
        if isinstance(condition.trait, dict):
            for key in condition.trait:
                yield ((*at, "trait", key), _head(key))


def walk(
    condition: Condition, at: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Condition]]:
    """Yield a condition and all conditions in it, with the keys that lead to each."""
    yield at, condition
    if isinstance(condition.not_, Condition):
        yield from walk(condition.not_, (*at, "not"))
    for key, items in (("all", condition.all), ("any", condition.any)):
        if isinstance(items, tuple):
            for position, item in enumerate(items):
                yield from walk(item, (*at, key, position))


def problems(
    key: str,
    audiences: Mapping[str, Audience],
    computed: Mapping[str, ComputedTrait],
    destinations: frozenset[str] | None = None,
    tombstones: frozenset[str] = frozenset(),
) -> list[Trouble]:
    """Return what is wrong with the audience ``key`` that its structure cannot say.

    Paths begin below the audience's own key. ``destinations`` are the keys that exist (None:
    unknown), ``tombstones`` the keys of deleted audiences. Rule: audiences B6, B7, Y1 to Y4.
    """
    audience = audiences[key]
    found: list[Trouble] = []
    if key in tombstones:
        found.append(((), f'the key "{key}" belonged to a deleted audience', "take another key"))
    if key in computed:
        found.append(((), f'"{key}" is also a computed trait: one would hide the other',
                      "give one of them another key"))
    if audience.level == "account":
        found.append((("level",), "account level is not supported yet", "leave it out"))
    if isinstance(audience.history, str):
        found += duration(("history",), audience.history)
    for position, connection in enumerate(audience.destinations):
        if destinations is not None and connection.to not in destinations:
            found.append((("destinations", position, "to"),
                          f'there is no destination "{connection.to}"', known(destinations)))
        if "group" in connection.send:
            found.append((("destinations", position, "send"), "group is not supported yet",
                          "send identify or track"))
    primary = 0
    for at, condition in walk(audience.where):
        below, count = _condition_problems(condition, audiences)
        found += [(("where", *at, *more), what, mend) for more, what, mend in below]
        primary += count
        if len([step for step in at if isinstance(step, str)]) == DEPTH + 1:
            found.append((("where", *at), f"deeper than {DEPTH} groups", "flatten the groups"))
    if primary > PRIMARY_CONDITIONS:
        found.append((("where",), f"{primary} conditions, the limit is {PRIMARY_CONDITIONS}",
                      "split it into audiences that refer to one another"))
    return found + _cycles(key, audiences)


def _condition_problems(
    condition: Condition, audiences: Mapping[str, Audience]
) -> tuple[list[Trouble], int]:
    """Return what is wrong with one node, its children apart, and how many conditions it holds."""
    given = [name for name in condition.__struct_fields__ if getattr(condition, name) is not UNSET]
    names = [name.rstrip("_") for name in given]
    found: list[Trouble] = []
    if not given:
        return [((), "an empty condition", "give one of: " + ", ".join(
            name.rstrip("_") for name in BUILT))], 0
    if len(given) > 1:
        found.append(((), f"{' and '.join(names)} in one condition", "put them under all: or any:"))
    found += [
        ((name,), f"{name} is not supported yet", "take it out")
        for name in given if name not in BUILT
    ]
    primary = sum(name not in ("all", "any", "not_", "trait") for name in given)
    if isinstance(condition.performed, Performed):
        found += [(("performed", *at), what, mend)
                  for at, what, mend in _performed_problems(condition.performed)]
    if isinstance(condition.trait, dict):
        primary += len(condition.trait)
        if not condition.trait:
            found.append((("trait",), "names no trait", "write {trait: {NAME: {exists: true}}}"))
        for path, asked in condition.trait.items():
            troubles = operators.problems(asked)
            try:
                paths.parse(path)
            except ValueError as error:
                troubles.append(((), str(error), "write names with dots between them"))
            found += [(("trait", path, *at), what, mend) for at, what, mend in troubles]
    if isinstance(condition.audience, str) and condition.audience not in audiences:
        found.append((("audience",), f'there is no audience "{condition.audience}"',
                      "define it, or name one of: " + ", ".join(sorted(audiences)[:20])))
    return found, primary


def _performed_problems(performed: Performed) -> list[Trouble]:
    found: list[Trouble] = []
    if performed.at_least == 0:
        found.append((("at_least",), "at_least begins at 1", "use exactly: 0, or at_least: 1"))
    for pair in (("at_least", "exactly", "at_most"), ("within", "between")):
        given = [name for name in pair if getattr(performed, name) is not UNSET]
        if len(given) > 1:
            found.append(((given[1],), f"{' and '.join(given)} exclude one another",
                          "keep one of them"))
    found += window_bounds(performed.within, performed.between)
    found += [(("where", *at), what, mend) for at, what, mend in filters.problems(performed.where)]
    if performed.any_item is not UNSET:
        found.append((("any_item",), "any_item is not supported yet", "use where with `$` paths"))
    return found


def _cycles(key: str, audiences: Mapping[str, Audience]) -> list[Trouble]:
    """Return the references of ``key`` that lead back to it. Rule: audiences B6, Y2."""
    found: list[Trouble] = []
    for at, target in references(audiences[key].where):
        way = _way(target, key, audiences) if target in audiences else None
        if way is not None:
            found.append((("where", *at), "a cycle: " + " -> ".join((key, *way)),
                          "take one of these references out"))
    return found


def _way(start: str, goal: str, audiences: Mapping[str, Audience]) -> tuple[str, ...] | None:
    """Return the audiences from ``start`` to ``goal`` along references, or None."""
    ways: dict[str, tuple[str, ...]] = {start: (start,)}
    queue = [start]
    while queue:
        here = queue.pop(0)
        if here == goal:
            return ways[here]
        for _, target in references(audiences[here].where):
            if target in audiences and target not in ways:
                ways[target] = (*ways[here], target)
                queue.append(target)
    return None


def _head(path: str) -> str:
    try:
        return paths.parse(path)[0]
    except ValueError:  # reported as a problem of its own
        return path
