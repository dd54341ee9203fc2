"""Computed traits: T1, T2, T5, T8, T9 and each kind."""

from pathlib import Path

import msgspec
import pytest

from profiles import computed
from profiles.computed import exact, unique_list
from profiles.computed.catalogue import KINDS
from profiles.storable import storable
from tests.audiences.driver import Person, occurred, plan_of


def person_with(**definition):
    return Person(plan_of({}, {"t": definition}))


def value_of(definition, *values, property="x"):
    person = person_with(event="E", **definition)
    for number, value in enumerate(values):
        person.sees(occurred("E", f"2025-01-{number + 1:02}", **{property: value}))
    return person.value("t")


@pytest.mark.parametrize(
    ("definition", "values", "result"),
    [
        ({"type": "count"}, [1, None, "x"], 3),
        ({"type": "sum", "property": "x"}, [1, 2, 3], 6),
        ({"type": "sum", "property": "x"}, [0.1, 0.2], 0.3),
        ({"type": "sum", "property": "x"}, [1e300, 1, -1e300], 1),
        ({"type": "sum", "property": "x"}, ["n/a", None, True, "2.50", 1], 3.5),
        ({"type": "sum", "property": "x"}, ["n/a"], None),
        ({"type": "avg", "property": "x"}, [1, 2, "x"], 1.5),
        ({"type": "avg", "property": "x"}, [1, 0, 0], 1 / 3),
        ({"type": "min", "property": "x"}, [5, -1.5, "z"], -1.5),
        ({"type": "max", "property": "x"}, [5, "11", 7], 11),
        ({"type": "most_frequent", "property": "x"}, ["b", "a", "b", "a", "c"], "a"),
        ({"type": "most_frequent", "property": "x"}, ["a", "b", "c"], None),
        ({"type": "most_frequent", "property": "x", "min_frequency": 1}, ["b", "a"], "a"),
        ({"type": "most_frequent", "property": "x"}, [7, "7"], "7"),
        ({"type": "first", "property": "x"}, [None, "a", "b"], "a"),
        ({"type": "last", "property": "x"}, ["a", "b", None], "b"),
        ({"type": "last", "property": "x.y"}, [{"y": 1}, {"y": 2}], 2),
        ({"type": "unique_list", "property": "x"}, ["b", "a", "b", None], ["a", "b"]),
        ({"type": "unique_list", "property": "x"}, [1, "1", 1.0, True], [1, "1", True]),
        ({"type": "unique_count", "property": "x"}, ["b", "a", "b"], 2),
    ],
)
def test_audiences_s2_kinds(definition, values, result):
    found = value_of(definition, *values)
    assert found == result
    assert type(found) is type(result)


def test_audiences_T1_property_conditions_narrow_the_events():
    person = person_with(
        type="sum", event="Order", property="revenue", where={"category": {"equals": "cosmetics"}}
    )
    person.sees(
        occurred("Order", "2025-01-01", revenue=5, category="cosmetics"),
        occurred("Order", "2025-01-02", revenue=7, category="food"),
        occurred("Order", "2025-01-03", revenue=1),
    )
    assert person.value("t") == 5


def test_audiences_T2_a_sliding_window_lets_values_go_by_time_alone():
    person = person_with(type="sum", event="E", property="x", window={"within": "7d"})
    person.sees(occurred("E", "2025-01-01", x=1), occurred("E", "2025-01-03", x=2))
    person.until("2025-02-01")
    assert person.log == [
        ("2025-01-01 00:00", "t", 1),
        ("2025-01-03 00:00", "t", 3),
        ("2025-01-08 00:00", "t", 2),
        ("2025-01-10 00:00", "t", None),
    ]


def test_audiences_T2_a_window_may_lie_in_the_past():
    person = person_with(type="count", event="E", window={"between": ["7d", "10d"]})
    person.sees(occurred("E", "2025-01-01"), occurred("E", "2025-01-03"))
    person.until("2025-02-01")
    assert person.log == [
        ("2025-01-08 00:00", "t", 1),
        ("2025-01-10 00:00", "t", 2),
        ("2025-01-11 00:00", "t", 1),
        ("2025-01-13 00:00", "t", 0),
    ]


def test_audiences_T2_first_and_unique_values_go_by_time_too():
    first = person_with(type="first", event="E", property="x", window={"within": "7d"})
    unique = person_with(type="unique_list", event="E", property="x", window={"within": "7d"})
    for person in (first, unique):
        person.sees(
            occurred("E", "2025-01-01", x="a"),
            occurred("E", "2025-01-02", x="b"),
            occurred("E", "2025-01-03", x="a"),
        )
        person.until("2025-02-01")
    assert first.log == [
        ("2025-01-01 00:00", "t", "a"),
        ("2025-01-08 00:00", "t", "b"),
        ("2025-01-09 00:00", "t", "a"),
        ("2025-01-10 00:00", "t", None),
    ]
    assert unique.log == [
        ("2025-01-01 00:00", "t", ["a"]),
        ("2025-01-02 00:00", "t", ["a", "b"]),
        ("2025-01-09 00:00", "t", ["a"]),
        ("2025-01-10 00:00", "t", None),
    ]


def test_audiences_T5_only_a_changed_value_is_told():
    person = person_with(type="max", event="E", property="x")
    person.sees(
        occurred("E", "2025-01-01", x=5),
        occurred("E", "2025-01-02", x=3),
        occurred("E", "2025-01-03", x=5),
    )
    assert person.log == [("2025-01-01 00:00", "t", 5)]


def test_audiences_T5_true_and_one_are_different_values():
    person = person_with(type="last", event="E", property="x")
    person.sees(occurred("E", "2025-01-01", x=1), occurred("E", "2025-01-02", x=True))
    assert [entry[2] for entry in person.log] == [1, True]


def test_audiences_T5_zero_is_told_only_after_another_value():
    person = person_with(type="count", event="E", window={"within": "7d"})
    person.until("2025-01-05")
    person.settle(["t"])
    assert person.log == []
    person.sees(occurred("E", "2025-01-05"))
    person.until("2025-02-01")
    assert [entry[2] for entry in person.log] == [1, 0]


def test_audiences_T5_a_sum_of_zero_is_a_value():
    assert value_of({"type": "sum", "property": "x"}, 0) == 0


@pytest.mark.parametrize(("kind", "result"), [("first", "b"), ("last", "c")])
def test_audiences_T8_first_and_last_go_by_timestamp_not_by_arrival(kind, result):
    person = person_with(type=kind, event="E", property="x")
    person.sees(
        occurred("E", "2025-01-02", x="a"),
        occurred("E", "2025-01-03", x="c"),
        occurred("E", "2025-01-01", received="2025-01-04", x="b"),
    )
    assert person.value("t") == result


def test_audiences_T8_events_of_one_instant_are_ordered_by_message_id():
    for order in (("m1", "m2"), ("m2", "m1")):
        person = person_with(type="last", event="E", property="x")
        for id in order:
            person.sees(occurred("E", "2025-01-01", id=id, x=id))
        assert person.value("t") == "m2"


def test_audiences_T9_elements_count_under_dollar_else_the_list_is_one_text():
    tags = [["b", "a"], ["b"]]
    assert value_of({"type": "unique_list", "property": "x.$"}, *tags) == ["a", "b"]
    assert value_of({"type": "unique_list", "property": "x"}, *tags) == ['["b","a"]', '["b"]']
    assert value_of({"type": "most_frequent", "property": "x.$"}, *tags) == "b"
    assert value_of({"type": "most_frequent", "property": "x"}, *tags, ["b"]) == '["b"]'
    items = [[{"sku": "s1", "price": 5}, {"sku": "s2", "price": 7}]]
    assert value_of({"type": "unique_list", "property": "x.$.sku"}, *items) == ["s1", "s2"]
    assert value_of({"type": "sum", "property": "x.$.price"}, *items) == 12


def test_audiences_T4_so_many_values_are_kept_in_whatever_order_they_come():
    values = [f"v{number:05}" for number in range(10_005)]
    state = tuple(values[5:10_005])
    for value in values[:5]:
        state = unique_list.add(state, value, (0, ""))
    assert state == tuple(values[:10_000])
    assert unique_list.unite(tuple(values[5_000:]), tuple(values[:6_000])) == state


def test_audiences_T8_sums_are_exact():
    parts = ["0.1"] * 10 + ["1e300", "-1e300", "5e-324"]
    forth = back = "0"
    for part in parts:
        forth = exact.plus(forth, part)
    for part in reversed(parts):
        back = exact.plus(back, part)
    assert forth == back
    assert exact.figure(forth) == 1.0


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("window", [None, {"within": "30d"}, {"between": ["1d", "30d"]}])
def test_audiences_s2_states_survive_the_store(kind, window):
    """What comes back from disk are lists where tuples went in."""
    definition = {"type": kind, "event": "E"} | ({} if kind == "count" else {"property": "x"})
    plain, stored = (
        person_with(**definition | ({"window": window} if window else {})) for _ in range(2)
    )
    for number in range(100):
        event = occurred(
            "E",
            f"2025-01-{number % 20 + 1:02}",
            received="2025-01-21",
            id=f"m{number}",
            x=number % 7,
        )
        for person in (plain, stored):
            person.sees(event)
        stored.states.rows = {
            key: msgspec.msgpack.decode(msgspec.msgpack.encode(row))
            for key, row in stored.states.rows.items()
        }
    for person in (plain, stored):
        person.until("2025-03-01")
    assert plain.log == stored.log
    assert plain.value("t") == stored.value("t")


def test_audiences_s2_big_numbers_fit_the_store():
    assert value_of({"type": "last", "property": "x"}, 10**30) == 1e30
    assert value_of({"type": "max", "property": "x"}, 10**30) == 1e30
    assert value_of({"type": "sum", "property": "x"}, 10**30) == 1e30
    assert value_of({"type": "unique_list", "property": "x"}, {"n": 10**30}) == [
        '{"n":1000000000000000000000000000000}'
    ]
    assert storable([10**400]) == [None]


def test_audiences_s2_every_kind_is_in_the_catalogue():
    folder = Path(computed.__path__[0])
    kinds = {file.stem for file in folder.glob("*.py") if "KIND = " in file.read_text()}
    assert kinds == KINDS.keys()
