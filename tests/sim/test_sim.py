"""The whole worker simulated, seed by seed. One seed again: python -m tests.sim SEED"""

import logging
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from app.engine import runner_over
from app.replay import digest
from tables.store import MemoryStore
from tests.planted.bugs import BUGS
from tests.sim.run import LONG_EVERY, run
from tests.sim.shrink import shrink
from tests.sim.stages import sim_stages

SEEDS = 2000
BLOCKS = 40
ROOT = Path(__file__).parents[2]


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
    kinds = ("kill", "power cut", "disk fault hit", "state lost", "applied but timed out", "edit")
    hit = ", ".join(f"{counts[kind]} {kind}" for kind in kinds)
    print(f"{size / (time.perf_counter() - began):.0f} seeds/s; {hit}")


@pytest.mark.parametrize("seed", range(0, SEEDS, 97))
def test_sim_two_runs_of_a_seed_are_the_same(seed: int) -> None:
    assert run(seed).trace == run(seed).trace


def test_sim_a_failing_seed_is_made_shorter() -> None:
    bug = BUGS["window_ends_late"]
    whole = run(0, bug)
    _, outcome = shrink(0, bug)
    assert outcome.failure
    assert outcome.steps < whole.steps


# ---- nothing depends on the order of a set ------------------------------------------------------
DIGEST = """
import sys, msgspec
from app.engine import runner_over
from app.replay import digest
from tables.store import MemoryStore
from tests.sim.stages import sim_stages
with sim_stages():
    store = MemoryStore()
    runner = runner_over(store, "ab" * 16)
    for offset, value in enumerate(msgspec.msgpack.decode(sys.stdin.buffer.read())):
        runner.apply(offset, value)
        if offset % 7 == 0:
            runner.commit()
    runner.commit()
    print(digest(store))
"""


def hashed(code: list[str], hash_seed: str, given: bytes = b"") -> bytes:
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *code], input=given, env=env, cwd=ROOT, capture_output=True, check=True
    )
    return done.stdout


def test_engine_s9_a_log_gives_one_digest_whatever_the_hash_seed() -> None:
    journal = run(LONG_EVERY - 1).journal
    assert len(journal) > 100
    records = msgspec.msgpack.encode(journal)
    found = {hashed(["-c", DIGEST], seed, records).strip() for seed in ("1", "2", "777")}
    with sim_stages():
        store = MemoryStore()
        runner = runner_over(store, "ab" * 16)
        for offset, value in enumerate(journal):
            runner.apply(offset, value)
        runner.commit()
    assert found == {digest(store).encode()}


@pytest.mark.parametrize("seed", [0, 19, 37])
def test_sim_a_seed_is_the_same_whatever_the_hash_seed(seed: int) -> None:
    one, other = (hashed(["-m", "tests.sim", str(seed)], hash_seed) for hash_seed in "13")
    assert one == other
