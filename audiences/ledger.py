"""The ledger of a window: events one by one, as far as they must be told apart, else in bundles.

A window forgets each event at its own instant, so it must know each; but a person may have done
something ten thousand times. So the newest entries lie open in the head row; a full lot of them is
put away as a bundle, a row that is never changed, and a full lot of bundles as a larger bundle.
What names a bundle also tells when its events count and what they fold to, so only bundles that
stand on an edge of the window are read: an event costs the same after ten or a million others.
Bundles may overlap in time, so late events and merges need no sorting in.

Head: (open entries, bundles). Entry: (timestamp, messageId, value), with (start, end) added where
these do not follow from the timestamp. Bundle: (key, level, first start, last start, first end,
last end, what its events fold to); its row holds entries (level 0) or smaller bundles.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Protocol

from msgspec import Struct

from events.operators import NEVER, Span
from profiles.computed.kind import Kind

LOT = 32
"""So many open entries make a bundle."""
FAN = 16
"""So many bundles make a larger one."""

Entry = Any
Bundle = Any


class States(Protocol):
    """The states of one profile's leaves. Values are frozen."""

    def get(self, key: bytes) -> Any:
        """Return the state, or None."""

    def put(self, key: bytes, value: Any) -> None:
        """Keep a state: tuples, texts, numbers."""

    def delete(self, key: bytes) -> None:
        """Forget a state."""


class Survey(Struct, frozen=True):
    """What counts at an instant."""

    folded: Any
    """What the bundles that count as a whole fold to; None: none does."""
    entries: list[Entry]
    """All other entries that count or will, as far as they are known."""
    horizon_ms: int
    """Up to here nothing changes but what ``entries`` tell."""


class Ledger:
    """The ledger of one leaf. ``span`` tells when an entry counts."""

    __slots__ = ("_id", "_kind", "_span")

    def __init__(self, id: bytes, kind: Kind, span: Callable[[Entry], Span]) -> None:
        self._id = id
        self._kind = kind
        self._span = span

    def add(self, states: States, entries: list[Entry], message_id: str, now_ms: int) -> None:
        """Put the entries of an event in; what never counts again goes, bundle by bundle."""
        head = states.get(self._id)
        if head is None:
            states.put(self._id, (tuple(entries), ()))
            return
        bundles = head[1]
        if any(bundle[5] <= now_ms for bundle in bundles):
            for bundle in bundles:
                if bundle[5] <= now_ms:
                    self._discard(states, bundle)
            bundles = [bundle for bundle in bundles if bundle[5] > now_ms]
        entries = [*head[0], *entries]
        if len(entries) > LOT:
            entries = [entry for entry in entries if self._span(entry)[1] > now_ms]
        if len(entries) > LOT:
            bundles = self._with(states, bundles, self._bundled(states, entries, message_id))
            entries = []
        states.put(self._id, (tuple(entries), tuple(bundles)))

    def survey(self, states: States, now_ms: int) -> Survey:
        """Return what counts now. Cost: the head, and a few rows for each edge of the window."""
        head = states.get(self._id)
        if head is None:
            return Survey(None, [], NEVER)
        if not head[1]:
            return Survey(None, head[0], NEVER)
        folded = None
        horizon = NEVER
        entries = list(head[0])
        waiting = list(head[1])
        read: set[bytes] = set()
        while waiting:
            key, level, first_start, last_start, first_end, last_end, fold = waiting.pop()
            if last_start <= now_ms < first_end:
                folded = fold if folded is None else self._kind.unite(folded, fold)
                horizon = min(horizon, first_end)
            elif first_start > now_ms:
                horizon = min(horizon, first_start)
            elif last_end > now_ms and key not in read:
                read.add(key)
                (waiting if level else entries).extend(states.get(self._id + key) or ())
        return Survey(folded, entries, horizon)

    def fold(self, entries: Iterable[Entry], folded: Any) -> Any:
        """Return what entries fold to, on top of what is folded already."""
        add = self._kind.add
        for entry in entries:
            folded = add(folded, entry[2], (entry[0], entry[1]))
        return folded

    def unite(self, key: bytes, one: Any, other: Any) -> Any:
        """Return the head of both; or the row of a bundle that, oddly, stands on both sides."""
        if key != self._id:
            return (*one, *other)
        return ((*one[0], *other[0]), (*map(tuple, one[1]), *map(tuple, other[1])))

    def _bundled(self, states: States, entries: list[Entry], message_id: str) -> Bundle:
        """Put entries away. The event that fills the lot makes a key that hardly comes twice.

        It does when somebody sends the same events, ids and all, as two persons who then merge:
        the row then holds the entries of both, both bundles are named, and it is read once.
        """
        starts, ends = zip(*map(self._span, entries), strict=True)
        key = _key(message_id, *(entry[0] for entry in entries))
        states.put(self._id + key, tuple(entries))
        return (key, 0, min(starts), max(starts), min(ends), max(ends), self.fold(entries, None))

    def _with(self, states: States, bundles: Iterable[Bundle], added: Bundle) -> list[Bundle]:
        """Return the bundles with one more; a full lot of one level becomes one of the next."""
        level = added[1]
        lot = [*(tuple(bundle) for bundle in bundles if bundle[1] == level), added]
        others = [tuple(bundle) for bundle in bundles if bundle[1] != level]
        if len(lot) <= FAN:
            return [*others, *lot]
        key = _key(*(bundle[0] for bundle in lot))
        states.put(self._id + key, tuple(lot))
        fold = lot[0][6]
        for bundle in lot[1:]:
            fold = self._kind.unite(fold, bundle[6])
        _, _, first_starts, last_starts, first_ends, last_ends, _ = zip(*lot, strict=True)
        larger = (key, level + 1, min(first_starts), max(last_starts), min(first_ends),
                  max(last_ends), fold)
        return self._with(states, others, larger)

    def _discard(self, states: States, bundle: Bundle) -> None:
        if bundle[1]:
            for part in states.get(self._id + bundle[0]) or ():
                self._discard(states, part)
        states.delete(self._id + bundle[0])


def _key(*parts: Any) -> bytes:
    return blake2b(repr(parts).encode(), digest_size=8).digest()
