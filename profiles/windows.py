"""Windows over an event's timestamp: when an event counts (audiences 4.1, E1).

`within d` counts an event while now < timestamp + d; `between d1 and d2 ago` from timestamp + d1
on and while now < timestamp + d2. An event that the clock put a little ahead counts at once.
"""

from msgspec import UNSET, Struct, UnsetType

from events.durations import millis
from events.operators import NEVER, Span


class Window(Struct, frozen=True):
    """An event counts from timestamp + ``low_ms`` on, while now < timestamp + ``high_ms``."""

    low_ms: int = -NEVER
    high_ms: int = NEVER

    @property
    def open(self) -> bool:
        """Return whether all events count for ever."""
        return self.high_ms == NEVER

    def span(self, timestamp_ms: int) -> Span:
        """Return when an event of this timestamp counts."""
        start = -NEVER if self.low_ms == -NEVER else timestamp_ms + self.low_ms
        return (start, NEVER if self.high_ms == NEVER else timestamp_ms + self.high_ms)


def window(within: str | UnsetType, between: tuple[str, str] | UnsetType) -> Window:
    """Return the window of a definition; all history when neither is given."""
    if within is not UNSET:
        return Window(high_ms=millis(within))
    if between is not UNSET:
        return Window(millis(between[0]), millis(between[1]))
    return Window()


def overlap(one: Span, other: Span) -> Span | None:
    """Return when both hold, or None."""
    start, end = max(one[0], other[0]), min(one[1], other[1])
    return (start, end) if start < end else None
