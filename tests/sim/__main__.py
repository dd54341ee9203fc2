"""`python -m tests.sim SEED` runs a seed and prints its life; `--seeds N [--from M]` runs many."""

import argparse
import logging
import sys
import time
from collections import Counter

from tests.sim.run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?")
    parser.add_argument("--seeds", type=int, help="run so many")
    parser.add_argument("--from", type=int, default=0, dest="first")
    options = parser.parse_args()
    logging.getLogger("transport").setLevel(logging.CRITICAL)  # cut ends are what it is about
    if options.seeds is None:
        outcome = run(options.seed or 0, keep=True)
        print("\n".join(outcome.lines))
        print(outcome.trace, outcome.failure or "ok")
        return bool(outcome.failure)
    return many(options.first, options.seeds)


def many(first: int, count: int) -> int:
    began = time.perf_counter()
    counts: Counter[str] = Counter()
    steps = events = failed = 0
    for seed in range(first, first + count):
        outcome = run(seed)
        counts.update(outcome.counts)
        steps += outcome.steps
        events += outcome.events
        if outcome.failure:
            failed += 1
            print(f"FAILED: python -m tests.sim {seed}    {outcome.failure[:300]}", flush=True)
            if failed >= 20:
                break
        if (seed - first + 1) % 10_000 == 0:
            print(f"{seed - first + 1} seeds", flush=True)
    took = time.perf_counter() - began
    print(f"{count} seeds, {events} events, {steps} steps, {failed} failed, "
          f"{count / took:.0f} seeds/s")
    for name in sorted(counts):
        print(f"  {counts[name]:>8} {name}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
