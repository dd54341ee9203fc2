"""`python -m tests.chaos`, or `make chaos`: the worker is killed, its disk loses power, and nothing
may be lost, done twice or out of order.

    --rounds N   kill it so many times (ROUNDS=N with make); without it the whole takes less than
                 ten minutes, and the simulator gets what the kills leave of them
    --sims N     simulate so many seeds; the default with --rounds is 100,000
    --seed N     choose the kills; the default is another one every time, and is printed
    --life N     one life of the simulated disk, to look at
    --keep       keep the data folders
"""

import argparse
import asyncio
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import powercuts
from tests.chaos.kills import Kills, plan

ROUNDS = 60
PART = 30
"""So many kills on one data folder, then a fresh one. Every third folder has a log that forgets."""
LIVES = 200
SIMS = 100_000
CHUNK = 200
MOST_SECONDS = 570
"""When neither rounds nor seeds are given, the simulator ends before this."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--life", type=int)
    parser.add_argument("--sims", type=int)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    logging.getLogger("segment").setLevel(logging.CRITICAL)
    logging.getLogger("transport").setLevel(logging.ERROR)
    logging.getLogger("watersmeet.archive").setLevel(logging.ERROR)
    if options.life is not None:
        print(asyncio.run(powercuts.live(options.life)))
        return 0
    seed = options.seed if options.seed is not None else int(time.time()) % 1_000_000
    began = time.monotonic()
    rounds = ROUNDS if options.rounds is None else options.rounds
    print(f"seed {seed}, {rounds} kills, less than ten minutes; for longer: make chaos ROUNDS=1000"
          if options.rounds is None else f"seed {seed}, {rounds} kills", flush=True)
    faults = kill(seed, rounds, options.keep)
    faults += cut(seed)
    if options.sims is None and options.rounds is None:
        faults += simulate(seed, SIMS, began + MOST_SECONDS)
    else:
        faults += simulate(seed, SIMS if options.sims is None else options.sims)
    for fault in faults:
        print("BROKEN:", fault)
    print("broken promises:", len(faults))
    return bool(faults)


def kill(seed: int, rounds: int, keep: bool) -> list[str]:
    began = time.monotonic()
    faults: list[str] = []
    totals: dict[str, int] = {}
    places: dict[str, int] = {}
    folder = tempfile.mkdtemp(prefix="watersmeet-chaos-")
    try:
        for first in range(0, rounds, PART):
            own, part = seed + first, min(PART, rounds - first)
            forgets = own // PART % 3 == 1
            kills = Kills(Path(folder) / str(own), own, forgets=forgets, say=_say)
            again = f"python -m tests.chaos --seed {own} --rounds {part}"
            try:
                verdict = kills.run(plan(own, part, forgets=forgets))
            except Exception as error:  # noqa: BLE001, whatever breaks is a finding
                faults.append(f"{again}: at {kills.place}: {type(error).__name__}: {error}")
                verdict = kills.verdict
            faults += [f"{fault} ({again})" for fault in verdict.faults]
            for place, count in kills.killed.items():
                places[place] = places.get(place, 0) + count
            for name, count in (
                ("sent", kills.sent), ("repeats", kills.repeats), ("refused", kills.refused),
                ("accepted", verdict.accepted), ("applied", verdict.applied),
                ("lost", verdict.lost), ("twice", verdict.twice),
                ("messages", verdict.messages), ("repeated", verdict.repeated),
            ):
                totals[name] = totals.get(name, 0) + count
            if faults and keep:
                break
    finally:
        if keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    _say("")
    print(f"killed {sum(places.values())} times in {time.monotonic() - began:.0f} s:")
    for place in sorted(places):
        print(f"  {places[place]:>6} {place}")
    print(f"requests sent {totals.get('sent', 0)}, of them again {totals.get('repeats', 0)}, "
          f"refused for a while {totals.get('refused', 0)}")
    print(f"events accepted {totals.get('accepted', 0)}, applied {totals.get('applied', 0)}, "
          f"lost {totals.get('lost', 0)}, twice {totals.get('twice', 0)}")
    print(f"webhook messages {totals.get('messages', 0)}, repeats under the same messageId "
          f"{totals.get('repeated', 0)}")
    return faults


def cut(seed: int) -> list[str]:
    began = time.monotonic()
    cuts, answered, faults = powercuts.cut(range(seed, seed + LIVES))
    print(f"power cuts {cuts} in {time.monotonic() - began:.0f} s, requests answered {answered}, "
          f"broken {len(faults)}")
    return faults


def simulate(first: int, seeds: int, until: float = float("inf")) -> list[str]:
    """Run the simulator on so many seeds, or until time is up."""
    faults: list[str] = []
    done = 0
    began = time.monotonic()
    longest = 10.0
    while done < seeds and time.monotonic() + longest < until and not faults:
        chunk = min(CHUNK * 10 if until == float("inf") else CHUNK, seeds - done)
        start = time.monotonic()
        _say(f"simulating seeds {first + done} to {first + done + chunk - 1}")
        ran = subprocess.run(
            [sys.executable, "-m", "tests.sim", "--seeds", str(chunk), "--from",
             str(first + done)], check=False, capture_output=True, text=True,
        )
        lines = [line for line in ran.stdout.splitlines() if line.startswith("FAILED")]
        if ran.returncode != 0:
            faults += lines or [f"python -m tests.sim: {ran.stderr[-1000:]}"]
        done += chunk
        longest = max(longest, 1.2 * (time.monotonic() - start))
    _say("")
    print(f"simulated lives {done} in {time.monotonic() - began:.0f} s, broken {len(faults)}")
    return faults


def _say(text: str) -> None:
    if sys.stdout.isatty():
        print(f"\r{text:<60}", end="" if text else "\r", flush=True)


if __name__ == "__main__":
    sys.exit(main())
