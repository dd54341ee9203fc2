"""Where the stages spend their time: samples of the stack, on the traffic of the comparison.

    python -m bench.hot [EVENTS]

A sample is taken at each tick of processor time (mostly 4 ms); what C code spends counts for who
called it. Prints shares by file and by function, alone and with all that they call.
"""

import signal
import sys
import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path
from types import FrameType

from bench.make_workspace import write
from bench.people import GAP_MS, events
from bench.processes import ROOT, as_the_worker
from bench.stages import CHUNK, Side, now_ms

SHOWN = 22


def main(count: int) -> None:
    """Sample ``count`` events after a third as many to warm up."""
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    files: Counter[str] = Counter()

    def sample(_signal: int, frame: FrameType | None) -> None:
        seen: set[str] = set()
        first = True
        while frame is not None:
            code = frame.f_code
            file = code.co_filename.removeprefix(f"{ROOT}/")
            name = f"{file} {code.co_name}"
            if first:
                alone[name] += 1
                files[file] += 1
                first = False
            if name not in seen:
                seen.add(name)
                within[name] += 1
            frame = frame.f_back

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "workspace", "http://127.0.0.1:9/")
        side = Side("hot", Path(folder) / "state", Path(folder) / "workspace")
        as_the_worker()
        warm = count // 3
        left = events(1, 100_000, count + warm, now_ms() - (count + warm) * GAP_MS)
        signal.signal(signal.SIGPROF, sample)
        done = 0
        while chunk := list(islice(left, CHUNK)):
            def watch(on: bool, measured: bool = done >= warm) -> None:
                signal.setitimer(signal.ITIMER_PROF, *((0.001, 0.001) if on and measured else (0,)))

            side.take(chunk, measure=done >= warm, watch=watch)
            done += len(chunk)
        side.store.close()
    total = sum(alone.values())
    cpu = sum(side.told.cpu) / len(side.told.cpu)
    print(f"{total:,} samples, {cpu:.1f} us of processor time an event (sampled)\n\nby file")
    for name, hits in files.most_common(SHOWN):
        print(f"  {hits / total:6.1%}  {name}")
    print("\nby function: alone, with what it calls")
    for name, hits in alone.most_common(SHOWN):
        print(f"  {hits / total:6.1%} {within[name] / total:6.1%}  {name}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60_000)
