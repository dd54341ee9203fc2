"""What a kind of computed trait is made of.

A kind folds events into a small state. The state is the same in whatever order events come, and
two states unite into that of all their events, so late events and merges need no second look
(audiences T8). With a window the events themselves are kept, and those that count are folded.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

Order = tuple[int, str]
"""An event's place in time: timestamp and messageId."""
Entry = tuple[int, str, Any]
"""An event kept for a window: timestamp, messageId, value."""


class Kind(Struct, frozen=True):
    """A kind of computed trait."""

    name: str
    take: Callable[[Any], Any]
    """The value at the property, made ready to be kept; None: it does not count."""
    add: Callable[[Any, Any, Order], Any]
    """(state or None, value, order) -> state; returns the same object when nothing changes."""
    unite: Callable[[Any, Any], Any]
    """(state, state) -> the state of the events of both."""
    result: Callable[[Any, int], Any]
    """(state, min_frequency) -> the trait's value; None when there is none."""
    empty: Any = None
    """The value over no event."""
    newest: Callable[[Any], Any] | None = None
    """For kinds that need, of a window, only the newest event of each value: (value) -> a key."""
    ordered: bool = False
    """Whether the order of events within one instant matters."""
