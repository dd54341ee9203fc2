"""What stands in a partition's folder when a log is opened: checked, and its torn end cut.

An interrupted write is one thing, damage another: what no seal vouches for and nothing follows was
never acknowledged and is cut; anything else that cannot be read is refused (`segment`).
"""

import logging
import re

import msgspec

from transport import segment
from transport.files import Files, write_file
from transport.segment import Damaged

logger = logging.getLogger(__name__)

INDEX_BYTES = 256 << 10
_NAME = re.compile(r"[0-9]{20}\.seg\Z")
_FRESH = re.compile(r"[0-9]{20}\.seg\.new\Z")


class LogRefused(Exception):
    """The folder cannot be used as it is; the text says why and how to mend it."""


class LogCorrupt(LogRefused):
    """The log is damaged where no interrupted write can have been."""

    def __init__(self, file: str, position: int, offset: int, why: str, lost: str) -> None:
        """Say where, what, what is lost, and the command that goes on without it."""
        super().__init__(
            f"{file}: byte {position}: record {offset}: {why}; this is damage, not an interrupted "
            f"write: {lost}; put the file back from a copy, or give up what is lost with "
            f"`python -m transport.mend {file.partition('/topics/')[0].removesuffix('/log.json')}`"
        )
        self.file = file
        self.position = position
        self.offset = offset


class Segment:
    """One file: where it begins, and some of the places where records stand in it."""

    __slots__ = ("base", "newest_ms", "offsets", "path", "places", "size")

    def __init__(self, path: str, base: int, size: int) -> None:
        self.path = path
        self.base = base
        self.size = size
        self.newest_ms: int | None = None
        """The latest timestamp in it; None: it was not read through."""
        self.offsets = [base]
        self.places = [segment.HEADER_SIZE]

    def note(self, offset: int, position: int) -> None:
        """Remember where a record stands, if the last such place is far enough away."""
        if position - self.places[-1] >= INDEX_BYTES:
            self.offsets.append(offset)
            self.places.append(position)


class Place(msgspec.Struct, frozen=True):
    """Whose folder it is: what every file in it must agree with."""

    folder: str
    identity: str
    number: int
    seed: int

    def path(self, base: int) -> str:
        """Return the path of the segment that begins with a record."""
        return f"{self.folder}/{base:020}.seg"


class Found(msgspec.Struct):
    """A partition as it is on disk."""

    segments: list[Segment]
    end: int = 0
    """The offset behind the last record."""
    position: int = 0
    """Where the last segment ends."""
    usable: bool = True
    """The last segment can be appended to; False: begin a new one."""


def recover(files: Files, place: Place, verify: bool) -> Found:
    """Check a partition's segments (the last one only unless ``verify``), cut a torn end.

    Raises LogRefused, LogCorrupt, OSError.
    """
    files.sync_dir(place.folder)
    names = []
    for name in files.listdir(place.folder):
        if _NAME.match(name):
            names.append(name)
        elif _FRESH.match(name):
            files.unlink(f"{place.folder}/{name}")
    found = Found([])
    for number, name in enumerate(names):
        base = int(name[:-4])
        if found.segments and base != found.end:
            last = found.segments[-1]
            raise LogCorrupt(
                last.path, last.size, found.end, f"the next file begins with record {base}",
                f"records {found.end} to {base - 1} are missing",
            )
        until = int(names[number + 1][:-4]) if number + 1 < len(names) else -1
        _Check(files, place, found, Segment(place.path(base), base, 0)).run(until, verify)
    return found


class _Check:
    """The check of one segment."""

    def __init__(self, files: Files, place: Place, found: Found, this: Segment) -> None:
        self.files = files
        self.place = place
        self.found = found
        self.this = this
        self.handle = -1
        self.position = segment.HEADER_SIZE
        self.offset = this.base
        self.sealed = -1
        """Where the last seal stands; -1: there was none."""
        self.sealed_offset = this.base

    def run(self, until: int, verify: bool) -> None:
        self.handle = self.files.open(self.this.path)
        try:
            self.this.size = self.files.size(self.handle)
            if until >= 0:
                self._older(until, verify)
            else:
                self._last()
        finally:
            self.files.close(self.handle)

    def _read(self, size: int, position: int) -> bytes:
        return self.files.read(self.handle, size, position)

    def _walk(self, until: int) -> None:
        """Go through the segment. Raises Damaged; what was gone through is right."""
        this = self.this
        for unit in segment.units(
            self._read, this.size, self.place.seed, self.position, self.offset
        ):
            if unit.value is None:
                self.sealed, self.sealed_offset = self.position, unit.offset
            else:
                this.note(unit.offset, self.position)
                if this.newest_ms is None or unit.timestamp_ms > this.newest_ms:
                    this.newest_ms = unit.timestamp_ms
                self.offset = unit.offset + 1
            self.position = unit.end
            if self.offset == until:
                break

    def _header(self) -> None:
        version, first = segment.read_header(
            self._read(segment.HEADER_SIZE, 0), self.place.seed
        )
        if version > segment.FORMAT:
            raise LogRefused(newer(self.this.path, version, segment.FORMAT))
        if first != self.this.base:
            raise Damaged(0, self.this.base, f"it is the segment of record {first}")

    def _older(self, until: int, verify: bool) -> None:
        """A segment that another follows: all of it was durable when that one was begun."""
        lost = f"records {{}} to {until - 1} cannot be trusted"
        try:
            self._header()
            if verify:
                self._walk(until)
        except Damaged as damage:
            raise self._corrupt(damage, lost) from damage
        if verify and self.offset != until:
            raise self._corrupt(Damaged(self.position, self.offset, "the file ends"), lost)
        self.found.segments.append(self.this)
        self.found.end = until

    def _last(self) -> None:
        this, found, files = self.this, self.found, self.files
        torn = False
        try:
            self._header()
            self._walk(-1)
        except Damaged as damage:
            if damage.position == 0 and this.size <= segment.HEADER_SIZE:
                self._never_begun()
                return
            # A header is synced before anything follows it: a bad one was damaged later.
            place = damage.position
            if place == 0 or segment.vouched(self._read, this.size, self.place.seed, place) > place:
                raise self._corrupt(damage, "records from {} on cannot be trusted") from damage
            self._tell(damage)
            torn = True
        found.segments.append(this)
        found.end = self.offset
        this.size = found.position = self.position
        if torn:
            files.truncate(self.handle, self.position)
            files.sync(self.handle)
        if self.sealed < 0 or self.sealed + segment.SEAL_SIZE != self.position:
            self._again()

    def _again(self) -> None:
        """Write what no seal vouches for once more, to a file of its own.

        It may be in the kernel's cache only, and if a sync of it failed before the process died
        the kernel takes it for written: no later sync would bring it to the disk.
        """
        this, place = self.this, self.place
        start = segment.HEADER_SIZE if self.sealed < 0 else self.sealed + segment.SEAL_SIZE
        base = self.sealed_offset
        data = segment.header(place.identity, place.number, base, place.seed)
        data += self._read(self.position - start, start)
        end = len(data)
        data += segment.seal(self.offset, end, place.seed)
        path = place.path(base)
        write_file(self.files, place.folder, path.rpartition("/")[2], data)
        if path == this.path:
            this.size = self.found.position = len(data)
            return
        this.size = start
        copy = Segment(path, base, len(data))
        copy.newest_ms = this.newest_ms
        self.found.segments.append(copy)
        self.found.position = len(data)

    def _never_begun(self) -> None:
        this = self.this
        logger.info("%s: the file was never begun (%d bytes): removed", this.path, this.size)
        self.files.unlink(this.path)
        self.files.sync_dir(self.place.folder)
        self.found.end = this.base
        self.found.usable = False

    def _tell(self, damage: Damaged) -> None:
        place, size = damage.position, self.this.size
        logger.log(
            logging.INFO if segment.begins_seal(self._read(size - place, place)) else
            logging.WARNING,
            "%s: byte %d: the last write was interrupted (%s): cut %d bytes, the log goes on with "
            "record %d", self.this.path, place, damage.why, size - place, self.offset,
        )

    def _corrupt(self, damage: Damaged, lost: str) -> LogCorrupt:
        offset = damage.offset or self.this.base
        return LogCorrupt(
            self.this.path, damage.position, offset, damage.why, lost.format(offset)
        )


def newer(file: str, version: int, known: int) -> str:
    """Return what is said of a file of a newer format."""
    return (
        f"{file}: the log is of format {version}, this program reads up to {known}: "
        "start the newer program"
    )
