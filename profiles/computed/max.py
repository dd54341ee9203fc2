"""Computed trait `max`: the largest number at the property; what is no number is passed over."""

from typing import Any

from events.operators import number
from profiles.computed.kind import Kind, Order
from profiles.storable import storable

Figure = int | float


def take(value: Any) -> Figure | None:
    """Return the number, if it is one."""
    figure: Figure | None = storable(number(value))
    return figure


def add(state: Figure | None, value: Figure, _order: Order) -> Figure:
    """Keep the largest."""
    return value if state is None else max(state, value)


KIND = Kind("max", take=take, add=add, unite=lambda one, other: max(one, other),
            result=lambda state, _frequency: state)
