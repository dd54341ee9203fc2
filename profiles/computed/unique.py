"""Values that are told apart: scalars as they are, lists and objects as one text (T9)."""

from typing import Any

from events.operators import text
from profiles.storable import storable

LIMIT = 10_000
"""So many different values are kept, the first alphabetically, in whatever order they came."""


def take(value: Any) -> Any:
    """Return a scalar as it is (1.0 as 1), a list or an object as its JSON text."""
    if type(value) in (list, dict):
        return text(value)
    if type(value) is float and value.is_integer() and abs(value) < 1 << 53:
        return int(value)
    return storable(value)


def place(value: Any) -> tuple[str, str]:
    """Return what values are told apart and put in order by: their text, then their type."""
    return (text(value), type(value).__name__)
