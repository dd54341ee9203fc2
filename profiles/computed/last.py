"""Computed trait `last`: the property of the latest event that has it, by timestamp (T8)."""

from typing import Any

from profiles.computed.kind import Entry, Kind, Order
from profiles.storable import storable


def add(state: Entry | None, value: Any, order: Order) -> Entry:
    """Keep the latest."""
    if state is not None and not order > (state[0], state[1]):
        return state
    return (*order, value)


def unite(one: Entry, other: Entry) -> Entry:
    """Return the latest of both."""
    return max(one, other, key=lambda entry: (entry[0], entry[1]))


KIND = Kind("last", take=storable, add=add, unite=unite,
            newest=lambda _value: 0, ordered=True,
            result=lambda state, _frequency: state[2])
