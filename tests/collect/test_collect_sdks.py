"""Unmodified SDKs against a real server."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from segment.analytics.client import Client
from segment.analytics.request import APIError, _session, post

from app.web import ingest
from tests.collect.standin import SERVER
from tests.sdk import node

KINDS = ["identify", "track", "page", "screen", "group", "alias"]


@pytest.fixture
def python(api) -> Iterator[Callable]:
    """Run calls with the Python SDK, in a thread; return its errors."""

    async def run(calls, **options):
        errors = []

        def work():
            client = Client(
                SERVER, host=api.url, on_error=lambda error, _items: errors.append(error),
                upload_interval=0.05, timeout=5, **options,
            )
            calls(client)
            client.flush()
            client.shutdown()

        await asyncio.to_thread(work)
        return errors

    logging.getLogger("segment").setLevel(logging.CRITICAL)
    yield run
    _session.close()


def one_of_each(client):
    client.identify("u1", {"email": "k@example.org", "born": datetime(2000, 1, 2, tzinfo=UTC)})
    client.track("u1", "Plan Upgraded", {"plan": "team", "ünï": "çødé 😀"})
    client.page("u1", "Shop", "Home", {"url": "https://shop.example.org/"})
    client.screen(anonymous_id="a1", name="Cart")
    client.group("u1", "acme", {"employees": 12})
    client.alias("a1", "u1")


@pytest.mark.parametrize("gzip", [False, True])
async def test_collect_s14_python_one_of_each(api, python, gzip):
    assert await python(one_of_each, gzip=gzip) == []
    events = api.intake.events
    assert [event["type"] for event in events] == KINDS
    assert api.refusals.calls == {}
    identify, track, page, screen, group, alias = events
    assert identify["traits"] == {"email": "k@example.org", "born": "2000-01-02T00:00:00+00:00"}
    assert "anonymousId" not in identify
    assert track["properties"] == {"plan": "team", "ünï": "çødé 😀"}
    assert (page["name"], page["category"]) == ("Home", "Shop")
    assert (screen["anonymousId"], screen["name"]) == ("a1", "Cart")
    assert "userId" not in screen
    assert group["groupId"] == "acme"
    assert (alias["previousId"], alias["userId"]) == ("a1", "u1")
    for event in events:
        assert event["context"]["library"] == {"name": "analytics-python", "version": "2.4.0"}
        assert len(event["messageId"]) == 36
        assert event["sentAt"].endswith("Z")
        assert event["originalTimestamp"].endswith("Z")
        assert "writeKey" not in event


async def test_collect_s14_python_batches_of_a_hundred(api, python):
    def many(client):
        for n in range(250):
            client.track("u1", "Order Completed", {"n": n, "pad": "x" * 500}, message_id=f"m{n}")

    assert await python(many) == []
    assert [event["properties"]["n"] for event in api.intake.events] == list(range(250))
    assert max(len(calls) for _, calls in api.intake.appends) == 100


async def test_collect_s14_python_items_and_batches_as_large_as_it_sends(api, python):
    def large(client):
        for n in range(40):
            client.track("u1", "Large", {"pad": "x" * 32_000}, message_id=f"m{n}")

    assert await python(large) == []
    assert len(api.intake.events) == 40


async def test_collect_s14_python_sends_again_after_503_and_429(api, python):
    api.intake.failures = [ingest.NotDurable(1), ingest.Overloaded(1)]
    assert await python(one_of_each) == []
    assert sorted(event["type"] for event in api.intake.events) == sorted(KINDS)
    assert api.refusals.requests == {"not_durable": 1, "overloaded": 1}


async def test_collect_C22_python_is_told_code_and_message(api):
    item = {"type": "track", "userId": "u1", "event": "A", "properties": {"pad": "x" * 33_000}}
    with pytest.raises(APIError) as caught:
        await asyncio.to_thread(post, SERVER, api.url, batch=[item])
    _session.close()
    assert caught.value.status == 400
    assert caught.value.code == "payload_too_large"
    assert "Exceed payload limit" in caught.value.message


async def test_collect_s14_node_one_of_each_and_batches(api):
    said = await asyncio.to_thread(node.send, api.url, SERVER, "--events", "40")
    assert said["errors"] == []
    assert set(said["responses"]) == {200}
    events = api.intake.events
    assert len(events) == said["called"] == 46
    assert {event["type"] for event in events} == set(KINDS)
    assert api.refusals.calls == {}
    page = next(event for event in events if event["type"] == "page")
    assert (page["name"], page["category"]) == ("Home", "Shop")
    identify = next(event for event in events if event["type"] == "identify")
    assert identify["traits"]["ünï"] == "çødé 😀"
    orders = [event for event in events if event.get("event") == "Order Completed"]
    assert sorted(event["properties"]["n"] for event in orders) == list(range(40))
    for event in events:
        assert event["context"]["library"] == {
            "name": "@segment/analytics-node", "version": "3.1.0"
        }
        assert event["channel"] == "server"


async def test_collect_s14_node_sends_again_after_503_and_429(api):
    api.intake.failures = [ingest.NotDurable(1), ingest.Overloaded(1)]
    said = await asyncio.to_thread(node.send, api.url, SERVER, "--events", "5")
    assert said["errors"] == []
    assert len(api.intake.events) == said["called"] == 11
    assert api.refusals.requests == {"not_durable": 1, "overloaded": 1}
    assert api.refusals.retries >= 1
