"""Usage: the table of governance section 7, and the counts against plain sets."""

from collections import Counter
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from agents.usage import note
from usage.mtu import DAY_MS, report


class Counting:
    """The part of a stage's state that usage needs, in dicts."""

    def __init__(self):
        self.rows = {}
        self.counters = Counter()
        self.puts = 0
        self.gets = 0
        self.routed = False
        self.at_ms = 0

    def get(self, table, key):
        self.gets += 1
        return self.rows.get((table.prefix, key))

    def put(self, table, key, value):
        self.puts += 1
        self.rows[table.prefix, key] = value

    def count(self, name, by=1):
        self.counters[name] += by


def ms(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def usage(calls, month="2026-05"):
    """Return the report on calls of (source, userId, anonymousId, instant)."""
    state = Counting()
    for source, user, anonymous, at in calls:
        state.at_ms = ms(at)
        note(state, source, user, anonymous, state.at_ms)
    return report(month, state.counters.items())


def mtu(calls, month="2026-05"):
    return usage(calls, month)["mtu"]


def test_governance_G46_row_1_one_person_on_two_sources_is_one():
    calls = [("web", "u1", "", "2026-05-01")] * 20 + [("mobile", "u1", "", "2026-05-02")] * 20
    told = usage(calls)
    assert told["mtu"] == 1
    assert told["by_source"]["web"]["mtu"] == told["by_source"]["mobile"]["mtu"] == 1
    assert told["api_calls"] == 40


def test_governance_G46_row_2_a_login_takes_the_visitor_back():
    calls = [("web", "", "a1", f"2026-05-{day:02}") for day in range(1, 21)]
    calls.append(("web", "u1", "a1", "2026-05-21"))
    told = usage(calls)
    assert told["mtu"] == 1
    assert (told["identified"], told["anonymous"], told["anonymous_identified"]) == (1, 1, 1)
    assert [day["mtu"] for day in told["by_day"]] == [1] * 21


def test_governance_G46_row_3_a_login_on_the_app_alone_leaves_the_web_visitor():
    assert mtu([("web", "", "a1", "2026-05-01"), ("app", "", "a2", "2026-05-02"),
                ("app", "u1", "a2", "2026-05-03")]) == 2


def test_governance_G46_row_4_a_login_on_both_is_one():
    assert mtu([("web", "", "a1", "2026-05-01"), ("app", "", "a2", "2026-05-02"),
                ("app", "u1", "a2", "2026-05-03"), ("web", "u1", "a1", "2026-05-04")]) == 1


def test_governance_G46_row_5_a_link_of_last_month_does_not_count_in_this_one():
    calls = [("web", "u1", "a1", "2026-04-30T23:59:59.999"), ("web", "", "a1", "2026-05-01")]
    assert mtu(calls, "2026-04") == 1
    told = usage(calls)
    assert (told["mtu"], told["identified"], told["never_identified"]) == (1, 0, 1)


def test_governance_G46_row_6_the_user_seen_apart_from_the_visitor_is_a_second():
    assert mtu([("web", "u1", "a1", "2026-04-30"), ("web", "", "a1", "2026-05-01"),
                ("web", "u1", "", "2026-05-02")]) == 2


def test_governance_G46_row_7_a_shared_browser_counts_its_users():
    assert mtu([("web", "u1", "a1", "2026-05-01"), ("web", "u2", "a1", "2026-05-02")]) == 2


def test_governance_G46_row_8_each_reset_makes_another_visitor():
    assert mtu([("web", "", name, "2026-05-01") for name in ("a1", "a2", "a3")]) == 3


def test_governance_G46_row_9_previousId_neither_counts_nor_links():
    # An alias call has no anonymousId here; its previousId is not shown to usage.
    assert mtu([("web", "", "a1", "2026-05-01"), ("web", "u1", "", "2026-05-02")]) == 2


def test_governance_G46_row_10_a_groupId_never_counts():
    assert mtu([("web", "u1", "", "2026-05-01")]) == 1


def test_governance_G46_row_20_a_batch_of_a_hundred_is_a_hundred_calls():
    told = usage([("web", "u1", "", "2026-05-01T10:00:00")] * 100)
    assert told["api_calls"] == told["by_source"]["web"]["api_calls"] == 100
    assert told["by_day"] == [{"day": "2026-05-01", "mtu": 1, "api_calls": 100}]


def test_governance_G47_a_month_without_calls_is_all_zeros():
    assert usage([]) == {
        "month": "2026-05", "mtu": 0, "identified": 0, "anonymous": 0,
        "anonymous_identified": 0, "never_identified": 0, "api_calls": 0,
        "by_source": {}, "by_day": [],
    }


def test_governance_G46_the_day_of_the_login_lowers_the_count_from_that_day_on():
    told = usage([("web", "", "a1", "2026-05-01"), ("web", "", "a2", "2026-05-01"),
                  ("app", "u1", "a1", "2026-05-02"), ("app", "u1", "a2", "2026-05-04")])
    assert told["by_day"] == [
        {"day": "2026-05-01", "mtu": 2, "api_calls": 2},
        {"day": "2026-05-02", "mtu": 2, "api_calls": 1},
        {"day": "2026-05-04", "mtu": 1, "api_calls": 1},
    ]
    assert told["by_source"]["web"]["mtu"] == 2  # no login on that source's own calls
    assert told["by_source"]["app"]["mtu"] == 1


def test_governance_G46_a_visitor_seen_before_costs_one_look_up_and_no_write():
    state = Counting()
    note(state, "web", "", "a1", ms("2026-05-01"))
    note(state, "web", "u1", "a1", ms("2026-05-01"))
    state.gets = state.puts = 0
    note(state, "web", "", "a1", ms("2026-05-02"))
    note(state, "web", "u1", "a1", ms("2026-05-02"))
    assert (state.gets, state.puts) == (2, 0)


def test_governance_G46_a_source_key_with_colons_keeps_its_counts():
    told = usage([("a:b:c", "u1", "a1", "2026-05-01")])
    assert told["by_source"]["a:b:c"]["mtu"] == 1


def plain(calls):
    """Return the same report from whole sets."""
    def counts(some):
        users = {user for _, user, _, _ in some if user}
        visitors = {anonymous for _, _, anonymous, _ in some if anonymous}
        linked = {anonymous for _, user, anonymous, _ in some if user and anonymous}
        return {"mtu": len(users) + len(visitors - linked), "identified": len(users),
                "anonymous": len(visitors), "anonymous_identified": len(linked),
                "never_identified": len(visitors - linked), "api_calls": len(some)}

    calls = [call for call in calls if call[3].startswith("2026-05")]
    days = sorted({call[3][:10] for call in calls})
    return {
        "month": "2026-05", **counts(calls),
        "by_source": {source: counts([call for call in calls if call[0] == source])
                      for source in sorted({call[0] for call in calls})},
        "by_day": [{"day": day, "mtu": counts([c for c in calls if c[3][:10] <= day])["mtu"],
                    "api_calls": sum(c[3][:10] == day for c in calls)} for day in days],
    }


@given(st.lists(st.tuples(
    st.sampled_from(["web", "app", "api"]), st.sampled_from(["", "", "u1", "u2", "u3"]),
    st.sampled_from(["", "a1", "a2", "a3", "a4"]),
    st.sampled_from([f"2026-{day}" for day in
                     ("04-29", "04-30", "05-01", "05-02", "05-15", "05-31", "06-01")]),
), max_size=60))
def test_governance_G46_the_counts_are_those_of_whole_sets(calls):
    calls = sorted(calls, key=lambda call: call[3])
    assert usage(calls) == plain(calls)


def test_governance_G46_months_are_those_of_UTC():
    assert ms("2026-05-01") % DAY_MS == 0
    assert mtu([("web", "u1", "", "2026-05-31T23:59:59.999")]) == 1
    assert mtu([("web", "u1", "", "2026-06-01T00:00:00")]) == 0
