"""The stages run over the log again, and the hash by which two states are compared."""

from collections.abc import Callable, Iterable
from typing import Protocol

from xxhash import xxh3_128

from agents.records import Redrive
from app.engine import TOPIC, runner_over
from app.steps import step
from runtime.envelope import Codec, pack
from runtime.fused import Runner
from tables.store import Row, Store
from transport.segment import Record

REPLAY_COMMIT = 2000
_CODEC = Codec({"redrive": Redrive})
_REDRIVE = pack("redrive", 0, ())[:-2]
"""How the envelope of a redrive begins: all before the instant."""
_LARGEST = b"\xff" * 8


class Records(Protocol):
    """What is read of a log: `transport.log.Log`, or one that another process owns."""

    path: str
    identity: str

    def start(self, topic: str, partition: int) -> int:
        """Return the offset of the oldest record."""

    def durable_end(self, topic: str, partition: int) -> int:
        """Return the offset behind the last durable record."""

    def read(
        self, topic: str, partition: int, offset: int, max_records: int, max_bytes: int
    ) -> list[Record]:
        """Return durable records from ``offset`` on: at least one, if there is any."""


def replay(store: Store, log: Records, upto: int | None = None,
           progress: Callable[[int], None] | None = None) -> Runner:
    """Apply what the log holds beyond the state, up to a record; nothing goes out."""
    runner = runner_over(store, log.identity)
    end = log.durable_end(TOPIC, 0) if upto is None else upto
    runner.put_back = put_back(log, runner.applied + 1, end)
    held = 0
    while runner.applied + 1 < end:
        for record in log.read(TOPIC, 0, runner.applied + 1, 1000, 4 << 20):
            if record.offset >= end:
                break
            held += runner.apply(record.offset, record.value)
            if held >= REPLAY_COMMIT:
                runner.commit()
                held = 0
                step("rebuild.replayed")
                if progress is not None:
                    progress(runner.applied)
    runner.commit()
    return runner


def put_back(log: Records, start: int, end: int) -> dict[int, dict[int, int]]:
    """Return the events that are taken up again in the log's rest: by offset and index, the offset
    of the last redrive.

    They broke a stage where they stand. A program that was mended since must pass them over there
    all the same, or a replay would give another state (`runtime.fused.Runner.put_back`).
    """
    found: dict[int, dict[int, int]] = {}
    while start < end:
        for record in log.read(TOPIC, 0, start, 1000, 4 << 20):
            if record.offset >= end:
                return found
            if record.value.startswith(_REDRIVE):
                for item in _CODEC.unpack(record.value, None).items:
                    offset, _, index = item.id.partition(".")
                    found.setdefault(int(offset), {})[int(index)] = record.offset
            start = record.offset + 1
    return found


def rows_of(store: Store) -> Iterable[Row]:
    """Return all rows as they are now, in order, to be read whenever and in any thread."""
    return store.scan(b"", _LARGEST)


def digest(store: Store) -> str:
    """Return a hash over all logical state: every row, in order."""
    return digest_of(rows_of(store))


def digest_of(rows: Iterable[Row]) -> str:
    """Return the hash over these rows."""
    hashed = xxh3_128()
    for key, value in rows:
        hashed.update(len(key).to_bytes(4, "big") + key + len(value).to_bytes(4, "big") + value)
    return str(hashed.hexdigest())
