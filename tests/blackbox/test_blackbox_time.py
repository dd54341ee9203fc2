"""What happens because time passes and nothing else: a scripted clock, and no event arriving."""

import shutil
import time

import pytest

from tests.blackbox.conftest import WEB
from tests.blackbox.process import Time, Worker
from tests.chaos.sink import Sink

MINUTE, DAY = 60_000, 86_400_000


@pytest.fixture(scope="module")
def clock(tmp_path_factory) -> Time:
    return Time(tmp_path_factory.mktemp("clock") / "now")


@pytest.fixture(scope="module")
def worker(make, clock) -> Worker:
    return make(WATERSMEET_CLOCK=str(clock.path)).start()


def told(sink: Sink, user: str) -> list[str]:
    """Return what the webhook was told of a person, but for the source's own events."""
    return [message["event"] for _, message in sink.messages
            if message.get("userId") == user and message["messageId"].startswith("personas_")]


def until(sink: Sink, user: str, wanted: list[str], seconds: float = 20) -> None:
    """Wait until exactly that was told."""
    end = time.monotonic() + seconds
    while told(sink, user) != wanted and time.monotonic() < end:
        time.sleep(0.05)
    assert told(sink, user) == wanted


def send(worker: Worker, user: str, event: str, **properties: object) -> None:
    call = {"userId": user, "event": event, "properties": properties}
    assert worker.send(WEB, "/v1/track", call) == 200


def test_engine_a_window_expires_by_timer_alone(worker, clock, sink):
    send(worker, "wim", "Order Completed", revenue=5)
    until(sink, "wim", ["Audience Entered"])
    clock.forward(7 * DAY - 1000)
    time.sleep(0.6)
    assert told(sink, "wim") == ["Audience Entered"]
    clock.forward(2000)
    until(sink, "wim", ["Audience Entered", "Audience Exited"])
    assert worker.person("user_id:wim", "traits")["traits"]["recent_buyers"] is False


def test_journeys_H2_a_cart_is_reminded_of_when_time_has_passed(worker, clock, sink):
    send(worker, "kim", "Cart Modified", cart_id="k1", total=150)
    send(worker, "ole", "Cart Modified", cart_id="o1", total=150)
    worker.settled()
    clock.forward(20 * MINUTE)
    send(worker, "ole", "Order Completed", cart_id="o1", revenue=150)
    send(worker, "kim", "Cart Modified", cart_id="k1", total=160)
    worker.settled()
    clock.forward(29 * MINUTE)
    time.sleep(0.6)
    assert told(sink, "kim") == []
    clock.forward(2 * MINUTE)
    until(sink, "kim", ["Cart reminder"])
    clock.forward(DAY)
    until(sink, "kim", ["Cart reminder", "Cart coupon"])
    assert told(sink, "ole") == ["Audience Entered"]
    journey = worker.get("/v1/spaces/default/journeys/abandoned_cart")
    assert journey["steps"]["coupon"]["sent"] == 1


def test_journeys_D5_timers_that_fell_due_while_it_was_down_fire_at_the_start(worker, clock, sink):
    send(worker, "ida", "Cart Modified", cart_id="i1", total=30)
    send(worker, "ida", "Order Completed", cart_id="i2", revenue=1)
    worker.settled()
    worker.kill()
    clock.forward(8 * DAY)
    worker.start()
    until(sink, "ida", ["Audience Entered", "Cart reminder", "Audience Exited"])


def test_delivery_s2_a_webhook_that_fails_is_tried_again_later_in_order(worker, clock, sink):
    worker.settled()
    before = len(sink.messages)
    sink.statuses[:] = [500, 200, 500, 429]
    for n in range(3):
        send(worker, "roy", "Seen", n=n)
    for _ in range(60):
        clock.forward(5_000)
        time.sleep(0.05)
        if len(sink.messages) >= before + 3:
            break
    worker.settled()
    own = [message["properties"]["n"] for _, message in sink.messages[before:]]
    assert own == [0, 1, 2]
    assert sink.statuses == []
    assert "2" in {headers["X-Attempt"] for headers in sink.headers[-3:]}


def test_engine_a_folder_stays_with_the_kind_of_clock_it_was_made_with(worker, make, clock):
    worker.settled()
    assert worker.stop() == 0
    other = make(worker.data)
    other.output = worker.data.with_name("other.out")
    other.launch()
    assert other.died(20)
    assert "WATERSMEET_CLOCK is for tests" in other.printed()
    assert other.process.returncode == 1
    plain = make()
    plain.start()
    plain.kill()
    copy = plain.data.with_name("copy")
    shutil.copytree(plain.data, copy, ignore=shutil.ignore_patterns("*.sock*"))
    scripted = make(copy, WATERSMEET_CLOCK=str(clock.path))
    scripted.launch()
    assert scripted.died(20)
    assert "WATERSMEET_CLOCK is for tests" in scripted.printed()
