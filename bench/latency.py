"""From the sending of a call to the arrival of the webhook message that it causes.

Single calls of people nobody has seen, each of whom enters audiences at once; first on an idle
machine, then beside traffic at half of the speed that this worker has just shown.
"""

import asyncio
import time
from typing import Any

import aiohttp

from bench.large import TOWN, Large
from bench.load import JSON, send
from bench.make_workspace import WRITE_KEY
from bench.people import GAP_MS, batches, iso
from bench.processes import Worker
from bench.row import Bench, Row, bounded, percentile

EVERY_S = 0.02
ENTERED = "ordered_7d"


async def measure(bench: Bench) -> list[Row]:
    """Measure both rows."""
    large = bench.large
    worker = await large.worker()
    probes = bench.size(600, 150)
    idle = await probe(worker, large, probes, "idle")
    speed = await burst(worker, large.people, bench.size(30_000, 5_000))
    seconds = probes * EVERY_S
    load = asyncio.create_task(loaded(worker, large.people, speed / 2, seconds + 0.5))
    cpu, began = worker.cpu_seconds, time.perf_counter()
    await asyncio.sleep(0.25)
    busy = await probe(worker, large, probes, "busy")
    used = (worker.cpu_seconds - cpu) / (time.perf_counter() - began)
    sent = await load
    await worker.settled()
    where = f"with {large.people:,} people known"
    return [
        bounded("HTTP receipt to webhook, idle machine, p99", percentile(idle, 99), "ms", 250,
                (f"{told(idle)}, {where}",)),
        bounded("HTTP receipt to webhook, half load, p99", percentile(busy, 99), "ms", 1000,
                (f"{told(busy)}, {where}, beside {sent / seconds:,.0f} events/s of a measured "
                 f"{speed:,.0f}; the worker used {used:.0%} of a core",)),
    ]


def told(values: list[float]) -> str:
    """Return the distribution in words."""
    return (f"p50 {percentile(values, 50):.0f} ms, p99 {percentile(values, 99):.0f} ms, "
            f"most {max(values):.0f} ms of {len(values)}")


async def probe(worker: Worker, large: Large, count: int, name: str) -> list[float]:
    """Send single calls, evenly spaced. Return each one's milliseconds to its message."""
    began: dict[str, float] = {}
    took: list[float] = []
    everything = asyncio.Event()

    def arrived(message: dict[str, Any], now: float) -> None:
        if message["properties"].get("audience_key") == ENTERED:
            started = began.pop(message.get("userId"), None)
            if started is not None:
                took.append((now - started) * 1000)
                if len(took) == count:
                    everything.set()

    large.sink.listener = arrived
    async with aiohttp.ClientSession() as session:

        async def one(number: int) -> None:
            person = f"probe-{name}-{number}"
            began[person] = time.time()
            call = {"type": "track", "event": "Order Completed", "userId": person,
                    "messageId": person, "timestamp": iso(time.time_ns() // 1_000_000),
                    "writeKey": WRITE_KEY, "properties": {"revenue": 5}}
            async with session.post(f"{worker.address}/v1/track", json=call) as answer:
                assert answer.status == 200, answer.status

        sending = []
        at = time.perf_counter()
        for number in range(count):
            worker.sent += 1
            sending.append(asyncio.create_task(one(number)))
            at += EVERY_S
            await asyncio.sleep(at - time.perf_counter())
        await asyncio.gather(*sending)
        await asyncio.wait_for(everything.wait(), 30)
    large.sink.listener = None
    return took


async def burst(worker: Worker, people: int, count: int) -> float:
    """Return how many events of ordinary traffic this worker does in a second, up to delivered."""
    bodies = traffic(people, count, seed=101)
    began = time.perf_counter()
    worker.sent += count
    await send(f"{worker.address}/v1/batch", bodies)
    await worker.settled()
    return count / (time.perf_counter() - began)


async def loaded(worker: Worker, people: int, per_s: float, seconds: float) -> int:
    """Send ordinary traffic at a rate. Return how many events were sent."""
    bodies = traffic(people, int(per_s * seconds) + 100, seed=102)
    at = time.perf_counter()
    until = at + seconds
    sending: set[asyncio.Task[None]] = set()
    sent = 0

    async def one(session: aiohttp.ClientSession, body: bytes) -> None:
        async with session.post(f"{worker.address}/v1/batch", data=body, headers=JSON) as answer:
            assert answer.status == 200, answer.status

    async with aiohttp.ClientSession() as session:
        for body in bodies:
            if at > until:
                break
            worker.sent += 100
            sent += 100
            task = asyncio.create_task(one(session, body))
            sending.add(task)
            task.add_done_callback(sending.discard)
            at += 100 / per_s
            await asyncio.sleep(at - time.perf_counter())
        await asyncio.gather(*sending)
    return sent


def traffic(people: int, count: int, seed: int) -> list[bytes]:
    """Return whole batches of the known people's traffic, up to now."""
    count -= count % 100
    start_ms = time.time_ns() // 1_000_000 - count * GAP_MS
    return batches(seed, people, count, start_ms, WRITE_KEY, town=TOWN)
