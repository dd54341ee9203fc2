"""What the steps do: holds, delays, splits, sends, and the context (journeys 3)."""

import msgspec
import pytest
from msgspec.structs import replace

from journeys import moves
from journeys.instance import Instance
from journeys.view import View
from tests.journeys.space import Space

HOLD = """
entry: {event: Cart Modified, key: cart_id}
steps:
  start:
    hold_until:
      max: 2h
      branches:
        bought: {event: Order Completed, key: %s, where: {total: {gt: 10}}, next: thanks}
        more: {event: Cart Modified, key: cart_id, restart: true}
      timeout: nudge
  thanks: {send: {to: [mailer], event: Thanks}, next: end}
  nudge: {send: {to: [mailer], event: Nudge}, next: end}
"""


# ---- hold_until ----------------------------------------------------------------------------------
def test_journeys_H1_nine_branches_each_lead_their_own_way():
    branches = ", ".join(f"b{n}: {{event: E{n}, key: k, next: s{n}}}" for n in range(9))
    sends = "\n".join(f"  s{n}: {{send: {{to: [mailer]}}, next: end}}" for n in range(9))
    space = Space(f"""
entry: {{event: Go, key: k}}
steps:
  start: {{hold_until: {{max: 5m, branches: {{{branches}}}, timeout: end}}}}
{sends}
""")
    for n in range(9):
        space.track(f"1{n}:00", "Go", k=n)
        space.track(f"1{n}:01", f"E{n}", k=n)
    assert [message["event"] for *_, message in space.messages] == [f"s{n}" for n in range(9)]


def test_journeys_H2_the_first_matching_event_moves_the_instance_at_once():
    space = Space(HOLD % "cart_id")
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.track("10:10", "Order Completed", cart_id="c1", total=5)
    space.track("10:20", "Order Completed", cart_id="c1", total=11)
    space.until("+1 00:00")
    assert space.sent == ["10:20 Thanks c1"]
    assert space.count("branch:bought", "start") == 1
    space.balanced()


def test_journeys_H2_without_one_the_timeout_is_taken_at_the_end():
    space = Space(HOLD % "cart_id")
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.until("11:59:59.999")
    assert space.sent == []
    space.until("+1 00:00")
    assert space.sent == ["12:00 Nudge c1"]
    assert space.count("timeout", "start") == 1


def test_journeys_H3_a_branch_needs_the_entry_key_under_its_own_property():
    space = Space(HOLD % "order_cart")
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.track("10:10", "Order Completed", order_cart="c2", total=11)
    space.track("10:11", "Order Completed", cart_id="c1", total=11)
    assert space.sent == []
    space.track("10:12", "Order Completed", order_cart="c1", total=11)
    assert space.sent == ["10:12 Thanks c1"]


def test_journeys_H3_a_journey_without_key_needs_none_in_its_branches():
    space = Space("""
entry: {event: Go, re_enter: once}
steps:
  start: {hold_until: {max: 5m, branches: {b: {event: E, next: s}}, timeout: end}}
  s: {send: {to: [mailer]}, next: end}
""")
    space.track("10:00", "Go")
    space.track("10:01", "E")
    assert space.sent == ["10:01 s"]


def test_journeys_H4_of_two_branches_that_match_the_first_by_name_wins():
    space = Space("""
entry: {event: Go, re_enter: once}
steps:
  start:
    hold_until:
      max: 5m
      branches:
        z: {event: E, where: {a: {gt: 1}}, next: last}
        b: {event: E, where: {a: {gt: 2}}, next: first}
      timeout: end
  last: {send: {to: [mailer]}, next: end}
  first: {send: {to: [mailer]}, next: end}
""")
    space.track("10:00", "Go")
    space.track("10:01", "E", a=3)
    assert space.sent == ["10:01 first"]


def test_journeys_H5_a_restart_keeps_the_event_and_resets_the_full_time():
    space = Space(HOLD % "cart_id")
    space.track("10:00", "Cart Modified", cart_id="c1", total=1)
    space.track("11:59", "Cart Modified", cart_id="c1", total=2)
    space.track("12:30", "Cart Modified", cart_id="c1", total=3)
    space.until("+1 00:00")
    assert space.sent == ["14:30 Nudge c1"]
    context = space.last["properties"]["journey_context"]
    assert context["Cart Modified - more"] == {"cart_id": "c1", "total": 3}
    assert (space.count("restarted", "start"), space.count("branch:more", "start")) == (2, 2)


def test_journeys_H6_only_events_whose_branch_was_followed_enter_the_context():
    space = Space(HOLD % "cart_id")
    space.track("10:00", "Cart Modified", cart_id="c1", total=1)
    space.track("10:10", "Order Completed", cart_id="c1", total=2)
    space.until("12:00")
    assert list(space.last["properties"]["journey_context"]) == ["Cart Modified"]
    space.track("13:00", "Cart Modified", cart_id="c2", total=1)
    space.track("13:10", "Order Completed", cart_id="c2", total=20)
    assert space.last["properties"]["journey_context"] == {
        "Cart Modified": {"cart_id": "c2", "total": 1},
        "Order Completed": {"cart_id": "c2", "total": 20},
    }


def test_journeys_H7_events_before_the_arrival_at_the_hold_do_not_count():
    space = Space("""
entry: {event: Go, re_enter: once}
steps:
  start: {delay: {for: 1h}, next: hold}
  hold: {hold_until: {max: 1h, branches: {b: {event: E, next: s}}, timeout: end}}
  s: {send: {to: [mailer]}, next: end}
""")
    space.track("10:00", "Go")
    space.track("10:30", "E")
    space.track("11:10", "E", timestamp="10:40")  # it came after the arrival, which is what counts
    assert space.sent == ["11:10 s"]


def test_journeys_H7_an_event_from_before_the_entry_is_ignored():
    space = Space(HOLD % "cart_id")
    space.track("10:00", "Cart Modified", timestamp="09:50", cart_id="c1")
    space.track("10:10", "Order Completed", timestamp="09:49:59", cart_id="c1", total=20)
    assert space.sent == []
    space.track("10:11", "Order Completed", timestamp="09:50", cart_id="c1", total=20)
    assert space.sent == ["10:11 Thanks c1"]


def test_journeys_H7_the_entry_event_is_not_offered_to_the_hold_it_leads_to():
    space = Space(HOLD % "cart_id")
    space.track("10:00", "Cart Modified", cart_id="c1")
    assert space.count("restarted", "start") == 0


@pytest.mark.parametrize(("at", "sent"), [("12:00", "12:00 Thanks c1"), ("12:00:00.001", "")])
def test_journeys_H8_an_event_at_the_due_instant_wins_one_after_it_does_not(at, sent):
    space = Space(HOLD % "cart_id")
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.stop("11:59:59")
    space.track(at, "Order Completed", cart_id="c1", total=20)
    space.start("12:05")
    assert "".join(space.sent[:1]) == (sent or "12:00:00.001 Nudge c1")


def test_journeys_H8_after_an_outage_a_late_event_does_not_take_the_branch():
    space = Space(HOLD % "cart_id")
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.stop("11:59:59")
    space.track("12:10", "Order Completed", cart_id="c1", total=20)
    space.start("12:20")
    assert space.sent == ["12:20 Nudge c1"]


# ---- delay ---------------------------------------------------------------------------------------
DELAY = """
entry: {event: Go, key: k}
exit_rules: {events: [{event: Stop, match_key: k}]}
steps:
  start: {delay: {for: %s}, next: s}
  s: {send: {to: [mailer]}, next: end}
"""


def test_journeys_D1_a_delay_runs_its_full_time():
    space = Space(DELAY % "2w")
    space.track("10:00", "Go", k=1)
    space.until("+14 09:59:59.999")
    assert space.sent == []
    space.until("+14 10:00")
    assert space.sent == ["+14 10:00 s"]


def test_journeys_D1_an_exit_interrupts_it():
    space = Space(DELAY % "2w")
    space.track("10:00", "Go", k=1)
    space.track("+1 10:00", "Stop", k=1)
    space.until("+20 10:00")
    assert (space.sent, space.count("exited")) == ([], 1)


def test_journeys_D5_overdue_timers_fire_in_their_order_and_survive_a_restart():
    space = Space(DELAY % "1h")
    for minute, key in ((0, "a"), (1, "b"), (2, "c")):
        space.track(f"10:0{minute}", "Go", k=key)
    space.stop("10:30")
    space.start("12:00")
    keys = [message["properties"]["journey_context"]["Go"]["k"] for *_, message in space.messages]
    assert (keys, {text.split()[0] for text in space.sent}) == (["a", "b", "c"], {"12:00"})


def test_journeys_D5_of_several_overdue_timers_the_earliest_due_fires_first():
    space = Space(DELAY % "1h")
    for key in ("a", "b", "c"):
        space.track("10:00", "Go", k=key)
    person = space.people["m"]
    first, *others = person.running.instances
    late = replace(first, due_ms=first.due_ms + 1)
    running = replace(person.running, instances=(late, *others))
    view = View(person.profile, None)
    outcome = moves.fire(space.plan, running, view, late.due_ms, late.due_ms)
    carried = [msgspec.json.decode(send.body)["properties"] for send in outcome.sends]
    assert [one["journey_context"]["Go"]["k"] for one in carried] == ["b", "c", "a"]


# ---- split ---------------------------------------------------------------------------------------
SPLIT = """
entry: {event: Go, key: k}
steps:
  start:
    split:
      mode: first
      branches:
        - {name: mine, when: %s, next: hit}
      else: miss
  hit: {send: {to: [mailer]}, next: end}
  miss: {send: {to: [mailer]}, next: end}
"""


@pytest.mark.parametrize(
    ("when", "way"),
    [
        ("{trait: {plan: {equals: pro}}}", "hit"),
        ("{trait: {plan: {equals: free}}}", "miss"),
        ("{trait: {missing: {not_exists: true}}}", "hit"),
        ("{trait: {address.city: {equals: Ulm}}}", "hit"),
        ("{trait: {tags.$: {equals: b}}}", "hit"),
        ("{trait: {orders: {gte: 3}}}", "hit"),
        ("{trait: {vip: {equals: true}}}", "hit"),
        ("{audience: vip}", "hit"),
        ("{not: {audience: vip}}", "miss"),
        ("{all: [{audience: vip}, {trait: {plan: {equals: pro}}}]}", "hit"),
        ("{any: [{audience: staff}, {trait: {plan: {equals: x}}}]}", "miss"),
        ("{context: {Go.total: {gt: 10}}}", "hit"),
        ("{context: {Go.items.$.sku: {equals: s2}}}", "hit"),
        ("{trait: {since: {before_last: 1d}}}", "hit"),
        ("{trait: {since: {within_last: 1d}}}", "miss"),
    ],
)
def test_journeys_S1_a_split_asks_traits_audiences_and_context(when, way):
    space = Space(SPLIT % when)
    space.traits(
        "m", plan="pro", address={"city": "Ulm"}, tags=["a", "b"], since="2025-02-01T00:00:00Z"
    )
    space.computed("m", orders=3)
    space.audience("m", "vip")
    space.track("10:00", "Go", k=1, total=11, items=[{"sku": "s1"}, {"sku": "s2"}])
    assert space.sent == [f"10:00 {way}"]


def test_journeys_S1_the_first_branch_in_order_wins_and_it_is_decided_once():
    space = Space("""
entry: {event: Go, key: k}
steps:
  start:
    split:
      branches:
        - {name: b, when: {trait: {n: {gt: 1}}}, next: first}
        - {name: a, when: {trait: {n: {gt: 0}}}, next: second}
      else: end
  first: {delay: {for: 1h}, next: s1}
  second: {delay: {for: 1h}, next: s2}
  s1: {send: {to: [mailer]}, next: end}
  s2: {send: {to: [mailer]}, next: end}
""")
    space.traits("m", n=2)
    space.track("10:00", "Go", k=1)
    space.traits("m", n=0)
    space.until("12:00")
    assert space.sent == ["11:00 s1"]
    assert (space.count("branch:b", "start"), space.count("branch:a", "start")) == (1, 0)
    space.track("13:00", "Go", k=2)
    assert (space.waiting, space.count("else", "start")) == ([], 1)


def test_journeys_S2_a_property_that_the_taken_path_lacks_is_missing():
    space = Space("""
entry: {event: Go, key: k}
steps:
  start: {hold_until: {max: 1h, branches: {b: {event: E, key: k, next: join}}, timeout: join}}
  join:
    split:
      branches: [{name: big, when: {context: {E.total: {gt: 1}}}, next: s}]
      else: end
  s: {send: {to: [mailer]}, next: end}
""")
    space.track("10:00", "Go", k=1)
    space.until("12:00")
    assert (space.sent, space.count("else", "join")) == ([], 1)
    space.track("13:00", "Go", k=1)
    space.track("13:10", "E", k=1, total=2)
    assert space.sent == ["13:10 s"]


# ---- context -------------------------------------------------------------------------------------
def test_journeys_C1_the_context_is_what_the_events_carried_and_nothing_else():
    space = Space(HOLD % "cart_id")
    space.traits("m", plan="pro")
    space.track("10:00", "Cart Modified", cart_id="c1", items=[{"sku": "a"}])
    (instance,) = space.people["m"].running.instances
    assert instance.context == {"Cart Modified": {"cart_id": "c1", "items": [{"sku": "a"}]}}


def test_journeys_C2_a_restart_by_another_event_overwrites_its_own_entry():
    space = Space("""
entry: {event: Go, key: k}
steps:
  start: {hold_until: {max: 1h, branches: {b: {event: E, key: k, restart: true}}, timeout: s}}
  s: {send: {to: [mailer]}, next: end}
""")
    space.track("10:00", "Go", k=1)
    space.track("10:10", "E", k=1, n=1)
    space.track("10:20", "E", k=1, n=2)
    space.until("12:00")
    assert space.last["properties"]["journey_context"]["E"] == {"k": 1, "n": 2}


def test_journeys_C2_events_used_again_are_called_after_their_branch():
    space = Space("""
entry: {event: Go, key: k}
steps:
  start:
    hold_until:
      max: 1h
      branches:
        small: {event: E, key: k, where: {n: {lt: 5}}, next: s}
        large: {event: E, key: k, where: {n: {gte: 5}}, next: s}
      timeout: end
  s: {send: {to: [mailer]}, next: end}
""")
    space.track("10:00", "Go", k=1)
    space.track("10:10", "E", k=1, n=7)
    assert space.last["properties"]["journey_context"]["E - large"] == {"k": 1, "n": 7}


def test_journeys_C3_the_entry_event_stays_beside_what_comes_later():
    space = Space(HOLD % "cart_id")
    space.track("10:00", "Cart Modified", cart_id="c1", total=1)
    space.track("10:10", "Cart Modified", cart_id="c1", total=2)
    space.until("13:00")
    assert space.last["properties"]["journey_context"] == {
        "Cart Modified": {"cart_id": "c1", "total": 1},
        "Cart Modified - more": {"cart_id": "c1", "total": 2},
    }


# ---- sends ---------------------------------------------------------------------------------------
SEND = """
entry: {event: Go, key: k}
steps:
  start: {delay: {for: 5m}, next: nudge}
  nudge: {send: {to: [mailer%s]%s}, next: after}
  after: {send: {to: [log], event: After}, next: end}
"""


def test_journeys_E5_a_send_is_a_track_call_named_by_its_step():
    space = Space(cart=SEND % ("", ", event: Cart nudge, traits: [first_name]"))
    space.traits("m", first_name="Mira")
    space.identify("m", email="m@shop.test")
    space.track("11:55", "Go", k="c9", total=80)
    space.until("12:00")
    message = space.messages[0][3]
    personas = message["context"]["personas"]
    key = personas["computation_key"]
    assert key.startswith("cart__nudge_")
    assert len(key) <= 31
    assert personas["event_emitter_id"].startswith("event_em_")
    (instance_id,) = {
        one["properties"]["journey_metadata"]["epoch_id"] for *_, one in space.messages
    }
    assert message == {
        "type": "track", "event": "Cart nudge", "userId": "m",
        "messageId": message["messageId"], "timestamp": "2025-03-01T12:00:00.000Z",
        "context": {
            "personas": {
                "computation_class": "journey_step", "computation_id": key, "computation_key": key,
                "event_emitter_id": personas["event_emitter_id"],
                "namespace": "default", "space_id": "default",
            },
            "externalIds": [
                {"id": "m", "type": "user_id", "collection": "users", "encoding": "none"},
                {"id": "m@shop.test", "type": "email", "collection": "users", "encoding": "none"},
            ],
        },
        "properties": {
            "journey_context": {"Go": {"k": "c9", "total": 80}},
            "journey_metadata": {"journey_id": "cart", "epoch_id": instance_id},
            "first_name": "Mira",
        },
    }  # fmt: skip


def test_journeys_E5_the_event_is_the_step_id_by_default_and_the_key_is_the_steps():
    space = Space(SEND % ("", ""))
    space.track("10:00", "Go", k=1)
    space.track("10:00", "Go", k=2)
    space.until("11:00")
    nudges = [one for *_, one in space.messages if one["event"] == "nudge"]
    assert len(nudges) == 2
    assert len({one["context"]["personas"]["computation_key"] for one in nudges}) == 1
    assert len({one["properties"]["journey_metadata"]["epoch_id"] for one in nudges}) == 2
    space.define(j=(SEND % ("", "")).replace("5m", "6m"))
    space.track("12:00", "Go", k=1)
    space.until("13:00")
    keys = {one["context"]["personas"]["computation_key"] for *_, one in space.messages}
    assert len(keys) == 2  # of `nudge` and `after`: those of unchanged steps survive versions


def test_journeys_E5_a_person_without_user_id_is_named_by_the_anonymous_id():
    space = Space(SEND % ("", ""))
    person = space.person("m")
    person.profile = replace(person.profile, ids=())
    space.identify("m", anonymous_id="anon-1")
    space.track("10:00", "Go", k=1)
    space.until("11:00")
    assert space.last["anonymousId"] == "anon-1"
    assert "userId" not in space.last


def test_journeys_E6_a_payload_over_32_kb_is_not_sent_and_the_path_goes_on():
    space = Space(SEND % ("", ", map: {copy: context.Go.text}"))
    space.track("10:00", "Go", k=1, text="x" * 17_000)
    space.until("11:00")
    assert space.sent == ["10:05 After"]
    assert space.count("payload_too_large", "nudge") == 1
    assert (space.count("sent", "nudge"), space.count("completed")) == (0, 1)


def test_journeys_E6_each_of_five_activations_gets_its_own_message():
    space = Space(SEND % (", push, log, d4, d5", ""))
    space.track("10:00", "Go", k=1)
    space.until("11:00")
    nudges = [(to, one["messageId"]) for _, to, _, one in space.messages if one["event"] == "nudge"]
    assert [to for to, _ in nudges] == ["mailer", "push", "log", "d4", "d5"]
    assert len({id for _, id in nudges}) == 5
    assert space.count("sent", "nudge") == 5


def test_journeys_E7_traits_are_read_when_it_is_sent_the_context_when_it_came():
    space = Space(SEND % ("", ", traits: [plan], map: {again: traits.plan, was: context.Go.n}"))
    space.traits("m", plan="free")
    space.track("10:00", "Go", k=1, n=1)
    space.traits("m", plan="pro")
    space.until("11:00")
    properties = space.messages[0][3]["properties"]
    assert (properties["plan"], properties["again"], properties["was"]) == ("pro", "pro", 1)


def test_journeys_E8_what_is_missing_is_left_out_unless_it_is_mapped():
    mapped = "{p: traits.plan, c: context.Go.x.y, t: fixed}"
    space = Space(SEND % ("", f", traits: [plan], map: {mapped}"))
    space.track("10:00", "Go", k=1)
    space.until("11:00")
    properties = space.messages[0][3]["properties"]
    assert "plan" not in properties
    assert (properties["p"], properties["c"], properties["t"]) == (None, None, "fixed")


def test_journeys_E8_the_context_can_be_chosen():
    chosen = "event: Nudge, context: [Cart Modified - more]"
    space = Space((HOLD % "cart_id").replace("event: Nudge", chosen))
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.track("10:10", "Cart Modified", cart_id="c1")
    space.until("13:00")
    assert list(space.last["properties"]["journey_context"]) == ["Cart Modified - more"]


def test_journeys_E9_message_ids_follow_from_the_instance_and_the_step():
    ids = []
    for _ in range(2):
        space = Space(SEND % (", push", ""))
        space.track("10:00", "Go", k=1)
        space.until("11:00")
        ids.append([message["messageId"] for *_, message in space.messages])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3
    assert all(id.startswith("personas_") for id in ids[0])


def test_journeys_E9_two_steps_to_one_destination_send_two_messages():
    space = Space((SEND % ("", "")).replace("[log]", "[mailer]"))
    space.track("10:00", "Go", k=1)
    space.until("11:00")
    assert len({message["messageId"] for *_, message in space.messages}) == 2


def test_journeys_E11_a_send_does_not_wait_for_its_delivery():
    space = Space(SEND % ("", ""))
    space.track("10:00", "Go", k=1)
    space.until("11:00")
    assert space.sent == ["10:05 nudge", "10:05 After"]
    assert space.waiting == []


def test_journeys_T1_a_path_without_delays_sends_with_the_event_itself():
    space = Space("""
entry: {event: Go, key: k}
steps:
  start: {send: {to: [mailer], event: Now}, next: end}
""")
    space.track("10:00:00.123", "Go", k=1)
    assert space.sent == ["10:00:00.123 Now"]
    assert (space.count("entered"), space.count("completed")) == (1, 1)
    space.balanced()


def test_journeys_s1_what_is_stored_is_small_and_reads_back_the_same():
    space = Space(HOLD % "cart_id")
    space.track("10:00", "Cart Modified", cart_id="c1")
    (instance,) = space.people["m"].running.instances
    assert isinstance(instance, Instance)
    assert len(space.people["m"].kept) < 200
