"""The worked examples of identity resolution, one a test, under their numbers."""

import pytest

from agents.identity import NODES, OWNERS, Owner
from identity.match import Node
from profiles import traits
from tests.identity.graph import DAY, SECOND, START, Graph, call


def test_identity_example_1_anonymous_history_becomes_the_persons(graph):
    space = graph()
    space.track(a="a1")
    space.track(a="a1")
    space.identify(u="u1", a="a1")
    assert space.people() == {"a1 u1"}
    assert space.events() == {space.of("u1"): 3}
    assert space.merges("u1") == 0


def test_identity_example_2_two_devices_of_one_person(graph):
    space = graph()
    first = space.track(a="a1")
    space.identify(u="u1", a="a1")
    second = space.track(a="a2")
    last = space.identify(u="u1", a="a2")
    assert space.people() == {"a1 a2 u1"}
    assert space.of("u1") == first.profile
    assert space.now(second.profile) == first.profile
    assert last.merged == (second.profile,)
    assert space.merges("u1") == 1


def shared_device(space):
    space.identify(u="u1", a="a1")
    second = space.identify(u="u2", a="a1")
    assert space.people() == {"a1 u1", "u2"}
    assert second.demoted == {"a1"}
    assert second.profile == space.of("u2")
    return space


def test_identity_example_3_a_shared_device_stays_with_the_first(graph):
    shared_device(graph())


def test_identity_example_4_the_anonymous_tail_goes_to_the_first(graph):
    space = shared_device(graph())
    assert space.track(a="a1").profile == space.of("u1")


def test_identity_example_5_two_user_ids_allowed(graph):
    space = graph(types={"user_id": {"limit": 2}})
    for user in ("u1", "u2", "u3"):
        space.identify(u=user, a="a1")
    assert space.people() == {"a1 u1 u2", "u3"}


def test_identity_example_6_an_email_used_again(graph):
    space = graph()
    space.identify(u="u1", e="e1")
    second = space.identify(u="u2", e="e1")
    assert space.people() == {"e1 u1", "u2"}
    assert space.of("e1") == space.of("u1")
    # The payload is not altered, so the email still becomes the trait of the other person.
    assert second.profile == space.of("u2")
    assert traits.merge({}, second.arrive.event)["email"].value == "e1"


def test_identity_example_7_a_shared_inbox_anonymous_first(graph):
    space = graph()
    space.identify(a="a1", e="e1")
    space.identify(a="a2", e="e1")
    space.identify(u="u1", e="e1")
    assert space.people() == {"a1 a2 e1 u1"}
    last = space.identify(u="u2", e="e1", a="a2")
    assert [value for _, value in last.arrive.demoted] == ["a2", "e1"]
    assert space.people() == {"a1 a2 e1 u1", "u2"}


def test_identity_example_8_the_older_profile_survives(graph):
    space = graph()
    known = space.identify(u="u1")
    anonymous = space.track(a="a1")
    last = space.track(u="u1", a="a1")
    assert space.people() == {"a1 u1"}
    assert last.profile == known.profile == space.now(anonymous.profile)


def test_identity_example_9_an_email_does_not_bridge_two_known_users(graph):
    space = graph()
    space.identify(u="u1", a="a1")
    space.identify(u="u2", e="e2")
    third = space.identify(u="u1", e="e2")
    assert space.people() == {"a1 u1", "e2 u2"}
    assert third.profile == space.of("u1")
    assert traits.merge({}, third.arrive.event)["email"].value == "e2"


def six_anonymous_ids(space):
    for n in range(1, 7):
        last = space.identify(u="u1", a=f"a{n}")
    assert last.profile == space.of("u1")
    assert last.demoted == {"a6"}
    assert space.of("a6") is None
    later = space.track(a="a6")
    assert later.profile not in (None, space.of("u1"))
    assert space.people() == {"a1 a2 a3 a4 a5 u1", "a6"}
    return space


def test_identity_example_10_the_sixth_anonymous_id(graph):
    six_anonymous_ids(graph())


def test_identity_example_11_a_refused_id_is_refused_each_time(graph):
    space = six_anonymous_ids(graph())
    for _ in range(2):
        assert space.identify(u="u1", a="a6").demoted == {"a6"}
    assert space.people() == {"a1 a2 a3 a4 a5 u1", "a6"}
    assert space.violations() == [{"value_limit_exceeded"}] * 3


def test_identity_example_12_a_weekly_window(graph):
    space = graph(types={"anonymous_id": {"limit": 5, "per": "weekly"}})
    for n in range(1, 6):
        space.track(u="u1", a=f"a{n}", at=0)
    assert space.track(u="u1", a="a6", at=3 * DAY).demoted == {"a6"}
    assert space.violations() == [{"value_time_limit_exceeded"}]
    assert space.track(u="u1", a="a7", at=7 * DAY + SECOND).demoted == set()
    assert space.people() == {"a1 a2 a3 a4 a5 a7 u1"}


def test_identity_example_13_a_merge_overflows_a_type_that_the_event_lacks(graph):
    space = graph()
    for n in (1, 2, 3):
        space.identify(u="u1", a=f"a{n}")
    for n in (4, 5, 6):
        space.identify(e="e1", a=f"a{n}")
    last = space.identify(u="u1", e="e1")
    assert last.demoted == {"e1"}
    assert last.profile == space.of("u1")
    assert space.people() == {"a1 a2 a3 u1", "a4 a5 a6 e1"}


@pytest.mark.parametrize(
    ("demotion", "demoted", "people"),
    [
        ("strict", ["a3", "e2"], {"u1", "e2 u2", "a3"}),
        ("targeted", ["e2"], {"a3 u1", "e2 u2"}),
    ],
)
def test_identity_example_14_strict_demotion_hits_bystanders(graph, demotion, demoted, people):
    space = graph(demotion=demotion)
    space.identify(u="u1")
    space.identify(u="u2", e="e2")
    space.track(a="a3")
    last = space.identify(u="u1", e="e2", a="a3")
    assert [value for _, value in last.arrive.demoted] == demoted
    assert last.profile == space.of("u1")
    assert space.people() == people


def test_identity_example_15_the_order_of_arrival_matters(graph):
    for order in (("u1", "u2"), ("u2", "u1")):
        space = graph()
        for user in order:
            space.identify(u=user, a="a1")
        assert space.of("a1") == space.of(order[0])


def test_identity_example_16_a_late_old_trait(graph):
    space = graph()
    calls = ((10, "pro"), (9, "free"))
    known = {}
    for hour, plan in calls:
        data = call("identify", u="u1", messageId=f"m{hour}", traits={"plan": plan})
        outcome = space.send(data, timestamp_ms=START + hour * 3_600_000)
        known |= traits.merge(known, outcome.arrive.event)
    assert known["plan"].value == "pro"
    assert space.events() == {space.of("u1"): 2}


def test_identity_example_17_a_duplicate_delivery():
    space = Graph()
    space.identify(u="u1", a="a1", id="m1", at=0)
    assert space.identify(u="u1", a="a1", id="m1", at=3_600_000).profile is None
    assert space.events() == {space.of("u1"): 1}
    assert space.state.counters["duplicates"] == 1


def test_identity_example_18_a_replay_after_the_window():
    space = Graph()
    space.identify(u="u1", a="a1", id="m1", at=0)
    before = space.state.content()
    again = space.identify(u="u1", a="a1", id="m1", at=3 * DAY)
    assert again.profile == space.of("u1")
    assert again.added == set()
    # Told apart by its first timestamp, so that the history keeps one.
    assert again.arrive.event.repeat_of_ms == START
    after = space.state.content()
    assert {p: rows for p, rows in after.items() if p[:1] == b"I"} == {
        p: rows for p, rows in before.items() if p[:1] == b"I"
    }


def test_identity_example_19_a_merge_message_again_out_of_order(graph):
    space = graph()
    space.identify(u="u1", a="a1", id="m1")
    space.identify(u="u2", id="m2")
    assert space.identify(u="u2", a="a1", id="m3").demoted == {"a1"}
    again = space.identify(u="u1", a="a1", id="m1", at=3 * DAY)
    assert again.profile == space.of("u1")
    assert not again.added and not again.demoted
    assert space.people() == {"a1 u1", "u2"}


def test_identity_example_20_a_three_way_merge(graph):
    space = graph()
    first = space.identify(u="u1")
    second = space.identify(e="e1")
    third = space.track(a="a1")
    last = space.identify(u="u1", e="e1", a="a1")
    assert space.people() == {"a1 e1 u1"}
    assert last.profile == first.profile
    assert last.merged == (second.profile, third.profile)
    assert space.merges("u1") == 2


def test_identity_example_21_redirects_over_two_hops(graph):
    space = graph()
    first = space.identify(u="u1")
    second = space.identify(e="e1", a="a2")
    third = space.track(a="a3")
    space.identify(e="e1", a="a3")
    assert space.now(third.profile) == second.profile
    space.identify(u="u1", e="e1")
    assert space.now(third.profile) == space.now(second.profile) == first.profile
    assert space.nodes()[first.profile].absorbed == (second.profile, third.profile)


def test_identity_example_22_blocked_values_identify_nobody():
    space = Graph()
    space.identify(u="null", a="a1")
    space.identify(u="000-0", a="a2")
    assert space.identify(u="-1").profile is None
    assert space.people() == {"a1", "a2"}
    assert space.state.counters["unresolved"] == 1


def test_identity_example_23_a_companys_email_is_no_persons(graph):
    space = graph()
    calls = [space.group(u=u, g="g1", traits={"email": "hi@co"}) for u in ("u1", "u2")]
    assert space.people() == {"u1", "u2"}
    assert space.of("hi@co", "email") is None
    account = space.of("g1", "group_id")
    assert account.startswith("acc_")
    assert [one.account.account_id for one in calls] == [account, account]
    assert [one.arrive.account_id for one in calls] == [account, account]
    assert [one.account.person_id for one in calls] == [space.of("u1"), space.of("u2")]


def test_identity_example_24_alias_merges_nothing(graph):
    space = graph()
    space.track(a="a1")
    space.identify(u="u1")
    assert space.alias(u="u1", previousId="a1").profile == space.of("u1")
    assert space.people() == {"a1", "u1"}
    space.track(u="u1", a="a1")
    assert space.people() == {"a1 u1"}


def test_identity_example_25_a_client_id_outlives_the_logout(graph):
    space = graph()
    space.track(a="a1", ga="ga1")
    space.identify(u="u1", a="a1")
    assert space.track(a="a2", ga="ga1").profile == space.of("u1")
    assert space.people() == {"a1 a2 ga1 u1"}
    assert space.identify(u="u2", a="a2").demoted == {"a2"}
    assert space.people() == {"a1 a2 ga1 u1", "u2"}
    assert space.track(a="a2").profile == space.of("u1")


def planted(space, profile, ids, absorbed=()):
    """Put a profile that would take long to grow."""
    members = {}
    for type, value in ids:
        members.setdefault(type, {})[value] = START
        space.state.put(OWNERS, f"default\0{type}\0{value}".encode(), Owner(profile, START, "m0"))
    node = Node(START, "m0", ids[0], members, absorbed)
    space.state.put(NODES, f"default\0{profile}".encode(), node)


def test_identity_example_26_the_merge_cap():
    space = Graph(links=False)
    absorbed = tuple(f"use_lost{n}" for n in range(100))
    planted(space, "use_P1", [("user_id", "u1")], absorbed)
    ninth = space.track(a="a9")
    last = space.track(u="u1", a="a9")
    assert last.profile == "use_P1"
    assert space.of("a9") == ninth.profile
    assert space.violations() == [{"merge_limit_exceeded"}]


def test_identity_example_27_the_mapping_cap():
    space = Graph(links=False, types={"anonymous_id": {"limit": 1000}, "kit": {"limit": 1000}})
    ids = [("user_id", "u1"), *(("anonymous_id", f"a{n}") for n in range(1, 600)),
           *(("kit", f"k{n}") for n in range(600, 1000))]
    planted(space, "use_P1", ids)
    last = space.identify(u="u1", a="a1001")
    assert last.profile == "use_P1"
    assert space.of("a1001") is None
    assert space.violations() == [{"mapping_limit_exceeded"}]


def loyalty(value):
    entry = {"id": value, "type": "loyalty_id", "collection": "users", "encoding": "none"}
    return {"externalIds": [entry]}


def test_identity_example_28_a_type_adds_itself(graph):
    space = graph()
    first = space.track(u="u1", context=loyalty("L1"))
    # No userId and no anonymousId: only the identifier of the new type.
    assert space.track(context=loyalty("L1")).profile == first.profile
    for n in range(2, 7):
        last = space.track(u="u1", context=loyalty(f"L{n}"))
    assert last.demoted == {"L6"}
    assert space.people() == {"L1 L2 L3 L4 L5 u1"}


def test_identity_example_29_an_emails_case_and_spaces(graph):
    space = graph()
    space.identify(a="a1", e="Ann@X.test")
    space.identify(a="a2", e="ann@x.test ")
    assert space.people() == {"a1 a2 ann@x.test"}


def test_identity_example_30_a_tightened_limit(graph):
    space = graph()
    for n in (1, 2, 3):
        space.identify(u="u1", e=f"e{n}")
    space.define(types={"email": {"limit": 1}})
    assert space.track(u="u1", e="e2").demoted == set()
    assert space.track(u="u1", a="a9").added == {"a9"}
    assert space.identify(u="u1", e="e4").demoted == {"e4"}
    assert space.people() == {"a9 e1 e2 e3 u1"}


def test_identity_example_32_the_same_batch(graph):
    for first, second in (("track", "identify"), ("identify", "track")):
        space = graph()
        fields = {"track": {"a": "a1"}, "identify": {"u": "u1", "a": "a1"}}
        getattr(space, first)(**fields[first], at=0)
        getattr(space, second)(**fields[second], at=0)
        assert space.people() == {"a1 u1"}
