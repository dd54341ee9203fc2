"""Computed trait `most_frequent`: the value that occurred most, as text; of equals the first.

A value counts from ``min_frequency`` occurrences on, 2 unless told.
"""

from typing import Any

from events.operators import text
from profiles.computed.kind import Kind, Order
from profiles.computed.unique import LIMIT

State = tuple[tuple[str, int], ...]


def add(state: State | None, value: str, _order: Order) -> State:
    """Count one more of this value."""
    return unite(state or (), ((value, 1),))


def unite(one: State, other: State) -> State:
    """Return the counts of both, by value."""
    counts = {value: times for value, times in one}  # noqa: C416, stored states hold lists
    for value, times in other:
        counts[value] = counts.get(value, 0) + times
    return tuple(sorted(counts.items())[:LIMIT])


def result(state: State, frequency: int) -> Any:
    """Return the most frequent value, if it is frequent enough."""
    value, times = min(state, key=lambda one: (-one[1], one[0]))
    return value if times >= frequency else None


KIND = Kind("most_frequent", take=text, add=add, unite=unite, result=result)
