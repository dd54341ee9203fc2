"""An in-memory twin of `runtime.stage.State`: a test of one stage needs nothing else."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec

from runtime.stage import Stage, Table

T = TypeVar("T")


class Sent(NamedTuple):
    """What a handler sent."""

    stage: str
    key: str
    record: Any


class MemoryState:
    """Rows in dicts, kept as the bytes they would be on disk; what goes out is kept in a list.

    Each row is encoded when put and decoded when read, so a value that cannot be stored, or one
    that a handler changes after `get`, is found here.
    """

    def __init__(self, definitions: Any = None, at_ms: int = 0) -> None:
        """Start empty."""
        self.definitions = definitions
        self.at_ms = at_ms
        self.position = 0
        self.redriving = self.routed = False
        self.number = 0
        self.rows: dict[bytes, dict[bytes, bytes]] = {}
        self.outs: list[Sent] = []
        self.counters: Counter[str] = Counter()
        self._tables: dict[bytes, Table[Any]] = {}

    def get(self, table: Table[T], key: bytes) -> T | None:
        """Return the row, or None."""
        found = self._rows(table).get(key)
        return None if found is None else self._decode(table, found)

    def put(self, table: Table[T], key: bytes, value: T) -> None:
        """Write the row."""
        assert isinstance(key, bytes)
        assert value is not None
        raw = value if table.type is bytes else msgspec.msgpack.encode(value)
        self._decode(table, raw)
        self._rows(table)[key] = raw

    def delete(self, table: Table[Any], key: bytes) -> None:
        """Remove the row, if there is one."""
        self._rows(table).pop(key, None)

    def scan(
        self, table: Table[T], prefix: bytes = b"", start: bytes = b""
    ) -> Iterator[tuple[bytes, T]]:
        """Yield (key, row) in key order."""
        rows = self._rows(table)
        for key in sorted(rows):
            if key.startswith(prefix) and key >= start and key in rows:
                yield key, self._decode(table, rows[key])

    def out(self, stage: str, key: str, record: Any) -> None:
        """Keep what is sent."""
        self.outs.append(Sent(stage, key, record))

    def count(self, name: str, /) -> None:
        """Add one to a counter."""
        self.counters[name] += 1

    def add(self, name: str, by: int) -> None:
        """Add to a counter."""
        self.counters[name] += by

    # ---- for the test
    def run(self, stage: Stage, record: Any, at_ms: int | None = None) -> list[Sent]:
        """Let the stage handle one record; return what it sent, in order."""
        if at_ms is not None:
            self.at_ms = at_ms
        self.position += 1
        before = len(self.outs)
        stage.handlers[type(record)](self, record)
        return self.outs[before:]

    def content(self) -> dict[bytes, dict[bytes, bytes]]:
        """Return all rows as bytes, by table prefix, in key order: equal when states are equal."""
        return {
            prefix: dict(sorted(rows.items()))
            for prefix, rows in sorted(self.rows.items())
            if rows
        }

    def _rows(self, table: Table[Any]) -> dict[bytes, bytes]:
        assert self._tables.setdefault(table.prefix, table) is table, table.prefix
        return self.rows.setdefault(table.prefix, {})

    @staticmethod
    def _decode(table: Table[Any], raw: bytes) -> Any:
        return raw if table.type is bytes else msgspec.msgpack.decode(raw, type=table.type)
