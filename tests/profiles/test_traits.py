"""Custom traits: newest wins, null removes (identity 6; events E-03, E-10, E-11)."""

from itertools import permutations

from events.event import Event
from profiles.profile import Trait
from profiles.traits import merge, unite


def call(sent, at=1_000, received=None, id="m", type="identify", context=None):
    data = {"traits": sent} if type in ("identify", "group") else {"properties": {}}
    received = at if received is None else received
    return Event("web", id, type, received, received, at, b"", data | {"context": context or {}})


def after(*calls):
    traits = {}
    for one in calls:
        traits = {**traits, **merge(traits, one)}
    return {key: trait.value for key, trait in traits.items()}


def test_identity_s6_the_newest_update_of_a_key_wins_in_whatever_order_they_come():
    calls = [
        call({"plan": "free", "a": 1}, at=1_000, id="m1"),
        call({"plan": "pro"}, at=2_000, id="m2"),
        call({"plan": "team"}, at=2_000, received=2_500, id="m3"),
        call({"plan": "last"}, at=2_000, received=2_500, id="m4"),
    ]
    assert all(after(*order) == {"plan": "last", "a": 1} for order in permutations(calls))


def test_identity_s6_only_what_changes_is_returned():
    traits = merge({}, call({"a": 1, "b": 2}, at=1_000))
    assert merge(traits, call({"a": 0}, at=500)) == {}
    assert list(merge(traits, call({"a": 0, "b": 3}, at=2_000))) == ["a", "b"]
    assert merge(traits, call({}, at=2_000)) == {}


def test_events_E10_null_removes_and_an_older_update_does_not_bring_it_back():
    assert after(call({"a": 1}, at=1), call({"a": None}, at=3), call({"a": 2}, at=2)) == {"a": None}


def test_events_E10_a_key_that_is_absent_stays():
    assert after(call({"a": 1, "b": 1}, at=1), call({"b": None}, at=2)) == {"a": 1, "b": None}


def test_events_E10_an_object_is_replaced_whole():
    one, two = (
        call({"address": {"city": "A", "zip": "1"}}, at=1),
        call({"address": {"city": "B"}}, at=2),
    )
    assert after(one, two) == {"address": {"city": "B"}}


def test_events_E11_an_empty_text_is_a_value():
    assert after(call({"a": "x"}, at=1), call({"a": ""}, at=2)) == {"a": ""}


def test_events_E03_context_traits_of_other_calls_change_nothing():
    for type in ("track", "page", "screen", "alias"):
        assert merge({}, call(None, type=type, context={"traits": {"a": 1}})) == {}
    assert list(merge({}, call({"b": 1}, context={"traits": {"a": 1}}))) == ["b"]


def test_events_E10_group_traits_follow_the_same_rule():
    assert after(
        call({"plan": "x"}, at=1, type="group"), call({"plan": None}, at=2, type="group")
    ) == {"plan": None}


def test_events_E10_traits_of_a_wrong_type_change_nothing():
    assert merge({}, call(["a"])) == {}
    assert merge({}, call(None)) == {}


def test_identity_s6_numbers_that_no_store_holds_become_floats():
    assert after(call({"n": 10**30, "deep": {"list": [2**64]}})) == {
        "n": 1e30,
        "deep": {"list": [2.0**64]},
    }


def test_identity_s6_traits_of_two_profiles_unite_key_by_key():
    one = {"a": Trait(1, 10, 10, "m1", "s"), "b": Trait(None, 30, 30, "m3", "s")}
    other = {
        "a": Trait(2, 20, 20, "m2", "s"),
        "b": Trait(9, 20, 20, "m2", "s"),
        "c": Trait(3, 1, 1, "m0", "s"),
    }
    united = unite(one, other)
    assert united == unite(other, one)
    assert {key: trait.value for key, trait in united.items()} == {"a": 2, "b": None, "c": 3}
