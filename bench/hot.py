"""Where a worker spends its time: samples of the stack, on the traffic of the comparison.

    python -m bench.hot [EVENTS]            a whole worker, from HTTP to delivered
    python -m bench.hot stages [EVENTS]     the stages alone

A sample is taken at each tick of processor time (mostly 4 ms); what C code spends counts for who
called it, what other threads spend for whatever the event loop does meanwhile. Prints shares by
room, by file and by function, the latter alone and with all that they call.
"""

import signal
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from types import FrameType

import msgspec
import uvloop

from bench.load import send
from bench.make_workspace import WRITE_KEY, write
from bench.people import GAP_MS, batches, events
from bench.processes import ROOT, Served, Worker, as_the_worker, free_port
from bench.stages import CHUNK, Side, now_ms

SHOWN = 22
SECONDS = 0.001


class Samples:
    """Counts of what was seen on the stack."""

    def __init__(self) -> None:
        """Begin at nothing, and take samples only between `start` and `stop`."""
        self.alone: Counter[str] = Counter()
        self.within: Counter[str] = Counter()
        signal.signal(signal.SIGPROF, self._sample)

    def start(self) -> None:
        """Take samples."""
        signal.setitimer(signal.ITIMER_PROF, SECONDS, SECONDS)

    def stop(self) -> None:
        """Take none."""
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _sample(self, _signal: int, frame: FrameType | None) -> None:
        seen: list[str] = []
        while frame is not None:
            code = frame.f_code
            seen.append(f"{_short(code.co_filename)} {code.co_name}")
            frame = frame.f_back
        self.alone[seen[0]] += 1
        for name in set(seen):
            self.within[name] += 1


def _short(path: str) -> str:
    _, package, rest = path.rpartition("site-packages/")
    return rest if package else path.removeprefix(f"{ROOT}/")


def show(alone: Counter[str], within: Counter[str]) -> None:
    """Print the shares."""
    total = sum(alone.values())
    rooms: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for name, hits in alone.items():
        file = name.split(" ")[0]
        files[file] += hits
        rooms["app/web" if file.startswith("app/web") else
              "Python" if file.startswith(("/", "<")) else file.split("/")[0]] += hits
    print(f"{total:,} samples")
    for title, counts in (("room", rooms), ("file", files)):
        print(f"\nby {title}")
        for name, hits in counts.most_common(SHOWN):
            print(f"  {hits / total:6.1%}  {name}")
    print("\nby function: alone, with what it calls")
    for name, hits in alone.most_common(SHOWN):
        print(f"  {hits / total:6.1%} {within[name] / total:6.1%}  {name}")


def stages(count: int) -> None:
    """Sample the stages alone, after a third as many events to warm up."""
    samples = Samples()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "workspace", "http://127.0.0.1:9/")
        side = Side("hot", Path(folder) / "state", Path(folder) / "workspace")
        as_the_worker()
        warm = count // 3
        left = events(1, 100_000, count + warm, now_ms() - (count + warm) * GAP_MS)
        done = 0
        while chunk := list(islice(left, CHUNK)):
            measured = done >= warm

            def watch(on: bool, measured: bool = measured) -> None:
                if on and measured:
                    samples.start()
                else:
                    samples.stop()

            side.take(chunk, measured, watch)
            done += len(chunk)
        side.store.close()
    cpu = sum(side.told.cpu) / len(side.told.cpu)
    print(f"{cpu:.1f} us of processor time an event")
    show(samples.alone, samples.within)


async def worker(count: int) -> None:
    """Sample a whole worker, after as many events to warm up."""
    with tempfile.TemporaryDirectory(dir=ROOT / "data") as name:
        folder, port = Path(name), free_port()
        write(folder / "workspace", f"http://127.0.0.1:{port}/")
        out = folder / "samples.json"
        command = [sys.executable, "-m", "bench.hot", "inside", str(out)]
        with (
            Served([sys.executable, "-m", "bench.load", "sink", str(port)], folder / "sink.out",
                   port) as sink,
            Worker(folder / "data", folder / "workspace", command) as process,
        ):
            await sink.ready("/")
            await process.up()
            for number in range(2):
                if number:
                    process.signal(signal.SIGRTMIN)
                start_ms = time.time_ns() // 1_000_000 - count * GAP_MS
                bodies = batches(number, 100_000, count, start_ms, WRITE_KEY)
                cpu = process.cpu_seconds
                process.sent += count
                await send(f"{process.address}/v1/batch", bodies)
                await process.settled()
                cpu = process.cpu_seconds - cpu
        alone, within = msgspec.json.decode(out.read_bytes(), type=list[dict[str, int]])
    print(f"{cpu / count * 1e6:.1f} us of processor time an event, all threads")
    show(Counter(alone), Counter(within))


def inside(out: Path) -> None:
    """Be a worker that takes samples of itself from SIGRTMIN on; write them when it ends."""
    from faust.cli.faust import cli

    samples = Samples()
    signal.signal(signal.SIGRTMIN, lambda _signal, _frame: samples.start())
    try:
        cli(["-A", "app", "worker"])
    finally:
        samples.stop()
        out.write_bytes(msgspec.json.encode([samples.alone, samples.within]))


def main(arguments: list[str]) -> None:
    """Do what the arguments say."""
    mode = arguments.pop(0) if arguments and not arguments[0].isdigit() else "worker"
    if mode == "inside":
        inside(Path(arguments[0]))
        return
    count = int(arguments[0]) if arguments else 100_000
    if mode == "stages":
        stages(count)
    else:
        (ROOT / "data").mkdir(exist_ok=True)
        uvloop.run(worker(count))


if __name__ == "__main__":
    main(sys.argv[1:])
