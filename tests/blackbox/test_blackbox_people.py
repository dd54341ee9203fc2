"""A person, from an unmodified SDK to the Profile API and the webhook, through a real worker."""

import hashlib
import hmac
import logging
import time
from datetime import UTC, datetime

import pytest
from segment.analytics.client import Client
from segment.analytics.request import _session

from tests.blackbox.conftest import APP, SECRET, SERVER, WEB
from tests.blackbox.process import Worker
from tests.chaos.sink import Sink
from tests.sdk import node


def python(worker, calls, **options):
    errors = []
    logging.getLogger("segment").setLevel(logging.CRITICAL)
    client = Client(WEB, host=worker.url, on_error=lambda error, _: errors.append(error),
                    upload_interval=0.05, **options)
    calls(client)
    client.flush()
    client.shutdown()
    _session.close()
    assert errors == []


def segment(worker, id):
    return worker.person(id, "metadata", "?verbose=true")["metadata"]["segment_id"]


@pytest.mark.parametrize("gzip", [False, True])
def test_engine_one_person_by_any_id_with_the_events_from_before_the_login(worker, gzip):
    name = f"ann{gzip:d}"

    def calls(client):
        client.page(anonymous_id=f"anon-{name}", name="Home", properties={"utm_source": "mail"})
        client.track(anonymous_id=f"anon-{name}", event="Product Viewed",
                     properties={"name": "Hat", "category": "hats"})
        client.identify(name, {"email": f"{name}@example.com", "first_name": "Ann"},
                        anonymous_id=f"anon-{name}")
        client.track(name, "Order Completed", {"revenue": 120.5, "order_id": "o1"})

    python(worker, calls, gzip=gzip)
    worker.settled()
    ids = [f"user_id:{name}", f"email:{name}@example.com", f"anonymous_id:anon-{name}"]
    own = segment(worker, ids[0])
    for id in (*ids, own):
        assert segment(worker, id) == own
        events = [one.get("event") or one["type"] for one in worker.history(id)]
        assert sorted(events) == ["Order Completed", "Page Viewed", "Product Viewed",
                                  "identify"]
    traits = worker.person(ids[1], "traits", "?limit=100")["traits"]
    assert traits["first_name"] == "Ann"
    assert traits["lifetime_revenue"] == 120.5
    assert traits["last_product"] == "Hat"
    assert traits["first_utm_source"] == "mail"
    assert traits["recent_buyers"] is True
    external = {(one["type"], one["id"])
                for one in worker.person(own, "external_ids")["data"]}
    assert external == {tuple(id.split(":", 1)) for id in ids}


def test_engine_the_node_sdk_makes_a_person_and_an_account(worker):
    said = node.send(worker.url, SERVER, "--events", "30", "--user", "nora")
    assert (said["errors"], set(said["responses"])) == ([], {200})
    worker.settled()
    events = {one.get("event") or one["type"] for one in worker.history("user_id:nora")}
    assert events >= {"Page Viewed", "Product Viewed", "Screen Viewed", "identify", "group"}
    traits = worker.person("user_id:nora", "traits", "?limit=100")["traits"]
    assert traits["lifetime_revenue"] == sum(range(30))
    assert traits["ünï"] == "çødé 😀"
    links = worker.person("user_id:nora", "links")["data"]
    assert [one["to_collection"] for one in links] == ["accounts"]
    account = "/v1/spaces/default/collections/accounts/profiles/group_id:acme/traits"
    assert worker.get(account)["traits"]["employees"] == 12


def test_engine_what_the_webhook_is_told_is_signed_in_order_and_once(worker: Worker, sink: Sink):
    worker.settled()
    before = len(sink.messages)
    assert worker.send(APP, "/v1/batch", {"batch": [
        {"type": "identify", "userId": "bob", "messageId": "bob-0",
         "traits": {"email": "bob@example.com", "first_name": "Bob"}},
        *({"type": "track", "userId": "bob", "messageId": f"bob-{n}", "event": "Order Completed",
           "properties": {"revenue": 10 * n}} for n in range(1, 6)),
    ]}) == 200
    worker.settled()
    messages = [message for _, message in sink.messages[before:]]
    own = [one["messageId"] for one in messages if one["messageId"].startswith("bob-")]
    assert own == [f"bob-{n}" for n in range(6)]
    assert len(messages) == len({one["messageId"] for one in messages})
    (entered,) = [one for one in messages if one.get("event") == "Audience Entered"]
    assert entered["userId"] == "bob"
    assert entered["properties"]["audience_key"] == "recent_buyers"
    assert entered["properties"]["email"] == "bob@example.com"
    assert entered["properties"]["first_name"] == "Bob"
    for headers, body in zip(sink.headers[before:], sink.bodies[before:], strict=True):
        assert headers["X-Signature-256"] == hmac.new(
            SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert headers["X-Signature"] == hmac.new(
            SECRET.encode(), body, hashlib.sha1).hexdigest()


def test_engine_repeats_and_what_is_refused_change_nothing_and_are_counted(worker: Worker):
    worker.settled()
    before = worker.metrics()
    call = {"type": "track", "userId": "eve", "event": "Seen", "messageId": "eve-1"}
    assert worker.send(WEB, "/v1/batch", {"batch": [call]}) == 200
    assert worker.send(WEB, "/v1/track", call) == 200
    assert worker.send("wk_nobody_knows", "/v1/track", call) == 200
    assert worker.send(WEB, "/v1/track", {"event": "Nobody"}) == 200
    assert worker.send(WEB, "/v1/track", b"{not json") == 400
    worker.settled()
    assert [one["message_id"] for one in worker.history("user_id:eve")] == ["eve-1"]
    numbers = worker.metrics()

    def grown(name: str) -> float:
        return numbers.get(name, 0) - before.get(name, 0)

    assert grown("watersmeet_logged_total") == 2
    assert grown("watersmeet_applied_total") == 1
    assert grown("watersmeet_duplicates_total") == 1
    refused = {name: grown(name) for name in numbers if "refused_total{" in name and grown(name)}
    assert sum(refused.values()) == 2, refused
    assert numbers["watersmeet_logged_total"] == sum(numbers[f"watersmeet_{name}"] for name in (
        "duplicates_total", "filtered_total", "unresolved_total", "applied_total", "set_aside",
        "in_flight"))


def test_governance_G46_usage_of_the_month_counts_each_visitor_once(worker: Worker):
    worker.settled()
    month = f"{datetime.now(UTC):%Y-%m}"
    before = worker.get(f"/v1/usage?month={month}")
    for n in range(3):
        call = {"userId": "uma", "anonymousId": f"uma-{n}", "event": "Seen"}
        assert worker.send(WEB, "/v1/track", call) == 200
    assert worker.send(WEB, "/v1/track", {"anonymousId": "stranger", "event": "Seen"}) == 200
    worker.settled()
    after = worker.get(f"/v1/usage?month={month}")
    assert after["api_calls"] - before["api_calls"] == 4
    assert after["mtu"] - before["mtu"] == 2
    assert after["identified"] - before["identified"] == 1


def test_engine_who_is_in_an_audience_and_at_which_step_of_a_journey(worker: Worker):
    assert worker.send(WEB, "/v1/batch", {"batch": [
        {"type": "identify", "userId": "joe", "traits": {"email": "joe@example.com"}},
        {"type": "track", "userId": "joe", "event": "Cart Modified",
         "properties": {"cart_id": "c1", "total": 50}},
        {"type": "track", "userId": "joe", "event": "Order Completed",
         "properties": {"cart_id": "c2", "revenue": 1}},
    ]}) == 200
    worker.settled()
    audiences = worker.get("/v1/spaces/default/audiences")["data"]
    assert {one["key"] for one in audiences} == {"recent_buyers", "lapsing_customers", "staff"}
    members = worker.get("/v1/spaces/default/audiences/recent_buyers/members?limit=100")["data"]
    assert "joe@example.com" in {id["id"] for one in members for id in one["external_ids"]}
    journey = worker.get("/v1/spaces/default/journeys/abandoned_cart")
    assert journey["steps"]["start"]["present"] >= 1


def test_engine_a_second_worker_on_the_folder_is_refused_in_one_sentence(worker: Worker, make):
    second = make(worker.data)
    second.output = worker.data.with_name("second.out")
    second.launch()
    assert second.died(20)
    assert second.process.returncode == 1
    (line,) = [one for one in second.printed().splitlines() if "watersmeet: " in one]
    assert f"in use by process {worker.process.pid}" in line
    assert "Traceback" not in second.printed()
    assert worker.health()[0] == 200


def test_engine_health_is_open_and_all_else_wants_the_token(worker: Worker):
    assert worker.health() == (200, {"status": "ok"})
    for path in ("/metrics", "/v1/usage", "/v1/spaces/default/audiences"):
        for user in (None, "wrong"):
            assert worker.ask("GET", path, user=user)[0] == 401
    assert worker.ask("GET", "/nothing", user=None)[0] == 404


def test_engine_ctrl_c_stops_it_cleanly_while_it_is_sent_to(worker: Worker):
    for n in range(20):
        assert worker.send(WEB, "/v1/track", {"userId": f"last{n}", "event": "Seen"}) == 200
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 10
    assert "Traceback" not in worker.printed()
    assert "ERROR" not in worker.printed()
    worker.start()
    for n in range(20):
        assert len(worker.history(f"user_id:last{n}")) == 1
