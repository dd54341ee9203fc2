"""Values that are told apart: scalars as they are, lists and objects as one text (T9)."""

from typing import Any

from events.operators import text
from profiles.computed.kind import storable

LIMIT = 10_000
"""So many different values are kept, the first alphabetically, in whatever order they came."""


def take(value: Any) -> Any:
    """Return a scalar as it is, a list or an object as its JSON text."""
    return text(value) if type(value) in (list, dict) else storable(value)


def place(value: Any) -> tuple[str, str]:
    """Return what values are told apart and put in order by: their text, then their type."""
    return (text(value), type(value).__name__)
