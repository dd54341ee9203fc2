"""The ledger of a window: events one by one, as far as they must be told apart, else in bundles.

A window forgets each event at its own instant, so it must know each; but a person may have done
something ten thousand times. So the newest events lie open in the head row and full lots of them
are put away as bundles, a row each that is never changed: the head keeps of a bundle when its
events count and what they fold to. An event costs the head; only a bundle that stands on the edge
of the window is read. Bundles may overlap in time, so late events and merges need no sorting in.

Head: (open entries, bundles). Entry: (timestamp, messageId, value), with (start, end) added where
these do not follow from the timestamp. Bundle: (key, first start, last start, first end, last end,
what its events fold to).
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Protocol

from msgspec import Struct

from events.operators import NEVER, Span
from profiles.computed.kind import Kind

LOT = 64
"""So many open entries make a bundle."""

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

    def add(self, states: States, entries: list[Entry], now_ms: int) -> None:
        """Put entries in; those that never count again go, bundle by bundle."""
        opened, bundles = states.get(self._id) or ((), ())
        kept = [bundle for bundle in bundles if bundle[4] > now_ms]
        if len(kept) < len(bundles):
            for bundle in bundles:
                if bundle[4] <= now_ms:
                    states.delete(self._id + bundle[0])
        entries = [*opened, *entries]
        if len(entries) > LOT:
            entries = [entry for entry in entries if self._span(entry)[1] > now_ms]
        if len(entries) > LOT:
            bundle = self._bundle(entries, {bundle[0] for bundle in kept})
            states.put(self._id + bundle[0], tuple(entries))
            kept = sorted([*map(tuple, kept), bundle], key=_key)
            entries = []
        states.put(self._id, (tuple(entries), tuple(kept)))

    def survey(self, states: States, now_ms: int) -> Survey:
        """Return what counts now. Cost: the head, and a row for each bundle on an edge."""
        head = states.get(self._id)
        if head is None:
            return Survey(None, [], NEVER)
        folded = None
        horizon = NEVER
        entries = list(head[0])
        for key, first_start, last_start, first_end, last_end, fold in head[1]:
            if last_start <= now_ms < first_end:
                folded = fold if folded is None else self._kind.unite(folded, fold)
                horizon = min(horizon, first_end)
            elif first_start > now_ms:
                horizon = min(horizon, first_start)
            elif last_end > now_ms:
                entries += states.get(self._id + key)
        return Survey(folded, entries, horizon)

    def unite(self, key: bytes, one: Any, other: Any) -> Any:
        """Return the head, or the bundle's row, of both."""
        if key != self._id:
            return (*one, *other)
        bundles: dict[bytes, Bundle] = {bundle[0]: tuple(bundle) for bundle in one[1]}
        for bundle in other[1]:
            same = bundles.get(bundle[0])
            bundles[bundle[0]] = self._joined(same, bundle) if same else tuple(bundle)
        return ((*one[0], *other[0]), tuple(sorted(bundles.values(), key=_key)))

    def _bundle(self, entries: list[Entry], taken: set[bytes]) -> Bundle:
        spans = [self._span(entry) for entry in entries]
        starts, ends = [span[0] for span in spans], [span[1] for span in spans]
        # Equal keys of two persons are joined when they merge; one person never has two.
        form = repr([entry[:2] for entry in entries]).encode()
        key = blake2b(form, digest_size=8).digest()
        while key in taken:
            key = blake2b(key + form, digest_size=8).digest()
        return (key, min(starts), max(starts), min(ends), max(ends), self.fold(entries))

    def _joined(self, one: Bundle, other: Bundle) -> Bundle:
        return (one[0], min(one[1], other[1]), max(one[2], other[2]), min(one[3], other[3]),
                max(one[4], other[4]), self._kind.unite(one[5], other[5]))

    def fold(self, entries: Iterable[Entry], folded: Any = None) -> Any:
        """Return what entries fold to, on top of what is folded already."""
        add = self._kind.add
        for entry in entries:
            folded = add(folded, entry[2], (entry[0], entry[1]))
        return folded


def _key(bundle: Bundle) -> bytes:
    key: bytes = bundle[0]
    return key
