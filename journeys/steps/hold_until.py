"""Step `hold_until`: wait for one of a few events, at most so long (journeys H1 to H8)."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from events.durations import millis
from events.event import Seen
from events.filters import Filter, Where
from events.operators import Trouble
from journeys.instance import RESTARTS_LIMIT, Instance
from journeys.keys import key_of
from journeys.kind import (
    Again,
    Edge,
    Go,
    Move,
    References,
    Setting,
    Step,
    StepKind,
    Wait,
)
from journeys.limits import (
    BRANCHES_LIMIT,
    count_problems,
    duration_problems,
    name_problems,
    property_problems,
    where_problems,
)
from journeys.view import View

TIMEOUT = "timeout"
"""How the way at the end of the time is counted."""


class Branch(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An event that ends the wait, or starts it anew."""

    event: Annotated[str, Meta(description="The event's name.", examples=["Order Completed"])]
    where: Where = {}
    key: Annotated[
        str | UnsetType,
        Meta(description="The event's property that must equal the entry's key.",
             examples=["cart_id"]),
    ] = UNSET
    restart: Annotated[
        bool, Meta(description="Stay, with the full time ahead again; at most 100 times.")
    ] = False
    next: Annotated[
        str | UnsetType, Meta(description="The step it leads to, or `end`.", examples=["end"])
    ] = UNSET


class HoldUntil(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Waits for the first matching event, at most so long."""

    max: Annotated[
        str, Meta(description="How long at most, 5 minutes to 182 days.", examples=["2h"])
    ]
    branches: Annotated[
        dict[str, Branch],
        Meta(description="By name: the events it waits for; of two that match, the first by name."),
    ]
    timeout: Annotated[
        str, Meta(description="The step at the end of the time, or `end`.", examples=["end"])
    ]


class _Branch(Struct, frozen=True):
    way: str
    key: str | None
    filter: Filter
    next: str
    alias: str


class ReadyHold(Step):
    """A hold with its branches by event."""

    __slots__ = ("_branches", "_max_ms", "_timeout", "listens")

    def __init__(self, setting: Setting, hold: HoldUntil) -> None:
        self._max_ms = millis(hold.max)
        self._timeout = hold.timeout
        self._branches: dict[str, list[_Branch]] = {}
        for name, branch in sorted(hold.branches.items()):
            self._branches.setdefault(branch.event, []).append(_Branch(
                f"branch:{name}", branch.key or None, Filter(branch.where),
                "" if branch.restart else branch.next or "",
                setting.alias(branch.event, name),
            ))  # fmt: skip
        self.listens = frozenset(self._branches)

    def arrive(self, _instance: Instance, _person: View, now_ms: int) -> Move:
        """Start the timer."""
        return Wait(now_ms + self._max_ms)

    def due(self, _instance: Instance, _now_ms: int) -> Move:
        """Take the way of the timeout (H2)."""
        return Go(self._timeout, TIMEOUT)

    def meet(self, instance: Instance, event: Seen, now_ms: int) -> Move | None:
        """Follow the first branch that the event matches; the 101st restart is the timeout (H5)."""
        for branch in self._branches.get(event.name, ()):
            if branch.key is not None and key_of(event, branch.key) != instance.key:
                continue
            if not branch.filter.test(event.properties, event.context, now_ms):
                continue
            if branch.next:
                return Go(branch.next, branch.way, branch.alias)
            if instance.restarts >= RESTARTS_LIMIT:
                return Go(self._timeout, TIMEOUT)
            return Again(now_ms + self._max_ms, branch.way, branch.alias)
        return None


def _ready(setting: Setting, _id: str, hold: HoldUntil, _next: str) -> Step:
    return ReadyHold(setting, hold)


def _edges(hold: HoldUntil) -> list[Edge]:
    return [
        *(
            Edge(("branches", name, "restart"), "", name, branch.event)
            if branch.restart
            else Edge(("branches", name, "next"), branch.next or "", name, branch.event)
            for name, branch in sorted(hold.branches.items())
        ),
        Edge(("timeout",), hold.timeout),
    ]


def _problems(hold: HoldUntil, references: References) -> list[Trouble]:
    found = duration_problems("max", hold.max)
    found += count_problems(("branches",), "branches", len(hold.branches), BRANCHES_LIMIT)
    if not hold.branches:
        found.append((("branches",), "no branches", "name an event, or write a delay"))
    for name, branch in hold.branches.items():
        found += _branch_problems(("branches", name), branch, references)
    return found + _overlaps(hold)


def _branch_problems(
    at: tuple[str | int, ...], branch: Branch, references: References
) -> list[Trouble]:
    found = name_problems((*at, "event"), "event", branch.event)
    found += where_problems(at, branch.where)
    if branch.key is not UNSET:
        found += property_problems((*at, "key"), branch.key)
        if not references.keyed:
            found.append(((*at, "key"), "the entry has no key", "give entry.key, or remove this"))
    elif references.every:
        what = "no key, though every key value has an instance of its own"
        found.append((at, what, "name the property that must equal the entry's key"))
    if branch.restart and branch.next is not UNSET:
        found.append(((*at, "next"), "a restart stays in its step", "remove next or restart"))
    if not branch.restart and not branch.next:
        found.append((at, "it leads nowhere", "write next: and a step, or restart: true"))
    return found


def _overlaps(hold: HoldUntil) -> list[Trouble]:
    """Return the branches of which another certainly matches every event too (H4)."""
    found: list[Trouble] = []
    branches = sorted(hold.branches.items())
    for place, (name, branch) in enumerate(branches):
        for earlier, other in branches[:place]:
            if branch.event != other.event or branch.key != other.key:
                continue
            if _implies(branch.where, other.where) or _implies(other.where, branch.where):
                what = f'it overlaps with "{earlier}": the same {branch.event} matches both'
                found.append((("branches", name), what, "let their where exclude each other"))
    return found


def _implies(narrow: dict[str, Any], wide: dict[str, Any]) -> bool:
    return all(key in narrow and narrow[key] == wanted for key, wanted in wide.items())


KIND = StepKind(
    "hold_until", HoldUntil, ready=_ready, problems=_problems, branches=True, edges=_edges
)
