"""One worker on Kafka: what it takes in survives what befalls it."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.blackbox.conftest import SERVER, WEB
from tests.blackbox.process import Worker
from tests.chaos.sink import Sink


def until(what: Callable[[], bool], seconds: float = 20) -> None:
    """Return when it is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.1)


def visit(worker: Worker, user: str, first: int, count: int) -> None:
    """Send one visitor's events, in batches."""
    calls = [
        {"type": "track", "event": "Product Viewed", "anonymousId": f"anon-{user}",
         "messageId": f"{user}-{n}", "properties": {"name": f"p{n}", "category": "hats"}}
        for n in range(first, first + count)
    ]
    for at in range(0, count, 50):
        assert worker.send(WEB, "/v1/batch", {"batch": calls[at:at + 50]}) == 200


def counted(worker: Worker, id: str) -> int:
    try:
        return len(worker.history(id))
    except AssertionError:
        return -1


def test_scale_one_person_by_any_id_with_the_events_from_before_the_login(
    make: Callable[..., Worker], sink: Sink
) -> None:
    worker = make().start()
    visit(worker, "ann", 0, 3)
    assert worker.send(SERVER, "/v1/identify", {
        "userId": "ann", "anonymousId": "anon-ann", "traits": {"email": "ann@example.com"},
    }) == 200
    assert worker.send(SERVER, "/v1/track", {
        "userId": "ann", "event": "Order Completed", "properties": {"revenue": 120},
    }) == 200
    until(lambda: counted(worker, "email:ann@example.com") == 5)
    traits = worker.person("user_id:ann", "traits", "?limit=100")["traits"]
    assert (traits["email"], traits["recent_buyers"]) == ("ann@example.com", True)
    until(lambda: any(
        message.get("properties", {}).get("recent_buyers") is True for _, message in sink.messages
    ))
    until(lambda: worker.get("/v1/usage?month=" + time.strftime("%Y-%m", time.gmtime()))
          ["mtu"] == 1)
    assert worker.stop() == 0


@pytest.mark.parametrize("how", ["stopped", "killed", "killed, its folder lost"])
def test_protocol_9_what_was_accepted_is_there_once_when_the_worker_was(
    make: Callable[..., Worker], how: str
) -> None:
    worker = make().start()
    visit(worker, "ben", 0, 300)
    visit(worker, "cleo", 0, 20)
    if how == "stopped":
        until(lambda: counted(worker, "anonymous_id:anon-ben") == 300)
        assert worker.stop() == 0
    else:
        worker.kill()
    if "lost" in how:
        shutil.rmtree(worker.data)
    worker.start()
    visit(worker, "ben", 290, 20)  # ten of them again
    until(lambda: counted(worker, "anonymous_id:anon-ben") == 310, 30)
    time.sleep(0.5)
    assert counted(worker, "anonymous_id:anon-ben") == 310
    assert counted(worker, "anonymous_id:anon-cleo") == 20
    numbers = worker.metrics()
    assert numbers["watersmeet_set_aside"] == 0


def test_protocol_10_new_definitions_come_in_by_apply_and_not_by_a_start(
    make: Callable[..., Worker]
) -> None:
    worker = make().start()
    visit(worker, "dora", 0, 3)
    until(lambda: counted(worker, "anonymous_id:anon-dora") == 3)
    config = Path(worker.env["WATERSMEET_CONFIG"])
    (config / "audiences" / "lookers.yaml").write_text(
        "version: 1\naudiences:\n  lookers:\n    include_anonymous: true\n"
        "    where: {performed: {event: Product Viewed, at_least: 3}}\n"
    )
    assert worker.stop() == 0
    worker.start()
    assert "lookers" not in {row["key"] for row in audiences(worker)}
    assert "faust -A app apply" in worker.printed()
    worker.told("apply")
    until(lambda: {row["key"]: row["size"] for row in audiences(worker)}.get("lookers") == 1)


def audiences(worker: Worker) -> list[dict]:
    return worker.get("/v1/spaces/default/audiences")["data"]
