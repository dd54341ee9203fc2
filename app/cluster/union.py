"""Reads of committed state over many stores, as if they were one."""

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from typing import Any, TypeVar

from app.partitions import STAGES
from app.reader import Reader, StoreReader
from runtime.stage import Table

T = TypeVar("T")

_STAGES_OF = {
    table.prefix: tuple(name for name, stage in STAGES.items() if table in stage.tables)
    for stage in STAGES.values() for table in stage.tables
}


class Union:
    """The reader over the partitions that are open here; see `app.reader.Reader`.

    A key stands in one partition at most; counters are summed.
    """

    def __init__(
        self,
        readers: Callable[[], Iterable[tuple[str, StoreReader]]],
        others: Callable[[], Iterable[Reader]] = tuple,
    ) -> None:
        """``readers()`` are those of the present moment, with the stage of each; ``others()``
        those of other workers."""
        self._readers = readers
        self._others = others

    def _of(self, table: Table[Any]) -> Iterator[Reader]:
        stages = _STAGES_OF.get(table.prefix)
        for stage, reader in self._readers():
            if stages is None or stage in stages:
                yield reader
        yield from self._others()

    def get(self, table: Table[T], key: bytes) -> T | None:
        """Return the row, or None."""
        for reader in self._of(table):
            found = reader.get(table, key)
            if found is not None:
                return found
        return None

    def scan(
        self, table: Table[T], prefix: bytes = b"", start: bytes = b"", stop: bytes = b"",
        *, reverse: bool = False,
    ) -> Iterator[tuple[bytes, T]]:
        """Yield (key, row) of all partitions, in the order of their keys."""
        rows = [reader.scan(table, prefix, start, stop, reverse=reverse)
                for reader in self._of(table)]
        return merge(*rows, key=lambda row: row[0], reverse=reverse)

    def _all(self) -> Iterator[Reader]:
        for _, reader in self._readers():
            yield reader
        yield from self._others()

    def counter(self, name: str) -> int:
        """Return a counter, summed."""
        return sum(reader.counter(name) for reader in self._all())

    def counters(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield counters by name, summed."""
        found: dict[str, int] = {}
        for reader in self._all():
            for name, value in reader.counters(prefix):
                found[name] = found.get(name, 0) + value
        return iter(sorted(found.items()))
