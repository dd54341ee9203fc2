"""Computed trait `unique_list`: the different values of the property, in alphabetical order.

Under `prop.$` each element counts, else a list is one text (T9).
"""

from bisect import bisect_left
from typing import Any

from profiles.computed.kind import Kind, Order
from profiles.computed.unique import LIMIT, place, take

State = tuple[Any, ...]


def add(state: State | None, value: Any, _order: Order) -> State:
    """Put a new value in its place."""
    if not state:
        return (value,)
    wanted = place(value)
    position = bisect_left(state, wanted, key=place)
    if position < len(state) and place(state[position]) == wanted:
        return state
    return (*state[:position], value, *state[position:])[:LIMIT]


def unite(one: State, other: State) -> State:
    """Return the values of both."""
    values = {place(value): value for value in (*one, *other)}
    return tuple(values[key] for key in sorted(values)[:LIMIT])


KIND = Kind("unique_list", take=take, add=add, unite=unite,
            newest=place,
            result=lambda state, _frequency: list(state))
