"""A row of the table, and what all measurements share: sizes, a folder, a place to say things."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from bench.large import Large


class Row(Struct, frozen=True):
    """One line of the table."""

    name: str
    value: float
    unit: str
    limit: float | None
    """What it is measured against, in the same unit; None: nothing."""
    ratio: float | None
    """``value / limit``."""
    goal: str | None
    """What the ratio is to be: ``>= 0.7`` or ``<= 1.3``; None: there is no goal."""
    met: bool | None
    notes: tuple[str, ...] = ()
    """Sentences for people: the spread, the processor time, what else was seen."""
    rounds: tuple[tuple[float, float], ...] = ()
    """(value, limit) of each round, where there were several."""


class Bench(Struct):
    """One run."""

    folder: Path
    """For data; emptied at the end."""
    quick: bool
    large: "Large"

    def size(self, default: int, quick: int) -> int:
        """Return how many, in this run."""
        return quick if self.quick else default


def compared(
    name: str, unit: str, rounds: Sequence[tuple[float, float]], goal: str | None,
    notes: Sequence[str] = (),
) -> Row:
    """Return the row of several (value, limit): medians, the median of the rounds' ratios."""
    ratios = [value / limit for value, limit in rounds]
    spread = f"ratio of each round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}"
    return judged(
        name, statistics.median(value for value, _ in rounds), unit,
        statistics.median(limit for _, limit in rounds), statistics.median(ratios), goal,
        (spread, *notes) if len(rounds) > 1 else notes, rounds,
    )


def bounded(name: str, value: float, unit: str, limit: float, notes: Sequence[str] = ()) -> Row:
    """Return the row of something that must not pass a limit of its own unit."""
    return judged(name, value, unit, limit, value / limit, "<= 1", notes)


def judged(
    name: str, value: float, unit: str, limit: float | None, ratio: float | None, goal: str | None,
    notes: Sequence[str] = (), rounds: Sequence[tuple[float, float]] = (),
) -> Row:
    """Return the row, with whether it meets its goal."""
    met = None
    if goal is not None and ratio is not None:
        sign, bound = goal.split()
        met = ratio >= float(bound) if sign == ">=" else ratio <= float(bound)
    return Row(name, value, unit, limit, ratio, goal, met, tuple(notes), tuple(rounds))


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Return the median, and the least and the most where there are several."""
    told = format(statistics.median(values), form)
    if len(values) > 1:
        told += f" ({format(min(values), form)} to {format(max(values), form)})"
    return told


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the least value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
