"""The simulator of the routed mode by hand.

    python -m tests.routed.sim SEED                 one seed: its life, step by step
    python -m tests.routed.sim --seeds N --from M   many; --jobs J shares them out
"""

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field

from tests.routed.checks import check
from tests.routed.world import Broken, Plant, World, routed_stages
from tests.sim.stages import forget

MOST_FAILURES = 20


@dataclass
class Outcome:
    """What became of a run. ``failure`` empty: all promises were kept."""

    seed: int
    trace: str
    failure: str
    steps: int
    events: int
    partitions: int
    counts: Counter[str]
    lines: list[str] = field(default_factory=list)


def run(seed: int, plant: Plant | None = None, *, keep: bool = False) -> Outcome:
    """Return what became of a seed; ``plant`` puts a bug in, ``keep`` keeps the trace's lines."""
    with contextlib.ExitStack() as stack:
        if plant is not None:
            stack.enter_context(plant())
            forget()
            stack.callback(forget)
        world = World(seed, stack.enter_context(routed_stages()), keep=keep)
        failure = ""
        try:
            world.settle()
            check(world)
        except Broken as broken:
            failure = str(broken)[:1500]
        except Exception as error:  # noqa: BLE001, whatever breaks a partition is a finding
            place = traceback.extract_tb(error.__traceback__)[-1]
            failure = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
            if keep:
                failure += "\n" + traceback.format_exc()
        return Outcome(seed, world.trace.hexdigest(), failure, world.steps, world.odds.calls,
                       world.partitions, world.counts, world.lines or [])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.routed.sim", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.seeds is not None:
        return many(options.first, options.seeds, options.jobs)
    outcome = run(options.seed, keep=True)
    print("\n".join(outcome.lines))
    print(outcome.trace, outcome.failure or "ok")
    return bool(outcome.failure)


def many(first: int, count: int, jobs: int) -> int:
    """Run seeds; print what failed, what was met, and how fast it was."""
    began = time.perf_counter()
    counts: Counter[str] = Counter()
    steps = events = done = failed = 0
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for outcome in pool.imap(run, range(first, first + count), chunksize=5):
            done += 1
            counts.update(outcome.counts)
            counts[f"on {outcome.partitions:>2} partitions"] += 1
            steps += outcome.steps
            events += outcome.events
            if outcome.failure:
                failed += 1
                place = f"python -m tests.routed.sim {outcome.seed}"
                print(f"FAILED: {place}    {outcome.failure[:300]}", flush=True)
                if failed == MOST_FAILURES:
                    pool.terminate()
                    break
    rate = done / (time.perf_counter() - began)
    print(f"{done} seeds, {events} events, {steps} steps, {failed} failed, {rate:.1f} seeds/s")
    for name in sorted(counts):
        print(f"  {counts[name]:>8} {name}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
