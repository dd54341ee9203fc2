"""The whole worker simulated, seed by seed. One seed again: python -m tests.sim SEED"""

import logging
import time
from collections import Counter

import pytest

from tests.sim.run import run

SEEDS = 2000
BLOCKS = 20


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Cut ends and failing disks are what it is about."""
    caplog.set_level(logging.CRITICAL, "transport")


@pytest.mark.parametrize("block", range(BLOCKS))
def test_sim_every_promise_is_kept_whatever_fails(block: int) -> None:
    size = SEEDS // BLOCKS
    began = time.perf_counter()
    counts: Counter[str] = Counter()
    for seed in range(block * size, (block + 1) * size):
        outcome = run(seed)
        counts.update(outcome.counts)
        assert not outcome.failure, f"python -m tests.sim {seed}    {outcome.failure}"
    hit = {name: count for name, count in sorted(counts.items()) if "crash" in name}
    print(f"{size / (time.perf_counter() - began):.0f} seeds/s, {hit}")


@pytest.mark.parametrize("seed", range(0, 2000, 97))
def test_sim_two_runs_of_a_seed_are_the_same(seed: int) -> None:
    assert run(seed).trace == run(seed).trace
