"""The raw archive: every kept event once, as gzip NDJSON, a file for each UTC day of receipt.

A file is a row of blocks, each of them two gzip members: the lines, and an empty one of known size
that ends the block. Both carry a mark: up to which offset of the raw log the file holds all lines
of its day. A block is written and synced as a whole; at start a torn one is cut off, and what the
log brings again is passed over. `zcat` reads the files as they are.
"""

import asyncio
import contextlib
import logging
import re
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct

from agents.archive import DROPPED, REDRIVEN, archive_key
from agents.records import Received, Redrive
from app.reader import Reader
from app.steps import step
from runtime.envelope import Batch, Codec
from runtime.fused import POISON, PROGRESS, Written
from transport.files import Files, OsFiles, write_all, write_file
from transport.log import Log

DAY_MS = 24 * 60 * 60 * 1000
BLOCK_BYTES = 1 << 20
BLOCK_SECONDS = 5.0
MOST_BYTES = 64 << 20
"""What may wait for the disk before the engine waits too."""
FORMAT = 1
_STATE = "covered.json"
_ENDING = ".ndjson.gz"
_NAME = re.compile(r"\d{4}-\d\d-\d\d\.ndjson\.gz", re.ASCII)
_EPOCH = date(1970, 1, 1)
_MARK = struct.Struct("<BBqqII")
_START = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff"  # gzip, deflate, with an extra field, no time, no system
_LINES = b"Wl"
_END = b"We"
_HEAD_BYTES = len(_START) + 2 + 4 + _MARK.size + 4
_EMPTY = b"\x03\0" + bytes(8)  # nothing, deflated; its checksum and length are 0
_END_BYTES = _HEAD_BYTES + len(_EMPTY)
_WINDOW = 4 << 20
_log = logging.getLogger("watersmeet.archive")


class ArchiveRefused(Exception):
    """The archive cannot be gone on with; the text says why and how to mend it."""


class Mark(Struct, frozen=True):
    """What a block tells of itself."""

    whole: bool
    """All days' lines up to ``covered`` are in their files, this block being the last of them."""
    covered: int
    """This file holds all lines of its day up to this offset."""
    base: int
    """Before this block's flush, all lines up to this offset were in the archive."""
    body_bytes: int
    """The length of the deflated lines."""
    lines: int


class _State(Struct, frozen=True):
    format: int
    log: str
    covered: int


class Archiver:
    """Appends what was committed, in a thread, and knows after a crash what is there already."""

    def __init__(self, folder: Path | str, log: str, files: Files | None = None) -> None:
        """Open the archive of the log with the identity ``log``, or begin it.

        Cuts off a torn block, with a warning. Raises ArchiveRefused when the archive belongs to
        another log, is of a newer format, or is damaged before its end; OSError.
        """
        self._folder = str(folder)
        self._files: Files = OsFiles() if files is None else files
        self._log = log
        self._pending: dict[int, list[bytes]] = {}
        self.pending_bytes = 0
        """What waits to be written."""
        self.problem = ""
        """Why the last write failed; empty: it did not. It is tried again."""
        self._full = asyncio.Event()
        self._writing = threading.Lock()
        self._flushing: asyncio.Task[None] | None = None
        self._sizes: dict[int, int] = {}
        self._torn: set[int] = set()
        self._ahead: dict[int, int] = {}
        self.covered = self._noted = -1
        """All lines up to this offset are in the archive, durably."""
        self._open()
        self.position = self.covered
        """All lines up to this offset were added, or are in the archive."""
        self._skip = max((self.covered, *self._ahead.values()))

    # ---- from the engine, in the event loop ------------------------------------------------------
    def add(self, offset: int, day: int, body: bytes) -> None:
        """Take in a line: the event ``body`` of the record at ``offset``, received on ``day`` (days
        since 1970). What the archive has already is passed over."""
        if offset <= self._skip and (
            offset <= self.covered or offset <= self._ahead.get(day, -1)
        ):
            return
        lines = self._pending.get(day)
        if lines is None:
            lines = self._pending[day] = []
        lines.append(body)
        self.pending_bytes += len(body)
        if self.pending_bytes >= BLOCK_BYTES:
            self._full.set()

    def take(self, written: Written) -> None:
        """Take in what a commit sent to the archive."""
        for offset, event in written.effects.get("archive", ()):
            self.add(offset, event.received_at_ms // DAY_MS, event.body)
        self.advance(written.applied)

    def advance(self, offset: int) -> None:
        """All lines of records up to ``offset`` were added: what is written next covers them."""
        self.position = max(self.position, offset)

    async def run(self) -> None:
        """Write whenever enough waits, or has waited for long; until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):  # time is up: write what there is
                await asyncio.wait_for(self._full.wait(), BLOCK_SECONDS)
            self._full.clear()
            await self.flush()
            if self.problem:
                await asyncio.sleep(1)

    async def room(self) -> None:
        """Return when more may be added: at once, unless the disk is far behind or fails."""
        while self.pending_bytes > MOST_BYTES:
            self._full.set()
            await asyncio.sleep(0.05)

    async def flush(self, *, note: bool = False) -> None:
        """Write what waits, durably; then `covered` is the last offset advanced to.

        With ``note`` also when nothing waits: before the log lets go of what is covered. A failure
        is told by `problem`, `covered` stays and the lines are kept. A caller that is cancelled
        leaves no write half done.
        """
        while self._flushing is not None:
            await asyncio.shield(self._flushing)
        if self._pending or note:
            self._flushing = asyncio.create_task(self._flush(note))
            await asyncio.shield(self._flushing)

    async def _flush(self, note: bool) -> None:
        try:
            taken, self._pending = self._pending, {}
            size, self.pending_bytes = self.pending_bytes, 0
            left = await asyncio.to_thread(self._write, taken, self.position, note)
            if left:
                for day, lines in self._pending.items():
                    left.setdefault(day, []).extend(lines)
                self._pending = left
                self.pending_bytes += size
        finally:
            self._flushing = None

    def flush_now(self) -> None:
        """Write what waits, at once and in this thread: before the event loop has other work.

        Raises OSError when it cannot be written; the lines are kept.
        """
        assert self._flushing is None
        self._pending = self._write(self._pending, self.position, False)
        if self._pending:
            raise OSError(self.problem)
        self.pending_bytes = 0

    async def close(self) -> None:
        """Write what waits, and how far that is. Raises OSError when it cannot be written."""
        await self.flush(note=True)
        if self.problem:
            raise OSError(self.problem)

    # ---- writing, in a thread --------------------------------------------------------------------
    def _write(
        self, taken: dict[int, list[bytes]], position: int, note: bool
    ) -> dict[int, list[bytes]]:
        """Write blocks of each day. Return what could not be written."""
        left = dict(taken)
        with self._writing:
            try:
                for day in sorted(taken):
                    whole = len(left) == 1
                    self._append(day, _block(taken[day], whole, position, self.covered))
                    del left[day]
                    step("archive.block")
                self.covered = position
                if note and self._noted < position:
                    self._note(position)
            except OSError as error:  # the lines are kept, and tried again
                self.problem = f"the archive cannot be written: {error.strerror or error}"
                _log.warning("%s", self.problem)
                return left
            self.problem = ""
            return left

    def _append(self, day: int, block: bytes) -> None:
        files, path = self._files, self._path(day)
        size = self._sizes.get(day, 0)
        handle = files.open(path, create=day not in self._sizes)
        try:
            if day in self._torn:
                files.truncate(handle, size)
            self._torn.add(day)
            write_all(files, handle, block, size)
            files.sync(handle)
        finally:
            files.close(handle)
        if day not in self._sizes:
            files.sync_dir(self._folder)
        self._torn.discard(day)
        self._sizes[day] = size + len(block)

    def _note(self, covered: int) -> None:
        body = msgspec.json.encode(_State(FORMAT, self._log, covered))
        write_file(self._files, self._folder, _STATE, body)
        self._noted = covered

    def _path(self, day: int) -> str:
        return f"{self._folder}/{(_EPOCH + timedelta(days=day)).isoformat()}{_ENDING}"

    # ---- opening ---------------------------------------------------------------------------------
    def _open(self) -> None:
        files = self._files
        if not files.exists(self._folder):
            files.mkdir(self._folder)
            files.sync_dir(str(Path(self._folder).parent))
        names = files.listdir(self._folder)
        days = [(date.fromisoformat(name[:10]) - _EPOCH).days
                for name in names if _NAME.fullmatch(name)]
        if _STATE in names:
            self._noted = self._belongs().covered
        elif days:
            raise ArchiveRefused(
                f"{self._folder}/{_STATE} is missing, so it is not known which log these files are "
                "of: put it back, or move the folder away and a new archive is begun"
            )
        else:
            self._note(-1)
        self.covered = self._noted
        last: dict[int, Mark] = {}
        for day in days:
            mark = self._last(day)
            if mark is not None:
                last[day] = mark
        # Only the last flush can have left a block whose pages did not all reach the disk.
        newest = max((mark.covered for mark in last.values()), default=-1)
        for day in [day for day, mark in last.items() if mark.covered == newest]:
            self._check_last(day, last)
        for mark in last.values():
            self.covered = max(self.covered, mark.covered if mark.whole else mark.base)
        self._ahead = {day: mark.covered for day, mark in last.items()
                       if mark.covered > self.covered}

    def _belongs(self) -> _State:
        path = f"{self._folder}/{_STATE}"
        try:
            state = msgspec.json.decode(self._read_file(path), type=_State)
        except msgspec.DecodeError as error:
            raise ArchiveRefused(
                f"{path} is damaged ({error}): put it back from a copy, or move the folder away"
            ) from error
        if state.format > FORMAT:
            raise ArchiveRefused(
                f"{path} is of format {state.format}, this program writes {FORMAT}: start the "
                "newer program, or move the folder away"
            )
        if state.log != self._log:
            raise ArchiveRefused(
                f"{self._folder} is the archive of log {state.log}, the log here is {self._log}: "
                "put the right one back, or move the folder away"
            )
        return state

    def _read_file(self, path: str) -> bytes:
        handle = self._files.open(path)
        try:
            return self._files.read(handle, self._files.size(handle), 0)
        finally:
            self._files.close(handle)

    def _last(self, day: int) -> Mark | None:
        """Return the mark of the file's last whole block; None when it has none."""
        files = self._files
        handle = files.open(self._path(day))
        try:
            size = files.size(handle)
            mark = None
            if size >= _END_BYTES:
                mark = _end(files.read(handle, _END_BYTES, size - _END_BYTES))
            if mark is None:
                mark, size = self._walk(day, handle, size)
            self._sizes[day] = size
            return mark
        finally:
            files.close(handle)

    def _walk(self, day: int, handle: int, size: int) -> tuple[Mark | None, int]:
        """Go from block to block and cut the file behind the last that is whole."""
        files = self._files
        at = 0
        last: Mark | None = None
        while at < size:
            mark = _mark(files.read(handle, _HEAD_BYTES, at), _LINES)
            until = at if mark is None else at + _whole_bytes(mark)
            if mark is None or until > size or _end(
                files.read(handle, _END_BYTES, until - _END_BYTES)
            ) is None:
                break
            at, last = until, mark
        self._refuse_damage(day, handle, at, size)
        self._cut(day, handle, at, size)
        return last, at

    def _refuse_damage(self, day: int, handle: int, at: int, size: int) -> None:
        """Raise when whole blocks lie behind a broken one: a crash leaves none."""
        place = at + 1
        while place < size:
            window = self._files.read(handle, _WINDOW, place)
            found = window.find(_START)
            while found >= 0:
                head = self._files.read(handle, _HEAD_BYTES, place + found)
                if _mark(head, _LINES) is not None:
                    raise ArchiveRefused(
                        f"{self._path(day)} is damaged at byte {at}; behind byte {place + found} "
                        "it is whole again: put the file back from a copy, or move it away"
                    )
                found = window.find(_START, found + 1)
            place += max(1, len(window) - len(_START) + 1)

    def _cut(self, day: int, handle: int, at: int, size: int) -> None:
        if at == size:
            return
        self._files.truncate(handle, at)
        self._files.sync(handle)
        _log.warning("%s: cut at byte %d of %d: the block there was torn by a crash",
                     self._path(day), at, size)

    def _check_last(self, day: int, last: dict[int, Mark]) -> None:
        """Read the file's last block; if its lines are not what was written, cut it off."""
        files, mark = self._files, last[day]
        handle = files.open(self._path(day))
        try:
            size = self._sizes[day]
            at = size - _whole_bytes(mark)
            block = files.read(handle, size - at, at) if at >= 0 else b""
            if _intact(block, mark):
                return
            before, at = self._walk_before(day, handle, at)
            self._cut(day, handle, at, size)
            self._sizes[day] = at
            del last[day]
            if before is not None:
                last[day] = before
        finally:
            files.close(handle)

    def _walk_before(self, day: int, handle: int, at: int) -> tuple[Mark | None, int]:
        """Return the mark of the block that ends at ``at``, and that place."""
        if at == 0:
            return None, 0
        mark = None
        if at >= _END_BYTES:
            mark = _end(self._files.read(handle, _END_BYTES, at - _END_BYTES))
        if mark is None:
            raise ArchiveRefused(
                f"{self._path(day)} is damaged before byte {max(at, 0)}: put the file back from a "
                "copy, or move it away"
            )
        return mark, at


# ---- blocks --------------------------------------------------------------------------------------
def _block(lines: list[bytes], whole: bool, covered: int, base: int) -> bytes:
    """Return a block: a member with the lines, and the empty one that ends it."""
    text = b"\n".join([line.replace(b"\n", b" ") if b"\n" in line else line for line in lines])
    text += b"\n"
    deflated = zlib.compress(text, 1, -15)
    mark = Mark(whole, covered, base, len(deflated), len(lines))
    tail = struct.pack("<II", zlib.crc32(text), len(text) & 0xFFFFFFFF)
    return b"".join((_head(mark, _LINES), deflated, tail, _head(mark, _END), _EMPTY))


def _head(mark: Mark, kind: bytes) -> bytes:
    told = _MARK.pack(FORMAT, mark.whole, mark.covered, mark.base, mark.body_bytes, mark.lines)
    field = kind + struct.pack("<H", len(told) + 4) + told + struct.pack("<I", zlib.crc32(told))
    return _START + struct.pack("<H", len(field)) + field


def _mark(head: bytes, kind: bytes) -> Mark | None:
    """Return the mark that a member of that kind begins with; None when there is none."""
    if len(head) < _HEAD_BYTES or not head.startswith(_START) or head[12:14] != kind:
        return None
    told = head[16 : 16 + _MARK.size]
    if struct.unpack_from("<I", head, 16 + _MARK.size)[0] != zlib.crc32(told):
        return None
    version, whole, covered, base, body_bytes, lines = _MARK.unpack(told)
    if version != FORMAT:
        return None
    return Mark(bool(whole), covered, base, body_bytes, lines)


def _end(member: bytes) -> Mark | None:
    """Return the mark of a block's last member; None when it is none, or not all of it."""
    return _mark(member, _END) if member.endswith(_EMPTY) else None


def _whole_bytes(mark: Mark) -> int:
    return _HEAD_BYTES + mark.body_bytes + 8 + _END_BYTES


def _intact(block: bytes, mark: Mark) -> bool:
    """Return whether the block's lines are those that were written."""
    if _mark(block[:_HEAD_BYTES], _LINES) != mark:
        return False
    deflated = block[_HEAD_BYTES : _HEAD_BYTES + mark.body_bytes]
    try:
        text = zlib.decompress(deflated, -15)
    except zlib.error:
        return False
    tail = struct.pack("<II", zlib.crc32(text), len(text) & 0xFFFFFFFF)
    return block[_HEAD_BYTES + mark.body_bytes :] == tail + _head(mark, _END) + _EMPTY


# ---- what the state has and the archive lacks ----------------------------------------------------
def catch_up(archiver: Archiver, log: Log, topic: str, codec: Codec, reader: Reader) -> None:
    """Give the archive the kept events that the committed state has and the archive lacks.

    At start, before anything more is applied; what is applied later comes with its commits.
    Raises ArchiveRefused when the archive lies ahead of the log; OSError.
    """
    progress = reader.get(PROGRESS, b"")
    applied = -1 if progress is None else progress.applied
    if archiver.covered >= log.end(topic, 0):
        raise ArchiveRefused(
            f"the archive holds record {archiver.covered}, the log ends before record "
            f"{log.end(topic, 0)}: the log was put back from an older copy; move the archive "
            "folder away, or put the right log back"
        )
    begin, oldest = archiver.position + 1, log.start(topic, 0)
    if begin < oldest <= applied:
        _log.warning("the archive lacks what was kept of records %d to %d, and the log has them no "
                     "more", begin, oldest - 1)
        begin = oldest

    def records() -> Iterator[tuple[int, Batch]]:
        offset = begin
        while offset <= applied:
            for record in log.read(topic, 0, offset):
                if record.offset > applied:
                    return
                yield record.offset, codec.unpack(record.value, None)
                offset = record.offset + 1

    last = begin
    for offset, day, body in missed(records, reader):
        if offset != last and archiver.pending_bytes >= BLOCK_BYTES:
            archiver.advance(offset - 1)
            archiver.flush_now()
        last = offset
        archiver.add(offset, day, body)
    archiver.advance(applied)


def missed(
    records: Callable[[], Iterable[tuple[int, Batch]]], reader: Reader
) -> Iterator[tuple[int, int, bytes]]:
    """Yield (offset, day, body) of the kept events among ``records``, for `Archiver.add`.

    ``records()`` gives them each time anew, up to the applied offset of the state that ``reader``
    reads.
    """
    put_back = {
        item.id for _, batch in records() for item in batch.items if isinstance(item, Redrive)
    }
    for offset, batch in records():
        if batch.items and isinstance(batch.items[0], Redrive):
            for _, kept in reader.scan(REDRIVEN, archive_key(offset, "")):
                yield offset, kept.received_at_ms // DAY_MS, kept.body
            continue
        dropped: dict[str, int] = {}
        once: list[Received] = []
        for index, item in enumerate(batch.items):
            if not isinstance(item, Received):
                continue
            name = f"{offset}.{index}"
            if name in put_back or reader.get(POISON, name.encode()) is not None:
                continue
            if item.message_id not in dropped:
                once.append(item)
                dropped[item.message_id] = 0
            dropped[item.message_id] += 1
        for item in once:
            # Of the events of one record with one id all are duplicates, or all but the first.
            known = reader.get(DROPPED, archive_key(offset, item.message_id)) or 0
            if known < dropped[item.message_id]:
                yield offset, item.received_at_ms // DAY_MS, item.body
