"""Usage as all stages count it: the rows of the table that others decide."""

import json
from datetime import UTC, datetime

import pytest

from agents.records import Define, Received, Tick
from app.engine import runner_over
from app.reader import StoreReader
from runtime.envelope import pack
from tables.store import MemoryStore
from usage.mtu import report
from workspace.definitions import digest, load, normal_form

WORKSPACE = b"""version: 1
sources:
  web: {type: website, write_keys: [wk_web_0000000000]}
  app: {type: mobile, write_keys: [wk_app_0000000000]}
destinations:
  webhook: {type: webhook, settings: {url: "http://127.0.0.1:9/hook"}}
computed_traits:
  orders: {type: count, event: Order Completed}
audiences:
  buyers:
    where: {performed: {event: Order Completed, at_least: 1, within: 7d}}
    destinations: [{to: webhook, send: [track, identify]}]
"""


def ms(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


class Platform:
    """All stages over a store in memory."""

    def __init__(self):
        self.store = MemoryStore()
        self.runner = runner_over(self.store, "log")
        definitions, problems = load([("w.yaml", WORKSPACE)])
        assert definitions is not None, problems
        body = normal_form(definitions)
        self.offset = -1
        self.number = 0
        self.apply("define", ms("2026-05-01"), [Define(body, digest(body), "test")])

    def apply(self, kind, at_ms, items):
        self.offset += 1
        self.runner.apply(self.offset, pack(kind, at_ms, items))
        self.runner.commit()

    def send(self, at, *calls, source="web"):
        items = []
        for call in calls:
            self.number += 1
            call = {"messageId": f"m{self.number}", "type": "track", "event": "E", **call}
            items.append(Received(source, call["messageId"], ms(at), ms(at),
                                  json.dumps(call).encode()))
        self.apply("event", ms(at), items)

    def usage(self, month="2026-05"):
        return report(month, StoreReader(self.store).counters(f"usage:{month}"))


@pytest.fixture
def stages():
    return Platform()


def test_governance_G46_row_9_an_alias_neither_counts_nor_links_its_previousId(stages):
    stages.send("2026-05-01", {"anonymousId": "a1"})
    stages.send("2026-05-02", {"type": "alias", "previousId": "a1", "userId": "u1"})
    stages.send("2026-05-03", {"anonymousId": "a1"})
    assert stages.usage()["mtu"] == 2
    assert stages.usage()["api_calls"] == 3


def test_governance_G46_row_10_a_group_call_counts_its_user_only(stages):
    stages.send("2026-05-01", {"type": "group", "groupId": "g1", "userId": "u1"})
    told = stages.usage()
    assert (told["mtu"], told["identified"], told["anonymous"]) == (1, 1, 0)


def test_governance_G46_row_16_what_audiences_and_traits_send_does_not_count(stages):
    stages.send("2026-05-01", {"event": "Order Completed", "userId": "u1"})
    stages.apply("tick", ms("2026-05-20"), [Tick()])  # leaves the audience again
    counters = dict(StoreReader(stages.store).counters())
    assert counters["audience:buyers:size"] == 0
    assert counters["jobs_received:webhook"] >= 3  # the event itself, entered, left
    told = stages.usage()
    assert (told["mtu"], told["api_calls"], list(told["by_source"])) == (1, 1, ["web"])


def test_governance_G46_row_20_each_item_of_a_batch_is_a_call(stages):
    stages.send("2026-05-01", *({"userId": "u1"} for _ in range(100)))
    assert stages.usage()["api_calls"] == 100


def test_governance_G46_row_22_a_duplicate_does_not_count(stages):
    stages.send("2026-05-01T10:00:00", {"userId": "u1", "messageId": "same"})
    stages.send("2026-05-01T11:00:00", {"userId": "u2", "messageId": "same"}, source="app")
    stages.send("2026-05-01T12:00:00", {"userId": "u3", "messageId": "twice"},
                {"userId": "u4", "messageId": "twice"})
    told = stages.usage()
    assert (told["mtu"], told["api_calls"]) == (2, 2)
    assert list(told["by_source"]) == ["web"]


def test_governance_G47_every_kind_of_call_is_one_however_many_destinations(stages):
    for call in ({"type": "identify", "traits": {}}, {"type": "track"}, {"type": "page"},
                 {"type": "screen"}, {"type": "group", "groupId": "g"},
                 {"type": "alias", "previousId": "p"}):
        stages.send("2026-05-01", {"userId": "u1", **call})
    assert stages.usage()["api_calls"] == 6


def test_governance_G46_an_event_without_an_identifier_of_ours_is_still_a_call(stages):
    stages.send("2026-05-01", {"userId": "null"})  # a blocked value: no profile
    told = stages.usage()
    assert told["api_calls"] == 1


def test_governance_G46_usage_survives_a_replay(stages):
    stages.send("2026-05-01", {"anonymousId": "a1"}, {"anonymousId": "a2"})
    stages.send("2026-05-02", {"anonymousId": "a1", "userId": "u1"}, source="app")
    told = stages.usage()
    again = runner_over(stages.store, "log")  # a process that starts anew from the same store
    again.apply(stages.offset + 1, pack("event", ms("2026-05-03"), [Received(
        "web", "n1", ms("2026-05-03"), ms("2026-05-03"),
        b'{"type":"track","event":"E","messageId":"n1","anonymousId":"a1"}')]))
    again.commit()
    after = stages.usage()
    assert after["mtu"] == told["mtu"] == 2
    assert after["api_calls"] == told["api_calls"] + 1
