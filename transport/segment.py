"""A segment file of the log: a header, then records and seals.

A *seal* stands after each group of records that was written and synced as one. It says "all
before this place was durable", and is itself written without a sync, after the group's: so at any
time only the last seal and the group behind it can be in doubt. That is how an interrupted write
is told from damage: a bad place with a seal that lies behind it was durable once, and is damage;
a bad place that no seal vouches for is the torn end of the last write.

Every checksum is seeded with the log's identity, topic and partition, and every record and seal
knows its offset: a block of another file, or of another place, never passes for a right one.
"""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any, NamedTuple

from msgspec import Struct as Data
from xxhash import xxh3_64_intdigest as digest

FORMAT = 1
HEADER = Struct("<8sIIQ16s")  # magic, format, partition, first offset, log identity; + checksum
RECORD = Struct("<4sIQqI")    # magic, bytes of key and value, offset, time, of key; + checksum
SEAL = Struct("<4sIQQ")       # magic, 0, next offset, its own position; + checksum
SUM = Struct("<Q")
HEADER_SIZE = HEADER.size + SUM.size
RECORD_SIZE = RECORD.size + SUM.size
SEAL_SIZE = SEAL.size + SUM.size
_SEGMENT, _RECORD, _SEAL = b"wmlogseg", b"\xa7rec", b"\xa7sea"
RECORD_MAGIC = _RECORD
NO_KEY = 0xFFFFFFFF
_CHUNK = 1 << 20


class Record(Data, gc=False):
    """An entry of the log."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    cached: Any = None
    """What the writer said ``value`` decodes to, while it is still in memory."""


class Damaged(Exception):
    """A segment cannot be read on from ``position``, where record ``offset`` was expected."""

    def __init__(self, position: int, offset: int, why: str) -> None:
        super().__init__(why)
        self.position = position
        self.offset = offset
        self.why = why


class Unit(NamedTuple):
    """What stands in a segment: a record, or a seal (``value`` None)."""

    end: int
    """The position behind it."""
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


Read = Callable[[int, int], bytes]
"""``read(size, position)``: fewer bytes only at the end of the file."""


def seed(identity: str, topic: str, partition: int) -> int:
    """Return what the checksums of a partition start from."""
    return digest(f"{identity}/{topic}/{partition}".encode())


def header(identity: str, partition: int, first: int, start: int) -> bytes:
    """Return a segment's header; ``start`` is the partition's `seed`."""
    head = HEADER.pack(_SEGMENT, FORMAT, partition, first, bytes.fromhex(identity))
    return head + SUM.pack(digest(head, start))


def read_header(data: bytes, start: int) -> tuple[int, int]:
    """Return (format, first offset). Raises Damaged; a newer format is returned unchecked."""
    if len(data) < HEADER_SIZE:
        raise Damaged(0, 0, "its header is cut short")
    head = data[: HEADER.size]
    magic, version, _, first, _ = HEADER.unpack(head)
    if magic != _SEGMENT:
        raise Damaged(0, 0, "it does not begin like a segment of a log")
    if SUM.unpack_from(data, HEADER.size)[0] != digest(head, start):
        raise Damaged(0, 0, "its header does not match its checksum, or belongs to another log")
    return version, first


def encode(record: Record, start: int) -> tuple[bytes, ...]:
    """Return the pieces of a record's bytes."""
    key = record.key
    value = record.value
    if key is None:
        head = RECORD.pack(_RECORD, len(value), record.offset, record.timestamp_ms, NO_KEY)
        return head, SUM.pack(digest(value, digest(head, start))), value
    head = RECORD.pack(
        _RECORD, len(key) + len(value), record.offset, record.timestamp_ms, len(key)
    )
    return head, SUM.pack(digest(value, digest(head + key, start))), key, value


def seal(offset: int, position: int, start: int) -> bytes:
    """Return the seal at ``position``: all below it, up to record ``offset``, is durable."""
    head = SEAL.pack(_SEAL, 0, offset, position)
    return head + SUM.pack(digest(head, start))


def begins_seal(torn: bytes) -> bool:
    """Return whether this, at a segment's end, can only have been a seal: no record is lost."""
    return len(torn) <= SEAL_SIZE and torn[:4] == _SEAL[: len(torn)]


def units(read: Read, size: int, start: int, position: int, offset: int) -> Iterator[Unit]:
    """Yield what stands from ``position`` on, where record ``offset`` is expected, up to ``size``.

    Raises Damaged at the first thing that is not right; nothing of it was yielded.
    """
    unpack, unpack_sum, sum_ = RECORD.unpack_from, SUM.unpack_from, digest
    chunk = _CHUNK
    while position < size:
        asked = min(chunk, size - position)
        data = read(asked, position)
        have = len(data)
        at = 0
        chunk = _CHUNK
        while at < have:
            magic = data[at : at + 4]
            if magic == _RECORD:
                if have - at < RECORD_SIZE:
                    break
                _, length, told, timestamp_ms, key_length = unpack(data, at)
                end = at + RECORD_SIZE + length
                if end > have:
                    if position + end > size:
                        raise Damaged(position + at, offset, "the record runs past the end")
                    chunk = max(_CHUNK, end - at)
                    break
                body = at + RECORD_SIZE
                if key_length == NO_KEY:
                    key = None
                    value = data[body:end]
                    right = sum_(value, sum_(data[at : at + RECORD.size], start))
                else:
                    key = data[body : body + key_length]
                    value = data[body + key_length : end]
                    right = sum_(value, sum_(data[at : at + RECORD.size] + key, start))
                if unpack_sum(data, at + RECORD.size)[0] != right:
                    raise Damaged(position + at, offset, "the record does not match its checksum")
                if told != offset:
                    raise Damaged(position + at, offset, f"record {told} stands there")
                yield Unit(position + end, offset, timestamp_ms, key, value)
                offset += 1
                at = end
            elif magic == _SEAL:
                end = at + SEAL_SIZE
                if end > have:
                    break
                if data[at:end] != seal(offset, position + at, start):
                    raise Damaged(position + at, offset, "a seal is wrong")
                yield Unit(position + end, offset, 0, None, None)
                at = end
            elif have - at < 4:
                break
            else:
                raise Damaged(position + at, offset, "no record begins there")
        if at == 0 and (have < asked or position + have >= size):
            raise Damaged(position, offset, "what stands there is cut short")
        position += at


def record_at(data: bytes, at: int, start: int) -> Unit | None:
    """Return the record that stands at ``at``, whatever its offset; None if none is whole."""
    if len(data) - at < RECORD_SIZE:
        return None
    _, length, offset, _, _ = RECORD.unpack_from(data, at)
    data = data[at : at + RECORD_SIZE + length]
    try:
        unit = next(units(lambda n, place: data[place : place + n], len(data), start, 0, offset))
    except (Damaged, StopIteration):
        return None
    return unit._replace(end=at + unit.end)


def vouched(read: Read, size: int, start: int, position: int) -> int:
    """Return the place behind ``position`` up to which a seal says all was durable; else 0."""
    best = 0
    while position < size:
        data = read(min(_CHUNK, size - position), position)
        at = data.find(_SEAL)
        while at >= 0 and at + SEAL_SIZE <= len(data):
            head = data[at : at + SEAL.size]
            if SUM.unpack_from(data, at + SEAL.size)[0] == digest(head, start):
                best = max(best, SEAL.unpack(head)[3])
            at = data.find(_SEAL, at + 1)
        if len(data) < _CHUNK:
            break
        position += len(data) - SEAL_SIZE
    return best
