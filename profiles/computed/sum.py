"""Computed trait `sum`: the property added up; what is no number is passed over."""

from profiles.computed import exact
from profiles.computed.kind import Kind, Order


def add(state: str | None, value: str, _order: Order) -> str:
    """Add a number to the sum."""
    return value if state is None else exact.plus(state, value)


KIND = Kind("sum", take=exact.amount, add=add, unite=exact.plus,
            result=lambda state, _frequency: exact.figure(state))
