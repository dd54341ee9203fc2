"""Section 4.4: every operator, on traits and on event properties, present and missing."""

import msgspec
import pytest

from audiences import evaluate
from audiences.evaluate import Memory
from events.operators import Operators, instant
from profiles.profile import Trait
from tests.audiences.driver import DAY, Person, ms, observe, occurred, plan_of

MISSING = object()
NOW = "2025-06-15"
ITEMS = [{"sku": "G-1", "price": 5}, {"sku": "S-2", "price": 200}]

CASES = [
    # equals: numbers and numeric texts as numbers, else the exact text, true and "true"
    ("equals", "pro", "pro", True),
    ("equals", "pro", "Pro", False),
    ("equals", 3, 3, True),
    ("equals", 3, "3", True),
    ("equals", "3", 3, True),
    ("equals", "3.0", 3, True),
    ("equals", 3, 3.0, True),
    ("equals", "3", "3.0", False),
    ("equals", 3, "three", False),
    ("equals", True, True, True),
    ("equals", True, "true", True),
    ("equals", "true", True, True),
    ("equals", True, 1, False),
    ("equals", 1, True, False),
    ("equals", False, "false", True),
    ("equals", "", "", True),
    ("equals", "pro", MISSING, False),
    ("equals", "pro", None, False),
    ("equals", "1e3", 1000, True),
    ("equals", 0.1, "0.1", True),
    # not_equals needs a value
    ("not_equals", "pro", "free", True),
    ("not_equals", "pro", "pro", False),
    ("not_equals", 3, "3", False),
    ("not_equals", "pro", MISSING, False),
    ("not_equals", "pro", None, False),
    # comparisons: numeric, else false
    ("lt", 10, 9, True),
    ("lt", 10, 10, False),
    ("lt", 10, "9.5", True),
    ("lt", 10, "nine", False),
    ("lt", 10, True, False),
    ("lt", 10, MISSING, False),
    ("gt", 10, 10.5, True),
    ("gt", 10, 10, False),
    ("gt", 10, [11], False),
    ("lte", 10, 10, True),
    ("lte", 10, 11, False),
    ("gte", 10, 10, True),
    ("gte", 10, 9, False),
    ("gte", "10", 10, True),
    ("gte", 10, None, False),
    # one of, none of
    ("one_of", ["pro", "team"], "team", True),
    ("one_of", ["pro", "team"], "tea", False),
    ("one_of", ["pro", "team"], MISSING, False),
    ("one_of", [1, 2], "2", True),
    ("none_of", ["XX", "YY"], "DE", True),
    ("none_of", ["XX", "YY"], "YY", False),
    ("none_of", ["XX", "YY"], MISSING, False),
    # texts
    ("contains", ["pricing", "plans"], "our plans", True),
    ("contains", ["pricing", "plans"], "our Plans", False),
    ("contains", "vip", "a vip b", True),
    ("contains", "vip", MISSING, False),
    ("contains", "G-1", ITEMS, True),
    ("contains", "G-3", ITEMS, False),
    ("not_contains", ["blocked"], "fine", True),
    ("not_contains", ["blocked"], "is blocked", False),
    ("not_contains", ["blocked"], MISSING, True),
    ("not_contains", ["blocked"], None, True),
    ("starts_with", "a", "abc", True),
    ("starts_with", "a", "bac", False),
    ("starts_with", "4", 42, False),
    ("starts_with", "a", MISSING, False),
    ("ends_with", ".test", "a@b.test", True),
    ("ends_with", ".test", "a@b.test.com", False),
    ("ends_with", ".test", MISSING, False),
    # presence: null is absent, an empty text is there
    ("exists", True, "", True),
    ("exists", True, 0, True),
    ("exists", True, None, False),
    ("exists", True, MISSING, False),
    ("exists", False, MISSING, True),
    ("not_exists", True, "", False),
    ("not_exists", True, None, True),
    ("not_exists", True, MISSING, True),
    # members of a list
    ("includes", "vip", ["a", "vip"], True),
    ("includes", "vip", ["vips"], False),
    ("includes", "vip", "vip", False),
    ("includes", "vip", MISSING, False),
    # dates: strictly before and after
    ("before_date", "2025-06-15T00:00:00Z", "2025-06-14T23:59:59.999Z", True),
    ("before_date", "2025-06-15T00:00:00Z", "2025-06-15T00:00:00Z", False),
    ("before_date", "2025-06-15", "2025-06-14", True),
    ("before_date", "2025-06-15", "2025-06-15T01:00:00+02:00", True),
    ("before_date", "2025-06-15", MISSING, False),
    ("before_date", "2025-06-15", "yesterday", False),
    ("before_date", "2025-06-15", "2025-01-01T00:00:00", False),
    ("before_date", "2025-06-15", 0, False),
    ("after_date", "2025-06-15", "2025-06-15T00:00:00.001Z", True),
    ("after_date", "2025-06-15", "2025-06-15T00:00:00Z", False),
    ("after_date", "2025-06-15", "2025-06-31", False),
    # relative dates, ends inclusive; now is 2025-06-15 00:00
    ("within_last", "7d", "2025-06-08", True),
    ("within_last", "7d", "2025-06-07T23:59:59.999Z", False),
    ("within_last", "7d", "2025-06-15", True),
    ("within_last", "7d", "2025-06-15T00:00:00.001Z", False),
    ("within_last", "7d", MISSING, False),
    ("within_last", "7d", "soon", False),
    ("within_next", "7d", "2025-06-22", True),
    ("within_next", "7d", "2025-06-22T00:00:00.001Z", False),
    ("within_next", "7d", "2025-06-15", True),
    ("within_next", "7d", "2025-06-14", False),
    ("before_last", "7d", "2025-06-08", True),
    ("before_last", "7d", "2025-06-08T00:00:00.001Z", False),
    ("before_last", "7d", MISSING, False),
    ("after_next", "7d", "2025-06-22", True),
    ("after_next", "7d", "2025-06-21", False),
    ("after_next", "7d", MISSING, False),
]


@pytest.mark.parametrize(("operator", "operand", "value", "expected"), CASES)
def test_audiences_s4_4_operators_on_traits(operator, operand, value, expected):
    person = Person(plan_of({"a": {"trait": {"x": {operator: operand}}}}), born=NOW)
    person.has(**({} if value is MISSING else {"x": value}))
    assert person.inside("a") is expected


@pytest.mark.parametrize(("operator", "operand", "value", "expected"), CASES)
def test_audiences_s4_4_operators_on_event_properties(operator, operand, value, expected):
    where = {"x": {operator: operand}}
    person = Person(plan_of({"a": {"performed": {"event": "E", "where": where}}}), born=NOW)
    person.sees(occurred("E", NOW, **({} if value is MISSING else {"x": value})))
    assert person.inside("a") is expected


def test_audiences_s4_4_every_operator_has_cases():
    known = set(Operators.__struct_fields__) - {"has_been"}
    assert {operator for operator, *_ in CASES} == known


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        # Two conditions may be met by different elements.
        ({"items.$.sku": {"starts_with": "G-"}, "items.$.price": {"gt": 100}}, True),
        ({"items.$.sku": {"starts_with": "X-"}}, False),
        ({"items.$.price": {"gt": 500}}, False),
        ({"items.$.sku": {"not_equals": "G-1"}}, True),
        ({"items.$.sku": {"not_contains": ["G-"]}}, False),
        ({"items.$.color": {"exists": True}}, False),
        ({"items.$.color": {"not_exists": True}}, True),
        ({"tags.$": {"equals": "vip"}}, True),
        ({"tags.$": {"equals": "vi"}}, False),
        ({"tags": {"contains": "vip"}}, True),
    ],
)
def test_audiences_s4_4_elements_of_a_list_are_tested_each_on_its_own(where, expected):
    person = Person(plan_of({"a": {"performed": {"event": "E", "where": where}}}))
    person.sees(occurred("E", "2025-01-01", items=ITEMS, tags=["new", "vip"]))
    assert person.inside("a") is expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"cart.total": {"gte": 80}}, True),
        ({"cart.total.x": {"exists": True}}, False),
        ({"a\\.b": {"equals": 1}}, True),
        ({"a.b": {"equals": 1}}, False),
        ({"context.page.path": {"starts_with": "/docs"}}, True),
        ({"context.page.path": {"starts_with": "/x"}}, False),
        ({"any": [{"cart.total": {"gt": 100}}, {"color": {"equals": "red"}}]}, True),
        ({"all": [{"cart.total": {"gt": 100}}, {"color": {"equals": "red"}}]}, False),
        ({"not": {"color": {"equals": "red"}}}, False),
        ({"color": {"equals": "red", "not_contains": "e"}}, False),
        ({"\\any": {"equals": 1}}, False),
    ],
)
def test_audiences_s4_1_where_goes_down_paths_and_combines(where, expected):
    person = Person(plan_of({"a": {"performed": {"event": "E", "where": where}}}))
    properties = {"cart": {"total": 80}, "a.b": 1, "color": "red"}
    person.sees(occurred("E", "2025-01-01", context={"page": {"path": "/docs/x"}}, **properties))
    assert person.inside("a") is expected


@pytest.mark.parametrize(
    ("asked", "value", "log"),
    [
        (
            {"within_last": "7d"},
            "2025-06-10",
            [("2025-06-10 00:00", True), ("2025-06-17 00:00", False)],
        ),
        ({"before_last": "7d"}, "2025-06-10", [("2025-06-17 00:00", True)]),
        (
            {"within_next": "7d"},
            "2025-06-20",
            [("2025-06-13 00:00", True), ("2025-06-20 00:00", False)],
        ),
        (
            {"after_next": "7d"},
            "2025-06-20",
            [("2025-06-01 00:00", True), ("2025-06-13 00:00", False)],
        ),
    ],
)
@pytest.mark.parametrize("side", ["trait", "event"])
def test_audiences_s5_dated_conditions_flip_by_the_clock(asked, value, log, side):
    where = (
        {"trait": {"x": asked}}
        if side == "trait"
        else {"performed": {"event": "E", "where": {"x": asked}}}
    )
    person = Person(plan_of({"a": where}), born="2025-06-01")
    if side == "trait":
        person.has(x=value)
    else:
        person.sees(occurred("E", "2025-06-01", x=value))
    before = person.now
    person.until("2025-08-01")
    assert [(time, what == "enter") for time, what, _ in person.log] == log
    ends = [entry for entry in person.log if entry[1] == "exit"]
    if ends:  # ends are inclusive: out 1 ms later
        standing = person.profile.memberships["a"]
        assert standing.exited_at_ms % DAY == 1
    assert before == ms("2025-06-01")


def test_audiences_s4_4_dates_are_whole_instants():
    assert instant("1970-01-02") == DAY
    assert instant("2025-01-01T00:00:00Z") == ms("2025-01-01")
    assert instant("2025-01-01T01:00:00.250+01:00") == ms("2025-01-01") + 250
    assert instant("1969-12-31T23:59:59.500Z") == -500
    for text in ("2025-01-01T00:00:00", "2025-13-01", "20250101", "2025-W01-1", "", "now", 5, None):
        assert instant(text) is None


def test_audiences_s4_4_values_that_should_be_dates_and_are_none_are_counted():
    plan = plan_of(
        {
            "a": {
                "trait": {
                    "x.y": {"within_last": "7d"},
                    "z": {"after_date": "2025-01-01"},
                    "w": {"equals": "soon"},
                }
            }
        }
    )

    def number(**values):
        return evaluate.unreadable(
            plan, {key: Trait(value, 0, 0, "", "") for key, value in values.items()}
        )

    assert number(x={"y": "soon"}, z="2025-01-01T10:00:00", w="soon", v="soon") == 2
    assert number(x={"y": "2025-01-01"}, z=None) == 0
    assert number(x="soon") == 0


def test_audiences_s4_4_a_pinned_text_is_an_index_and_means_the_same():
    """A thousand audiences on one event that ask for different texts: one is looked at."""
    audiences = {
        f"a{number}": {"performed": {"event": "E", "where": {"page": {"equals": f"p{number}"}}}}
        for number in range(1000)
    }
    plan = plan_of(audiences)
    assert observe(plan, occurred("E", "2025-01-01", page="p7"), Memory()) == ("a7",)
    assert observe(plan, occurred("E", "2025-01-01", page=["p7"]), Memory()) == ()
    assert plan.events["E"].always == ()


def test_audiences_s4_4_operators_are_one_struct_for_check_and_docs():
    schema = msgspec.json.schema(Operators)
    described = schema["$defs"]["Operators"]["properties"]
    assert all("description" in field for field in described.values())
