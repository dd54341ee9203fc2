"""Computed trait `first`: the property of the earliest event that has it, by timestamp (T8)."""

from typing import Any

from profiles.computed.kind import Entry, Kind, Order
from profiles.storable import storable


def add(state: Entry | None, value: Any, order: Order) -> Entry:
    """Keep the earliest."""
    if state is not None and not order < (state[0], state[1]):
        return state
    return (*order, value)


def unite(one: Entry, other: Entry) -> Entry:
    """Return the earliest of both."""
    return min(one, other, key=lambda entry: (entry[0], entry[1]))


KIND = Kind("first", take=storable, add=add, unite=unite, ordered=True,
            result=lambda state, _frequency: state[2])
