"""The simulator of the routed mode finds each rule that is switched off."""

import pytest

from tests.routed.planted import BUGS, SEEN_BY
from tests.routed.sim import run

MOST_SEEDS = 1000
"""Within so many seeds each has to be found, should the one that is known not see it any more."""


@pytest.mark.parametrize("name", sorted(BUGS))
def test_planted_rule_of_the_protocol_is_missed(name: str) -> None:
    for seed in (SEEN_BY.get(name, 0), *range(MOST_SEEDS)):
        if run(seed, BUGS[name]).failure:
            assert not run(seed).failure
            return
    raise AssertionError(f"{name} was not found within {MOST_SEEDS} seeds")
