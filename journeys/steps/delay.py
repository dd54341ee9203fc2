"""Step `delay`: wait for a while, then go on (journeys D1, D5, Y3)."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, field

from events.durations import millis
from events.operators import Trouble
from journeys.instance import Instance
from journeys.kind import Go, Move, References, Setting, Step, StepKind, Wait
from journeys.limits import duration_problems
from journeys.view import View


class Delay(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Waits, then goes on. Exit rules still interrupt."""

    for_: Annotated[
        str | UnsetType,
        Meta(description="How long, 5 minutes to 182 days.", examples=["30m", "3d"]),
    ] = field(default=UNSET, name="for")
    until: Annotated[Any | UnsetType, Meta(description="Not supported yet.")] = UNSET
    on_missing: Annotated[Any | UnsetType, Meta(description="Not supported yet.")] = UNSET


class ReadyDelay(Step):
    """A delay of so many milliseconds."""

    __slots__ = ("_for_ms", "_next")

    def __init__(self, for_ms: int, next: str) -> None:
        self._for_ms = for_ms
        self._next = next

    def arrive(self, _instance: Instance, _person: View, now_ms: int) -> Move:
        """Start the timer."""
        return Wait(now_ms + self._for_ms)

    def due(self, _instance: Instance, _now_ms: int) -> Move:
        """Go on."""
        return Go(self._next)


def _ready(_setting: Setting, _id: str, delay: Delay, next: str) -> Step:
    assert delay.for_ is not UNSET, "problems() asks for it"
    return ReadyDelay(millis(delay.for_), next)


def _problems(delay: Delay, _references: References) -> list[Trouble]:
    found: list[Trouble] = [
        ((name,), "not supported yet", "write for: and a duration")
        for name in ("until", "on_missing")
        if getattr(delay, name) is not UNSET
    ]
    if delay.for_ is not UNSET:
        found += duration_problems("for", delay.for_)
    elif not found:
        found.append(((), "no duration", "write for: and a duration"))
    return found


KIND = StepKind("delay", Delay, ready=_ready, problems=_problems)
