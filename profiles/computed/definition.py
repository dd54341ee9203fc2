"""A computed trait as a workspace file defines it (audiences 2, 10)."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from events import filters, paths
from events.durations import millis
from events.filters import Where
from events.operators import Duration, Trouble

Type = Literal[
    "count", "sum", "avg", "min", "max", "most_frequent", "first", "last", "unique_list",
    "unique_count",
]


Send = Annotated[tuple[Literal["identify", "track", "group"], ...], Meta(min_length=1)]


class Window(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which of the events count, by their timestamp. One of the three."""

    within: Annotated[
        Duration | UnsetType, Meta(description="events not older than this", examples=["90d"])
    ] = UNSET
    between: Annotated[
        tuple[Duration, Duration] | UnsetType,
        Meta(description="events older than the first, not than the second",
             examples=[["30d", "90d"]]),
    ] = UNSET
    session: Annotated[
        Duration | UnsetType, Meta(description="events of the latest session: not supported yet")
    ] = UNSET


class Connection(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A destination that is told of each new value (audiences M2)."""

    to: Annotated[str, Meta(description="the key of the destination", examples=["webhook"])]
    send: Annotated[
        Send,
        Meta(description="identify with the trait, or track `Trait Computed`"),
    ] = ("track",)
    event: Annotated[
        str, Meta(min_length=1, description="the name of the track", examples=["Trait Computed"])
    ] = "Trait Computed"


class ComputedTrait(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A trait that follows from the person's events (audiences T1 to T9)."""

    type: Annotated[Type, Meta(description="what is made of the events", examples=["count"])]
    event: Annotated[
        str, Meta(min_length=1, description="the name of the events", examples=["Order Completed"])
    ]
    name: Annotated[str, Meta(max_length=255, description="how people call it")] = ""
    description: Annotated[str, Meta(description="for people")] = ""
    property: Annotated[
        str | UnsetType,
        Meta(description="the path of the property; all types but count need it",
             examples=["revenue", "products.$.category"]),
    ] = UNSET
    where: Annotated[Where, Meta(description="which of these events count")] = field(
        default_factory=dict)
    window: Annotated[Window | UnsetType, Meta(description="all history when absent")] = UNSET
    min_frequency: Annotated[
        int, Meta(ge=1, description="most_frequent: how often a value must occur at least")
    ] = 2
    exclude_sources: Annotated[
        tuple[str, ...], Meta(description="sources whose events do not count")
    ] = ()
    destinations: Annotated[
        tuple[Connection, ...], Meta(description="who is told of each new value")
    ] = ()
    level: Annotated[
        Literal["user", "account"], Meta(description="account: not supported yet")
    ] = "user"
    user_trait: Annotated[Any | UnsetType, Meta(description="not supported yet")] = UNSET


def problems(
    definition: ComputedTrait, destinations: frozenset[str] | None = None
) -> list[Trouble]:
    """Return what is wrong with a computed trait that its structure cannot say.

    Paths begin below the trait's own key. ``destinations`` are the keys that exist; None: unknown.
    """
    found: list[Trouble] = []
    if definition.level == "account":
        found.append((("level",), "account level is not supported yet", "leave it out"))
    if definition.user_trait is not UNSET:
        found.append((("user_trait",), "not supported yet", "name a property"))
    if definition.type == "count":
        if definition.property is not UNSET:
            found.append((("property",), "a count has no property", "take it away"))
    elif definition.property is UNSET:
        if definition.user_trait is UNSET:
            found.append(((), f"{definition.type} needs a property", "add property: NAME"))
    else:
        try:
            paths.parse(definition.property)
        except ValueError as error:
            found.append((("property",), str(error), "write names with dots between them"))
    found += _below("where", filters.problems(definition.where))
    if definition.window is not UNSET:
        found += _below("window", window_problems(definition.window))
    for position, connection in enumerate(definition.destinations):
        at = ("destinations", position)
        if destinations is not None and connection.to not in destinations:
            found.append(((*at, "to"), f'there is no destination "{connection.to}"',
                          known(destinations)))
        if "group" in connection.send:
            found.append(((*at, "send"), "group is not supported yet", "send identify or track"))
    return found


def window_problems(window: Window) -> list[Trouble]:
    """Return what is wrong with a window; its options exclude one another."""
    given = [name for name in window.__struct_fields__ if getattr(window, name) is not UNSET]
    if len(given) > 1:
        return [((given[1],), f"{' and '.join(given)} exclude one another", "keep one of them")]
    if not given:
        return [((), "the window is empty", "add within: DURATION, or leave window out")]
    if given == ["session"]:
        return [(("session",), "not supported yet", "use within")]
    return window_bounds(window.within, window.between)


def window_bounds(
    within: str | UnsetType, between: tuple[str, str] | UnsetType
) -> list[Trouble]:
    """Return what is wrong with the durations of a window. Rule: audiences Y3."""
    found: list[Trouble] = []
    if within is not UNSET:
        found += duration(("within",), within)
    if between is not UNSET:
        low, high = between
        found += duration(("between", 0), low) + duration(("between", 1), high)
        if not found and millis(low) >= millis(high):
            found.append((("between",), f"{low} is not shorter than {high}",
                          "write the shorter duration first"))
    return found


def duration(at: tuple[str | int, ...], text: str) -> list[Trouble]:
    """Return the problem of a text that is no duration, or one of no length."""
    try:
        if millis(text):
            return []
    except ValueError as error:
        return [(at, str(error), "write a whole number and a unit")]
    return [] if at[-1] == 0 else [(at, "the duration is zero", "give at least 1s")]


def _below(key: str, found: list[Trouble]) -> list[Trouble]:
    return [((key, *at), what, mend) for at, what, mend in found]


def known(keys: frozenset[str]) -> str:
    """Return the advice that names the destinations there are."""
    if not keys:
        return "define it under destinations"
    return "destinations are: " + ", ".join(sorted(keys))
