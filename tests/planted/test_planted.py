"""The simulator finds what is planted: were it blind, a run without failures would mean nothing."""

import pytest

from tests.planted.bugs import BUGS
from tests.sim.run import run

MOST_SEEDS = 1000
"""Within so many seeds each has to be found."""


@pytest.mark.parametrize("name", sorted(BUGS))
def test_planted_bug_is_found(name: str) -> None:
    for seed in range(MOST_SEEDS):
        if run(seed, BUGS[name]).failure:
            return
    raise AssertionError(f"{name} was not found within {MOST_SEEDS} seeds")


@pytest.mark.parametrize("seed", range(3))
def test_planted_canary_dies(seed: int) -> None:
    assert run(seed, BUGS["usage_not_counted"]).failure
    assert not run(seed).failure
