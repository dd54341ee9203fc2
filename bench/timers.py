"""How late a window's expiry is told: from the instant it is due to the webhook message.

Everybody pings once, is inside `pinged` for five seconds, and leaves by timer: no event arrives.
"""

import asyncio
import time
from typing import Any

import msgspec

from bench.large import post
from bench.people import iso
from bench.row import Bench, Row, bounded, percentile

WITHIN_MS = 5_000
EVERY_S = 0.25


async def measure(bench: Bench) -> list[Row]:
    """Measure the row."""
    large = bench.large
    worker = await large.worker()
    groups, size = bench.size(20, 8), 50
    due: dict[str, int] = {}
    late: list[float] = []
    everything = asyncio.Event()

    def arrived(message: dict[str, Any], now: float) -> None:
        if message["event"] == "Audience Exited" and message.get("userId") in due:
            late.append(now - due.pop(message["userId"]) / 1000)
            if len(late) == groups * size:
                everything.set()

    large.sink.listener = arrived
    at = time.perf_counter()
    for group in range(groups):
        calls = []
        for number in range(size):
            person, now_ms = f"ping-{group}-{number}", time.time_ns() // 1_000_000
            due[person] = now_ms + WITHIN_MS
            calls.append(msgspec.json.encode({
                "type": "track", "event": "Ping Sent", "messageId": person,
                "userId": person, "timestamp": iso(now_ms)}))
        await post(worker, calls, size)
        at += EVERY_S
        await asyncio.sleep(at - time.perf_counter())
    await asyncio.wait_for(everything.wait(), 60)
    large.sink.listener = None
    await worker.settled()
    return [bounded(
        "Window expiry, due to webhook, p99", percentile(late, 99), "s", 5,
        (f"p50 {percentile(late, 50):.2f} s, least {min(late):.2f} s, most {max(late):.2f} s of "
         f"{len(late)}, with {large.people:,} people known",),
    )]
