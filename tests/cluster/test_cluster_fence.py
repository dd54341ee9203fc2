"""A worker that sleeps through its own replacement changes nothing when it wakes (protocol 9)."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.blackbox.process import Worker
from tests.cluster.test_cluster_many import owned
from tests.cluster.test_cluster_worker import counted, until, visit

VISITORS = [f"v{n}" for n in range(12)]


def asleep(worker: Worker) -> bool:
    assert worker.process is not None
    status = Path(f"/proc/{worker.process.pid}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("step", ["lot.applied", "lot.sent", "lot.logged", "lot.written"])
def test_protocol_9_a_worker_that_wakes_late_is_fenced(
    make: Callable[..., Worker], step: str
) -> None:
    one = make("one").start()
    two = make("two").start(WATERSMEET_STOP_AT=f"{step}:40")
    until(lambda: asleep(two) or (owned(one), owned(two)) == (2, 2), 30)
    rounds = 0
    while not asleep(two):
        assert rounds < 60, "it never comes to the step"
        for name in VISITORS:
            visit(one, name, rounds * 5, 5)
        rounds += 1
    until(lambda: owned(one) == 4, 40)
    for name in VISITORS:
        visit(one, name, rounds * 5, 5)
    wanted = rounds * 5 + 5
    until(lambda: all(counted(one, f"anonymous_id:anon-{v}") == wanted for v in VISITORS), 40)
    assert two.process is not None
    os.kill(two.process.pid, signal.SIGCONT)
    until(lambda: (owned(one), owned(two)) == (2, 2), 60)
    for name in VISITORS:
        visit(two, name, wanted, 5)
    until(lambda: all(counted(one, f"anonymous_id:anon-{v}") == wanted + 5 for v in VISITORS), 40)
    time.sleep(1)
    assert all(counted(two, f"anonymous_id:anon-{v}") == wanted + 5 for v in VISITORS)
