"""Computed trait `avg`: the average of the property; what is no number is passed over."""

from profiles.computed import exact
from profiles.computed.kind import Kind, Order

State = tuple[str, int]


def add(state: State | None, value: str, _order: Order) -> State:
    """Add a number to the sum and count it."""
    return (value, 1) if state is None else (exact.plus(state[0], value), state[1] + 1)


def unite(one: State, other: State) -> State:
    """Return sum and count of both."""
    return (exact.plus(one[0], other[0]), one[1] + other[1])


KIND = Kind("avg", take=exact.amount, add=add, unite=unite,
            result=lambda state, _frequency: exact.mean(*state))
