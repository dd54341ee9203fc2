"""The worked examples of journeys section 9, journey J."""

from tests.journeys.space import Space

J = """
entry: {event: Cart Modified, key: cart_id}
exit_rules:
  events: [{event: Order Completed, match_key: cart_id}]
  send: {to: [mailer], event: X}
steps:
  start:
    hold_until:
      max: 2h
      branches:
        updated: {event: Cart Modified, key: cart_id, restart: true}
        bought: {event: Order Completed, key: cart_id, next: end}
      timeout: first
  first: {send: {to: [mailer], event: N1}, next: pause}
  pause: {delay: {for: 1d}, next: big}
  big:
    split:
      branches:
        - name: large
          when:
            any:
              - context: {Cart Modified - updated.total: {gt: 100}}
              - context: {Cart Modified.total: {gt: 100}}
          next: second
      else: end
  second: {send: {to: [mailer], event: N2}, next: end}
"""


def end(space: Space) -> list[str]:
    """Let three days pass; the counts must balance."""
    space.until("+3 00:00")
    space.balanced()
    assert space.waiting == []
    return space.sent


def test_journeys_example_1_one_cart_gets_one_reminder():
    space = Space(J)
    space.track("10:00", "Cart Modified", cart_id="c1", total=80)
    space.until("+1 11:59:59")
    assert space.waiting == ["m pause c1"]
    assert end(space) == ["12:00 N1 c1"]
    assert space.count("else", "big") == 1
    assert space.count("completed") == 1


def test_journeys_example_2_a_larger_cart_restarts_the_wait_and_gets_the_second():
    space = Space(J)
    space.track("10:00", "Cart Modified", cart_id="c1", total=80)
    space.track("11:00", "Cart Modified", cart_id="c1", total=150)
    space.until("13:00")
    assert space.last["properties"]["journey_context"] == {
        "Cart Modified": {"cart_id": "c1", "total": 80},
        "Cart Modified - updated": {"cart_id": "c1", "total": 150},
    }
    assert end(space) == ["13:00 N1 c1", "+1 13:00 N2 c1"]


def test_journeys_example_3_an_order_in_the_last_second_exits():
    space = Space(J)
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.track("11:59:59", "Order Completed", cart_id="c1")
    assert end(space) == ["11:59:59 X c1"]
    assert (space.count("exited"), space.count("completed")) == (1, 0)
    assert space.count("branch:bought", "start") == 0


def test_journeys_example_4_the_order_of_another_cart_changes_nothing():
    space = Space(J)
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.track("10:30", "Order Completed", cart_id="c2")
    assert end(space) == ["12:00 N1 c1"]


def test_journeys_example_5_two_carts_run_beside_each_other():
    space = Space(J)
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.track("10:10", "Cart Modified", cart_id="c2")
    space.track("11:00", "Order Completed", cart_id="c1")
    assert end(space) == ["11:00 X c1", "12:10 N1 c2"]


def test_journeys_example_6_an_exit_interrupts_the_delay():
    space = Space(J)
    space.track("10:00", "Cart Modified", cart_id="c1", total=200)
    space.track("15:00", "Order Completed", cart_id="c1")
    assert end(space) == ["12:00 N1 c1", "15:00 X c1"]


def test_journeys_example_7_a_repeated_message_changes_nothing():
    space = Space(J)
    space.track("10:00", "Cart Modified", id="same", cart_id="c1")
    space.track("10:00", "Cart Modified", id="same", cart_id="c1")
    assert end(space) == ["12:00 N1 c1"]
    assert space.count("entered") == 1


def test_journeys_example_8_a_new_message_with_the_same_properties_restarts():
    space = Space(J)
    space.track("10:00", "Cart Modified", cart_id="c1", total=1)
    space.track("10:30", "Cart Modified", cart_id="c1", total=1)
    assert end(space) == ["12:30 N1 c1"]


def test_journeys_example_9_a_cart_without_its_id_does_not_enter():
    space = Space(J)
    space.track("10:00", "Cart Modified", total=80)
    assert end(space) == []
    assert space.count("refused:no_key") == 1


def test_journeys_example_10_a_cart_of_two_days_ago_does_not_enter():
    space = Space(J)
    space.track("+2 10:00", "Cart Modified", timestamp="10:00", cart_id="c1")
    assert end(space) == []
    assert space.count("refused:too_old") == 1


def test_journeys_example_11_after_an_outage_the_delay_counts_from_the_late_send():
    space = Space(J)
    space.track("10:00", "Cart Modified", cart_id="c1", total=200)
    space.stop("11:50")
    space.start("12:20")
    assert end(space) == ["12:20 N1 c1", "+1 12:20 N2 c1"]


def test_journeys_example_12_an_order_received_during_the_outage_exits():
    space = Space(J)
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.stop("11:50")
    space.track("12:05", "Order Completed", cart_id="c1")
    space.start("12:20")
    assert [text.split(" ", 1)[1] for text in end(space)] == ["X c1"]


def test_journeys_example_13_an_order_received_before_the_timer_wins_though_processed_later():
    space = Space(J)
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.stop("11:59:57")
    space.track("11:59:58", "Order Completed", cart_id="c1")
    space.start("12:00:03")
    assert end(space) == ["11:59:58 X c1"]


def test_journeys_example_14_the_101st_restart_takes_the_way_of_the_timeout():
    space = Space(J)
    for minute in range(101):
        space.track(f"{10 + minute // 60}:{minute % 60:02}", "Cart Modified", cart_id="c1")
    assert (space.sent, space.count("restarted", "start")) == ([], 100)
    space.track("11:50", "Cart Modified", cart_id="c1")
    assert space.sent == ["11:50 N1 c1"]
    assert end(space) == ["11:50 N1 c1"]


def test_journeys_example_15_the_26th_open_cart_is_refused():
    space = Space(J)
    for cart in range(26):
        space.track(f"10:{cart:02}", "Cart Modified", cart_id=f"c{cart}")
    assert len(space.waiting) == 25
    assert space.count("refused:instances_limit") == 1
    assert len(end(space)) == 25


def test_journeys_example_16_a_purchase_on_another_device_stops_the_cart_after_login():
    space = Space(J)
    space.track("10:00", "Cart Modified", who="a1", cart_id="c1")
    space.track("10:30", "Order Completed", who="a2", cart_id="c1")
    space.merge("11:00", "a1", "a2")
    assert end(space) == ["11:00 X c1"]


def test_journeys_example_17_of_two_open_carts_with_one_id_the_earlier_survives_a_merge():
    space = Space(J)
    space.track("10:10", "Cart Modified", who="a2", cart_id="c1", total=2)
    space.track("10:20", "Cart Modified", who="a1", cart_id="c1", total=1)
    space.merge("11:00", "a1", "a2")
    assert space.waiting == ["a1 start c1"]
    (instance,) = space.people["a1"].running.instances
    assert instance.context["Cart Modified"]["total"] == 2
    assert [text.split(" ", 1)[1] for text in end(space)] == ["N1 c1"]
    assert space.count("merged_duplicate") == 1


def test_journeys_example_18_those_inside_finish_on_their_version():
    space = Space(J)
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.until("10:30")
    space.define(j=J.replace("event: N1", "event: M1"))
    space.track("10:31", "Cart Modified", cart_id="c3")
    assert end(space) == ["12:00 N1 c1", "12:31 M1 c3"]


def test_journeys_example_22_thirty_events_in_a_second_are_cut_to_25():
    space = Space(J)
    for event in range(30):
        space.track(f"10:00:00.{event * 33:03}", "Cart Modified", cart_id=f"c{event}")
    assert len(space.waiting) == 25
    assert space.count("refused:rate_limited") == 5
    space.track("10:00:01.900", "Order Completed", cart_id="c0")
    assert space.count("exited") == 1
    space.until("12:00:01")
    assert len(space.sent) == 1 + 24
    space.balanced()
