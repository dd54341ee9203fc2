"""Reads of committed state, for whoever answers questions: typed rows out of the store."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import msgspec

from runtime.fused import COUNTERS
from runtime.stage import Table
from tables.store import StateDamaged, Store, after

T = TypeVar("T")


class Reader(Protocol):
    """Committed rows and counters."""

    def get(self, table: Table[T], key: bytes) -> T | None:
        """Return the row, or None."""

    def scan(
        self, table: Table[T], prefix: bytes = b"", start: bytes = b"", stop: bytes = b"",
        *, reverse: bool = False,
    ) -> Iterator[tuple[bytes, T]]:
        """Yield (key, row) of keys that begin with ``prefix`` and with ``start <= key < stop``
        (empty: no bound), in key order or, with ``reverse``, against it."""

    def counter(self, name: str) -> int:
        """Return a counter; 0 when nothing was counted."""

    def counters(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield the counters whose names begin with ``prefix``, by name."""


class StoreReader:
    """The reader over a store."""

    def __init__(self, store: Store, damaged: Callable[[Exception], None] | None = None) -> None:
        """Read from ``store``, always its present state; ``damaged`` is told when it cannot be."""
        self._store = store
        self._damaged = damaged
        self._decoders: dict[bytes, Callable[[bytes], Any]] = {}

    def get(self, table: Table[T], key: bytes) -> T | None:
        """Return the row, or None."""
        try:
            value = self._store.get(table.prefix + key)
        except Exception as error:  # what rocksdict raises for everything
            self._tell(error)
            raise
        return None if value is None else self._decoder(table)(value)

    def _tell(self, error: Exception) -> None:
        if self._damaged is not None:
            self._damaged(error)

    def scan(
        self, table: Table[T], prefix: bytes = b"", start: bytes = b"", stop: bytes = b"",
        *, reverse: bool = False,
    ) -> Iterator[tuple[bytes, T]]:
        """Yield (key, row), see `Reader`."""
        decode = self._decoder(table)
        first = max(table.prefix + prefix, table.prefix + start)
        end = after(table.prefix + prefix)
        if stop:
            end = min(end, table.prefix + stop)
        if first >= end:
            return
        rows = self._store.scan(first, end, reverse=reverse)
        while True:
            try:
                key, value = next(rows)
            except StopIteration:
                return
            except StateDamaged as error:
                self._tell(error)
                raise
            yield key[2:], decode(value)

    def counter(self, name: str) -> int:
        """Return a counter."""
        return self.get(COUNTERS, name.encode()) or 0

    def counters(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield counters by name."""
        for key, value in self.scan(COUNTERS, prefix.encode()):
            yield key.decode(), value

    @staticmethod
    def decoded(table: Table[T], value: bytes) -> T:
        """Return a row from its bytes."""
        found: T = value if table.type is bytes else msgspec.msgpack.decode(value, type=table.type)  # type: ignore[assignment]
        return found

    def _decoder(self, table: Table[Any]) -> Callable[[bytes], Any]:
        if table.type is bytes:
            return bytes
        decode = self._decoders.get(table.prefix)
        if decode is None:
            decode = msgspec.msgpack.Decoder(table.type).decode
            self._decoders[table.prefix] = decode
        return decode
