"""The worker's memory with all people known, after what the rows before did to it."""

from bench.row import Bench, Row, bounded


async def measure(bench: Bench) -> list[Row]:
    """Measure the row."""
    worker = await bench.large.worker()
    now, most = worker.memory()
    return [bounded(
        f"Memory of the worker, {bench.large.people:,} people", most, "MiB", 1024,
        (f"resident at its highest; {now:,.0f} MiB now",
         f"filled over HTTP at {bench.large.filled_per_s:,.0f} events/s, up to delivered"),
    )]
