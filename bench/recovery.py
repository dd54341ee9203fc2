"""Recovery: the state is replayed from the log, and comes out the same to the byte.

    python -m bench.recovery DATA FOLDER     prints JSON
"""

import asyncio
import sys
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.processes import ROOT, as_the_worker
from bench.row import Bench, Row, judged

MOST_S = 90


class _Enough(Exception):
    """The time is up."""


class Told(Struct):
    """What a replay showed."""

    events: int
    records: int
    seconds: float
    cpu_seconds: float
    rows: int
    opened_seconds: float
    same: bool | None
    """Whether it came out the same to the byte; None: there was no time for the whole log."""


async def measure(bench: Bench) -> list[Row]:
    """Measure the row, on the log of the many people."""
    data = await bench.large.folder()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.guard", sys.executable, "-m", "bench.recovery", str(data),
        str(bench.folder / "replayed"), cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(f"bench.recovery ended with {process.returncode}")
    told = msgspec.json.decode(out, type=Told)
    assert told.same is not False, "the replayed state differs from the one it replaces"
    what = "the whole log; the same to the byte as before" if told.same else \
        f"as far as {MOST_S} s led"
    return [judged(
        f"Replay of the log, {bench.large.people:,} people", told.events / told.seconds,
        "events/s", bench.large.filled_per_s or None,
        told.events / told.seconds / bench.large.filled_per_s, None,
        (f"{told.events:,} events in {told.records:,} records in {told.seconds:.1f} s, "
         f"{told.cpu_seconds:.1f} s of processor time; {told.rows:,} rows of state, "
         f"{told.rows / told.seconds:,.0f} a second: {what}",
         f"the log was checked and opened in {told.opened_seconds:.1f} s; the limit is the speed "
         "at which the worker took those events in"),
    )]


def replayed(data: Path, folder: Path) -> Told:
    """Replay the log into a new state, and compare."""
    from app import state
    from app.reader import StoreReader
    from runtime.fused import PROGRESS
    from tables.store import RocksStore
    from transport.log import Log

    began = time.perf_counter()
    log = Log.open(data / "log")
    opened = time.perf_counter() - began
    store = RocksStore(folder)
    as_the_worker()
    began, cpu = time.perf_counter(), time.process_time()

    def progress(_applied: int) -> None:
        if time.perf_counter() > began + MOST_S:
            raise _Enough

    whole = True
    try:
        state.replay(store, log, progress=progress)
    except _Enough:
        whole = False
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    applied = StoreReader(store).get(PROGRESS, b"").applied
    events = StoreReader(store).counter("logged")
    rows = sum(1 for _ in store.scan(b"", b"\xff" * 8))
    before = RocksStore(data / "state")
    same = state.digest(store) == state.digest(before) if whole else None
    told = Told(events, applied + 1, seconds, cpu, rows, opened, same)
    for one in (store, before):
        one.close()
    log.close()
    return told


if __name__ == "__main__":
    print(msgspec.json.encode(replayed(*map(Path, sys.argv[1:3]))).decode())
