"""Which destinations get a source's event."""

import pytest

from destinations.catalogue import compiled
from destinations.definition import Destination, Events, RateLimit, WebhookSettings
from destinations.routing import BY_INTEGRATIONS, filtered, receivers
from events.event import Event


def webhook(**more):
    return Destination(type="webhook", settings=WebhookSettings(url="https://x.example"), **more)


def event(type="track", source="web", **data):
    data = {"type": type, "messageId": "m1", **data}
    if type == "track":
        data.setdefault("event", "Order Completed")
    return Event(source, "m1", type, 0, 0, 0, b"{}", data)


def test_workspace_WS20_a_destination_gets_the_events_of_its_sources():
    all_of = compiled({"b": webhook(sources=("web", "app")), "a": webhook(sources=("web",))})
    assert receivers(all_of, event()) == ["a", "b"]
    assert receivers(all_of, event(source="app")) == ["b"]
    assert receivers(all_of, event(source="other")) == []


def test_workspace_WS20_a_destination_without_sources_gets_no_events():
    assert receivers(compiled({"a": webhook()}), event()) == []


def test_workspace_WS23_a_disabled_destination_gets_no_events():
    assert receivers(compiled({"a": webhook(sources=("web",), enabled=False)}), event()) == []


def test_workspace_WS20_types_and_names_restrict_the_events():
    both = Events(types=("track", "identify"), names=("Order Completed",))
    all_of = compiled({"a": webhook(sources=("web",), events=both)})
    assert receivers(all_of, event()) == ["a"]
    assert receivers(all_of, event(event="Signed Up")) == []
    assert receivers(all_of, event("identify")) == ["a"]
    assert receivers(all_of, event("page")) == []


def test_workspace_WS20_names_alone_admit_nothing_else():
    all_of = compiled({"a": webhook(sources=("web",), events=Events(names=("A", "Page Viewed")))})
    assert receivers(all_of, event(event="A")) == ["a"]
    assert receivers(all_of, event("page", name="Home")) == ["a"]
    assert receivers(all_of, event("screen", name="Home")) == []
    assert receivers(all_of, event("identify")) == []


@pytest.mark.parametrize(
    ("integrations", "goes"),
    [
        (None, True),
        ({}, True),
        ({"All": True}, True),
        ({"All": False}, False),
        ({"All": False, "Webhook": True}, True),
        ({"Webhook": False}, False),
        ({"All": True, "Webhook": False}, False),
        ({"Mixpanel": False}, True),
    ],
)
def test_collect_C38_the_own_key_decides_before_all(integrations, goes):
    all_of = compiled({"a": webhook(sources=("web",))})
    sent = event(integrations=integrations)
    assert receivers(all_of, sent) == (["a"] if goes else [])
    assert filtered(all_of, sent) == ([] if goes else [("a", BY_INTEGRATIONS)])


@pytest.mark.parametrize("name", ["webhook", "WEBHOOK", "a"])
def test_collect_C39_names_are_those_of_types_and_case_sensitive(name):
    all_of = compiled({"a": webhook(sources=("web",))})
    assert receivers(all_of, event(integrations={name: False})) == ["a"]


def test_collect_C39_one_name_speaks_for_all_instances_of_a_type():
    all_of = compiled({"a": webhook(sources=("web",)), "b": webhook(sources=("web",))})
    assert receivers(all_of, event(integrations={"Webhook": False})) == []


@pytest.mark.parametrize("options", [{}, {"id": 1}])
def test_collect_C40_an_object_means_yes(options):
    all_of = compiled({"a": webhook(sources=("web",))})
    assert receivers(all_of, event(integrations={"All": False, "Webhook": options})) == ["a"]


@pytest.mark.parametrize("odd", [None, "false", 0, [], "no"])
def test_collect_C38_what_is_neither_boolean_nor_object_says_nothing(odd):
    all_of = compiled({"a": webhook(sources=("web",))})
    assert receivers(all_of, event(integrations={"Webhook": odd})) == ["a"]
    assert receivers(all_of, event(integrations={"All": False, "Webhook": odd})) == []


def test_collect_C43_only_what_the_event_itself_keeps_away_counts_as_filtered():
    all_of = compiled({"a": webhook(sources=("web",)), "b": webhook(sources=("app",))})
    kept = filtered(all_of, event(integrations={"All": False}))
    assert kept == [("a", "FILTERED_BY_INTEGRATIONS_OBJECT")]


def test_destinations_s1_defaults_are_filled_in_and_the_order_of_keys_does_not_matter():
    made = compiled({"b": webhook(rate_limit=RateLimit(per_second=50)), "a": webhook(name="A")})
    assert list(made) == ["a", "b"]
    assert (made["a"].name, made["b"].name) == ("A", "b")
    assert (made["a"].timeout_ms, made["a"].window_ms) == (5_000, 14_400_000)
    assert made["a"].batch_size == 1
    assert (made["a"].per_second, made["b"].per_second) == (0.0, 50.0)
