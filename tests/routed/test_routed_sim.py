"""The routed mode simulated, seed by seed. One seed again: python -m tests.routed.sim SEED"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.routed.sim import run

SEEDS = 200
BLOCKS = 20
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("block", range(BLOCKS))
def test_protocol_12_every_promise_is_kept_on_many_partitions_whatever_fails(block: int) -> None:
    size = SEEDS // BLOCKS
    counts: Counter[str] = Counter()
    for seed in range(block * size, (block + 1) * size):
        outcome = run(seed)
        counts.update(outcome.counts)
        assert not outcome.failure, f"python -m tests.routed.sim {seed}    {outcome.failure}"
    assert counts["done"]


@pytest.mark.parametrize("seed", [3, 24, 77])
def test_routed_sim_two_runs_of_a_seed_are_the_same(seed: int) -> None:
    assert run(seed).trace == run(seed).trace


def test_routed_sim_a_seed_is_the_same_whatever_the_hash_seed() -> None:
    found = set()
    for hash_seed in "13":
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-m", "tests.routed.sim", "36"], env=env, cwd=ROOT,
                              capture_output=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1
