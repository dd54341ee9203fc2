"""Computed trait `count`: how often an event occurred."""

from typing import Any

from profiles.computed.kind import Kind, Order


def add(state: int | None, _value: Any, _order: Order) -> int:
    """Count one more."""
    return (state or 0) + 1


KIND = Kind("count", take=lambda _value: True, add=add, unite=lambda one, other: one + other,
            result=lambda state, _frequency: state, empty=0)
