"""`run(seed)`: one simulated life of a worker, and whether every promise was kept."""

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from tests.sim.checks import check
from tests.sim.stages import forget, sim_stages
from tests.sim.world import NOTHING_LESS, Broken, Crash, Less, Outcome, World

LONG_EVERY = 200
"""One seed in so many has a long history."""

Plant = Callable[[], AbstractContextManager[None]]


@contextlib.contextmanager
def _planted(plant: Plant | None) -> Iterator[None]:
    if plant is None:
        yield
        return
    with plant():
        forget()
        yield
    forget()


def run(
    seed: int, plant: Plant | None = None, *, keep: bool = False, less: Less = NOTHING_LESS
) -> Outcome:
    """Return what became of a seed; ``plant`` puts a bug in, ``keep`` keeps the trace's lines,
    ``less`` takes something out."""
    with _planted(plant), sim_stages():
        world = World(seed, long=seed % LONG_EVERY == LONG_EVERY - 1, keep=keep, less=less)
        failure = ""
        try:
            limit = 60 + 25 * world.odds.calls
            while world.steps < limit and (world.unsent or world.steps < limit // 3):
                world.step()
            world.settle()
            check(world)
        except Broken as broken:
            failure = str(broken)
        except (Exception, Crash) as error:  # noqa: BLE001, whatever breaks the worker is a finding
            place = traceback.extract_tb(error.__traceback__)[-1]
            failure = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
            if keep:
                failure += "\n" + traceback.format_exc()
        return Outcome(
            seed, world.trace.hexdigest(), failure, world.steps, world.odds.calls, world.counts,
            world.lines, world.journal,
        )


def short(seed: int) -> Outcome:
    """Return what became of a seed without its log, which nobody looks at."""
    outcome = run(seed)
    outcome.journal = []
    return outcome


def quiet() -> None:
    """Cut ends and failing disks are what it is about: nobody wants to read of them."""
    logging.getLogger("transport").setLevel(logging.CRITICAL)
