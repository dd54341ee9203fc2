"""Limits, ranks, matching, alias and group, rule by rule, on the stages themselves."""

import pytest

from agents.identity import OWNERS, TYPES, canonical
from agents.records import AccountCall, Answer, Arrive, MergeOut, Revoke
from identity.match import profile_id
from identity.settings import compile_settings
from tests.identity.graph import DAY, SECOND, Graph, settings
from tests.identity.test_examples import loyalty

YEAR, MONTH, WEEK = 365 * DAY, 30 * DAY, 7 * DAY


# ---- limits
def test_identity_L1_one_user_id_five_of_every_other_type(graph):
    space = graph()
    for n in range(1, 7):
        space.identify(u="u1", e=f"e{n}")
        space.identify(u="u1", ga=f"ga{n}")
    assert space.identify(u="u2", e="e1").demoted == {"e1"}
    ours = {f"{kind}{n}" for kind in ("e", "ga") for n in range(1, 6)}
    assert space.people() == {" ".join(sorted({"u1", *ours})), "u2"}


@pytest.mark.parametrize(
    ("per", "window"), [("annually", YEAR), ("monthly", MONTH), ("weekly", WEEK), ("daily", DAY)]
)
def test_identity_L2_periods_are_sliding_windows(graph, per, window):
    space = graph(types={"email": {"limit": 1, "per": per}})
    space.identify(u="u1", e="e1", at=0)
    assert space.identify(u="u1", e="e2", at=window - 1).demoted == {"e2"}
    assert space.identify(u="u1", e="e2", at=window).added == {"e2"}


def test_identity_L3_totals_may_grow_past_a_periodic_limit(graph):
    space = graph(types={"email": {"limit": 2, "per": "daily"}})
    for n in range(1, 8):
        last = space.identify(u="u1", e=f"e{n}", at=n * DAY // 2)
        assert last.demoted == set()
    assert len(space.nodes()[space.of("u1")].members["email"]) == 7


def test_identity_L3_a_mapping_keeps_its_time_through_merges(graph):
    space = graph(types={"email": {"limit": 2, "per": "daily"}})
    space.identify(u="u1", e="e1", at=0)
    space.identify(a="a1", e="e2", at=DAY)
    space.track(u="u1", a="a1", at=DAY + SECOND)
    # e1 is out of the window by now, e2 is in it although the merge was later.
    assert space.identify(u="u1", e="e3", at=DAY + 2 * SECOND).added == {"e3"}
    assert space.identify(u="u1", e="e4", at=DAY + 3 * SECOND).demoted == {"e4"}


def test_identity_L4_the_would_be_profile_is_what_counts(graph):
    space = graph(types={"email": {"limit": 3}})
    for n in (1, 2):
        space.identify(u="u1", e=f"e{n}")
        space.identify(a="a1", e=f"e{n + 2}")
    assert space.track(u="u1", a="a1").demoted == {"a1"}
    assert space.people() == {"e1 e2 u1", "a1 e3 e4"}


def test_identity_L5_ids_of_one_profile_never_violate(graph):
    space = graph()
    for n in range(1, 4):
        space.identify(u="u1", e=f"e{n}")
    space.define(types={"email": {"limit": 1}, "anonymous_id": {"limit": 2}})
    assert space.track(u="u1", e="e3").demoted == set()
    assert space.track(u="u1", a="a1").added == {"a1"}
    # A profile over the limit may still merge with one that has none of the type.
    space.track(a="a2")
    assert space.track(u="u1", a="a2").demoted == set()
    assert space.people() == {"a1 a2 e1 e2 e3 u1"}


def test_identity_L6_settings_change_later_events_only(graph):
    space = graph(types={"email": {"limit": 1}})
    space.identify(u="u1", e="e1")
    assert space.identify(u="u1", e="e2").demoted == {"e2"}
    space.define(types={"email": {"limit": 2}})
    assert space.people() == {"e1 u1"}
    assert space.identify(u="u1", e="e2").added == {"e2"}
    space.define(types={"email": {"limit": 1}})
    assert space.people() == {"e1 e2 u1"}


def test_identity_L6_equal_settings_have_equal_hashes():
    one = compile_settings(settings(types={"email": {"limit": 3}, "user_id": {"limit": 2}}))
    two = compile_settings(settings(types={"user_id": {"limit": 2}, "email": {"limit": 3}}))
    assert one.hash == two.hash
    assert one.hash != compile_settings(settings()).hash
    # The order of types decides nothing, the order of ranks does.
    turned = compile_settings(settings(order=["email", "user_id"]))
    assert turned.hash != compile_settings(settings()).hash


def test_identity_L7_at_a_cap_events_still_resolve():
    space = Graph(links=False, types={"anonymous_id": {"limit": 1000}})
    space.identify(u="u1", a="a0")
    for n in range(1, 101):
        space.track(a=f"a{n}")
        space.track(u="u1", a=f"a{n}")
    assert space.merges("u1") == 100
    space.track(a="a500")
    last = space.track(u="u1", a="a500")
    assert last.profile == space.of("u1")
    assert last.demoted == {"a500"}
    assert space.track(u="u1", a="a501").added == {"a501"}


# ---- ranks
def test_identity_R1_user_id_email_then_by_name():
    ranks = compile_settings(settings()).ranks(["ios.id", "anonymous_id", "ga_client_id"])
    assert sorted(ranks, key=ranks.get) == [
        "user_id", "email", "anonymous_id", "ga_client_id", "ios.id"
    ]  # fmt: skip
    assert ranks["user_id"] == 1


def test_identity_R2_a_new_type_shifts_the_others():
    chosen = compile_settings(settings())
    seen = ["user_id", "email", "anonymous_id", "ga_client_id"]
    assert chosen.ranks(seen)["anonymous_id"] == 3
    assert chosen.ranks([*seen, "android.id"]) == {
        "user_id": 1, "email": 2, "android.id": 3, "anonymous_id": 4, "ga_client_id": 5
    }  # fmt: skip
    assert [type for type, _ in chosen.ranked([("zeta", "z"), ("beta", "b"), ("email", "e")])] == [
        "email", "beta", "zeta"
    ]  # fmt: skip


def test_identity_R3_an_explicit_order(graph):
    space = graph(order=["email", "anonymous_id"])
    space.identify(u="u1", e="e1")
    last = space.identify(u="u2", e="e1", a="a1", ga="ga1")
    # u2 conflicts, but what ranks below it goes first: by name after the explicit ones.
    assert [value for _, value in last.arrive.demoted] == ["u2"]
    assert last.used == (("email", "e1"), ("anonymous_id", "a1"), ("ga_client_id", "ga1"))


def test_identity_R4_of_one_type_the_later_extracted_is_demoted_first(graph):
    space = graph(types={"email": {"limit": 1}})
    data = {"u": "u1", "e": "e1", "context": {"externalIds": [
        {"id": "e2", "type": "email", "collection": "users", "encoding": "none"}]}}  # fmt: skip
    assert space.identify(**data).demoted == {"e2"}
    assert space.of("e1") == space.of("u1")


def test_identity_X4_an_added_type_is_kept():
    space = Graph()
    space.track(u="u1", context=loyalty("L1"))
    assert [key for key, _ in space.state.scan(TYPES)] == [
        b"default\0loyalty_id", b"default\0user_id"
    ]  # fmt: skip


def test_identity_X6_the_value_first_sent_is_kept(graph):
    space = graph()
    space.identify(u="u1", e=" Ann@X.test")
    space.identify(u="u1", e="ANN@x.test")
    key = b"default\0email\0ann@x.test"
    assert space.state.get(OWNERS, key).raw == " Ann@X.test"
    assert space.state.get(OWNERS, b"default\0user_id\0u1").raw == ""


# ---- matching
def test_identity_A1_no_profile_yet(graph):
    space = graph()
    last = space.identify(u="u1", a="a1", e="e1")
    assert last.used == (("user_id", "u1"), ("email", "e1"), ("anonymous_id", "a1"))
    assert last.added == {"u1", "a1", "e1"}
    assert space.people() == {"a1 e1 u1"}


def test_identity_A2_one_profile(graph):
    space = graph()
    first = space.track(a="a1")
    last = space.identify(u="u1", a="a1")
    assert last.profile == first.profile
    assert last.added == {"u1"}
    mapping = last.arrive.added[0]
    assert (mapping.type, mapping.value, mapping.source) == ("user_id", "u1", "web")
    assert mapping.message_id == last.arrive.event.message_id
    assert mapping.created_at_ms == last.arrive.event.at_ms


def test_identity_A3_k_profiles_make_k_minus_1_merges(graph):
    space = graph()
    for fields in ({"u": "u1"}, {"e": "e1"}, {"a": "a1"}, {"ga": "ga1"}):
        space.track(**fields)
    space.track(u="u1", e="e1", a="a1", ga="ga1")
    assert space.merges("u1") == 3


def test_identity_A3_merge_counts_add_up(graph):
    space = graph()
    for user, other in (("u1", "a1"), ("e1", "a2")):
        space.track(**{user[0]: user})
        space.track(a=other)
        space.track(**{user[0]: user}, a=other)
    assert space.merges("u1") == space.merges("e1") == 1
    space.track(u="u1", e="e1")
    assert space.merges("u1") == 3


def test_identity_A4_the_worst_of_the_event_goes_not_that_of_the_violated_type(graph):
    space = graph()
    space.identify(u="u1", e="e1")
    last = space.identify(u="u2", e="e1", a="a1")
    assert [value for _, value in last.arrive.demoted] == ["a1", "e1"]


def test_identity_A4_targeted_drops_what_helps(graph):
    space = graph(demotion="targeted")
    space.identify(u="u1", e="e1")
    last = space.identify(u="u2", e="e1", a="a1")
    assert last.demoted == {"e1"}
    assert space.people() == {"e1 u1", "a1 u2"}


def test_identity_A4_targeted_falls_back_to_strict(graph):
    space = graph(demotion="targeted", types={"email": {"limit": 1}})
    entries = [{"id": f"e{n}", "type": "email", "collection": "users", "encoding": "none"}
               for n in (2, 3)]  # fmt: skip
    # Three emails, one allowed: no single one helps, so the worst goes, then one that does.
    last = space.identify(u="u1", e="e1", ga="ga1", context={"externalIds": entries})
    assert [value for _, value in last.arrive.demoted] == ["ga1", "e3", "e2"]


def test_identity_A5_a_demoted_id_stays_where_it_was(graph):
    space = graph()
    space.identify(u="u1", a="a1", e="e1")
    space.identify(u="u2", a="a1", e="e9")
    assert space.of("a1") == space.of("u1")
    assert space.of("e9") == space.of("u2")


def test_identity_A6_a_single_id_always_resolves(graph):
    space = graph(types={"anonymous_id": {"limit": 1}, "email": {"limit": 1, "per": "daily"}})
    for n in range(3):
        assert space.track(a=f"a{n}").demoted == set()
        assert space.identify(e=f"e{n}").demoted == set()
    assert len(space.people()) == 6


def test_identity_A7_caps_settle_on_the_profile_of_the_best_id(graph):
    space = graph(types={"anonymous_id": {"limit": 1000}})
    space.identify(u="u1")
    best = space.of("u1")
    for n in range(101):
        space.track(a=f"a{n}")
        last = space.track(u="u1", a=f"a{n}")
    assert last.profile == best
    assert last.demoted == {"a100"}
    assert space.state.counters["identity:merge_limit_exceeded"] == 1


def test_identity_A8_the_oldest_survives_then_the_smallest_id(graph):
    space = graph()
    old = space.track(a="a1", at=0)
    space.identify(u="u1", at=SECOND)
    assert space.track(u="u1", a="a1").profile == old.profile
    space = graph()
    both = [space.track(a="a1", at=0).profile, space.identify(u="u1", at=0).profile]
    assert space.track(u="u1", a="a1").profile == min(both)


def test_identity_A9_demotions_and_merges_are_logged(graph):
    space = graph()
    first = space.identify(u="u1", a="a1")
    second = space.identify(u="u2")
    space.identify(u="u2", a="a1", e="null")
    row = space.log()[0]
    assert (row.action, row.used, row.after) == ("add", (("user_id", "u2"),), second.profile)
    assert row.before == (second.profile, first.profile)
    assert row.passes[0].demoted == ("anonymous_id", "a1")
    assert row.passes[0].violations == (("value_limit_exceeded", "user_id"),)
    assert row.blocked == (("email", "null"),)
    assert space.state.counters["identity:value_blocked"] == 1
    space.track(a="a2")
    space.track(a="a2", ga="ga1")
    space.track(u="u2", a="a2")
    assert [row.action for row in space.log()] == ["add", "merge"]


def test_identity_A10_one_log_one_graph(graph):
    def play():
        space = graph()
        for n in range(1, 60):
            space.identify(u=f"u{n % 7}", a=f"a{n % 11}", e=f"e{n % 5}")
            space.track(a=f"a{n % 13}", ga=f"ga{n % 3}")
        return space

    one, two = play(), play()
    assert one.state.content() == two.state.content()
    assert one.state.outs == two.state.outs
    first = one.identify(u="new", id="m-9").profile
    assert first == profile_id("use_", "default", "m-9", ("user_id", "new"))
    assert first != profile_id("use_", "other", "m-9", ("user_id", "new"))
    assert first.startswith("use_") and first[4:].isalnum() and len(first) == 28


def test_identity_A11_an_id_never_has_two_profiles(graph):
    space = graph()
    for _ in range(2):
        for fields in ({"a": "a1"}, {"u": "u1", "a": "a1"}, {"u": "u1"}):
            space.track(**fields, at=0)
    assert space.people() == {"a1 u1"}


def test_identity_A12_arrival_counts_not_the_timestamp(graph):
    space = graph()
    space.identify(u="u1", a="a1", timestamp="2026-03-02T12:00:00.000Z")
    space.identify(u="u2", a="a1", timestamp="2026-03-02T09:00:00.000Z")
    assert space.of("a1") == space.of("u1")


# ---- 6: what add and merge do
def test_identity_s6_orders_of_a_merge_go_out_before_its_event():
    space = Graph()
    space.identify(u="u1", g="g1")
    lost = space.track(a="a1", ga="ga1").profile
    last = space.group(u="u1", a="a1", g="g1", traits={"plan": "pro"})
    orders = last.records[3:]
    kinds = [type(record) for record in orders]
    assert kinds == [MergeOut, Arrive, AccountCall, Revoke, Revoke, Answer]
    order = orders[0]
    assert (order.loser, order.survivor, order.message_id) == (
        lost, last.profile, last.arrive.event.message_id)  # fmt: skip
    assert {one.routing_id for one in last.records if isinstance(one, Revoke)} == {
        ("anonymous_id", "a1"), ("ga_client_id", "ga1")}  # fmt: skip
    assert last.records[-1] == Answer(("anonymous_id", "a1"), last.profile, last.used, "g1")


def test_identity_s6_links_of_the_merged_follow_to_the_survivor():
    space = Graph()
    space.identify(u="u1")
    space.track(a="a1")
    space.track(a="a1", ga="ga1")
    space.track(a="a2", ga="ga1")
    space.track(u="u1", a="a2")
    direct = space.track(a="a1")
    assert direct.profile == space.of("u1")
    assert [type(record).__name__ for record in direct.records] == ["Received", "Kept", "Arrive"]


def test_identity_s6_a_demoted_combination_is_decided_anew_each_time():
    space = Graph()
    space.identify(u="u1", a="a1")
    space.identify(u="u2", a="a1")
    again = space.identify(u="u2", a="a1")
    assert [type(record).__name__ for record in again.records][-2:] == ["Arrive", "Answer"]
    assert again.records[-1].profile_id == ""


def test_identity_s6_redirects_resolve_over_any_number_of_hops(graph):
    space = graph(types={"anonymous_id": {"limit": 100}, "ga_client_id": {"limit": 100}})
    profiles = [space.track(a=f"a{n}").profile for n in range(50)]
    for n in range(49, 0, -1):
        space.track(a=f"a{n}", ga=f"ga{n}")
        space.track(a=f"a{n - 1}", ga=f"ga{n}")
    assert {space.now(one) for one in profiles} == {profiles[0]}
    assert canonical(space.state, "use_nobody") is None
    assert space.of("nobody", "user_id") is None


# ---- alias, group, reset
def test_identity_B1_alias_maps_its_user_id_and_nothing_else(graph):
    space = graph()
    space.alias(u="u1", previousId="u0")
    assert space.people() == {"u1"}
    assert space.of("u0", "user_id") is None


def test_identity_B2_group_calls_describe_an_account_and_link_the_person(graph):
    space = graph()
    mention = space.track(u="u1", context={"groupId": "g1"})
    account = space.of("g1", "group_id")
    assert mention.account is None
    assert mention.arrive.account_id == account
    first = space.group(u="u1", a="a1", g="g1", traits={"plan": "pro"})
    again = space.group(u="u2", g="g1")
    assert (first.account.account_id, first.account.group_id) == (account, "g1")
    assert first.account.person_id == space.of("u1")
    assert [first.account.created, again.account.created] == [True, False]
    assert space.people() == {"a1 u1", "u2"}
    other = space.group(u="u1", g="g2")
    assert other.arrive.account_id == space.of("g2", "group_id") != account


def test_identity_B2_a_blocked_group_id_names_no_account(graph):
    space = graph()
    last = space.group(u="u1", g="null")
    assert last.profile == space.of("u1")
    assert (last.arrive.account_id, last.account) == ("", None)
    assert space.of("null", "group_id") is None


def test_identity_B3_two_anonymous_visitors_of_one_browser_merge(graph):
    space = graph()
    space.track(a="a1")
    space.track(a="a2", ga="ga1")
    space.track(a="a1", ga="ga1")
    assert space.people() == {"a1 a2 ga1"}


# ---- gates, through intake
@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ("G1", {"integrations": {"Personas": False}}),
        ("G3", {"context": {"groupId": ""}}),
        ("G5", {"properties": {f"k{n}": n for n in range(301)}}),
        ("G6", {"timestamp": "1969-07-20T20:17:40.000Z"}),
    ],
)
def test_identity_G1_G3_G5_G6_what_is_filtered_touches_no_profile(graph, rule, fields):
    space = graph()
    assert space.track(u="u1", **fields).profile is None
    assert space.people() == set()


def test_identity_G9_no_identifier_left_is_unresolved():
    space = Graph()
    assert space.track(u="null", a="0").profile is None
    assert space.state.counters["unresolved:no_matching_identifiers"] == 1
    assert space.people() == set()
