"""The embedded log: topics, partitions, append-only segment files; one folder, one process.

    PATH/log.json                          format version and identity, made once
    PATH/lock                              flock of the owner
    PATH/topics/TOPIC/PARTITION/OFFSET.seg segments, named by their first offset

`append` only remembers; `flush` makes durable all that was appended before, for all callers at
once. Readers see durable records only. When a write fails, what it held was never acknowledged and
is gone for every reader: the callers get `NotDurable`, the file is cut back to what is durable, the
next write goes to a new file, and the log goes on by itself once the disk does.

Failures are handled between two turns of the event loop: call `flush` in the same turn as
`append`, or hand it the `epoch` read then.
"""

import asyncio
import contextlib
import errno
import logging
import os
import re
import sys
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from transport import segment
from transport.files import Files, Locked, OsFiles, write_all, write_file
from transport.recovery import LogCorrupt, LogRefused, Place, Segment, newer, recover
from transport.segment import Damaged, Record

__all__ = ["Log", "LogCorrupt", "LogLocked", "LogRefused", "NotDurable", "Record"]

logger = logging.getLogger(__name__)

FORMAT = 1
SEGMENT_BYTES = 128 << 20
TAIL_BYTES = 32 << 20
TAIL_RECORDS = 100_000
HEAL_SECONDS = 0.5
PROBE_BYTES = 1 << 20
SWITCH_SECONDS = 0.0001
"""How long the writing thread waits for the interpreter before it insists. Python's 5 ms start anew
whenever a busy loop polls its sockets, so that a sync took seconds (decision 0001)."""
_TOPIC = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,200}\Z")


class LogLocked(LogRefused):
    """Another process owns the log."""


class NotDurable(Exception):
    """What was appended is not on disk, and does not count: append it again."""

    def __init__(self, why: str | None) -> None:
        """Say what the disk said."""
        super().__init__(f"the log cannot be written: {why or 'the disk failed since'}")
        self.why = why


class _Partition:
    """A partition: its segments, what of it is in memory, and what is not written yet."""

    def __init__(self, topic: str, number: int, folder: str, identity: str) -> None:
        self.topic = topic
        self.number = number
        self.folder = folder
        self.seed = segment.seed(identity, topic, number)
        self.place = Place(folder, identity, number, self.seed)
        self.made = False
        self.segments: list[Segment] = []
        self.durable = 0
        self.end = 0
        self.tail: list[Record] = []
        self.tail_base = 0
        self.tail_bytes = 0
        self.handle = -1
        self.position = 0
        self.roll = False
        self.removed = False
        self.pending: list[Record] = []
        self.pieces: list[bytes] = []
        self.next_read = (-1, "", 0)


class _Written(msgspec.Struct):
    """What a round did to one partition; applied in the loop's thread."""

    partition: _Partition
    records: list[Record]
    pieces: list[bytes]
    fresh: Segment | None = None
    handle: int = -1
    position: int = 0
    size: int = 0
    error: Exception | None = None


class Log:
    """One log, open. Not thread-safe: everything but the disk's work is done in one thread."""

    def __init__(self, path: str, files: Files, identity: str, segment_bytes: int) -> None:
        """Use `Log.open`."""
        self.path = path
        self.files = files
        self.identity = identity
        self.segment_bytes = segment_bytes
        self.tail_size = TAIL_BYTES
        self.heal_seconds = HEAL_SECONDS
        self.trouble: str | None = None
        self.epoch = 0
        self.closed = False
        self.rounds = 0
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._dirty: dict[tuple[str, int], _Partition] = {}
        self._lock = -1
        self._waiting: list[asyncio.Future[None]] = []
        self._covered: list[asyncio.Future[None]] = []
        self._round: Future[list[_Written]] | None = None
        self._planned = False
        self._callbacks: list[Callable[[], None]] = []
        self._failed: dict[tuple[str, int], _Partition] = {}
        self._full = False
        self._healing = False
        self._executor: ThreadPoolExecutor | None = None

    # ---- opening -------------------------------------------------------------------------------
    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        files: Files | None = None,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        lock: bool = True,
        verify: bool = True,
        identity: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> "Log":
        """Open the log in ``path``, or make one there.

        ``verify`` checks every record of every segment; False: of each partition's last one only,
        the others when they are read. ``identity`` makes the identity of a new log (32 hex digits).
        Raises LogLocked, LogCorrupt, or LogRefused for a newer format.
        """
        files = files or OsFiles()
        path = os.path.abspath(path)  # noqa: PTH100, a link stays what the user called it
        _make_folders(files, path)
        held = take_lock(files, path) if lock else -1
        try:
            log = cls(path, files, read_identity(files, path, identity), segment_bytes)
            log._lock = held
            files.mkdir(f"{path}/topics")
            files.sync_dir(path)
            if files.exists(f"{path}/probe"):
                files.unlink(f"{path}/probe")
            for topic in filter(_TOPIC.match, files.listdir(f"{path}/topics")):
                for number in filter(str.isdigit, files.listdir(f"{path}/topics/{topic}")):
                    log._recover(log._partition(topic, int(number)), verify)
                files.sync_dir(f"{path}/topics/{topic}")
            files.sync_dir(f"{path}/topics")
        except BaseException:
            if held >= 0:
                files.close(held)
            raise
        return log

    def _recover(self, part: _Partition, verify: bool) -> None:
        part.made = True
        found = recover(self.files, part.place, verify)
        part.segments = found.segments
        part.end = part.durable = part.tail_base = found.end
        part.position = found.position
        if part.segments and found.usable:
            part.handle = self.files.open(part.segments[-1].path)

    # ---- topics --------------------------------------------------------------------------------
    def topics(self) -> dict[str, int]:
        """Return the topics and how many partitions each has."""
        counts: dict[str, int] = {}
        for topic, _ in self._partitions:
            counts[topic] = counts.get(topic, 0) + 1
        return counts

    def create(self, topic: str, partitions: int = 1) -> None:
        """Make a topic, or add partitions to it, durably. Raises NotDurable."""
        for number in range(partitions):
            part = self._partition(topic, number)
            try:
                self._make(part)
            except OSError as error:
                raise NotDurable(f"topic {topic}: {error.strerror}") from error

    def _partition(self, topic: str, number: int) -> _Partition:
        part = self._partitions.get((topic, number))
        if part is None:
            if not _TOPIC.match(topic):
                raise ValueError(f'"{topic}" cannot be a topic: use letters, digits, ".", "_", "-"')
            part = self._partitions[topic, number] = _Partition(
                topic, number, f"{self.path}/topics/{topic}/{number}", self.identity
            )
        return part

    def _make(self, part: _Partition) -> None:
        if not part.made:
            files = self.files
            parent = part.folder.rpartition("/")[0]
            files.mkdir(parent)
            files.sync_dir(parent.rpartition("/")[0])
            files.mkdir(part.folder)
            files.sync_dir(parent)
            part.made = True

    # ---- writing -------------------------------------------------------------------------------
    def append(
        self,
        topic: str,
        partition: int,
        value: bytes,
        key: bytes | None = None,
        timestamp_ms: int = 0,
        cached: object = None,
    ) -> int:
        """Remember a record for the next `flush`. Return its offset.

        ``cached`` is what ``value`` decodes to: readers get it while the record is in memory.
        Raises NotDurable at once while the disk is in trouble.
        """
        assert type(value) is bytes
        if self.trouble is not None:
            self._try_inline()
            if self.trouble is not None:
                raise NotDurable(self.trouble)
        assert not self.closed, "the log is closed"
        part = self._partitions.get((topic, partition)) or self._partition(topic, partition)
        offset = part.end
        record = Record(offset, timestamp_ms, key, value, cached)
        part.pieces += segment.encode(record, part.seed)
        part.end = offset + 1
        part.tail.append(record)
        part.tail_bytes += len(value)
        if not part.pending:
            self._dirty[topic, partition] = part
        part.pending.append(record)
        return offset

    @property
    def pending_bytes(self) -> int:
        """Return the size of what is appended and not handed to the disk yet."""
        return sum(len(r.value) for part in self._dirty.values() for r in part.pending)

    @property
    def healthy(self) -> bool:
        """Return whether appends are taken; if not, `trouble` says why."""
        return self.trouble is None

    async def flush(self, epoch: int | None = None) -> None:
        """Return when all that was appended before is durable. Raises NotDurable if it is not."""
        if self.trouble is not None or (epoch is not None and epoch != self.epoch):
            raise NotDurable(self.trouble)
        if not self.files.threaded:
            self.flush_inline()
            return
        if self._dirty:
            waiters = self._waiting
        elif self._round is not None:
            waiters = self._covered
        else:
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        waiters.append(done)
        if self._round is None and not self._planned:
            # The other requests of this turn of the loop come along.
            self._planned = True
            loop.call_soon(self._begin, loop)
        await done

    def flush_inline(self) -> None:
        """`flush` without a thread, at once. Raises NotDurable."""
        assert self._round is None
        if not self._dirty:
            return
        if not self._settle(self._work(self._take())):
            raise NotDurable(self.trouble)

    def on_durable(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back whenever records became durable. Return a function that ends this."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def _take(self) -> list[_Written]:
        work = []
        for part in self._dirty.values():
            work.append(_Written(part, part.pending, part.pieces))
            part.pending, part.pieces = [], []
        self._dirty = {}
        return work

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a round: one write and one sync for everything that waits."""
        self._planned = False
        if self._round is not None or not self._dirty or self.closed:
            if self.closed:
                self._answer(self._waiting, NotDurable("it is closed"))
            return
        self._covered, self._waiting = self._waiting, []
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "log-flush")
            sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))
        self._round = round_ = self._executor.submit(self._work, self._take())
        # Straight into the loop: a wrapped future costs a busy loop two more turns a round. The
        # callback may not hold the future: a circle keeps all that was written, decoded, for long.
        round_.add_done_callback(lambda done: _call(loop, self._end, loop, done))

    def _end(self, loop: asyncio.AbstractEventLoop, round_: Future[list[_Written]]) -> None:
        """Take over a round, answer its callers, start the next."""
        if self._round is not round_:
            return  # `close` was here first
        self._round = None
        durable = self._settle(round_.result())
        covered, self._covered = self._covered, []
        self._answer(covered, None if durable else NotDurable(self.trouble))
        if self.trouble is not None:
            self._answer(self._waiting, NotDurable(self.trouble))
            self._waiting = []
            if not self.closed:
                loop.call_later(self.heal_seconds, self._heal_later, loop)
            return
        if self._dirty and self._waiting:
            self._begin(loop)

    @staticmethod
    def _answer(waiters: Iterable["asyncio.Future[None]"], error: NotDurable | None) -> None:
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(NotDurable(error.why))

    def _work(self, work: list[_Written]) -> list[_Written]:
        """Write a round. Touches the disk and ``work``, nothing that the loop's thread changes."""
        for item in work:
            part = item.partition
            try:
                self._make(part)
                item.handle, item.position = part.handle, part.position
                if item.handle < 0 or part.roll or item.position >= self.segment_bytes:
                    item.handle = -1
                    self._new_segment(item)
                data = b"".join(item.pieces)
                if item.fresh is None:
                    # The seal before it again: a reader goes through it to what stands behind.
                    mark = item.position - segment.SEAL_SIZE
                    sealed = segment.seal(item.records[0].offset, mark, part.seed)
                    write_all(self.files, item.handle, sealed + data, mark, sync=True)
                else:
                    write_all(self.files, item.handle, data, item.position, sync=True)
                item.size = item.position + len(data)
            except Exception as error:  # noqa: BLE001, nothing of it counts, its callers are told
                item.error = error
        return work

    def _new_segment(self, item: _Written) -> None:
        part, files = item.partition, self.files
        base = item.records[0].offset
        item.fresh = Segment(part.place.path(base), base, 0)
        item.handle = files.open(item.fresh.path, create=True)
        head = segment.header(self.identity, part.number, base, part.seed)
        write_all(files, item.handle, head, 0)
        files.sync(item.handle)
        files.sync_dir(part.folder)
        item.position = segment.HEADER_SIZE

    def _settle(self, work: list[_Written]) -> bool:
        """Show what a round made durable, forget the rest. Return whether all of it is durable."""
        self.rounds += 1
        for item in work:
            part = item.partition
            if item.error is None:
                self._keep(item)
            else:
                self._fail(part, item.error)
                if item.fresh is not None and item.handle >= 0:
                    with contextlib.suppress(OSError):  # it is given up anyway
                        self.files.close(item.handle)
        if self.trouble is not None:
            logger.error("%s: the log cannot be written: %s", self.path, self.trouble)
            self._drop()
        for callback in self._callbacks:
            callback()
        return all(item.error is None for item in work)

    def _keep(self, item: _Written) -> None:
        part = item.partition
        if item.fresh is not None:
            if part.handle >= 0:
                with contextlib.suppress(OSError):  # all of it was synced
                    self.files.close(part.handle)
            part.segments.append(item.fresh)
            part.handle = item.handle
            part.roll = False
        else:
            part.segments[-1].note(item.records[0].offset, item.position)
        part.durable = item.records[-1].offset + 1
        last = part.segments[-1]
        part.position = last.size = item.size
        newest_ms = max(record.timestamp_ms for record in item.records)
        if last.newest_ms is None or newest_ms > last.newest_ms:
            last.newest_ms = newest_ms
        try:
            mark = segment.seal(part.durable, item.size, part.seed)
            write_all(self.files, part.handle, mark, item.size)
            part.position = item.size + len(mark)
        except OSError as error:
            # The records are durable; only the file has a loose end now.
            self._fail(part, error)
        self._trim(part)

    def _fail(self, part: _Partition, error: Exception) -> None:
        code = getattr(error, "errno", None)
        self._full = self._full or code in (errno.ENOSPC, errno.EDQUOT)
        self.trouble = str(getattr(error, "strerror", None) or error or type(error).__name__)
        self._failed[part.topic, part.number] = part

    def _trim(self, part: _Partition) -> None:
        """Let go of the oldest durable records in memory when they are too many."""
        tail = part.tail
        if part.tail_bytes <= self.tail_size and len(tail) <= TAIL_RECORDS:
            return
        drop, limit = 0, part.durable - part.tail_base
        while drop < limit and (
            part.tail_bytes > self.tail_size // 2 or len(tail) - drop > TAIL_RECORDS // 2
        ):
            part.tail_bytes -= len(tail[drop].value)
            drop += 1
        del tail[:drop]
        part.tail_base += drop

    def _drop(self) -> None:
        """Forget everything that is not durable: its callers are told."""
        self.epoch += 1
        for part in self._partitions.values():
            keep = max(part.durable - part.tail_base, 0)
            for record in part.tail[keep:]:
                part.tail_bytes -= len(record.value)
            del part.tail[keep:]
            part.end = part.durable
            part.pending, part.pieces = [], []
        self._dirty = {}

    # ---- healing -------------------------------------------------------------------------------
    def _heal_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.closed or self.trouble is None or self._healing:
            return
        self._healing = True
        assert self._executor is not None
        future = loop.run_in_executor(self._executor, self._heal)
        future.add_done_callback(lambda done: self._healed(loop, done))

    def _healed(self, loop: asyncio.AbstractEventLoop, done: asyncio.Future[bool]) -> None:
        self._healing = False
        if done.cancelled() or self.closed:
            return
        if done.exception() is None and done.result():
            self._well()
        else:
            loop.call_later(self.heal_seconds, self._heal_later, loop)

    def _try_inline(self) -> None:
        if not self.files.threaded and self._heal():
            self._well()

    def _well(self) -> None:
        logger.warning("%s: the disk takes writes again", self.path)
        self.trouble = None
        self._full = False
        self._failed = {}
        for callback in self._callbacks:
            callback()

    def _heal(self) -> bool:
        """Bring every failed partition's files back to what is durable. Return whether that worked.

        A handle on which a sync failed is never used again: the kernel may have forgotten what it
        could not write, and a second sync would lie.
        """
        files = self.files
        try:
            for part in self._failed.values():
                if part.handle >= 0:
                    handle, part.handle = part.handle, -1
                    with contextlib.suppress(OSError):  # its fate is known
                        files.close(handle)
                fresh = part.place.path(part.durable)
                if part.segments and part.segments[-1].base == part.durable:
                    part.segments.pop()
                if files.exists(fresh):
                    files.unlink(fresh)  # begun, and nothing in it counts
                    files.sync_dir(part.folder)
                if part.segments:
                    handle = files.open(part.segments[-1].path)
                    try:
                        files.truncate(handle, part.segments[-1].size)
                        files.sync(handle)
                    finally:
                        files.close(handle)
                part.roll = True
            if self._full:
                self._probe()
        except OSError:
            return False
        return True

    def _probe(self) -> None:
        """Raise OSError unless there is room for more than the next header."""
        files, path = self.files, f"{self.path}/probe"
        handle = files.open(path, create=True)
        try:
            write_all(files, handle, bytes(PROBE_BYTES), 0)
            files.sync(handle)
        finally:
            files.close(handle)
            files.unlink(path)

    # ---- reading -------------------------------------------------------------------------------
    def start(self, topic: str, partition: int) -> int:
        """Return the offset of the oldest record that is kept; `end` when there is none."""
        part = self._partitions.get((topic, partition))
        return part.segments[0].base if part and part.segments else 0

    def end(self, topic: str, partition: int) -> int:
        """Return the offset that the next record gets."""
        part = self._partitions.get((topic, partition))
        return part.end if part else 0

    def durable_end(self, topic: str, partition: int) -> int:
        """Return the offset behind the last durable record."""
        part = self._partitions.get((topic, partition))
        return part.durable if part else 0

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        max_records: int = 1000,
        max_bytes: int = 1 << 20,
    ) -> list[Record]:
        """Return durable records from ``offset`` on: at least one, if there is any.

        Empty at the end. Raises LookupError for an offset that is no longer kept, LogCorrupt for
        damage, OSError.
        """
        part = self._partitions.get((topic, partition))
        if part is None or offset >= part.durable:
            return []
        limit = min(max_records, part.durable - offset)
        if offset < part.tail_base:
            return self._read_disk(part, offset, limit, max_bytes)
        at = offset - part.tail_base
        found = part.tail[at : at + limit]
        if part.tail_bytes > max_bytes:
            total = 0
            for count, record in enumerate(found):
                total += len(record.value)
                if total > max_bytes and count:
                    return found[:count]
        return found

    def _read_disk(
        self, part: _Partition, offset: int, limit: int, max_bytes: int
    ) -> list[Record]:
        if not part.segments or offset < part.segments[0].base:
            raise LookupError(
                f"record {offset} of {part.topic}/{part.number} is no longer kept; the oldest is "
                f"{self.start(part.topic, part.number)}"
            )
        place = bisect_right(part.segments, offset, key=lambda s: s.base) - 1
        found = part.segments[place]
        until = part.durable
        if place + 1 < len(part.segments):
            until = part.segments[place + 1].base
        if part.next_read[:2] == (offset, found.path):
            current, position = offset, part.next_read[2]
        else:
            index = bisect_right(found.offsets, offset) - 1
            current, position = found.offsets[index], found.places[index]
        records: list[Record] = []
        total = 0
        files = self.files
        handle = files.open(found.path)
        end = position
        try:
            for unit in segment.units(
                lambda size, at: files.read(handle, size, at),
                found.size, part.seed, position, current,
            ):
                if unit.value is None:
                    continue
                found.note(unit.offset, position)
                position = unit.end
                if unit.offset < offset:
                    continue
                total += len(unit.value)
                if records and total > max_bytes:
                    break
                records.append(Record(unit.offset, unit.timestamp_ms, unit.key, unit.value))
                end = unit.end
                if len(records) == limit or unit.offset + 1 == until:
                    break
        except Damaged as damage:
            if records:
                return records
            raise LogCorrupt(
                found.path, damage.position, damage.offset, damage.why,
                f"records {damage.offset} to {until - 1} cannot be trusted",
            ) from damage
        finally:
            files.close(handle)
        assert records, f"{found.path}: record {offset} is missing"
        part.next_read = (records[-1].offset + 1, found.path, end)
        return records

    def release(self, topic: str, partition: int, offset: int) -> None:
        """Let go of what is in memory below ``offset``: nobody will read it soon."""
        part = self._partitions[topic, partition]
        drop = min(offset, part.durable) - part.tail_base
        if drop > 0:
            part.tail_bytes -= sum(len(record.value) for record in part.tail[:drop])
            del part.tail[:drop]
            part.tail_base += drop

    # ---- retention -----------------------------------------------------------------------------
    def truncate(self, topic: str, partition: int, before_offset: int) -> int:
        """Remove the whole segments that lie below ``before_offset``. Return the new start.

        The last durable record always stays. Raises OSError; what was removed by then is gone.
        """
        part = self._partitions[topic, partition]
        before_offset = min(before_offset, part.durable - 1)
        while len(part.segments) > 1 and part.segments[1].base <= before_offset:
            # One by one, oldest first: after a power cut a beginning is missing, never a middle.
            self._sync_removal(part)
            self.files.unlink(part.segments[0].path)
            part.removed = True
            del part.segments[0]
        self._sync_removal(part)
        start = part.segments[0].base if part.segments else 0
        self.release(topic, partition, start)
        return start

    def _sync_removal(self, part: _Partition) -> None:
        if part.removed:
            self.files.sync_dir(part.folder)
            part.removed = False

    def retain(
        self,
        topic: str,
        partition: int,
        floor: int,
        *,
        max_bytes: int | None = None,
        max_age_ms: int | None = None,
        now_ms: int = 0,
    ) -> int:
        """Remove segments that are too old or too many, never a record at or above ``floor``.

        Age goes by the records' timestamps. Return the new start. Raises OSError.
        """
        before = self.outlived(
            topic, partition, max_bytes=max_bytes, max_age_ms=max_age_ms, now_ms=now_ms
        )
        if (topic, partition) not in self._partitions:
            return 0
        return self.truncate(topic, partition, min(before, floor))

    def outlived(
        self,
        topic: str,
        partition: int,
        *,
        max_bytes: int | None = None,
        max_age_ms: int | None = None,
        now_ms: int = 0,
    ) -> int:
        """Return the record before which all lies in segments that are too old or too many.

        A last segment that is too old is ended, so that it can go once another follows it.
        """
        part = self._partitions.get((topic, partition))
        if part is None or not part.segments:
            return 0
        before = part.segments[0].base
        total = sum(found.size for found in part.segments)
        for found, following in zip(part.segments, part.segments[1:], strict=False):
            big = max_bytes is not None and total > max_bytes
            old = max_age_ms is not None and self._ends_before(
                part, found, following, now_ms - max_age_ms
            )
            if not big and not old:
                break
            total -= found.size
            before = following.base
        last = part.segments[-1]
        if max_age_ms is not None and (last.newest_ms or now_ms) < now_ms - max_age_ms:
            part.roll = True  # or a quiet log would keep its last segment for ever
        return before

    def _ends_before(
        self, part: _Partition, found: Segment, following: Segment, instant_ms: int
    ) -> bool:
        if found.newest_ms is not None:
            return found.newest_ms < instant_ms
        if following.base >= part.durable:
            return False
        return self.read(part.topic, part.number, following.base, 1)[0].timestamp_ms < instant_ms

    @property
    def sizes(self) -> dict[tuple[str, int], int]:
        """Return the bytes on disk by (topic, partition)."""
        return {
            place: sum(found.size for found in part.segments)
            for place, part in self._partitions.items()
        }

    # ---- closing -------------------------------------------------------------------------------
    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is pending if the disk takes it, and let go of the folder."""
        if self.closed:
            return
        if self._executor is not None:
            self._executor.shutdown(wait=True)
        if self._round is not None:
            self._settle(self._round.result())
            self._round = None
        if self._dirty and self.trouble is None:
            self._settle(self._work(self._take()))
        self.closed = True
        error = NotDurable(self.trouble) if self.trouble else None
        self._answer(self._covered + self._waiting, error)
        self._covered, self._waiting = [], []
        for part in self._partitions.values():
            if part.handle >= 0:
                with contextlib.suppress(OSError):  # nothing is lost with it
                    self.files.close(part.handle)
                part.handle = -1
        if self._lock >= 0:
            with contextlib.suppress(OSError):  # the process's end lets go of it as well
                self.files.close(self._lock)
            self._lock = -1




def _call(loop: asyncio.AbstractEventLoop, then: Callable[..., None], *args: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(then, *args)


class _Header(msgspec.Struct):
    """`log.json`."""

    format: int
    log: str
    check: str = ""


def _make_folders(files: Files, path: str) -> None:
    """Make the folder and what it lies in, durably, also what a killed process had made."""
    if path == "/":
        return
    parent = path.rpartition("/")[0] or "/"
    _make_folders(files, parent)
    if not files.exists(path):
        files.mkdir(path)
    with contextlib.suppress(PermissionError):  # not a folder that we could have made
        files.sync_dir(parent)


def take_lock(files: Files, path: str) -> int:
    """Own the log in ``path`` until the handle is closed. Raises LogLocked."""
    try:
        return files.lock(f"{path}/lock", f"{os.getpid()}\n")
    except Locked as locked:
        owner = locked.owner or "unknown"
        raise LogLocked(
            f"{path}: the log is in use by process {owner}; stop that process, or give this one "
            "another data folder"
        ) from locked


def read_identity(files: Files, path: str, make: Callable[[], str] | None = None) -> str:
    """Return the log's identity, made now if the log is new. Raises LogRefused."""
    name = f"{path}/log.json"
    if files.exists(name):
        handle = files.open(name)
        try:
            data = files.read(handle, files.size(handle), 0)
        finally:
            files.close(handle)
        try:
            head = msgspec.json.decode(data, type=_Header)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LogCorrupt(name, 0, 0, str(error), "the identity of the log") from error
        if head.format > FORMAT:
            raise LogRefused(newer(name, head.format, FORMAT))
        if head.check != _checked(head):
            raise LogCorrupt(name, 0, 0, "it does not match its checksum", "the log's identity")
        return head.log
    topics = f"{path}/topics"
    if files.exists(topics) and any(files.listdir(f"{topics}/{t}") for t in files.listdir(topics)):
        raise LogCorrupt(name, 0, 0, "the file is missing", "the identity of the log")
    if make is None:
        raise LogRefused(f"{path}: there is no log here")
    head = _Header(FORMAT, make())
    head.check = _checked(head)
    write_file(files, path, "log.json", msgspec.json.encode(head) + b"\n")
    return head.log


def _checked(head: _Header) -> str:
    return f"{segment.digest(f'{head.format}/{head.log}'.encode()):016x}"
