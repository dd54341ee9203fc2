"""Leaves: what a profile remembers of its events for one condition or one computed trait.

A leaf's state is as small as its question allows, the same in whatever order events come, and two
states unite into that of all their events (audiences T8, identity 6). States are kept under the
leaf's id, which is a hash of the question: equal questions of several audiences share one state.
"""

from bisect import insort
from collections.abc import Callable
from heapq import nlargest
from typing import Any, Protocol

from events import paths
from events.event import Seen
from events.filters import Filter
from events.operators import NEVER, Span, Verdict
from profiles.computed.kind import Kind
from profiles.windows import Window, overlap


class States(Protocol):
    """The states of one profile's leaves. Values are frozen."""

    def get(self, leaf_id: bytes) -> Any:
        """Return the state, or None."""

    def put(self, leaf_id: bytes, value: Any) -> None:
        """Keep a state: tuples, texts, numbers."""

    def delete(self, leaf_id: bytes) -> None:
        """Forget a state."""


class Match:
    """Which events of one name count: their properties, source, age and receipt.

    ``floor_ms``: no event with an older timestamp counts (B3 lookback, B4). ``received_ms``: nor
    one that was received before (B3, history off).
    """

    __slots__ = ("_excluded", "_filter", "event", "floor_ms", "pinned", "received_ms", "timed")

    def __init__(
        self, event: str, where: dict[str, Any], excluded: tuple[str, ...], floor_ms: int,
        received_ms: int,
    ) -> None:
        self.event = event
        self._filter = Filter(where)
        self._excluded = frozenset(excluded)
        self.floor_ms = max(floor_ms, 0)
        self.received_ms = received_ms
        self.timed = self._filter.timed
        self.pinned = self._filter.pinned

    def takes(self, seen: Seen) -> bool:
        """Return whether the event counts, now or (if ``timed``) perhaps at another time."""
        return (
            seen.timestamp_ms >= self.floor_ms
            and seen.at_ms >= self.received_ms
            and seen.source not in self._excluded
            and (self.timed or self._filter.test(seen.properties, seen.context, 0))
        )

    def spans(self, seen: Seen) -> list[Span]:
        """Return when the properties of the event are as asked."""
        return self._filter.spans(seen.properties, seen.context)


class Leaf:
    """What all leaves share. ``readers`` are the keys of the computations that ask."""

    __slots__ = ("id", "match", "readers")

    def __init__(self, id: bytes, match: Match) -> None:
        self.id = id
        self.match = match
        self.readers: tuple[str, ...] = ()

    def add(self, state: Any, seen: Seen, now_ms: int) -> Any:
        """Return the state with the event; the same object when it changes nothing."""
        raise NotImplementedError

    def unite(self, one: Any, other: Any) -> Any:
        """Return the state of the events of both."""
        raise NotImplementedError


# ---- performed ---------------------------------------------------------------------------------
class Bounds:
    """How many times are asked for: from ``low`` to ``high``; ``high`` None is any number."""

    __slots__ = ("enough", "high", "low")

    def __init__(self, low: int, high: int | None) -> None:
        self.low = low
        self.high = high
        self.enough = low if high is None else high + 1
        """More occurrences than this tell nothing new."""

    def hold(self, times: int) -> bool:
        """Return whether this number is as asked."""
        return times >= self.low and (self.high is None or times <= self.high)


class Tally(Leaf):
    """Performed so many times, ever. State: the number, no higher than tells something."""

    __slots__ = ("_bounds",)

    def __init__(self, id: bytes, match: Match, bounds: Bounds) -> None:
        super().__init__(id, match)
        self._bounds = bounds

    def add(self, state: int | None, _seen: Seen, _now_ms: int) -> int:
        """Count one more, up to what tells something."""
        times = state or 0
        return times + 1 if times < self._bounds.enough else times

    def unite(self, one: int, other: int) -> int:
        """Add, up to what tells something."""
        return min(one + other, self._bounds.enough)

    def verdict(self, state: int | None, _now_ms: int) -> Verdict:
        """Return whether the number is as asked; time changes nothing."""
        return NEVER if self._bounds.hold(state or 0) else -NEVER


class Newest(Leaf):
    """Performed so many times of late. State: the newest timestamps, newest first.

    As many as tell something: n for at least n, k + 1 for exactly and at most k.
    """

    __slots__ = ("_bounds", "_length_ms")

    def __init__(self, id: bytes, match: Match, bounds: Bounds, length_ms: int) -> None:
        super().__init__(id, match)
        self._bounds = bounds
        self._length_ms = length_ms

    def add(self, state: tuple[int, ...] | None, seen: Seen, now_ms: int) -> Any:
        """Put the timestamp in its place; one that is too old already changes nothing (E6)."""
        instant = seen.timestamp_ms
        if instant + self._length_ms <= now_ms:
            return state
        if not state:
            return (instant,)
        enough = self._bounds.enough
        if instant >= state[0]:
            return (instant, *state[: enough - 1])
        if len(state) >= enough and instant <= state[-1]:
            return state
        return tuple(nlargest(enough, (*state, instant)))

    def unite(self, one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
        """Return the newest of both."""
        return tuple(nlargest(self._bounds.enough, (*one, *other)))

    def verdict(self, state: tuple[int, ...] | None, now_ms: int) -> Verdict:
        """Return whether the number in the window is as asked, and up to when (flip table)."""
        if state is None:
            return NEVER if self._bounds.hold(0) else -NEVER
        length_ms = self._length_ms
        low, high = self._bounds.low, self._bounds.high
        if high is not None and len(state) > high and now_ms < state[high] + length_ms:
            return -(state[high] + length_ms)
        if low == 0:
            return NEVER
        if len(state) < low:
            return -NEVER
        end = state[low - 1] + length_ms
        return end if now_ms < end else -NEVER


class Spans(Leaf):
    """Performed so many times in a window that events enter later, or under a dated condition.

    State: when each event counts, (start, end), in order; those past are dropped.
    """

    __slots__ = ("_bounds", "_window")

    def __init__(self, id: bytes, match: Match, bounds: Bounds, window: Window) -> None:
        super().__init__(id, match)
        self._bounds = bounds
        self._window = window

    def add(self, state: Any, seen: Seen, now_ms: int) -> Any:
        """Put in when the event counts."""
        spans = counting(self.match, self._window, seen, now_ms)
        if not spans:
            return state
        kept = [tuple(span) for span in state or () if span[1] > now_ms]
        for span in spans:
            insort(kept, span)
        return tuple(kept)

    def unite(self, one: Any, other: Any) -> Any:
        """Return the spans of both."""
        return tuple(sorted(tuple(span) for span in (*one, *other)))

    def verdict(self, state: Any, now_ms: int) -> Verdict:
        """Return whether the number at this instant is as asked, and up to when."""
        spans = state or ()
        times = sum(start <= now_ms < end for start, end in spans)
        holds = self._bounds.hold(times)
        changes: dict[int, int] = {}
        for start, end in spans:
            if start > now_ms:
                changes[start] = changes.get(start, 0) + 1
            if now_ms < end < NEVER:
                changes[end] = changes.get(end, 0) - 1
        for instant in sorted(changes):
            times += changes[instant]
            if self._bounds.hold(times) is not holds:
                return instant if holds else -instant
        return NEVER if holds else -NEVER


Performed = Tally | Newest | Spans


def counting(match: Match, window: Window, seen: Seen, now_ms: int) -> list[Span]:
    """Return when an event counts from now on, window and dated conditions together."""
    span = window.span(seen.timestamp_ms)
    whole = match.spans(seen) if match.timed else [span]
    both = (overlap(span, part) for part in whole)
    return [part for part in both if part is not None and part[1] > now_ms]


# ---- computed traits ---------------------------------------------------------------------------
def reader(kind: Kind, property: str | None) -> Callable[[Seen], list[Any]]:
    """Return the function that takes the values of an event that count for a computed trait."""
    if property is None:
        return lambda _seen: [True]
    path = paths.parse(property)
    in_context = path[0] == "context" and len(path) > 1
    follow = paths.each(path[1:] if in_context else path)
    take = kind.take

    def read(seen: Seen) -> list[Any]:
        found = follow(seen.context if in_context else seen.properties)
        return [value for value in map(take, found) if value is not None]

    return read


class Fold(Leaf):
    """A computed trait over all history. State: what its kind makes of the events."""

    __slots__ = ("_frequency", "_kind", "_read", "empty")

    def __init__(
        self, id: bytes, match: Match, kind: Kind, read: Callable[[Seen], list[Any]], frequency: int
    ) -> None:
        super().__init__(id, match)
        self._kind = kind
        self.empty = kind.empty
        self._read = read
        self._frequency = frequency

    def add(self, state: Any, seen: Seen, _now_ms: int) -> Any:
        """Fold the event in."""
        order = (seen.timestamp_ms, seen.message_id)
        for value in self._read(seen):
            state = self._kind.add(state, value, order)
        return state

    def unite(self, one: Any, other: Any) -> Any:
        """Unite as the kind does."""
        return self._kind.unite(one, other)

    def value(self, state: Any, _now_ms: int) -> tuple[Any, int]:
        """Return the value, and that time never changes it."""
        if state is None:
            return self.empty, NEVER
        return self._kind.result(state, self._frequency), NEVER


class Kept(Leaf):
    """A computed trait over a window. State: the events that count or will, in order.

    An entry is (timestamp, messageId, value), with (start, end) added under a dated condition.
    """

    __slots__ = ("_frequency", "_kind", "_newest", "_read", "_window", "empty")

    def __init__(
        self, id: bytes, match: Match, kind: Kind, read: Callable[[Seen], list[Any]],
        frequency: int, window: Window,
    ) -> None:
        super().__init__(id, match)
        self._kind = kind
        self.empty = kind.empty
        self._read = read
        self._frequency = frequency
        self._window = window
        # An event that leaves the window after all older ones hides them: only the newest matters.
        self._newest = kind.newest if window.low_ms == -NEVER and not match.timed else None

    def add(self, state: Any, seen: Seen, now_ms: int) -> Any:
        """Put in the event's values; those too old already change nothing (E6)."""
        spans = counting(self.match, self._window, seen, now_ms)
        values = self._read(seen) if spans else ()
        if not values:
            return state
        order = (seen.timestamp_ms, seen.message_id)
        entries: list[Any] = [
            (*order, value, *span) if self.match.timed else (*order, value)
            for value in values for span in spans
        ]
        return self._settled([*(state or ()), *entries], now_ms)

    def unite(self, one: Any, other: Any) -> Any:
        """Return the entries of both."""
        return self._settled([*one, *other], -NEVER)

    def value(self, state: Any, now_ms: int) -> tuple[Any, int]:
        """Return the value at this instant and up to when it surely stays."""
        folded = None
        until = NEVER
        for entry in state or ():
            start, end = self._span(entry)
            if start <= now_ms < end:
                folded = self._kind.add(folded, entry[2], (entry[0], entry[1]))
                until = min(until, end)
            elif start > now_ms:
                until = min(until, start)
        if folded is None:
            return self.empty, until
        return self._kind.result(folded, self._frequency), until

    def _span(self, entry: Any) -> Span:
        return (entry[3], entry[4]) if len(entry) > 3 else self._window.span(entry[0])

    def _settled(self, entries: list[Any], now_ms: int) -> Any:
        """Return the entries in order, without those that will never count again."""
        kept = sorted(
            (entry for entry in entries if self._span(entry)[1] > now_ms),
            key=lambda entry: (entry[0], entry[1]),
        )
        if self._newest is not None:
            kept = list({self._newest(entry): entry for entry in kept}.values())
            kept.sort(key=lambda entry: (entry[0], entry[1]))
        return tuple(tuple(entry) for entry in kept)


Trait = Fold | Kept
