"""Leaves: what a profile remembers of its events for one condition or one computed trait.

A leaf's state is as small as its question allows, the same in whatever order events come, and two
states unite into that of all their events (audiences T8, identity 6). States are kept under the
leaf's id, which is a hash of the question: equal questions of several audiences share one state.
"""

from collections.abc import Callable
from heapq import nlargest
from typing import Any

from audiences.ledger import Ledger, States
from events import paths
from events.event import Seen
from events.filters import Filter
from events.operators import NEVER, Span, Verdict
from profiles.computed.catalogue import KINDS
from profiles.computed.kind import Kind
from profiles.windows import Window, overlap

SMALL = 32
"""Numbers that a leaf may remember and still stand in the profile."""


class Match:
    """Which events of one name count: their properties, source, age and receipt.

    ``floor_ms``: no event with an older timestamp counts (B3 lookback, B4). ``received_ms``: nor
    one that was received before (B3, history off). ``pinned`` names a property and the texts of
    which it must have one: only such events are to be brought here (`audiences.evaluate.asked`).
    """

    __slots__ = ("_filter", "event", "floor_ms", "pinned", "received_ms", "takes", "timed")

    def __init__(
        self, event: str, where: dict[str, Any], excluded: tuple[str, ...], floor_ms: int,
        received_ms: int,
    ) -> None:
        self.event = event
        self._filter = Filter(where)
        self.floor_ms = max(floor_ms, 0)
        self.received_ms = received_ms
        self.timed = self._filter.timed
        self.pinned = self._filter.pinned
        asks = bool(where) and not self.timed and not self._filter.only_pinned
        self.takes = self._taker(frozenset(excluded), asks=asks)
        """``takes(seen)``: whether an event that is not too old counts, now or (if ``timed``)
        perhaps at another time. None: it does."""

    def _taker(self, excluded: frozenset[str], *, asks: bool) -> Callable[[Seen], bool] | None:
        # made once for this match: it runs for each event and condition
        received_ms, test = self.received_ms, self._filter.test
        if not asks:
            if not received_ms and not excluded:
                return None
            return lambda seen: seen.at_ms >= received_ms and seen.source not in excluded
        return lambda seen: (
            seen.at_ms >= received_ms
            and seen.source not in excluded
            and test(seen.properties, seen.context, 0)
        )

    def spans(self, seen: Seen) -> list[Span]:
        """Return when the properties of the event are as asked."""
        return self._filter.spans(seen.properties, seen.context)


class Leaf:
    """What all leaves share. ``readers`` are the keys of the computations that ask.

    The rows of a leaf are those whose keys begin with its id; most have one.
    """

    __slots__ = ("id", "match", "readers", "small")

    def __init__(self, id: bytes, match: Match, *, small: bool = False) -> None:
        self.id = id
        self.match = match
        self.small = small
        """Its one row never grows beyond a few numbers: it may stand in the profile itself."""
        self.readers: tuple[str, ...] = ()

    def record(self, states: States, seen: Seen, now_ms: int) -> bool:
        """Let an event in that `match` takes; return whether what asks must be looked at again."""
        state = states.get(self.id)
        after = self.add(state, seen, now_ms)
        if after is state:
            return False
        states.put(self.id, after)
        return True

    def add(self, state: Any, seen: Seen, now_ms: int) -> Any:
        """Return the state with the event; the same object when it changes nothing."""
        raise NotImplementedError

    def unite(self, _key: bytes, one: Any, other: Any) -> Any:
        """Return the row of that key, of the events of both."""
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
        super().__init__(id, match, small=True)
        self._bounds = bounds

    def add(self, state: int | None, _seen: Seen, _now_ms: int) -> int:
        """Count one more, up to what tells something."""
        times = state or 0
        return times + 1 if times < self._bounds.enough else times

    def record(self, states: States, _seen: Seen, _now_ms: int) -> bool:
        """Let an event in; one more time that is as asked as before changes no answer."""
        times = states.get(self.id) or 0
        bounds = self._bounds
        if times >= bounds.enough:
            return False
        states.put(self.id, times + 1)
        if bounds.high is None:
            return times + 1 == bounds.low
        return bounds.hold(times) is not bounds.hold(times + 1)

    def unite(self, _key: bytes, one: int, other: int) -> int:
        """Add, up to what tells something."""
        return min(one + other, self._bounds.enough)

    def verdict(self, states: States, _now_ms: int) -> Verdict:
        """Return whether the number is as asked; time changes nothing."""
        times: int = states.get(self.id) or 0
        return NEVER if self._bounds.hold(times) else -NEVER


class Newest(Leaf):
    """Performed so many times of late. State: the newest timestamps, newest first.

    As many as tell something: n for at least n, k + 1 for exactly and at most k.
    """

    __slots__ = ("_bounds", "_length_ms")

    def __init__(self, id: bytes, match: Match, bounds: Bounds, length_ms: int) -> None:
        super().__init__(id, match, small=bounds.enough <= SMALL)
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

    def record(self, states: States, seen: Seen, now_ms: int) -> bool:
        """Let an event in. While "at least n" holds, one more only puts off its end: the flip that
        is noted comes too early then, and what asks is looked at again when it does (E3)."""
        state = states.get(self.id)
        bounds = self._bounds
        instant = seen.timestamp_ms
        fresh_ms = now_ms - self._length_ms
        if state and instant >= state[0] and instant > fresh_ms:  # as `add`, for what is in order
            after = (instant, *state[: bounds.enough - 1])
        else:
            after = self.add(state, seen, now_ms)
            if after is state:
                return False
        states.put(self.id, after)
        low = bounds.low
        if bounds.high is not None or low == 0:
            return True
        if len(after) < low:
            return False
        held = state is not None and len(state) >= low and state[low - 1] > fresh_ms
        return held is not bool(after[low - 1] > fresh_ms)

    def unite(self, _key: bytes, one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
        """Return the newest of both."""
        return tuple(nlargest(self._bounds.enough, (*one, *other)))

    def verdict(self, states: States, now_ms: int) -> Verdict:
        """Return whether the number in the window is as asked, and up to when (flip table)."""
        state: tuple[int, ...] | None = states.get(self.id)
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

    State: a ledger.
    """

    __slots__ = ("_bounds", "_ledger", "_span", "_window")

    def __init__(self, id: bytes, match: Match, bounds: Bounds, window: Window) -> None:
        super().__init__(id, match)
        self._bounds = bounds
        self._window = window
        self._span = spanning(window)
        self._ledger = Ledger(id, KINDS["count"], self._span)

    def record(self, states: States, seen: Seen, now_ms: int) -> bool:
        """Put in when the event counts; one that is too old already changes nothing (E6)."""
        spans = counting(self.match, self._window, seen, now_ms)
        if not spans:
            return False
        entry = (seen.timestamp_ms, "", True)
        entries = [(*entry, *span) for span in spans] if self.match.timed else [entry]
        self._ledger.add(states, entries, seen.message_id, now_ms)
        return True

    def unite(self, key: bytes, one: Any, other: Any) -> Any:
        """Return the ledger of both."""
        return self._ledger.unite(key, one, other)

    def verdict(self, states: States, now_ms: int) -> Verdict:
        """Return whether the number at this instant is as asked, and up to when at least."""
        survey = self._ledger.survey(states, now_ms)
        times: int = survey.folded or 0
        changes: dict[int, int] = {}
        for entry in survey.entries:
            start, end = self._span(entry)
            if start > now_ms:
                changes[start] = changes.get(start, 0) + 1
            elif now_ms < end:
                times += 1
            if now_ms < end < NEVER:
                changes[end] = changes.get(end, 0) - 1
        holds = self._bounds.hold(times)
        until = survey.horizon_ms
        for instant in sorted(changes):
            if instant >= until:
                break
            times += changes[instant]
            if self._bounds.hold(times) is not holds:
                until = instant
                break
        return until if holds else -until


Performed = Tally | Newest | Spans


def counting(match: Match, window: Window, seen: Seen, now_ms: int) -> list[Span]:
    """Return when an event counts from now on, window and dated conditions together."""
    span = window.span(seen.timestamp_ms)
    whole = match.spans(seen) if match.timed else [span]
    both = (overlap(span, part) for part in whole)
    return [part for part in both if part is not None and part[1] > now_ms]


def spanning(window: Window) -> Callable[[Any], Span]:
    """Return the function that tells when an entry of a ledger counts."""
    low_ms, high_ms = window.low_ms, window.high_ms

    def span(entry: Any) -> Span:
        if len(entry) > 3:
            return (entry[3], entry[4])
        return (entry[0] + low_ms, entry[0] + high_ms)

    return span


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

    def unite(self, _key: bytes, one: Any, other: Any) -> Any:
        """Unite as the kind does."""
        return self._kind.unite(one, other)

    def value(self, states: States, _now_ms: int) -> tuple[Any, int]:
        """Return the value, and that time never changes it."""
        state = states.get(self.id)
        if state is None:
            return self.empty, NEVER
        return self._kind.result(state, self._frequency), NEVER


class Kept(Leaf):
    """A computed trait over a window. State: a ledger."""

    __slots__ = ("_frequency", "_kind", "_ledger", "_read", "_span", "_window", "empty")

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
        self._span = spanning(window)
        self._ledger = Ledger(id, kind, self._span)

    def record(self, states: States, seen: Seen, now_ms: int) -> bool:
        """Put in the event's values; those too old already change nothing (E6)."""
        spans = counting(self.match, self._window, seen, now_ms)
        values = self._read(seen) if spans else ()
        if not values:
            return False
        order = (seen.timestamp_ms, seen.message_id if self._kind.ordered else "")
        entries: list[Any] = [
            (*order, value, *span) if self.match.timed else (*order, value)
            for value in values for span in spans
        ]
        self._ledger.add(states, entries, seen.message_id, now_ms)
        return True

    def unite(self, key: bytes, one: Any, other: Any) -> Any:
        """Return the ledger of both."""
        return self._ledger.unite(key, one, other)

    def value(self, states: States, now_ms: int) -> tuple[Any, int]:
        """Return the value at this instant and up to when it surely stays."""
        survey = self._ledger.survey(states, now_ms)
        until = survey.horizon_ms
        present = []
        for entry in survey.entries:
            start, end = self._span(entry)
            if start > now_ms:
                if start < until:
                    until = start
            elif now_ms < end:
                present.append(entry)
                if end < until:
                    until = end
        folded = self._ledger.fold(present, survey.folded)
        if folded is None:
            return self.empty, until
        return self._kind.result(folded, self._frequency), until


class Latest(Leaf):
    """A computed trait that needs, of a window, only the newest event of each value.

    An event leaves the window after all older ones, so it hides them. State: the entries of the
    newest events, in order.
    """

    __slots__ = ("_kind", "_length_ms", "_newest", "_read", "empty")

    def __init__(
        self, id: bytes, match: Match, kind: Kind, read: Callable[[Seen], list[Any]],
        length_ms: int,
    ) -> None:
        super().__init__(id, match)
        assert kind.newest is not None
        self._kind = kind
        self._newest = kind.newest
        self.empty = kind.empty
        self._read = read
        self._length_ms = length_ms

    def add(self, state: Any, seen: Seen, now_ms: int) -> Any:
        """Put in the event's values; those too old already change nothing (E6)."""
        if seen.timestamp_ms + self._length_ms <= now_ms:
            return state
        values = self._read(seen)
        if not values:
            return state
        added = [(seen.timestamp_ms, seen.message_id, value) for value in values]
        return self._newest_of([*(state or ()), *added], now_ms)

    def unite(self, _key: bytes, one: Any, other: Any) -> Any:
        """Return the newest of both."""
        return self._newest_of([*one, *other], -NEVER)

    def value(self, states: States, now_ms: int) -> tuple[Any, int]:
        """Return the value at this instant and up to when it stays."""
        folded = None
        until = NEVER
        for entry in states.get(self.id) or ():
            end = entry[0] + self._length_ms
            if now_ms < end:
                until = min(until, end)
                folded = self._kind.add(folded, entry[2], (entry[0], entry[1]))
        return self.empty if folded is None else self._kind.result(folded, 0), until

    def _newest_of(self, entries: list[Any], now_ms: int) -> Any:
        found: dict[Any, Any] = {}
        for entry in entries:
            if entry[0] + self._length_ms > now_ms:
                key = self._newest(entry[2])
                held = found.get(key)
                if held is None or (held[0], held[1]) <= (entry[0], entry[1]):
                    found[key] = entry
        return tuple(tuple(found[key]) for key in sorted(found))


Trait = Fold | Kept | Latest
