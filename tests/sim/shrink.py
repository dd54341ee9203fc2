"""A failing seed made shorter: kinds of trouble are taken out, then calls, while it still fails.

What is left out changes what comes after it, so the shorter run may fail in another way: it is a
way all the same.
"""

from dataclasses import fields

from tests.sim.odds import Odds
from tests.sim.run import Plant, run
from tests.sim.world import NOTHING_LESS, Less, Outcome

KEPT = ("weights", "calls")
"""Fields of `Odds` that are no trouble."""


def shrink(seed: int, plant: Plant | None = None) -> tuple[Less, Outcome]:
    """Return what can be left out of a failing seed, and how it fails then."""
    less = NOTHING_LESS

    def fails(one: Less) -> bool:
        return bool(run(seed, plant, less=one).failure)

    for field in fields(Odds):
        fewer = Less(less.faults | {field.name}, less.calls)
        if field.name not in KEPT and fails(fewer):
            less = fewer
    left = list(range(run(seed, plant, less=less).events))
    size = max(1, len(left) // 2)
    while size:
        place = 0
        while place < len(left):
            fewer = Less(less.faults, less.calls | set(left[place : place + size]))
            if fails(fewer):
                less = fewer
                del left[place : place + size]
            else:
                place += size
        size //= 2
    return less, run(seed, plant, keep=True, less=less)
