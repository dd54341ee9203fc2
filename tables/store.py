"""The store under all stages: ordered bytes to bytes, written one whole batch at a time.

Two of them: RocksDB for the worker, and a sorted dict for the simulator and the dry run.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import starmap, takewhile
from pathlib import Path
from typing import Protocol

from rocksdict import (
    AccessType,
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)
from sortedcontainers import SortedDict

Row = tuple[bytes, bytes]
CACHE_BYTES = 128 << 20
MEMTABLE_BYTES = 16 << 20
"""Small enough for the processor's cache: a row costs two thirds of what it does in 64 MiB."""


class Store(Protocol):
    """Ordered rows. A batch is visible and kept as a whole, or not at all."""

    def get(self, key: bytes) -> bytes | None:
        """Return the row's value, or None."""

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the value of each key, or None; cheaper than one `get` a key."""

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[Row]:
        """Yield rows with ``start <= key < stop``, ascending, or descending with ``reverse``."""

    def write(self, puts: Iterable[Row], deletes: Iterable[bytes]) -> None:
        """Apply the whole batch."""

    def persist(self) -> None:
        """Bring all that was written to disk."""

    def close(self) -> None:
        """Release the store."""


def shared_cache() -> Cache:
    """Return a cache of blocks, for one store or for all of a process."""
    return Cache(CACHE_BYTES)


class StateDamaged(Exception):
    """The state on disk cannot be read; it is a cache of the log and can be rebuilt from it."""


def _walk(rows: RdictIter, go: Callable[[], None]) -> Iterator[Row]:
    valid, key, value = rows.valid, rows.key, rows.value
    while valid():
        yield key(), value()
        go()
    try:
        rows.status()
    except Exception as error:  # rocksdict raises plain Exception for everything
        raise StateDamaged(str(error)) from error


class RocksStore:
    """RocksDB without a write-ahead log of its own: the raw log replays what a crash takes.

    Every batch carries the applied offset, and one column family is flushed in order, so what is
    on disk is always the whole state at some offset (decision 0002).
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, cache: Cache | None = None
    ) -> None:
        """Open or create the store. Raises StateDamaged when RocksDB refuses the folder.

        ``cache``: of blocks, when several stores share one.
        """
        self.path = path
        self._read_only = read_only
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_paranoid_checks(True)
        options.set_write_buffer_size(MEMTABLE_BYTES)
        options.set_max_write_buffer_number(6)
        options.set_level_zero_file_num_compaction_trigger(8)
        options.set_allow_concurrent_memtable_write(False)
        options.set_max_background_jobs(2)
        options.set_max_open_files(512)
        options.set_keep_log_file_num(2)
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(0.05)
        self._cache = cache or shared_cache()
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self._cache)
        blocks.set_bloom_filter(10, False)
        # In pieces: one filter or index of a file of 64 MiB fills a shard of the cache, and where
        # two met, every get read one of them anew (240 us at 700,000 people, 5 in pieces).
        blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
        blocks.set_partition_filters(True)
        blocks.set_pin_top_level_index_and_filter(True)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
        blocks.set_format_version(5)
        options.set_block_based_table_factory(blocks)
        access = AccessType.read_only() if read_only else AccessType.read_write()
        try:
            # Named, or rocksdict takes the options of a store that exists from its files, where
            # cache and bloom filter are not kept: a get cost 350 us then, not 4.
            families = {"default": options}
            self._db = Rdict(str(path), options, families, access_type=access)
        except Exception as error:  # rocksdict raises plain Exception for everything
            raise StateDamaged(f"{path}: {error}") from error
        self._unlogged = WriteOptions()
        self._unlogged.disable_wal = True  # type: ignore[method-assign, assignment]
        self.get = self._db.get
        self.get_many = self._db.get

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[Row]:
        """Yield rows with ``start <= key < stop``, as they were when it was called.

        Raises StateDamaged at what cannot be read.
        """
        bounds = ReadOptions()
        bounds.set_iterate_lower_bound(start)
        bounds.set_iterate_upper_bound(stop)
        # Not `items()`, which takes a block that cannot be read for the end.
        rows = self._db.iter(bounds)
        if reverse:
            rows.seek_to_last()
            # rocksdict does not heed the lower bound on the way down.
            return takewhile(lambda row: row[0] >= start, _walk(rows, rows.prev))
        rows.seek(start)
        return _walk(rows, rows.next)

    def write(self, puts: Iterable[Row], deletes: Iterable[bytes]) -> None:
        """Apply the whole batch; it reaches the disk with the next flush of the memtable."""
        batch = WriteBatch(raw_mode=True)
        deque(starmap(batch.put, puts), maxlen=0)  # a loop in C: half the cost of one in Python
        for key in deletes:
            batch.delete(key)
        self._db.write(batch, self._unlogged)

    def persist(self) -> None:
        """Flush the memtable: what was written is on disk."""
        self._db.flush()

    def checkpoint(self, path: Path) -> None:
        """Make a copy of the present state by hard links; ``path`` must not exist."""
        self._db.flush()
        Checkpoint(self._db).create_checkpoint(str(path))

    def close(self) -> None:
        """Flush and close."""
        if not self._read_only:
            self._db.flush()
        self._db.close()


class MemoryStore:
    """The same in memory, for the simulator and the dry run."""

    def __init__(self) -> None:
        """Start empty."""
        self._rows: SortedDict = SortedDict()
        self.get = self._rows.get

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the value of each key, or None."""
        return [self.get(key) for key in keys]

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[Row]:
        """Yield rows with ``start <= key < stop``, as they were when the scan began."""
        keys = list(self._rows.irange(start, stop, inclusive=(True, False), reverse=reverse))
        rows = self._rows
        return ((key, rows[key]) for key in keys if key in rows)

    def write(self, puts: Iterable[Row], deletes: Iterable[bytes]) -> None:
        """Apply the batch."""
        self._rows.update(puts)
        for key in deletes:
            self._rows.pop(key, None)

    def persist(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


def after(prefix: bytes) -> bytes:
    """Return the least key beyond all that begin with ``prefix``."""
    cut = prefix.rstrip(b"\xff")
    assert cut, "a prefix of nothing but 0xff has no end"
    return cut[:-1] + bytes((cut[-1] + 1,))
