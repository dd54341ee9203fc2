"""Several workers on Kafka: any of them is asked, and any of them may go."""

import threading
import time
from collections.abc import Callable

from tests.blackbox.conftest import WEB
from tests.blackbox.process import Worker
from tests.cluster.test_cluster_worker import counted, until, visit


def owned(worker: Worker) -> float:
    try:
        return worker.metrics().get("watersmeet_partitions_owned", 0)
    except (OSError, AssertionError):
        return -1


def test_scale_any_worker_takes_in_and_tells_for_all(make: Callable[..., Worker]) -> None:
    one = make("one").start()
    two = make("two").start()
    until(lambda: (owned(one), owned(two)) == (2, 2), 30)
    people = [f"p{n}" for n in range(6)]
    for number, name in enumerate(people):
        visit((one, two)[number % 2], name, 0, 5)
    for worker in (one, two):
        for name in people:
            id = f"anonymous_id:anon-{name}"
            until(lambda worker=worker, id=id: counted(worker, id) == 5)
        assert worker.get("/v1/spaces/default/audiences")["data"]
        usage = worker.get("/v1/usage?month=" + time.strftime("%Y-%m", time.gmtime()))
        assert (usage["mtu"], usage["api_calls"]) == (6, 30)


def test_scale_a_worker_that_is_killed_is_named_and_then_replaced(
    make: Callable[..., Worker]
) -> None:
    one = make("one").start()
    two = make("two").start()
    until(lambda: (owned(one), owned(two)) == (2, 2), 30)
    sent = [0]
    ended = threading.Event()

    def send() -> None:
        while not ended.is_set():
            calls = [{"type": "track", "event": "Product Viewed", "properties": {"name": "hat"},
                      "anonymousId": f"v{n % 8}", "messageId": f"m{sent[0] + n}"}
                     for n in range(20)]
            while one.send(WEB, "/v1/batch", {"batch": calls}) != 200:
                time.sleep(0.2)
            sent[0] += 20
            time.sleep(0.02)

    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(2)
    two.kill()
    status, _, body = one.ask("GET", "/v1/usage?month=2026-01")
    assert status == 503, "half of the partitions are nobody's"
    assert f"127.0.0.1:{two.port}".encode() in body
    until(lambda: owned(one) == 4, 40)
    two.start()
    until(lambda: (owned(one), owned(two)) == (2, 2), 40)
    time.sleep(1)
    ended.set()
    sender.join()

    def applied() -> int:
        return sum(counted(one, f"anonymous_id:v{n}") for n in range(8))

    until(lambda: applied() >= sent[0], 40)
    assert applied() == sent[0]
