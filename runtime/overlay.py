"""The overlay: what a batch has changed and not yet written, over what the store holds.

A row is decoded once and kept decoded for as long as it is in use; a person touched ten times in
a batch is read and written once. When `careful`, each record's changes can be undone and what
cannot be encoded is found at once; the runner goes through a batch again like that when something
in it broke.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from runtime.stage import Table
from tables.store import Store, after

T = TypeVar("T")
_ABSENT: Any = object()
CACHED_ROWS = 20_000
"""Decoded rows kept a table, in two generations of this size."""


class _Shelf:
    """The rows of one table: decoded ones, and among them those that are not written yet."""

    __slots__ = (
        "cached", "decode", "encode", "fetched", "gaps", "old", "pending", "prefix", "young",
    )  # fmt: skip

    def __init__(self, table: Table[Any]) -> None:
        self.prefix = table.prefix
        self.cached = table.cached
        self.pending: dict[bytes, Any] = {}
        self.gaps = False
        """Whether rows were deleted among those pending."""
        self.fetched: dict[bytes, bytes | None] = {}
        self.young: dict[bytes, Any] = {}
        self.old: dict[bytes, Any] = {}
        self.encode: Callable[[Any], bytes]
        self.decode: Callable[[bytes], Any]
        if table.type is bytes:
            self.encode = self.decode = bytes
        else:
            self.encode = msgspec.msgpack.Encoder().encode
            self.decode = msgspec.msgpack.Decoder(table.type).decode


class Overlay:
    """Rows of all tables as the present record sees them.

    A value of None in `pending` is a row deleted; in `young` and `old` a row known to be absent.
    """

    def __init__(self, store: Store, tables: Iterable[Table[Any]], rows: int = CACHED_ROWS) -> None:
        """Start with nothing changed. Two tables may not share a prefix."""
        self._store = store
        self._rows = rows
        self._shelves: dict[bytes, _Shelf] = {}
        for table in tables:
            assert table.prefix not in self._shelves, f"two tables with prefix {table.prefix!r}"
            self._shelves[table.prefix] = _Shelf(table)
        self._undo: list[tuple[_Shelf, bytes, Any, Any]] = []
        self.careful = False

    def get(self, table: Table[T], key: bytes) -> T | None:
        """Return the row, or None."""
        shelf = self._shelves[table.prefix]
        if not shelf.cached:
            found = shelf.pending.get(key, _ABSENT)
            if found is _ABSENT:
                found = shelf.fetched.pop(key, _ABSENT)
                if found is _ABSENT:
                    found = self._store.get(shelf.prefix + key)
            return None if found is None else shelf.decode(found)
        value = shelf.young.get(key, _ABSENT)
        if value is not _ABSENT:
            return value  # type: ignore[no-any-return]
        value = shelf.old.get(key, _ABSENT)
        if value is _ABSENT:
            found = self._store.get(shelf.prefix + key)
            value = None if found is None else shelf.decode(found)
        shelf.young[key] = value
        return value  # type: ignore[no-any-return]

    def fetch(self, table: Table[Any], keys: list[bytes]) -> None:
        """Read rows of a table that is not cached, all at once, for the `get`s that follow.

        What was fetched before is forgotten. Nothing may be written in between.
        """
        shelf = self._shelves[table.prefix]
        prefix = shelf.prefix
        found = self._store.get_many([prefix + key for key in keys])
        shelf.fetched = dict(zip(keys, found, strict=True))

    def put(self, table: Table[T], key: bytes, value: T) -> None:
        """Write the row."""
        shelf = self._shelves[table.prefix]
        if self.careful:
            if value is not None:
                shelf.encode(value)
            before = shelf.pending.get(key, _ABSENT)
            self._undo.append((shelf, key, before, shelf.young.get(key, _ABSENT)))
        if shelf.cached:
            shelf.pending[key] = shelf.young[key] = value
        else:
            # Encoded while it is still in the processor's cache, and forgotten.
            shelf.pending[key] = None if value is None else shelf.encode(value)

    def delete(self, table: Table[Any], key: bytes) -> None:
        """Remove the row; the removal is written even when the row came with this batch, since
        an earlier batch may have written it."""
        self._shelves[table.prefix].gaps = True
        self.put(table, key, None)

    def scan(
        self, table: Table[T], prefix: bytes = b"", start: bytes = b""
    ) -> Iterator[tuple[bytes, T]]:
        """Yield (key, row) in key order, as they were when the scan began."""
        shelf = self._shelves[table.prefix]
        stop = after(shelf.prefix + prefix)
        begin = max(shelf.prefix + prefix, shelf.prefix + start)
        keys = sorted(k for k in shelf.pending if k >= start and k.startswith(prefix))
        if not keys:
            return self._stored(shelf, begin, stop)
        fresh = [(key, shelf.pending[key]) for key in keys]
        if not shelf.cached:
            fresh = [(key, None if row is None else shelf.decode(row)) for key, row in fresh]
        return self._united(shelf, begin, stop, fresh)

    def _stored(self, shelf: _Shelf, begin: bytes, stop: bytes) -> Iterator[tuple[bytes, Any]]:
        decode = shelf.decode
        for key, value in self._store.scan(begin, stop):
            yield key[2:], decode(value)

    def _united(
        self, shelf: _Shelf, begin: bytes, stop: bytes, fresh: list[tuple[bytes, Any]]
    ) -> Iterator[tuple[bytes, Any]]:
        at, end = 0, len(fresh)
        for key, value in self._stored(shelf, begin, stop):
            while at < end and fresh[at][0] < key:
                if fresh[at][1] is not None:
                    yield fresh[at]
                at += 1
            if at < end and fresh[at][0] == key:
                if fresh[at][1] is not None:
                    yield fresh[at]
                at += 1
            else:
                yield key, value
        for key, value in fresh[at:]:
            if value is not None:
                yield key, value

    # ---- the runner's side
    def keep(self) -> None:
        """The present record is done: its changes stay."""
        self._undo.clear()

    def undo(self) -> None:
        """The present record broke: take its changes back."""
        for shelf, key, pending, young in reversed(self._undo):
            if pending is _ABSENT:
                shelf.pending.pop(key, None)
            else:
                shelf.pending[key] = pending
            if shelf.cached:
                if young is _ABSENT:
                    shelf.young.pop(key, None)
                else:
                    shelf.young[key] = young
        self._undo.clear()

    def discard(self) -> None:
        """Forget the whole batch."""
        self._undo.clear()
        for shelf in self._shelves.values():
            shelf.fetched.clear()
            if shelf.pending:
                for key in shelf.pending:
                    shelf.young.pop(key, None)
                    shelf.old.pop(key, None)
                shelf.pending = {}
                shelf.gaps = False

    def changes(self) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """Return the batch's puts and deletes, encoded."""
        puts: list[tuple[bytes, bytes]] = []
        deletes: list[bytes] = []
        for shelf in self._shelves.values():
            rows = shelf.pending
            prefix = shelf.prefix
            if shelf.gaps:
                deletes += [prefix + key for key, row in rows.items() if row is None]
                rows = {key: row for key, row in rows.items() if row is not None}
            # Without a loop in Python: these are all rows of all events.
            encoded = map(shelf.encode, rows.values()) if shelf.cached else rows.values()
            puts += zip(map(prefix.__add__, rows), encoded, strict=True)
        return puts, deletes

    def written(self) -> dict[bytes, dict[bytes, Any]]:
        """The batch is in the store. Return its rows by table prefix, None for deleted ones; those
        of tables that are not cached are encoded."""
        assert not self._undo, "a record is still open"
        rows: dict[bytes, dict[bytes, Any]] = {}
        for shelf in self._shelves.values():
            shelf.fetched.clear()
            if shelf.pending:
                rows[shelf.prefix] = shelf.pending
                shelf.pending = {}
                shelf.gaps = False
            if len(shelf.young) > self._rows:
                shelf.old = shelf.young
                shelf.young = {}
        return rows
