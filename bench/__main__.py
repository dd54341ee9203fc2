"""``make bench``: the figures to hold, each against a limit measured in the same run.

    python -m bench                     all of it, about ten minutes
    python -m bench --quick             small sizes: does it run, about two minutes
    python -m bench --only delivered    one row, or several; prints, writes nothing

A whole run writes bench/results/latest.md, .json and .png. Rows: docs/benchmarks.md.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from bench import (
    audiences,
    delivered,
    ingest,
    latency,
    memory,
    profiles,
    reads,
    recovery,
    report,
    timers,
)
from bench.large import Large
from bench.processes import ROOT
from bench.row import Bench, Row

ROWS: dict[str, Callable[[Bench], Awaitable[list[Row]]]] = {
    "delivered": delivered.measure,
    "ingest": ingest.measure,
    "audiences": audiences.measure,
    "latency": latency.measure,
    "timers": timers.measure,
    "reads": reads.measure,
    "memory": memory.measure,
    "recovery": recovery.measure,
    "profiles": profiles.measure,
}
"""In this order: from `latency` on, they use the worker of the many people."""


async def run(bench: Bench, names: list[str]) -> tuple[list[Row], list[str]]:
    """Return the rows, and the names of those that broke."""
    rows: list[Row] = []
    broken: list[str] = []
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        for name in names:
            began = time.perf_counter()
            print(f"{name} ...", flush=True)
            try:
                found = await ROWS[name](bench)
            except Exception:  # noqa: BLE001, the other rows have their worth
                traceback.print_exc()
                broken.append(name)
                continue
            for row in found:
                print(f"  {row.name}: {row.value:,.2f} {row.unit}"
                      + ("" if row.ratio is None else f", ratio {row.ratio:.2f}"))
                for note in row.notes:
                    print(f"    {note}")
            print(f"  ({time.perf_counter() - began:.0f} s)", flush=True)
            rows += found
    finally:
        await bench.large.close()
    return rows, broken


def main() -> int:
    """Run what was asked for. Return 1 when a row could not be measured."""
    asked = argparse.ArgumentParser(prog="python -m bench", description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--quick", action="store_true", help="small sizes")
    asked.add_argument("--only", action="append", choices=ROWS, metavar="NAME",
                       help=f"one of {', '.join(ROWS)}; may be repeated")
    asked.add_argument("--folder", type=Path, default=ROOT / "data",
                       help="where data is written (default: %(default)s)")
    asked.add_argument("--results", type=Path, default=ROOT / "bench" / "results",
                       help="where the table is written (default: %(default)s)")
    options = asked.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in ROWS if not options.only or name in options.only]
    about = report.machine(options.folder, options.quick)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        large = Large(Path(folder), 100_000 if options.quick else 1_000_000)
        rows, broken = uvloop.run(run(Bench(Path(folder), options.quick, large), names))
    report.show(rows)
    if not options.only:
        report.write(rows, about, options.results)
        print(f"written: {options.results}/latest.md, .json, .png")
    if broken:
        print(f"could not be measured: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
