"""Exit rules, time, merges (journeys 4, 7, 8)."""

import pytest
from msgspec.structs import replace

from journeys import moves
from journeys.instance import NOTHING
from journeys.view import View
from tests.journeys.space import Space

EXITS = """
entry: {event: Go, key: k}
exit_rules:
  events:
    - {event: Bought, match_key: k, where: {total: {gt: 10}}}
    - {event: Closed, any_key: true}
    - {event: Go, match_key: k, where: {stop: {equals: true}}}
  %s
steps:
  start: {hold_until: {max: 1h, branches: {b: {event: Bought, key: k, next: s}}, timeout: rest}}
  s: {send: {to: [mailer]}, next: end}
  rest: {delay: {for: 1h}, next: t}
  t: {send: {to: [mailer]}, next: end}
"""
SEND = "send: {to: [log], event: Left, traits: [plan], map: {sum: context.Bought.total}}"


# ---- exit rules ----------------------------------------------------------------------------------
def test_journeys_X1_an_exit_needs_its_filter_and_its_key():
    space = Space(EXITS % "")
    space.track("10:00", "Go", k=1)
    space.until("11:30")
    space.track("11:30", "Bought", k=1, total=10)
    space.track("11:31", "Bought", k=2, total=11)
    assert space.waiting == ["m rest 1"]
    space.track("11:32", "Bought", k=1, total=11)
    assert space.waiting == []
    assert (space.count("exited"), space.count("exit:Bought")) == (1, 1)
    assert space.count("exited", "rest") == 1


@pytest.mark.parametrize(("at", "step"), [("10:59", "start"), ("11:59", "rest")])
def test_journeys_X2_an_exit_interrupts_holds_and_delays_at_once(at, step):
    space = Space(EXITS % SEND)
    space.track("10:00", "Go", k=1)
    space.track(at, "Closed")
    space.until("20:00")
    assert space.sent == [f"{at} Left"]
    assert space.count("exited", step) == 1


def test_journeys_X3_the_exit_send_has_the_context_and_the_exit_event():
    space = Space(EXITS % SEND)
    space.traits("m", plan="pro")
    space.track("10:00", "Go", k=1)
    space.track("10:10", "Bought", k=1, total=11)
    properties = space.last["properties"]
    assert properties["journey_context"] == {"Go": {"k": 1}, "Bought": {"k": 1, "total": 11}}
    assert (properties["plan"], properties["sum"]) == ("pro", 11)
    assert len(space.messages) == 1


def test_journeys_X3_the_exit_send_may_be_for_some_exit_events_only():
    space = Space(EXITS % (SEND[:-1] + ", when: [Closed]}"))
    space.track("10:00", "Go", k=1)
    space.track("10:00", "Go", k=2)
    space.track("10:10", "Bought", k=1, total=11)
    assert (space.sent, space.count("exited")) == ([], 1)
    space.track("10:11", "Closed")
    assert space.sent == ["10:11 Left"]


def test_journeys_X4_an_edited_exit_rule_is_for_later_entries_only():
    space = Space(EXITS % "")
    space.track("10:00", "Go", k=1)
    space.define(j=(EXITS % "").replace("event: Closed", "event: Gone"))
    space.track("10:01", "Go", k=2)
    space.track("10:10", "Gone")
    assert space.waiting == ["m start 1"]
    space.track("10:11", "Closed")
    assert space.waiting == []


def test_journeys_X5_an_exit_beats_a_hold_branch():
    space = Space(EXITS % "")
    space.track("10:00", "Go", k=1)
    space.track("10:10", "Bought", k=1, total=11)
    assert (space.sent, space.count("exited"), space.count("branch:b", "start")) == ([], 1, 0)


def test_journeys_X6_without_a_key_all_instances_of_the_person_in_the_journey_end():
    space = Space(EXITS % SEND, EXITS.replace("Closed", "Other") % "")
    for key in (1, 2, 3):
        space.track("10:00", "Go", k=key)
    space.track("10:00", "Go", who="n", k=1)
    space.track("10:10", "Closed")
    assert space.count("exited") == 3
    assert space.count("exited", key="j1") == 0
    assert space.sent == ["10:10 Left"] * 3
    assert len({message["messageId"] for *_, message in space.messages}) == 3
    assert space.waiting.count("n start 1") == 2


def test_journeys_X7_one_event_ends_an_instance_and_then_starts_another():
    space = Space(EXITS % SEND)
    space.track("10:00", "Go", k=1)
    space.track("10:10", "Go", k=1, stop=True)
    assert space.sent == ["10:10 Left"]
    assert (space.count("exited"), space.count("entered")) == (1, 2)
    space.until("12:10")
    assert space.sent == ["10:10 Left", "12:10 t"]
    space.balanced()


# ---- time ----------------------------------------------------------------------------------------
def test_journeys_T3_a_timer_due_before_an_event_fires_before_it_on_a_tie_the_event_goes_first():
    for at, sent in (("12:00", []), ("12:00:00.001", ["12:00 t"])):
        space = Space(EXITS % "")
        space.track("10:00", "Go", k=1)
        space.track(at, "Closed")
        space.until("13:00")
        assert space.sent == sent


def test_journeys_T3_in_a_backlog_a_timer_a_little_late_fires_with_the_next_event():
    space = Space(EXITS % "")
    space.track("10:00", "Go", k=1)
    space.stop("11:59")
    space.track("12:00:30", "Closed")
    assert space.sent == ["12:00:30 t"]


def test_journeys_T4_exits_come_before_branches_and_branches_before_entries():
    space = Space(
        """
entry: {event: E, key: k}
exit_rules: {events: [{event: E, match_key: old}], send: {to: [log], event: First}}
steps:
  start: {hold_until: {max: 1h, branches: {b: {event: E, key: other, next: two}}, timeout: end}}
  two: {send: {to: [log], event: Second}, next: end}
""",
        """
entry: {event: E, key: k}
steps:
  start: {send: {to: [log], event: Third}, next: end}
""",
    )
    space.track("10:00", "E", k=1)
    space.track("10:00", "E", k=2)
    space.messages.clear()
    space.track("10:01", "E", k=3, other=1, old=2)
    assert [message["event"] for *_, message in space.messages] == ["First", "Second", "Third"]


def test_journeys_T5_an_input_has_one_outcome_and_asked_again_it_is_the_same():
    space = Space(EXITS % SEND)
    space.track("10:00", "Go", k=1)
    person = space.people["m"]
    view = View(person.profile, person.profile)
    due_ms = person.running.instances[0].due_ms
    before = person.kept
    first = moves.fire(space.plan, person.running, view, due_ms, due_ms)
    assert first == moves.fire(space.plan, person.running, view, due_ms, due_ms)
    assert person.kept == before


def test_journeys_T6_delays_count_from_the_firing_not_from_when_it_was_due():
    space = Space(EXITS % "")
    space.track("10:00", "Go", k=1)
    space.stop("10:30")
    space.start("12:30")
    assert space.sent == []
    space.until("13:29:59")
    assert space.sent == []
    space.until("13:30")
    assert space.sent == ["13:30 t"]


def test_journeys_T7_a_long_overdue_timer_lets_the_backlog_speak_first():
    space = Space(EXITS % "")
    space.track("10:00", "Go", k=1)
    space.track("10:00", "Go", k=2)
    space.stop("11:59")
    space.track("12:01:01", "Go", k=3)
    assert space.sent == []
    space.track("12:05", "Bought", k=1, total=11)
    space.start("12:20")
    assert [one["properties"]["journey_context"]["Go"]["k"] for *_, one in space.messages] == [2]


# ---- merges --------------------------------------------------------------------------------------
def test_journeys_G1_instances_of_the_loser_move_over_as_they_are():
    space = Space(EXITS % "")
    space.track("10:00", "Go", who="b", k=1)
    (before,) = space.people["b"].running.instances
    space.track("10:30", "Other", who="a")
    space.merge("10:40", "a", "b")
    assert space.people["a"].running.instances == (before,)
    space.until("13:00")
    assert space.sent == ["12:00 t"]
    space.balanced()


def test_journeys_G2_of_two_with_one_key_the_earlier_entered_stays_silently():
    space = Space(EXITS % SEND)
    space.track("10:00", "Go", who="b", k=1)
    space.track("10:10", "Go", who="a", k=1)
    space.track("10:20", "Go", who="a", k=2)
    (earlier,) = space.people["b"].running.instances
    space.merge("10:40", "a", "b")
    assert space.waiting == ["a start 1", "a start 2"]
    assert earlier in space.people["a"].running.instances
    assert (space.count("merged_duplicate"), space.sent) == (1, [])
    space.until("13:00")
    space.balanced()


def test_journeys_G2_a_journey_for_once_keeps_one_instance():
    once = (EXITS % "").replace("key: k}\nexit", "key: k, re_enter: once}\nexit")
    space = Space(once)
    space.track("10:00", "Go", who="a", k=1)
    space.track("10:10", "Go", who="b", k=2)
    space.merge("10:40", "a", "b")
    assert space.waiting == ["a start 1"]
    space.balanced()


def test_journeys_G3_marks_of_both_unite():
    once = (EXITS % "").replace("key: k}\nexit", "key: k, re_enter: once}\nexit")
    space = Space(once)
    space.track("10:00", "Go", who="b", k=1)
    space.until("12:00")
    space.track("12:10", "Other", who="a")
    space.merge("12:20", "a", "b")
    space.track("12:30", "Go", who="a", k=2)
    assert (space.count("entered"), space.count("refused:once")) == (1, 1)


def test_journeys_G4_a_running_instance_keeps_the_branch_it_took():
    space = Space("""
entry: {event: Go, key: k}
steps:
  start:
    split:
      branches: [{name: p, when: {trait: {plan: {equals: pro}}}, next: wait}]
      else: end
  wait: {delay: {for: 1h}, next: s}
  s: {send: {to: [mailer]}, next: end}
""")
    space.traits("b", plan="pro")
    space.track("10:00", "Go", who="b", k=1)
    space.merge("10:10", "a", "b")
    space.traits("a", plan="free")
    space.until("12:00")
    assert space.sent == ["11:00 s"]


def test_journeys_G5_events_of_the_other_side_are_offered_once_the_oldest_first():
    space = Space("""
entry: {event: Go, key: k}
steps:
  start: {hold_until: {max: 2h, branches: {b: {event: E, key: k, next: two}}, timeout: end}}
  two: {hold_until: {max: 2h, branches: {c: {event: E, key: k, next: s}}, timeout: end}}
  s: {send: {to: [mailer]}, next: end}
""")
    space.track("10:00", "Go", who="a", k=1)
    space.track("10:10", "E", who="b", k=1, n=2, timestamp="10:10")
    space.track("10:20", "E", who="b", k=1, n=1, timestamp="10:05")
    space.merge("10:30", "a", "b")
    (instance,) = space.people["a"].running.instances
    assert instance.step == "two"  # the later one came before the arrival there
    assert instance.context["E - b"] == {"k": 1, "n": 1}


def test_journeys_G5_only_events_later_than_the_entry_count():
    space = Space(EXITS % "")
    space.track("09:00", "Closed", who="b")
    space.track("10:00", "Go", who="a", k=1)
    space.track("10:10", "Closed", who="b", timestamp="10:00")
    space.merge("10:30", "a", "b")
    assert space.waiting == ["a start 1"]


def test_journeys_G5_the_losers_instances_see_the_survivors_events():
    space = Space(EXITS % SEND)
    space.track("10:00", "Go", who="b", k=1)
    space.track("10:10", "Bought", who="a", k=1, total=11)
    space.merge("10:30", "a", "b")
    assert space.sent == ["10:30 Left"]
    assert space.waiting == []


def test_journeys_G5_own_events_are_not_offered_again():
    space = Space("""
entry: {event: Go, key: k}
steps:
  start: {hold_until: {max: 2h, branches: {b: {event: Go, key: k, restart: true}}, timeout: end}}
""")
    space.track("10:00", "Go", who="a", k=1)
    space.track("10:10", "Go", who="a", k=1)
    space.track("10:10", "Go", who="b", k=9)
    space.merge("10:30", "a", "b")
    assert space.count("restarted", "start") == 1


def test_journeys_G5_an_event_after_the_due_instant_takes_no_branch_but_still_exits():
    space = Space(EXITS % "")
    space.track("10:00", "Go", who="a", k=1)
    space.track("10:00", "Go", who="a", k=2)
    space.stop("10:30")
    space.track("11:10", "Bought", who="b", k=1, total=5)
    space.track("11:10", "Bought", who="b", k=2, total=50)
    space.merge("11:20", "a", "b")
    assert space.waiting == ["a start 1"]
    space.start("11:30")
    assert (space.waiting, space.count("branch:b", "start")) == (["a rest 1"], 0)


def test_journeys_G6_a_merge_starts_nothing():
    space = Space()
    space.track("10:00", "Go", who="b", k=1)
    space.define(j=EXITS % "")
    space.track("10:10", "Go", who="a", k=2)
    space.merge("10:20", "a", "b")
    assert (space.waiting, space.count("entered")) == (["a start 2"], 1)


def test_journeys_G7_more_than_25_instances_after_a_merge_all_stay_and_new_ones_are_refused():
    space = Space(EXITS % "")
    for number in range(20):
        space.track(f"10:{number:02}", "Go", who="a", k=f"a{number}")
        space.track(f"10:{number:02}", "Go", who="b", k=f"b{number}")
    space.merge("10:30", "a", "b")
    assert len(space.waiting) == 40
    space.track("10:31", "Go", who="a", k="new")
    assert (len(space.waiting), space.count("refused:instances_limit")) == (40, 1)
    space.until("13:00")
    space.balanced()
    assert len(space.sent) == 40


def test_journeys_G8_later_messages_use_the_survivors_ids_and_none_is_repeated():
    space = Space("""
entry: {event: Go, key: k}
steps:
  start: {send: {to: [mailer], event: One}, next: wait}
  wait: {delay: {for: 1h}, next: s}
  s: {send: {to: [mailer], event: Two}, next: end}
""")
    space.track("10:00", "Go", who="b", k=1)
    space.merge("10:30", "a", "b")
    person = space.people["a"]
    person.profile = replace(person.profile, ids=person.profile.ids[:1])
    space.until("12:00")
    assert [(m["event"], m["userId"]) for *_, m in space.messages] == [("One", "b"), ("Two", "a")]


def test_journeys_G8_profiles_without_journeys_unite_without_any():
    space = Space(EXITS % "")
    view = View(space.person("a").profile, None)
    assert moves.unite(space.plan, None, None, [], [], view, 0) is None
    outcome = moves.unite(space.plan, NOTHING, None, [], [], view, 0)
    assert outcome is not None
    assert (outcome.running, outcome.due_ms) == (None, 0)
