"""The stages' cost of an event under 1,000 audiences, against 10: the same traffic in turn.

A typical event touches few: of the 1,000, 20 are those of the comparison with the plain pipeline,
the others wait for events of their own.
"""

from bench.profiles import row_of
from bench.row import Bench, Row
from bench.stages import measured


async def measure(bench: Bench) -> list[Row]:
    """Measure the row."""
    count = bench.size(60_000, 15_000)
    told = await measured("audiences", bench.folder / "audiences", count)
    return [row_of("Cost of an event, 1,000 audiences against 10", told, "<= 2")]
