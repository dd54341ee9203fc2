"""Reads of the Profile API, one after the other, of people drawn from all that are known."""

import asyncio
import random
import time

import aiohttp

from bench.large import TOWN
from bench.people import visitor
from bench.processes import AUTHORISED
from bench.row import Bench, Row, bounded, percentile

EVERY_S = 0.0125
"""The API refuses more than 100 requests in a second (profile-api C6)."""
RESOURCES = ("traits", "external_ids", "events", "metadata")


async def measure(bench: Bench) -> list[Row]:
    """Measure the row."""
    large = bench.large
    worker = await large.worker()
    draw = random.Random(3)  # noqa: S311, a sample, not a secret
    took: list[float] = []
    root = f"{worker.address}/v1/spaces/default/collections/users/profiles"
    async with aiohttp.ClientSession(headers=AUTHORISED) as session:
        for number in range(bench.size(800, 200)):
            person = draw.randrange(large.people)
            id = f"user_id:u-{person}" if person % 5 < 2 else \
                f"anonymous_id:{visitor(person, 0, TOWN)}"
            began = time.perf_counter()
            async with session.get(f"{root}/{id}/{RESOURCES[number % 4]}") as answer:
                await answer.read()
                assert answer.status == 200, f"{id}: {answer.status}"
            spent = time.perf_counter() - began
            took.append(spent * 1000)
            await asyncio.sleep(max(0.0, EVERY_S - spent))
    return [bounded(
        "Profile API read, p99", percentile(took, 99), "ms", 10,
        (f"p50 {percentile(took, 50):.1f} ms, most {max(took):.1f} ms of {len(took)}, over "
         f"{', '.join(RESOURCES)}, with {large.people:,} people known",),
    )]
