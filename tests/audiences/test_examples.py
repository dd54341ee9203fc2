"""The examples of audiences section 5: window of 7 days, event on January 1 at 10:00."""

import pytest
from msgspec.structs import replace

from agents.profile_tables import PROFILES
from app.reader import StoreReader
from audiences import evaluate, merge
from tests.audiences.driver import Person, occurred, plan_of
from tests.usage.test_usage_stages import Platform

BOUGHT = {"performed": {"event": "Bought", "at_least": 1, "within": "7d"}}


@pytest.fixture
def buyer():
    return Person(plan_of({"buyers": BOUGHT}))


def test_audiences_example_1_one_event_enters_and_time_alone_exits(buyer):
    buyer.sees(occurred("Bought", "2025-01-01 10:00"))
    buyer.until("2025-02-01")
    assert buyer.log == [
        ("2025-01-01 10:00", "enter", "buyers"),
        ("2025-01-08 10:00", "exit", "buyers"),
    ]


def test_audiences_example_2_a_second_event_moves_the_exit(buyer):
    buyer.sees(occurred("Bought", "2025-01-01 10:00"), occurred("Bought", "2025-01-05 12:00"))
    buyer.until("2025-02-01")
    assert buyer.log == [
        ("2025-01-01 10:00", "enter", "buyers"),
        ("2025-01-12 12:00", "exit", "buyers"),
    ]


def test_audiences_example_3_at_least_two_enters_late_and_exits_with_the_older():
    buyer = Person(
        plan_of({"twice": {"performed": {"event": "Bought", "at_least": 2, "within": "7d"}}})
    )
    buyer.sees(occurred("Bought", "2025-01-01 10:00"), occurred("Bought", "2025-01-05 10:00"))
    buyer.until("2025-02-01")
    assert buyer.log == [
        ("2025-01-05 10:00", "enter", "twice"),
        ("2025-01-08 10:00", "exit", "twice"),
    ]


def test_audiences_example_4_a_late_event_moves_the_exit(buyer):
    buyer.sees(
        occurred("Bought", "2025-01-01 10:00"),
        occurred("Bought", "2025-01-03 10:00", received="2025-01-06 10:00"),
    )
    buyer.until("2025-02-01")
    assert buyer.log == [
        ("2025-01-01 10:00", "enter", "buyers"),
        ("2025-01-10 10:00", "exit", "buyers"),
    ]


def test_audiences_example_5_an_event_that_is_too_old_changes_nothing(buyer):
    buyer.sees(occurred("Bought", "2025-01-01 10:00", received="2025-01-09 10:00"))
    buyer.until("2025-02-01")
    assert buyer.log == []
    assert buyer.profile.memberships == {}


def test_audiences_example_6_not_performed_is_a_member_again_when_the_event_has_aged():
    idle = Person(
        plan_of({"idle": {"performed": {"event": "Bought", "exactly": 0, "within": "7d"}}})
    )
    idle.sees(occurred("Bought", "2025-01-01 10:00"))
    idle.until("2025-02-01")
    assert idle.log == [
        ("2025-01-01 00:00", "enter", "idle"),
        ("2025-01-01 10:00", "exit", "idle"),
        ("2025-01-08 10:00", "enter", "idle"),
    ]


def test_audiences_example_7_a_merge_moves_the_exit_and_tells_nothing(buyer):
    buyer.sees(occurred("Bought", "2025-01-01 10:00"))
    other = Person(buyer.plan, ids=(("email", "a@b.test"),))
    other.sees(occurred("Bought", "2025-01-04 10:00"))
    buyer.until("2025-01-06")
    absorb(buyer, other)
    buyer.until("2025-02-01")
    assert buyer.log == [
        ("2025-01-01 10:00", "enter", "buyers"),
        ("2025-01-11 10:00", "exit", "buyers"),
    ]


def test_audiences_example_8_after_down_time_the_exit_comes_at_once(buyer):
    buyer.sees(occurred("Bought", "2025-01-01 10:00"))
    buyer.now += 7 * 86_400_000 + 3_600_000
    buyer.fire()
    assert buyer.log[-1] == ("2025-01-08 11:00", "exit", "buyers")


def test_audiences_example_9_a_duplicate_leaves_the_count_at_one():
    stages = Platform()
    order = {"messageId": "m", "userId": "u1", "event": "Order Completed"}
    stages.send("2026-05-01 10:00", order)
    stages.send("2026-05-02 09:00", order)
    ((_, profile),) = StoreReader(stages.store).scan(PROFILES)
    assert profile.computed["orders"].value == 1


def test_audiences_example_10_chained_audiences_follow_in_the_same_pass_the_first_first():
    buyer = Person(plan_of({"a_of_b": {"audience": "buyers"}, "buyers": BOUGHT}))
    buyer.sees(occurred("Bought", "2025-01-01 10:00"))
    buyer.until("2025-02-01")
    assert buyer.log == [
        ("2025-01-01 10:00", "enter", "buyers"),
        ("2025-01-01 10:00", "enter", "a_of_b"),
        ("2025-01-08 10:00", "exit", "buyers"),
        ("2025-01-08 10:00", "exit", "a_of_b"),
    ]


def absorb(survivor, loser):
    """Merge two persons."""
    plan = survivor.plan
    ids = survivor.profile.ids + loser.profile.ids
    united = merge.unite_results(plan, survivor.profile, loser.profile, ids, loser.states.rows)
    for leaf_id, state in loser.states.rows.items():
        survivor.states.put(
            leaf_id, merge.unite(plan, leaf_id, survivor.states.get(leaf_id), state)
        )
    survivor.profile = replace(
        survivor.profile,
        ids=ids,
        computed=united.computed,
        memberships=united.memberships,
        flips=united.flips,
    )
    survivor.settle(united.touched, united.announce)
    assert evaluate.next_flip(survivor.profile.flips) >= 0
