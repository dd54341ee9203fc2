"""The six calls as events keep them."""

import pytest

from tests.collect.test_collect_calls import stored


@pytest.mark.parametrize("name", ["Order Completed", "order_completed", " Order  ", "ORDER"])
def test_events_E01_an_event_keeps_its_name_to_the_letter(name):
    assert stored({"userId": "u", "event": name})["event"] == name


def test_events_E02_identify_without_user_id_is_valid():
    event = stored({"anonymousId": "a", "traits": {"plan": "team"}}, "identify")
    assert "userId" not in event
    assert event["traits"] == {"plan": "team"}


@pytest.mark.parametrize("user_id", ["U_81", " u ", "ü", "u\u0000", "u" * 5000])
def test_events_E02_a_user_id_is_stored_as_sent(user_id):
    assert stored({"userId": user_id}, "identify")["userId"] == user_id


def test_events_E03_context_traits_are_stored_and_are_no_traits():
    event = stored({"userId": "u", "event": "A", "context": {"traits": {"email": "k@example.org"}}})
    assert event["context"]["traits"] == {"email": "k@example.org"}
    assert "traits" not in event


def test_events_E10_null_and_nested_traits_are_stored_as_sent():
    traits = {"phone": None, "address": {"city": "Oslo", "street": None}, "tags": []}
    assert stored({"userId": "u", "traits": traits}, "identify")["traits"] == traits
    assert stored({"userId": "u", "groupId": "g", "traits": traits}, "group")["traits"] == traits


def test_events_E11_an_empty_string_is_a_value():
    event = stored({"userId": "u", "traits": {"name": ""}}, "identify")
    assert event["traits"] == {"name": ""}
    assert stored({"userId": "u", "event": "", "properties": {"a": ""}})["properties"] == {"a": ""}
