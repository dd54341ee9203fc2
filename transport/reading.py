"""A log read from outside while its owner appends to it: no lock, and nothing is ever written.

What its owner knows to be durable can be read so; nothing behind that is touched.
"""

import os
from bisect import bisect_right

from transport import segment
from transport.files import Files, OsFiles
from transport.log import read_identity
from transport.recovery import LogCorrupt, LogRefused
from transport.segment import Damaged, Record


class ReadOnlyLog:
    """The durable part of a partition's log, as `transport.log.Log` would read it."""

    def __init__(
        self, path: str | os.PathLike[str], topic: str, partition: int, end: int,
        files: Files | None = None,
    ) -> None:
        """Read ``topic``/``partition`` up to record ``end``, which must be durable.

        Raises LogRefused when there is no log, OSError.
        """
        self.path = os.path.abspath(path)  # noqa: PTH100, a link stays what the user called it
        self._files = files or OsFiles()
        self.identity = read_identity(self._files, self.path)
        self._end = end
        self._folder = f"{self.path}/topics/{topic}/{partition}"
        self._seed = segment.seed(self.identity, topic, partition)
        names = [name for name in self._files.listdir(self._folder) if name.endswith(".seg")]
        self._bases = [int(name[:-4]) for name in sorted(names)]
        if not self._bases:
            raise LogRefused(f"{self._folder}: there is no record here")
        self._next = (-1, -1, 0)

    def start(self, _topic: str, _partition: int) -> int:
        """Return the offset of the oldest record."""
        return self._bases[0]

    def durable_end(self, _topic: str, _partition: int) -> int:
        """Return the offset behind the last record that may be read."""
        return self._end

    def read(
        self, _topic: str, _partition: int, offset: int, max_records: int = 1000,
        max_bytes: int = 1 << 20,
    ) -> list[Record]:
        """Return records from ``offset`` on, of one segment: at least one, if there is any.

        Raises LookupError for an offset that is no longer kept, LogCorrupt, OSError.
        """
        if offset >= self._end:
            return []
        place = bisect_right(self._bases, offset) - 1
        if place < 0:
            raise LookupError(f"record {offset} is no longer kept; the oldest is {self._bases[0]}")
        base = self._bases[place]
        until = self._bases[place + 1] if place + 1 < len(self._bases) else self._end
        position, current = segment.HEADER_SIZE, base
        if self._next[:2] == (base, offset):
            position, current = self._next[2], offset
        path = f"{self._folder}/{base:020}.seg"
        handle = self._files.open(path)
        found: list[Record] = []
        size = 0
        try:
            for unit in segment.units(
                lambda count, at: self._files.read(handle, count, at),
                self._files.size(handle), self._seed, position, current,
            ):
                if unit.value is None or unit.offset < offset:
                    continue
                size += len(unit.value)
                if found and size > max_bytes:
                    break
                found.append(Record(unit.offset, unit.timestamp_ms, unit.key, unit.value))
                self._next = (base, unit.offset + 1, unit.end)
                if len(found) == max_records or unit.offset + 1 >= min(until, self._end):
                    break
        except Damaged as damage:
            raise LogCorrupt(
                path, damage.position, damage.offset, damage.why,
                f"records {damage.offset} to {until - 1} cannot be trusted",
            ) from damage
        finally:
            self._files.close(handle)
        return found
