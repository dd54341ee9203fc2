"""What the embedded log does on this machine: ``python -m bench.log [FOLDER]``."""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from transport.log import Log

SMALL, ENVELOPE = b"x" * 100, os.urandom(100_000)


def measure(folder: str | os.PathLike[str] | None = None) -> dict[str, float]:
    """Return figures by name: rates a second, times in ms. ``folder`` chooses the disk."""
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        return asyncio.run(_measure(place))
    finally:
        shutil.rmtree(place)


async def _measure(place: Path) -> dict[str, float]:
    log = Log.open(place / "log")
    figures: dict[str, float] = {}
    count = 200_000
    began = time.perf_counter()
    for number in range(count):
        log.append("small", 0, SMALL, timestamp_ms=number)
    await log.flush()
    figures["100 B records appended and durable, /s"] = count / (time.perf_counter() - began)

    def read(name: str) -> None:
        began, at = time.perf_counter(), 0
        while records := log.read("small", 0, at):
            at += len(records)
        figures[name] = count / (time.perf_counter() - began)

    log.release("small", 0, count)
    read("100 B records read from disk and checked, /s")

    began = time.perf_counter()
    for _ in range(40):
        for _ in range(10):
            log.append("envelopes", 0, ENVELOPE)
        await log.flush()
    figures["100 kB envelopes appended, ten a sync, MB/s"] = 40 / (time.perf_counter() - began)

    took = []
    for _ in range(200):
        began = time.perf_counter()
        log.append("small", 0, SMALL)
        await log.flush()
        took.append(time.perf_counter() - began)
    took.sort()
    figures["one record durable, idle machine, p50 ms"] = took[100] * 1000
    figures["one record durable, idle machine, p99 ms"] = took[198] * 1000

    async def busy() -> None:
        while True:
            until = time.perf_counter() + 0.001
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0)

    burning = asyncio.ensure_future(busy())
    took, rounds = [], log.rounds

    async def one() -> None:
        began = time.perf_counter()
        log.append("small", 0, SMALL)
        await log.flush()
        took.append(time.perf_counter() - began)

    began = time.perf_counter()
    for _ in range(20):
        await asyncio.gather(*(one() for _ in range(50)))
    burning.cancel()
    took.sort()
    figures["one of 50 records, loop busy, p50 ms"] = took[len(took) // 2] * 1000
    figures["one of 50 records, loop busy, p99 ms"] = took[len(took) * 99 // 100] * 1000
    figures["records a sync, loop busy"] = 1000 / (log.rounds - rounds)
    log.close()
    large = Log.open(place / "large")
    for _ in range(2000):
        large.append("envelopes", 0, ENVELOPE)
    large.close()
    began = time.perf_counter()
    Log.open(place / "large").close()
    figures["opening, 100 kB envelopes in the page cache, MB/s"] = 200 / (
        time.perf_counter() - began
    )
    shutil.rmtree(place / "log/topics/envelopes")
    began = time.perf_counter()
    Log.open(place / "log").close()
    figures["opening, 100 B records in the page cache, /s"] = count / (time.perf_counter() - began)
    return figures


if __name__ == "__main__":
    for name, value in measure(sys.argv[1] if len(sys.argv) > 1 else None).items():
        print(f"{value:12,.2f}  {name}")
