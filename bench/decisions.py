"""The figures of docs/decisions 0002 to 0007 on this machine: ``python -m bench.decisions``.

CPU time of this process, and the best of five rounds where two ways are compared in turn: other
work on the machine matters little.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from agents.history import events as history_of
from agents.intake import SIGHTS
from agents.person import next_due
from agents.profile_tables import HISTORY, PROFILES, TIMERS
from agents.records import Define, Received
from app.engine import runner_over
from bench.make_workspace import write
from bench.people import events
from profiles.profile import Occurrence, Profile
from runtime.envelope import pack
from runtime.fused import Runner
from tables.store import MemoryStore, RocksStore, Row, Store
from workspace.definitions import digest, load, normal_form

COUNT = 20_000
VISITORS = 2_000
ENVELOPE = 100
COMMIT = 500
ROUNDS = 5
START_MS = 1_767_225_600_000
_encode = msgspec.json.encode


class Recording(MemoryStore):
    """Keeps every batch that was written."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.batches: list[tuple[list[Row], list[bytes]]] = []

    def write(self, puts: Iterable[Row], deletes: Iterable[bytes]) -> None:
        """Keep and apply the batch."""
        self.batches.append((list(puts), list(deletes)))
        super().write(*self.batches[-1])


def runner(store: Store, folder: Path) -> Runner:
    """Return a runner in which the workspace of the comparison is in force."""
    write(folder / "workspace", "http://127.0.0.1:9/")
    text = (folder / "workspace/bench.yaml").read_bytes()
    definitions, problems = load([("bench.yaml", text)])
    assert definitions is not None, problems
    body = normal_form(definitions)
    made = runner_over(store, "bench")
    made.apply(0, pack("define", START_MS, [Define(body, digest(body), "bench")]))
    made.commit()
    return made


def received(event: dict[str, object], at_ms: int) -> Received:
    """Return the call as it stands in the log."""
    return Received("web", str(event["messageId"]), at_ms, at_ms, _encode(event))


def shop() -> Iterator[tuple[int, list[Received]]]:
    """Yield (instant, calls) of one envelope after the other."""
    made = events(1, VISITORS, COUNT, START_MS)
    for number in range(COUNT // ENVELOPE):
        calls = islice(made, ENVELOPE)
        at_ms = START_MS + number * ENVELOPE * 20
        yield at_ms, [received(call, at_ms + place * 20) for place, call in enumerate(calls)]


def run(made: Runner, envelopes: Iterable[bytes], commit: int) -> float:
    """Apply the envelopes; return the microseconds of CPU an event."""
    began, held = time.process_time(), 0
    for offset, value in enumerate(envelopes, 1):
        held += made.apply(offset, value)
        if held >= commit:
            made.commit()
            held = 0
    made.commit()
    return (time.process_time() - began) * 1e6 / COUNT


def written(batches: list[tuple[list[Row], list[bytes]]], folder: Path, **how: bool) -> float:
    """Write the batches to a store; return the microseconds of wall time an event."""
    options = WriteOptions()
    for name, value in how.items():
        setattr(options, name, value)
    store = Rdict(str(folder), Options(raw_mode=True))
    began = time.perf_counter()
    for puts, deletes in batches:
        batch = WriteBatch(raw_mode=True)
        for key, value in puts:
            batch.put(key, value)
        for key in deletes:
            batch.delete(key)
        store.write(batch, options)
    took = time.perf_counter() - began
    store.close()
    shutil.rmtree(folder)
    return took * 1e6 / COUNT


def merging(folder: Path, rows: int) -> tuple[float, float, float]:
    """Return the milliseconds of a merge of two persons with so many history rows each, of giving
    one's rows another key, and of reading the survivor's history."""
    store = RocksStore(folder / f"merging-{rows}")
    made = runner(store, folder)
    calls = [{"type": "track", "event": "Seen", "messageId": f"{user}-{n}", "anonymousId": user}
             for user in ("a1", "a2") for n in range(rows)]
    for offset, call in enumerate(calls, 1):
        made.apply(offset, pack("event", START_MS + offset, [received(call, START_MS + offset)]))
    at_ms, offset = START_MS + len(calls) + 1, len(calls)
    for user in ("a1", "a2"):
        offset += 1
        login = {"type": "identify", "userId": "u1", "anonymousId": user,
                 "messageId": f"login-{user}"}
        value = pack("event", at_ms, [received(login, at_ms)])
        made.commit()
        began = time.process_time()
        made.apply(offset, value)
        made.commit()
        took = time.process_time() - began
    survivor = next(p for _, p in made.scan(PROFILES) if p.absorbed)
    loser = survivor.absorbed[0].encode() + b"\0"
    began = time.process_time()
    moved = [(survivor.id.encode() + b"\0" + key[len(loser):], row)
             for key, row in made.scan(HISTORY, loser)]
    store.write([(HISTORY.prefix + key, msgspec.msgpack.encode(row)) for key, row in moved],
                [HISTORY.prefix + loser + key[len(loser):] for key, _ in moved])
    rekeyed = time.process_time() - began
    began = time.process_time()
    count = sum(1 for _ in history_of(made, survivor))
    read = time.process_time() - began
    assert count >= rows
    store.close()
    return took * 1e3, rekeyed * 1e3, read * 1e3


def timers(batches: list[tuple[list[Row], list[bytes]]]) -> tuple[int, int]:
    """Return how often the instant of a person's next change moved, and the timer rows written."""
    decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(Profile).decode
    due: dict[bytes, int] = {}
    moved = rows = 0
    for puts, deletes in batches:
        rows += sum(key[:2] == TIMERS.prefix for key, _ in puts)
        rows += sum(key[:2] == TIMERS.prefix for key in deletes)
        for key, value in puts:
            if key[:2] == PROFILES.prefix:
                now = next_due(decode(value))
                moved += due.get(key, 0) != now
                due[key] = now
    return moved, rows


def main(folder: Path) -> None:
    """Print the figures."""
    envelopes = [pack("event", at_ms, calls) for at_ms, calls in shop()]
    single = [pack("event", call.received_at_ms, [call]) for _, calls in shop() for call in calls]
    recording = Recording()
    run(runner(recording, folder), envelopes, COMMIT)
    plain, slow = [], []
    for _ in range(ROUNDS):
        plain.append(run(runner(MemoryStore(), folder), envelopes, COMMIT))
        careful = runner(MemoryStore(), folder)
        careful._overlay.careful = True
        slow.append(run(careful, envelopes, COMMIT))
    print(f"{COUNT} events of {VISITORS} visitors, {ENVELOPE} an envelope, {COMMIT} a commit")
    print("\n0002: the same batches into RocksDB, us of wall time an event")
    ways: dict[str, dict[str, bool]] = {
        "without its log": {"disable_wal": True}, "with its log": {},
        "with its log, synced": {"sync": True},
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, how in ways.items():
            took[name].append(written(recording.batches, folder / "wal", **how))
    for name, times in took.items():
        print(f"  {name:24} {min(times):6.2f}")
    print("\n0003: all stages over a store in memory, us of CPU an event")
    print(f"  undo only when one broke {min(plain):6.1f}")
    print(f"  each event can be undone {min(slow):6.1f}")

    rows = list(recording.scan(HISTORY.prefix, HISTORY.prefix + b"\xff" * 64))
    body = sum(len(msgspec.msgpack.decode(value, type=Occurrence).body) for _, value in rows)
    size = sum(len(key) + len(value) for key, value in rows)
    print(f"\n0004: {len(rows)} history rows, {size / len(rows):.0f} bytes each with the key, "
          f"of which the event as it was sent is {body / len(rows):.0f}")

    sights = list(recording.scan(SIGHTS.prefix, SIGHTS.prefix + b"\xff" * 64))
    size = sum(len(key) + len(value) for key, value in sights)
    print(f"\n0005: {len(sights)} sights, {size / len(sights):.0f} bytes each with the key, "
          "before compression")

    print("\n0006: ms of CPU with so many history rows on each side: "
          "merge / giving the rows another key / reading the survivor's history")
    for rows_each in (10, 1_000, 10_000):
        print("  {:6} {:8.2f} {:8.2f} {:8.2f}".format(rows_each, *merging(folder, rows_each)))

    lazily = Recording()
    run(runner(lazily, folder), single, 1)
    moved, timer_rows = timers(lazily.batches)
    print(f"\n0007: of {COUNT} events {moved} moved the instant of a person's next change; "
          f"{timer_rows} timer rows were written or deleted, keeping them exact takes up to "
          f"{2 * moved}")


if __name__ == "__main__":
    place = Path(tempfile.mkdtemp(dir=sys.argv[1] if len(sys.argv) > 1 else None))
    try:
        main(place)
    finally:
        shutil.rmtree(place)
