"""HTTP to delivered: the worker as `make run` starts it, against the plain pipeline (plain.py).

Both get the same bytes in turn. A round ends when every event is applied, every webhook message
has arrived at the sink, and its answer is logged (the plain pipeline: counted).
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from bench.load import send
from bench.make_workspace import WRITE_KEY, write
from bench.people import GAP_MS, batches
from bench.processes import Served, Worker, free_port
from bench.row import Bench, Row, compared, spread

VISITORS = 100_000
NAME = "HTTP to delivered, one process"


async def measure(bench: Bench) -> list[Row]:
    """Measure the row: 100,000 events to warm up, and five rounds of 100,000."""
    warm, events = bench.size(100_000, 10_000), bench.size(100_000, 20_000)
    return [await compare(bench.folder / "delivered", warm, events, rounds=3 if bench.quick else 5)]


class Side:
    """One of the two, with what its rounds showed."""

    def __init__(self, process: Served, done: Callable[[int], Awaitable[int]]) -> None:
        """``done(sent)`` returns the messages made in all, when all of them are delivered."""
        self.process = process
        self.done = done
        self.sent = 0
        self.speeds: list[float] = []
        self.cpu: list[float] = []
        self.rest: list[float] = []
        """Seconds from the last answer until all was done."""
        self.messages = 0

    async def take(self, bodies: list[bytes], events: int) -> None:
        """Send, and wait until all is done."""
        cpu, began = self.process.cpu_seconds, time.perf_counter()
        self.sent += events
        answered = await send(f"{self.process.address}/v1/batch", bodies)
        self.messages = await self.done(self.sent)
        took = time.perf_counter() - began
        self.speeds.append(events / took)
        self.rest.append(took - answered)
        self.cpu.append((self.process.cpu_seconds - cpu) / events * 1e6)


async def compare(folder: Path, warm: int, events: int, rounds: int) -> Row:
    """Run both in one call, in turn."""
    folder.mkdir(parents=True)  # noqa: ASYNC240, nothing else runs yet
    port = free_port()
    at = f"http://127.0.0.1:{port}/"
    write(folder / "workspace", at)  # and the folder itself
    with Served([sys.executable, "-m", "bench.load", "sink", str(port)], folder / "sink.out",
                port) as sink:
        await sink.ready("/")
        plain_port = free_port()
        with (
            Worker(folder / "engine", folder / "workspace") as worker,
            Served([sys.executable, "-m", "bench.plain", str(plain_port), at,
                    str(folder / "plain")], folder / "plain.out", plain_port) as plain,
        ):
            await worker.up()
            await plain.ready("/progress")

            async def worker_done(sent: int) -> int:
                worker.sent = sent
                return await worker.settled()

            async def plain_done(sent: int) -> int:
                while True:
                    told = msgspec.json.decode(await plain.get("/progress"))
                    if told["calls"] >= sent and told["delivered"] == told["made"]:
                        return int(told["made"])
                    plain.check()
                    await asyncio.sleep(0.03)

            sides = (Side(plain, plain_done), Side(worker, worker_done))
            for number in range(rounds + 1):
                count = events if number else warm
                start_ms = time.time_ns() // 1_000_000 - count * GAP_MS
                bodies = batches(number, VISITORS, count, start_ms, WRITE_KEY)
                for side in sides:
                    await side.take(bodies, count)
            arrived = int(await sink.get("/"))
    limit, engine = sides
    made = limit.messages + engine.messages
    assert arrived == made, f"{made} messages were made, {arrived} arrived"
    # the plain pipeline does not look at all audiences again after a merge: a few in a thousand
    assert abs(limit.messages - engine.messages) <= 0.02 * made, "the two did different work"
    return compared(
        NAME, "events/s",
        list(zip(engine.speeds[1:], limit.speeds[1:], strict=True)), ">= 0.7",
        (f"events/s, median (least to most): engine {spread(engine.speeds[1:])}, "
         f"plain pipeline {spread(limit.speeds[1:])}",
         f"processor time an event, all threads: engine {spread(engine.cpu[1:], '.1f')} us, "
         f"plain pipeline {spread(limit.cpu[1:], '.1f')} us",
         f"seconds from the last answer to all delivered: engine {spread(engine.rest[1:], '.1f')}, "
         f"plain pipeline {spread(limit.rest[1:], '.1f')}",
         f"webhook messages arrived: engine {engine.messages:,}, plain {limit.messages:,} "
         f"of {limit.sent:,} events each"),
    )
