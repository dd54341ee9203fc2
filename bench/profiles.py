"""The stages' cost of an event where many people are known, against where few are.

Both states get the same bytes: traffic of people drawn from all. The small state knows just those
whom the traffic meets, filled up to 10,000, so the size of the state is all that differs. The
small one's people have all been seen a moment ago, as in a worker that knows no others.
"""

import random
import time
from collections.abc import Iterator
from typing import Any

from bench.large import TOWN, fill
from bench.make_workspace import WRITE_KEY
from bench.people import GAP_MS, events, iso, visitor
from bench.processes import Worker
from bench.row import Bench, Row, compared
from bench.stages import measured

SMALL = 10_000
SEED = 201


async def measure(bench: Bench) -> list[Row]:
    """Measure the row."""
    large = bench.large
    count = bench.size(100_000, 20_000)
    known = await large.folder()
    few = bench.folder / "small"
    with Worker(few, await large.workspace()) as worker:
        await worker.up()
        await fill(worker, warmed(large.people, count)[1])
    told = await measured("profiles", known, few, bench.folder / "copies", large.people, count)
    return [row_of(f"Cost of an event, {large.people:,} people against {SMALL:,}", told, "<= 1.3")]


def row_of(name: str, told: list[Any], goal: str) -> Row:
    """Return the row of two sides that took turns."""
    more, less = told
    cpu = sum(more.cpu) / sum(less.cpu)
    return compared(
        name, "us/event", list(zip(more.wall, less.wall, strict=True)), goal,
        (f"ratio of the processor time of the stages' thread: {cpu:.2f}",
         f"webhook messages: {more.messages:,} and {less.messages:,}"),
    )


def traffic(people: int, count: int) -> Iterator[dict[str, Any]]:
    """Yield the traffic, up to now."""
    start_ms = time.time_ns() // 1_000_000 - count * GAP_MS
    return events(SEED, people, count, start_ms, TOWN)


def warmed(people: int, count: int) -> tuple[list[int], list[int]]:
    """Return whom the large and the small state see once more before the traffic: people drawn
    from all, and everybody.
    """
    met = {int(str(event["anonymousId"]).split("-")[1]) for event in traffic(people, count)}
    draw = random.Random(SEED)  # noqa: S311, a sample, not a secret
    others = [person for person in draw.sample(range(people), min(people, 2 * SMALL))
              if person not in met]
    few = sorted(met) + others[: max(0, SMALL - len(met))]
    draw.shuffle(few)
    return draw.sample(range(people), min(people, SMALL)), few


def page(person: int) -> dict[str, Any]:
    """Return one more event of a person."""
    return {
        "type": "page", "name": "Home", "messageId": f"warm-{person}", "properties": {},
        "anonymousId": visitor(person, 0, TOWN), "writeKey": WRITE_KEY,
        "timestamp": iso(time.time_ns() // 1_000_000),
    }
