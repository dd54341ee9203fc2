"""The state as RocksDB without a write-ahead log keeps it: a crash takes the last batches.

A memtable reaches the disk when it likes, batch by batch and in order: after a crash the state is
that of some earlier batch, never a part of one, and never older than the last `persist`.
"""

import random
from collections.abc import Callable, Iterable

from sortedcontainers import SortedDict

from tables.store import MemoryStore, Row


class LaggingStore(MemoryStore):
    """`point` is called before and after each write, where the process may die."""

    def __init__(self, rows: dict[bytes, bytes] | None = None) -> None:
        super().__init__()
        self._rows.update(rows or {})
        self._disk: dict[bytes, bytes] = dict(rows or {})
        self._unpersisted: list[tuple[list[Row], list[bytes]]] = []
        self.point: Callable[[str], None] = lambda _name: None

    def write(self, puts: Iterable[Row], deletes: Iterable[bytes]) -> None:
        self.point("before write")
        puts, deletes = list(puts), list(deletes)
        super().write(puts, deletes)
        self._unpersisted.append((puts, deletes))
        self.point("after write")

    def persist(self) -> None:
        self._settle(len(self._unpersisted))

    def crash(self, rng: random.Random) -> None:
        """The process is gone: some of the last batches are too."""
        if self._unpersisted:
            self._settle(rng.randint(0, len(self._unpersisted)))
            self._unpersisted.clear()
            self._rows = SortedDict(self._disk)
            self.get = self._rows.get

    def _settle(self, batches: int) -> None:
        for puts, deletes in self._unpersisted[:batches]:
            self._disk.update(puts)
            for key in deletes:
                self._disk.pop(key, None)
        del self._unpersisted[:batches]

    def copy(self) -> dict[bytes, bytes]:
        """Return all rows as they are now."""
        return dict(self._rows)
