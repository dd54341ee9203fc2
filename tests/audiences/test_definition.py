"""What a definition may say: B6, B7, Y1 to Y4, Y6, and what is not built yet."""

import msgspec
import pytest

from audiences.definition import Audience, Condition, normal_form, problems
from audiences.plan import changed, compile_plan
from profiles.computed.definition import ComputedTrait
from profiles.computed.definition import problems as trait_problems
from tests.audiences.driver import Person, audience, occurred, plan_of, trait

BOUGHT = {"performed": {"event": "Bought"}}


def found(where, *, others=None, destinations=None, tombstones=frozenset(), **more):
    """Return the problems of one audience, as (path, what)."""
    audiences = {"a": audience(where, **more)}
    audiences |= {key: audience(value) for key, value in (others or {}).items()}
    return [
        (path, what)
        for path, what, mend in problems("a", audiences, {}, destinations, tombstones)
        if mend
    ]


def test_audiences_Y1_a_reference_to_no_audience_is_refused_at_its_place():
    assert found({"all": [BOUGHT, {"not": {"audience": "staff"}}]}) == [
        (("where", "all", 1, "not", "audience"), 'there is no audience "staff"')
    ]
    assert found({"audience": "staff"}, others={"staff": BOUGHT}) == []


def test_audiences_Y1_a_reference_to_no_destination_is_refused():
    to = [{"to": "mailer"}]
    assert found(BOUGHT, destinations=frozenset({"crm"})) == []
    assert [
        what
        for _, what, _ in problems(
            "a", {"a": audience(BOUGHT, destinations=to)}, {}, frozenset({"crm"})
        )
    ] == ['there is no destination "mailer"']
    wanted = [
        (("destinations", 0, "to"), 'there is no destination "mailer"', "destinations are: crm")
    ]
    assert (
        trait_problems(trait(type="count", event="E", destinations=to), frozenset({"crm"}))
        == wanted
    )


@pytest.mark.parametrize("circle", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_audiences_B6_a_cycle_of_references_is_refused(circle):
    following = dict(zip(circle, [*circle[1:], circle[0]], strict=True))
    audiences = {key: audience({"not": {"audience": target}}) for key, target in following.items()}
    for key in circle:
        ((path, what, _),) = problems(key, audiences, {})
        assert path == ("where", "not", "audience")
        assert what.startswith(f"a cycle: {key} -> ")


def test_audiences_B6_reading_an_audience_as_a_trait_counts_for_cycles():
    audiences = {
        "a": audience({"trait": {"b": {"equals": True}}}),
        "b": audience({"audience": "a"}),
    }
    assert problems("a", audiences, {})[0][0] == ("where", "trait", "b")


def test_audiences_B6_one_audience_may_be_referred_to_twice():
    assert (
        found(
            {"any": [{"audience": "b"}, {"audience": "c"}]},
            others={"b": {"audience": "c"}, "c": BOUGHT},
        )
        == []
    )


def test_audiences_B7_fifty_conditions_are_the_limit():
    assert found({"all": [BOUGHT] * 50}) == []
    ((path, what),) = found({"any": [{"all": [BOUGHT] * 50}, {"trait": {"x": {"exists": True}}}]})
    assert path == ("where",)
    assert what == "51 conditions, the limit is 50"


def test_audiences_Y2_the_key_of_a_deleted_audience_is_refused():
    assert found(BOUGHT, tombstones=frozenset({"a"}))[0] == (
        (),
        'the key "a" belonged to a deleted audience',
    )


def test_audiences_s4_3_groups_nest_ten_deep():
    where = BOUGHT
    for _ in range(10):
        where = {"all": [where]}
    assert found(where) == []
    assert found({"not": where})[0][1] == "deeper than 10 groups"


@pytest.mark.parametrize(
    ("performed", "at", "what"),
    [
        ({"at_least": 1, "exactly": 2}, ("exactly",), "exclude one another"),
        ({"exactly": 1, "at_most": 2}, ("at_most",), "exclude one another"),
        ({"at_least": 0}, ("at_least",), "begins at 1"),
        ({"within": "7d", "between": ["1d", "2d"]}, ("between",), "exclude one another"),
        ({"between": ["90d", "30d"]}, ("between",), "not shorter"),
        ({"between": ["30d", "30d"]}, ("between",), "not shorter"),
        ({"within": "7 days"}, ("within",), "is not a duration"),
        ({"within": "0d"}, ("within",), "zero"),
        ({"where": {"x": {"equal": 1}}}, ("where", "x", "equal"), "unknown operator"),
        ({"where": {"x": 1}}, ("where", "x"), "not a map of operators"),
        ({"where": {"x": {}}}, ("where", "x"), "no operator"),
        (
            {"where": {"any": [{"x": {"gt": "many"}}]}},
            ("where", "any", 0, "x", "gt"),
            "not a number",
        ),
        ({"where": {"x": {"gt": [1]}}}, ("where", "x", "gt"), "expected"),
        ({"where": {"x": {"after_date": "soon"}}}, ("where", "x", "after_date"), "not an instant"),
        (
            {"where": {"x": {"within_last": "soon"}}},
            ("where", "x", "within_last"),
            "not a duration",
        ),
        ({"where": {"x": {"one_of": []}}}, ("where", "x", "one_of"), "the list is empty"),
        ({"where": {"x..y": {"equals": 1}}}, ("where", "x..y"), "a step is empty"),
        (
            {"where": {"context.traits.x": {"equals": 1}}},
            ("where", "context.traits.x"),
            "context.traits",
        ),
        ({"where": {"any": []}}, ("where", "any"), "not a list of conditions"),
        ({"where": {"not": []}}, ("where", "not"), "not a map"),
    ],
)
def test_audiences_Y3_what_excludes_itself_or_means_nothing_is_refused(performed, at, what):
    ((path, said),) = found({"performed": {"event": "E"} | performed})
    assert path == ("where", "performed", *at)
    assert what in said


def test_audiences_Y3_windows_of_computed_traits_are_checked_alike():
    def said(**window):
        return [
            what for _, what, _ in trait_problems(trait(type="count", event="E", window=window))
        ]

    assert said(within="90d") == []
    assert said(within="7d", between=["1d", "2d"]) == ["within and between exclude one another"]
    assert "not shorter" in said(between=["2d", "1d"])[0]
    assert said(session="30m") == ["not supported yet"]
    assert said() == ["the window is empty"]


def test_audiences_Y4_a_parent_outside_a_funnel_is_refused():
    where = {"performed": {"event": "E", "where": {"cart": {"equals": {"parent": "cart"}}}}}
    assert "only possible inside funnel.then" in found(where)[0][1]
    assert found({"trait": {"x": {"equals": {"parent": "y"}}}})[0][0] == (
        "where",
        "trait",
        "x",
        "equals",
        "parent",
    )


@pytest.mark.parametrize(
    "where",
    [
        {"last_performed": {"event": "E", "has": {"c": {"equals": 1}}}},
        {"funnel": {"event": "A", "within": "7d", "then": {"did": False, "event": "B"}}},
        {"consent": {"Advertising": True}},
        {"subscription": {"channel": "email", "state": "subscribed"}},
        {"random_bucket": {"percent": 50, "salt": "x"}},
        {"message": {"kind": "opened"}},
        {"broadcast": {"key": "spring"}},
        {"manual": "beta_list"},
        {"users": {"match": "any", "where": {"everyone": True}}},
        {"trait": {"stage": {"has_been": {"value": "idle", "for": "3d"}}}},
        {"performed": {"event": "E", "any_item": {"path": "products", "all": []}}},
        {"performed": {"event": "E", "where": {"revenue": {"gte": {"trait": "avg_order"}}}}},
        {"trait": {"x": {"equals": {"trait": "y"}}}},
    ],
)
def test_audiences_s10_what_is_not_built_is_refused_by_name(where):
    assert any("not supported yet" in what for _, what in found(where))


def test_audiences_s10_account_level_is_refused_by_name():
    assert found(BOUGHT, level="account") == [(("level",), "account level is not supported yet")]
    definition = trait(level="account", type="most_frequent", event="E", user_trait="email")
    assert {path for path, *_ in trait_problems(definition)} == {("level",), ("user_trait",)}


def test_audiences_s10_a_condition_is_exactly_one_thing():
    assert "in one condition" in found(BOUGHT | {"everyone": True})[0][1]
    assert found({"not": {}})[0][1] == "an empty condition"
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        audience({"preformed": {}})


def test_audiences_s10_kinds_but_count_need_a_property():
    assert trait_problems(trait(type="sum", event="E"))[0][1] == "sum needs a property"
    assert trait_problems(trait(type="count", event="E", property="x"))[0][1] == (
        "a count has no property"
    )
    assert trait_problems(trait(type="sum", event="E", property="x.")) != []


def test_audiences_s10_a_key_is_not_an_audience_and_a_computed_trait():
    assert (
        "also a computed trait"
        in problems("a", {"a": audience(BOUGHT)}, {"a": trait(type="count", event="E")})[0][1]
    )


def test_audiences_Y6_the_order_of_keys_does_not_matter():
    one = {
        "performed": {
            "event": "E",
            "within": "7d",
            "where": {"x": {"gt": 1, "lt": 5}, "a": {"equals": 1}},
        }
    }
    other = {
        "performed": {
            "where": {"a": {"equals": 1}, "x": {"lt": 5, "gt": 1}},
            "within": "7d",
            "event": "E",
        }
    }
    assert normal_form(audience(one, name="N")) == normal_form(
        msgspec.convert({"name": "N", "where": other}, Audience)
    )
    first, second = plan_of({"a": one, "b": BOUGHT}), plan_of({"b": BOUGHT, "a": other})
    assert list(first.leaves) == list(second.leaves)
    assert [c.version for c in first.order] == [c.version for c in second.order]
    assert changed(first, second).computations == ()


def test_audiences_Y6_defaults_written_out_change_nothing():
    one = audience(BOUGHT)
    other = audience(
        {"performed": {"event": "Bought", "at_least": 1}}, include_anonymous=False, history=True
    )
    assert (
        compile_plan({"a": one}, {}).leaves.keys() == compile_plan({"a": other}, {}).leaves.keys()
    )


def test_audiences_Y6_the_difference_of_two_files_is_a_list_of_what_came_changed_and_went():
    old = plan_of({"kept": BOUGHT, "edited": BOUGHT, "gone": {"performed": {"event": "Left"}}})
    new = plan_of(
        {
            "kept": audience(BOUGHT, name="another name"),
            "edited": {"performed": {"event": "Bought", "at_least": 2}},
            "made": {"performed": {"event": "Bought", "at_least": 2}},
        }
    )
    changes = changed(old, new)
    assert changes.computations == ("edited", "made")
    assert changes.gone == ("gone",)
    assert changes.leaves == new.leaves.keys() - old.leaves.keys()
    assert len(changes.leaves) == 1
    assert changes.gone_leaves == old.leaves.keys() - new.leaves.keys()


def test_audiences_B7_equal_questions_share_one_leaf():
    plan = plan_of({f"a{number}": BOUGHT for number in range(100)})
    assert len(plan.leaves) == 1
    person = Person(plan)
    person.sees(occurred("Bought", "2025-01-01"))
    assert len(person.log) == 100
    assert len(person.states.rows) == 1


def test_audiences_s10_definitions_have_a_schema_in_which_every_field_is_described():
    for kind in (Audience, ComputedTrait):
        for struct in msgspec.json.schema(kind)["$defs"].values():
            for name, field in struct.get("properties", {}).items():
                assert "description" in field or "$ref" in field, (struct.get("title"), name)
    assert Condition.__struct_config__.forbid_unknown_fields
