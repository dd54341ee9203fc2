"""Who is in an audience and when: B1, B3, B4, sections 4.1 to 4.3, E1 to E7, the flip table."""

from itertools import product

import pytest
from msgspec.structs import replace

from audiences import evaluate, merge
from audiences.evaluate import Memory
from audiences.plan import changed, created
from events.event import Event, seen
from events.operators import NEVER
from profiles.profile import ExternalId
from tests.audiences.driver import DAY, HOUR, Person, audience, ms, observe, occurred, plan_of

BOUGHT = {"performed": {"event": "Bought"}}
BOUGHT_7D = {"performed": {"event": "Bought", "within": "7d"}}
EVERYONE = {"everyone": True}


# ---- who may be in one ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ids", "known", "anonymous"),
    [
        ([("user_id", "u")], True, True),
        ([("email", "a@b.test")], True, True),
        ([("android.idfa", "x")], True, True),
        ([("ios.idfa", "x")], True, True),
        ([("anonymous_id", "a")], False, True),
        ([("loyalty_id", "l")], False, False),
        ([("anonymous_id", "a"), ("user_id", "u")], True, True),
    ],
)
def test_audiences_B1_who_is_eligible_depends_on_the_identifiers(ids, known, anonymous):
    plan = plan_of({"known": EVERYONE, "all": audience(EVERYONE, include_anonymous=True)})
    person = Person(plan, ids=ids)
    assert person.inside("known") is known
    assert person.inside("all") is anonymous


def test_audiences_B1_an_anonymous_past_counts_from_the_login_on():
    plan = plan_of(
        {"buyers": BOUGHT_7D, "twice": {"performed": {"event": "Bought", "at_least": 2}}}
    )
    person = Person(plan, ids=[("anonymous_id", "a")])
    person.sees(occurred("Bought", "2025-01-01 10:00"))
    assert person.log == []
    assert evaluate.next_flip(person.profile.flips) == 0, "no timer for who may not be in it"
    person.until("2025-01-03")
    person.identify(("user_id", "u1"))
    person.until("2025-02-01")
    assert person.log == [
        ("2025-01-03 00:00", "enter", "buyers"),
        ("2025-01-08 10:00", "exit", "buyers"),
    ]
    assert not person.profile.flips


def test_audiences_B1_what_has_aged_out_before_the_login_does_not_count():
    person = Person(plan_of({"buyers": BOUGHT_7D}), ids=[("anonymous_id", "a")])
    person.sees(occurred("Bought", "2025-01-01 10:00"))
    person.until("2025-01-09")
    person.identify(("user_id", "u1"))
    assert person.log == []
    assert not person.profile.flips


def test_audiences_B1_a_second_identifier_asks_nothing_again():
    person = Person(plan_of({"all": EVERYONE}))
    before = person.profile.ids
    person.profile = replace(person.profile, ids=(*before, ExternalId("email", "a", 0, "", "")))
    assert evaluate.identified(person.plan, before, person.profile) == ()


def test_audiences_B1_who_loses_the_identifier_leaves():
    person = Person(plan_of({"all": EVERYONE, "not": {"not": {"audience": "all"}}}))
    before = person.profile.ids
    person.profile = replace(person.profile, ids=(ExternalId("anonymous_id", "a", 0, "", ""),))
    person.settle(evaluate.identified(person.plan, before, person.profile))
    assert [entry[1:] for entry in person.log] == [("enter", "all"), ("exit", "all")]


def test_audiences_B1_an_open_audience_may_refuse_those_of_a_closed_one():
    """Of an anonymous person `not known` holds although `known` itself is closed to them."""
    plan = plan_of(
        {
            "known": EVERYONE,
            "unknown": audience({"not": {"audience": "known"}}, include_anonymous=True),
        }
    )
    person = Person(plan, ids=[("anonymous_id", "a")])
    assert person.inside("unknown")
    person.identify(("user_id", "u"))
    assert [entry[1:] for entry in person.log] == [
        ("enter", "unknown"),
        ("enter", "known"),
        ("exit", "unknown"),
    ]


# ---- how far back --------------------------------------------------------------------------------
NOW = "2025-06-01"


def history_of(history, *events, computed=None):
    """Return a person for whom the audience is created on June 1, with these events before."""
    new = plan_of({"a": audience(BOUGHT, history=history)}, computed, {"a": ms(NOW), "t": ms(NOW)})
    person = Person(new, born=NOW)
    changes = changed(plan_of({}), new)
    person.states.rows = evaluate.rebuild(new, changes.leaves, events)
    person.settle(changes.computations)
    return person


@pytest.mark.parametrize(
    ("history", "timestamp", "inside"),
    [
        (True, "2025-01-01", True),
        (False, "2025-05-31", False),
        ("90d", "2025-05-01", True),
        ("90d", "2025-03-03", True),
        ("90d", "2025-03-02", False),
    ],
)
def test_audiences_B3_history_counts_as_far_back_as_it_is_told(history, timestamp, inside):
    assert history_of(history, occurred("Bought", timestamp)).inside("a") is inside


def test_audiences_B3_without_history_only_what_is_received_later_counts():
    person = history_of(False)
    person.sees(occurred("Bought", "2025-05-01", received="2025-06-02"))
    assert person.inside("a"), "received after the creation, whenever it happened"


def test_audiences_B3_a_late_event_from_before_the_lookback_does_not_count():
    person = history_of("90d")
    person.sees(occurred("Bought", "2025-03-02", received="2025-06-02"))
    assert not person.inside("a")


def test_audiences_B3_traits_always_count():
    plan = plan_of({"a": audience({"trait": {"plan": {"equals": "pro"}}}, history=False)})
    person = Person(plan)
    person.has(plan="pro")
    assert person.inside("a")


def test_audiences_B3_an_edit_fills_its_new_conditions_from_history():
    since = {"a": ms("2025-02-01")}
    old = plan_of({"a": audience(BOUGHT, history=False)}, since=since)
    twice = {"performed": {"event": "Bought", "at_least": 2}}
    new = plan_of({"a": audience(twice, history=False)}, since=created(since, ["a"], ms(NOW)))
    changes = changed(old, new)
    before, after = occurred("Bought", "2025-01-31"), occurred("Bought", "2025-02-02")
    assert set(evaluate.rebuild(new, changes.leaves, [before, after]).values()) == {1}


def test_audiences_B4_three_years_back_and_not_before_1970():
    assert history_of(True, occurred("Bought", "2022-06-03")).inside("a")
    assert not history_of(True, occurred("Bought", "2022-05-31")).inside("a")
    old = {"t": {"type": "count", "event": "Bought"}}
    assert history_of(True, occurred("Bought", "2022-05-31"), computed=old).value("t") is None
    person = Person(plan_of({"a": BOUGHT}))
    person.sees(occurred("Bought", "1969-12-31", received="2025-01-02"))
    assert not person.inside("a")


# ---- how often -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("asked", "members_at"),
    [
        ({}, {1, 2, 3, 4}),
        ({"at_least": 2}, {2, 3, 4}),
        ({"exactly": 0}, {0}),
        ({"exactly": 2}, {2}),
        ({"at_most": 0}, {0}),
        ({"at_most": 2}, {0, 1, 2}),
    ],
)
@pytest.mark.parametrize("window", [{}, {"within": "30d"}])
def test_audiences_s4_1_times_performed(asked, members_at, window):
    person = Person(plan_of({"a": {"performed": {"event": "E"} | asked | window}}))
    inside = {0} if person.inside("a") else set()
    for times in range(1, 5):
        person.sees(occurred("E", ms("2025-01-01") + times))
        inside |= {times} if person.inside("a") else set()
    assert inside == members_at


def test_audiences_s4_1_events_of_excluded_sources_do_not_count():
    plan = plan_of({"a": {"performed": {"event": "E", "exclude_sources": ["test"]}}})
    person = Person(plan)
    person.sees(occurred("E", "2025-01-01", source="test"))
    assert not person.inside("a")
    person.sees(occurred("E", "2025-01-01", source="web"))
    assert person.inside("a")


def test_events_E01_names_are_told_apart_by_case():
    person = Person(plan_of({"a": BOUGHT}))
    person.sees(occurred("bought", "2025-01-01"))
    assert not person.inside("a")


# ---- combination ---------------------------------------------------------------------------------
@pytest.mark.parametrize(("x", "y", "z"), list(product([False, True], repeat=3)))
def test_audiences_s4_3_all_any_not(x, y, z):
    leaf = {name: {"trait": {name: {"exists": True}}} for name in "xyz"}
    plan = plan_of(
        {
            "all": {"all": list(leaf.values())},
            "any": {"any": list(leaf.values())},
            "mixed": {"any": [{"all": [leaf["x"], leaf["y"]]}, {"not": leaf["z"]}]},
            "neither": {"not": {"any": [leaf["x"], {"not": {"not": leaf["y"]}}]}},
            "keys": {"trait": {"x": {"exists": True}, "y": {"exists": True}}},
        }
    )
    person = Person(plan)
    person.has(x=1 if x else None, y=1 if y else None, z=1 if z else None)
    inside = {key for key in plan.computations if person.inside(key)}
    assert inside == {
        name
        for name, holds in {
            "all": x and y and z,
            "any": x or y or z,
            "mixed": (x and y) or not z,
            "neither": not (x or y),
            "keys": x and y,
        }.items()
        if holds
    }


def test_audiences_s4_3_a_timer_waits_for_the_last_part_that_must_change():
    """Of `all`, one part that stays false for good needs no timer, however the others flip."""
    plan = plan_of({"a": {"all": [BOUGHT_7D, {"trait": {"plan": {"equals": "pro"}}}]}})
    person = Person(plan)
    person.sees(occurred("Bought", "2025-01-01 10:00"))
    assert person.profile.flips == {}
    person.has(plan="pro")
    assert person.profile.flips == {"a": ms("2025-01-08 10:00")}


def test_audiences_s4_2_traits_of_all_kinds_are_read_alike():
    plan = plan_of(
        {
            "buyers": BOUGHT_7D,
            "by_computed": {"trait": {"orders": {"gte": 2}}},
            "by_membership": {"trait": {"buyers": {"equals": True}}},
            "by_custom": {"trait": {"address.city": {"equals": "Oslo"}}},
        },
        {"orders": {"type": "count", "event": "Bought", "window": {"within": "7d"}}},
    )
    person = Person(plan)
    person.has(address={"city": "Oslo"})
    person.sees(occurred("Bought", "2025-01-02"), occurred("Bought", "2025-01-03"))
    assert all(person.inside(key) for key in plan.computations if key != "orders")
    person.until("2025-02-01")
    assert person.log == [
        ("2025-01-01 00:00", "enter", "by_custom"),
        ("2025-01-02 00:00", "orders", 1),
        ("2025-01-02 00:00", "enter", "buyers"),
        ("2025-01-02 00:00", "enter", "by_membership"),
        ("2025-01-03 00:00", "orders", 2),
        ("2025-01-03 00:00", "enter", "by_computed"),
        ("2025-01-09 00:00", "orders", 1),
        ("2025-01-09 00:00", "exit", "by_computed"),
        ("2025-01-10 00:00", "orders", 0),
        ("2025-01-10 00:00", "exit", "buyers"),
        ("2025-01-10 00:00", "exit", "by_membership"),
    ]


# ---- time ----------------------------------------------------------------------------------------
def flips_of(where, *events, until="2025-06-01"):
    person = Person(plan_of({"a": where}))
    person.sees(*events)
    person.until(until)
    return [(time, what) for time, what, _ in person.log]


def test_audiences_E1_a_window_is_half_open_and_a_day_has_24_hours():
    plan = plan_of({"a": {"performed": {"event": "E", "within": "90d"}}})
    person = Person(plan)
    person.sees(occurred("E", "2025-01-01 10:00"))
    assert person.profile.flips == {"a": ms("2025-01-01 10:00") + 2160 * HOUR}
    person.until(ms("2025-01-01 10:00") + 2160 * HOUR - 1)
    assert person.inside("a")
    person.until(ms("2025-01-01 10:00") + 2160 * HOUR)
    assert not person.inside("a")


def test_audiences_E1_the_event_timestamp_counts_not_its_arrival():
    assert flips_of(
        {"performed": {"event": "E", "within": "7d"}},
        occurred("E", "2025-01-01", received="2025-01-05"),
    ) == [("2025-01-05 00:00", "enter"), ("2025-01-08 00:00", "exit")]


@pytest.mark.parametrize(
    ("asked", "days", "log"),
    [
        # at least n within d: out when the n-th newest is d old
        ({"at_least": 2, "within": "7d"}, [2, 4, 5], [(4, "enter"), (11, "exit")]),
        # at most k: in by passing time, when the (k+1)-th newest ages out
        ({"at_most": 1, "within": "7d"}, [2, 4], [(1, "enter"), (4, "exit"), (9, "enter")]),
        # exactly k: also out when the k-th newest ages out
        (
            {"exactly": 1, "within": "7d"},
            [2, 4],
            [(2, "enter"), (4, "exit"), (9, "enter"), (11, "exit")],
        ),
        # not performed: in at last + d; without any event from the beginning
        ({"exactly": 0, "within": "7d"}, [2, 4], [(1, "enter"), (2, "exit"), (11, "enter")]),
        ({"exactly": 0, "within": "7d"}, [], [(1, "enter")]),
        # between: in at ts + d1, out at ts + d2
        ({"between": ["7d", "10d"]}, [2], [(9, "enter"), (12, "exit")]),
        ({"between": ["7d", "10d"], "at_least": 2}, [2, 4], [(11, "enter"), (12, "exit")]),
        ({"between": ["7d", "10d"], "exactly": 0}, [2], [(1, "enter"), (9, "exit"), (12, "enter")]),
        (
            {"between": ["7d", "10d"], "at_most": 1},
            [2, 4],
            [(1, "enter"), (11, "exit"), (12, "enter")],
        ),
    ],
)
def test_audiences_E2_flips_come_at_the_instants_of_the_table(asked, days, log):
    events = [occurred("E", f"2025-01-{day:02}") for day in days]
    assert flips_of({"performed": {"event": "E"} | asked}, *events) == [
        (f"2025-01-{day:02} 00:00", what) for day, what in log
    ]


def test_audiences_E2_what_time_cannot_change_needs_no_timer():
    plan = plan_of({"a": BOUGHT, "b": {"trait": {"x": {"after_date": "2025-01-01"}}}})
    person = Person(plan)
    person.sees(occurred("Bought", "2025-01-02"))
    person.has(x="2025-03-01")
    assert person.inside("a")
    assert person.inside("b")
    assert person.profile.flips == {}
    assert evaluate.next_flip({"a": NEVER}) == 0


def test_audiences_E3_a_timer_recomputes_it_never_toggles():
    person = Person(plan_of({"a": BOUGHT_7D}))
    person.sees(occurred("Bought", "2025-01-01 10:00"))
    stale = dict(person.profile.flips)
    person.sees(occurred("Bought", "2025-01-05 10:00"))
    person.profile = replace(person.profile, flips=stale)
    person.now = ms("2025-01-08 10:00")
    person.fire()
    assert person.inside("a")
    assert person.profile.flips == {"a": ms("2025-01-12 10:00")}


def test_audiences_E4_an_input_of_the_timers_instant_goes_first():
    person = Person(plan_of({"a": BOUGHT_7D}))
    person.sees(occurred("Bought", "2025-01-01 10:00"), occurred("Bought", "2025-01-08 10:00"))
    person.until("2025-01-09")
    assert [what for _, what, _ in person.log] == ["enter"]


def test_audiences_E5_a_timestamp_more_than_five_minutes_ahead_is_the_receipt():
    received = ms("2025-01-01 10:00")
    for ahead, counted in ((300_000, 300_000), (300_001, 0), (9 * DAY, 0)):
        event = Event(
            "web", "m", "track", received, received, received + ahead, b"", {"event": "Bought"}
        )
        assert seen(event).timestamp_ms == received + counted


def test_audiences_E5_a_timestamp_a_little_ahead_counts_at_once():
    person = Person(plan_of({"a": BOUGHT_7D}))
    person.sees(occurred("Bought", "2025-01-01 10:04", received="2025-01-01 10:00"))
    assert person.inside("a")
    assert person.profile.flips == {"a": ms("2025-01-08 10:04")}


def test_events_E12_pages_and_screens_are_events_with_their_name_as_a_property():
    plan = plan_of(
        {
            "a": {
                "performed": {
                    "event": "Page Viewed",
                    "where": {"page_name": {"contains": ["Pric"]}},
                }
            },
            "b": {
                "performed": {
                    "event": "Screen Viewed",
                    "where": {"screen_name": {"equals": "Home"}},
                }
            },
        }
    )
    person = Person(plan)
    for kind, name in (("page", "Pricing"), ("screen", "Home"), ("page", None)):
        person.sees(
            seen(
                Event(
                    "web",
                    f"m{name}",
                    kind,
                    person.now,
                    person.now,
                    person.now,
                    b"",
                    {"name": name, "properties": {}},
                )
            )
        )
    assert person.inside("a")
    assert person.inside("b")
    assert seen(Event("web", "m", "identify", 0, 0, 0, b"", {})) is None


def test_audiences_E6_an_event_older_than_the_window_gives_no_pair():
    computed = {"t": {"type": "count", "event": "Bought", "window": {"within": "7d"}}}
    person = Person(plan_of({"a": BOUGHT_7D}, computed), born="2025-01-09")
    person.sees(occurred("Bought", "2025-01-01", received="2025-01-09"))
    assert person.log == []
    assert person.states.rows == {}


def test_audiences_E7_a_rebuild_emits_the_final_state_only():
    events = [occurred("Bought", f"2025-05-{day:02}") for day in range(1, 32)]
    person = history_of(True, *events)
    assert person.log == [("2025-06-01 00:00", "enter", "a")]
    assert person.profile.memberships["a"].transitions == 1


def test_audiences_E7_a_rebuild_gives_what_live_events_gave():
    plan = plan_of(
        {"a": BOUGHT_7D, "b": {"performed": {"event": "Bought", "exactly": 2}}},
        {"t": {"type": "sum", "event": "Bought", "property": "n"}},
    )
    events = [occurred("Bought", f"2025-01-{day:02}", n=day / 10) for day in range(1, 20)]
    live = Memory()
    for event in events:
        observe(plan, event, live)
    assert evaluate.rebuild(plan, set(plan.leaves), events[::-1]) == live.rows


# ---- merging -------------------------------------------------------------------------------------
def merged(survivor, loser):
    """Merge and return what the survivor tells."""
    plan, seen = survivor.plan, len(survivor.log)
    ids = survivor.profile.ids + loser.profile.ids
    united = merge.unite_results(plan, survivor.profile, loser.profile, ids, loser.states.rows)
    for key, row in loser.states.rows.items():
        survivor.states.put(key, merge.unite(plan, key, survivor.states.get(key), row))
    survivor.profile = replace(
        survivor.profile,
        ids=ids,
        computed=united.computed,
        memberships=united.memberships,
        flips=united.flips,
    )
    survivor.settle(united.touched, united.announce)
    return [entry[1:] for entry in survivor.log[seen:]]


def pair(where, computed=None, **more):
    plan = plan_of({"a": audience(where, **more)}, computed)
    return Person(plan), Person(plan, ids=[("anonymous_id", "x")])


def test_audiences_M6_a_merge_counts_the_events_of_both():
    known, anonymous = pair(
        {"performed": {"event": "E", "at_least": 2}},
        {"t": {"type": "sum", "event": "E", "property": "n"}},
    )
    known.sees(occurred("E", "2025-01-02", n=0.1))
    anonymous.sees(occurred("E", "2025-01-03", n=0.2))
    known.until("2025-01-03")
    assert merged(known, anonymous) == [("t", 0.3), ("enter", "a")]


def test_audiences_M6_a_member_who_merges_with_a_nobody_tells_nothing():
    known, anonymous = pair(
        BOUGHT, {"t": {"type": "count", "event": "Bought"}}, include_anonymous=True
    )
    known.sees(occurred("Bought", "2025-01-02"))
    assert merged(known, anonymous) == []
    assert known.profile.memberships["a"].transitions == 1


def test_audiences_M6_the_id_that_messages_bear_from_now_on_hears_of_an_entry():
    known, anonymous = pair(
        BOUGHT, {"t": {"type": "count", "event": "Bought"}}, include_anonymous=True
    )
    anonymous.sees(occurred("Bought", "2025-01-02"))
    known.until("2025-01-02")
    assert merged(known, anonymous) == [("t", 1), ("enter", "a")]
    known, anonymous = pair(
        BOUGHT, {"t": {"type": "count", "event": "Bought"}}, include_anonymous=True
    )
    anonymous.sees(occurred("Bought", "2025-01-02"))
    assert merged(anonymous, known) == [("t", 1), ("enter", "a")]
    assert anonymous.profile.memberships["a"].transitions == 2


def test_audiences_M6_an_exit_is_told_when_either_was_inside():
    where = {"performed": {"event": "E", "exactly": 1}}
    known, anonymous = pair(where, include_anonymous=True)
    known.sees(occurred("E", "2025-01-02"))
    anonymous.sees(occurred("E", "2025-01-03"))
    known.until("2025-01-03")
    assert merged(known, anonymous) == [("exit", "a")]


def test_audiences_M6_a_person_who_becomes_known_by_a_merge_enters():
    known, anonymous = pair({"all": [BOUGHT, {"trait": {"x": {"not_exists": True}}}]})
    anonymous.sees(occurred("Bought", "2025-01-02"))
    known.until("2025-01-02")
    assert merged(anonymous, known) == [("enter", "a")]


def test_audiences_M6_states_of_conditions_that_are_gone_are_dropped():
    assert merge.unite(plan_of({}), b"12345678", 1, 2) is None


def test_audiences_s4_1_a_thousand_audiences_cost_an_event_only_what_it_touches():
    audiences = {f"a{number}": {"performed": {"event": f"E{number}"}} for number in range(1000)}
    plan = plan_of(audiences)
    states = Memory()
    assert observe(plan, occurred("Other", "2025-01-01"), states) == ()
    assert observe(plan, occurred("E5", "2025-01-01"), states) == ("a5",)
    assert len(states.rows) == 1
    assert plan.reading(["plan"]) == ()
