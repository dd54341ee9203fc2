"""The simulator by hand.

    python -m tests.sim SEED             one seed: its life, step by step, and how it ended
    python -m tests.sim SEED --shrink    the same, with as much left out as still fails
    python -m tests.sim --seeds N        many; --from M begins there, --jobs J shares them out
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter

from tests.sim.run import quiet, run, short
from tests.sim.shrink import shrink

MOST_FAILURES = 20


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    quiet()
    if options.seeds is not None:
        return many(options.first, options.seeds, options.jobs)
    if options.shrink:
        less, outcome = shrink(options.seed)
        print(f"without {sorted(less.faults)} and calls {sorted(less.calls)}")
    else:
        outcome = run(options.seed, keep=True)
    print("\n".join(outcome.lines))
    print(outcome.trace, outcome.failure or "ok")
    return bool(outcome.failure)


def many(first: int, count: int, jobs: int) -> int:
    began = time.perf_counter()
    counts: Counter[str] = Counter()
    steps = events = done = failed = 0
    seeds = range(first, first + count)
    with multiprocessing.get_context("spawn").Pool(jobs, quiet) as pool:
        for outcome in pool.imap(short, seeds, chunksize=20):
            done += 1
            counts.update(outcome.counts)
            steps += outcome.steps
            events += outcome.events
            if outcome.failure:
                failed += 1
                place = f"python -m tests.sim {outcome.seed}"
                print(f"FAILED: {place}    {outcome.failure[:300]}", flush=True)
                if failed == MOST_FAILURES:
                    pool.terminate()
                    break
            if done % 10_000 == 0:
                print(f"{done} seeds", flush=True)
    took = time.perf_counter() - began
    rate = done / took
    print(f"{done} seeds, {events} events, {steps} steps, {failed} failed, {rate:.0f} seeds/s")
    points = sorted(name.partition(" ")[2] for name in counts if name.startswith("point "))
    never = [name for name in points if not counts[f"crash {name}"]]
    print("never crashed at:", ", ".join(never) or "no step")
    for name in sorted(counts):
        if not name.startswith("point "):
            print(f"  {counts[name]:>8} {name}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
