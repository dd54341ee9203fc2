"""Who enters, and when not (journeys 2.2 and section 6)."""

from msgspec.structs import replace

from journeys.definition import version_of
from profiles.profile import Membership
from tests.journeys.space import Space, journey

CART = """
entry: {event: Cart Modified, key: cart_id%s}
steps:
  start: {delay: {for: 1h}, next: mail}
  mail: {send: {to: [mailer], event: Mail}, next: end}
"""
ONCE = """
entry: {event: Signed Up, re_enter: once}
steps:
  start: {delay: {for: 1h}, next: mail}
  mail: {send: {to: [mailer], event: Hello}, next: end}
"""


def test_journeys_V1_the_filter_decides_who_enters():
    either = "[{shop: {equals: x}}, {vip: {exists: true}}]"
    space = Space(CART % f", where: {{total: {{gt: 20}}, any: {either}}}")
    space.track("10:00", "Cart Modified", cart_id="c1", total=20, shop="x")
    space.track("10:00", "Cart Modified", cart_id="c2", total=21)
    space.track("10:00", "Cart Modified", cart_id="c3", total=21, vip=False)
    space.track("10:00", "Other", cart_id="c4", total=21, shop="x")
    assert space.waiting == ["m start c3"]


def test_journeys_V2_the_audience_filter_sees_the_person_before_the_event():
    space = Space(CART % ", audience: {audience: vip}")
    before = space.person("m").profile
    space.audience("m", "vip")
    space.track("10:00", "Cart Modified", before=before, cart_id="c1")
    assert space.waiting == []
    space.track("10:01", "Cart Modified", cart_id="c2")
    assert space.waiting == ["m start c2"]


def test_journeys_V2_a_negated_audience_filter_lets_all_others_in():
    space = Space(CART % ", audience: {all: [{not: {audience: staff}}, {audience: vip}]}")
    space.audience("m", "vip")
    space.audience("m", "staff")
    space.track("10:00", "Cart Modified", cart_id="c1")
    assert space.waiting == []
    space.audience("m", "staff", inside=False)
    space.track("10:01", "Cart Modified", cart_id="c2")
    assert space.waiting == ["m start c2"]


def test_journeys_V2_a_person_whom_the_event_itself_made_known_was_in_no_audience():
    space = Space(CART % ", audience: vip")
    space.audience("m", "vip")
    nobody = replace(space.person("m").profile, memberships={"vip": Membership(False, 0, 0, 0)})
    space.track("10:00", "Cart Modified", before=nobody, cart_id="c1")
    assert space.waiting == []


def test_journeys_V3_once_lets_a_person_in_one_time_for_ever():
    space = Space(ONCE)
    space.track("10:00", "Signed Up")
    space.track("10:10", "Signed Up")
    space.until("12:00")
    space.track("+2 10:00", "Signed Up")
    space.until("+3 00:00")
    assert space.sent == ["11:00 Hello"]
    assert (space.count("entered"), space.count("refused:once")) == (1, 2)


def test_journeys_V3_every_key_value_has_an_instance_of_its_own():
    space = Space(CART % "")
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.track("10:00", "Cart Modified", cart_id="c2")
    assert space.waiting == ["m start c1", "m start c2"]


def test_journeys_V4_a_key_must_be_a_scalar_of_at_most_150_characters():
    space = Space(CART % "")
    for value in (None, "", {"a": 1}, ["c1"], "c" * 151):
        space.track("10:00", "Cart Modified", cart_id=value)
    assert (space.waiting, space.count("refused:no_key")) == ([], 5)
    for value in ("c" * 150, 17, False):
        space.track("10:00", "Cart Modified", cart_id=value)
    assert space.waiting == ["m start 17", "m start " + "c" * 150, "m start false"]


def test_journeys_V4_a_number_and_its_text_are_one_key():
    space = Space(CART % "")
    space.track("10:00", "Cart Modified", cart_id=17)
    space.track("10:01", "Cart Modified", cart_id="17")
    space.track("10:02", "Cart Modified", cart_id=17.0)
    assert space.waiting == ["m start 17"]


def test_journeys_V4_a_key_may_lie_deeper():
    space = Space(CART.replace("cart_id", "cart.id") % "")
    space.track("10:00", "Cart Modified", cart={"id": "c1"})
    space.track("10:00", "Cart Modified", **{"cart.id": "c2"})
    assert space.waiting == ["m start c1", "m start c2"]


def test_journeys_V5_the_same_key_enters_again_only_after_the_end():
    space = Space(CART % "")
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.track("10:30", "Cart Modified", cart_id="c1")
    assert space.count("entered") == 1
    space.until("11:00")
    space.track("11:30", "Cart Modified", cart_id="c1")
    space.until("13:00")
    assert [text.split()[0] for text in space.sent] == ["11:00", "12:30"]
    assert len({message["messageId"] for *_, message in space.messages}) == 2


def test_journeys_V5_an_event_that_ends_the_instance_by_a_branch_starts_no_other():
    space = Space("""
entry: {event: Cart Modified, key: cart_id}
steps:
  start:
    hold_until:
      max: 1h
      branches: {again: {event: Cart Modified, key: cart_id, next: end}}
      timeout: end
""")
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.track("10:30", "Cart Modified", cart_id="c1")
    assert (space.waiting, space.count("entered"), space.count("completed")) == ([], 1, 1)
    space.track("10:40", "Cart Modified", cart_id="c1")
    assert space.waiting == ["m start c1"]


def test_journeys_V5_the_same_key_in_an_older_version_keeps_the_new_one_out():
    space = Space(CART % "")
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.define(j=(CART % "").replace("1h", "2h"))
    space.track("10:10", "Cart Modified", cart_id="c1")
    assert space.count("entered") == 1
    space.until("13:00")
    assert [text.split()[0] for text in space.sent] == ["11:00"]


def test_journeys_V6_an_event_older_than_an_hour_enters_nobody():
    space = Space(CART % "")
    space.track("10:00", "Cart Modified", timestamp="08:59:59", cart_id="c1")
    assert (space.waiting, space.count("refused:too_old")) == ([], 1)
    space.track("10:00", "Cart Modified", timestamp="09:00", cart_id="c2")
    assert space.waiting == ["m start c2"]


def test_journeys_V6_max_entry_age_says_otherwise():
    space = Space(CART % ", max_entry_age: 2d")
    space.track("+2 10:00", "Cart Modified", timestamp="10:00", cart_id="c1")
    assert space.waiting == ["m start c1"]


def test_journeys_V7_an_event_that_comes_a_second_time_moves_nothing():
    space = Space("""
entry: {event: Cart Modified, key: cart_id}
steps:
  start:
    hold_until:
      max: 1h
      branches: {again: {event: Cart Modified, key: cart_id, restart: true}}
      timeout: end
""")
    for at in ("10:00", "10:10"):
        space.track(at, "Cart Modified", id="same", cart_id="c1")
        space.seen_ids.clear()  # as if the deduplication had forgotten it
    for at in ("10:20", "10:30"):
        space.track(at, "Cart Modified", id="other", cart_id="c1")
        space.seen_ids.clear()
    assert (space.count("entered"), space.count("restarted", "start")) == (1, 1)
    space.until("11:20")
    assert space.waiting == []


def test_journeys_V8_events_before_publication_start_nothing():
    space = Space()
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.define(j=CART % "")
    space.until("12:00")
    assert (space.waiting, space.counts) == ([], {})
    space.track("12:00", "Cart Modified", cart_id="c1")
    assert space.waiting == ["m start c1"]


def test_journeys_s6_instances_are_limited_over_all_journeys():
    other = (CART % "").replace("Cart Modified", "Trip Planned")
    space = Space(CART % "", other)
    for number in range(13):
        space.track(f"10:{number:02}", "Cart Modified", cart_id=f"c{number}")
        space.track(f"10:{number:02}", "Trip Planned", cart_id=f"c{number}")
    assert len(space.waiting) == 25
    assert space.count("refused:instances_limit", key="j1") == 1
    space.until("11:00")
    space.track("11:00:01", "Trip Planned", cart_id="c12")
    assert space.count("entered", key="j1") == 13


def test_journeys_s6_an_instance_expires_after_365_days_without_sends():
    steps = "\n".join(
        f"  {'start' if not n else f's{n}'}: {{delay: {{for: 182d}}, next: s{n + 1}}}"
        for n in range(3)
    )
    space = Space(f"""
entry: {{event: Cart Modified, key: cart_id}}
steps:
{steps}
  s3: {{send: {{to: [mailer]}}, next: end}}
""")
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.until("+365 09:59:59")
    assert space.waiting == ["m s2 c1"]
    space.until("+365 10:00")
    assert (space.waiting, space.sent, space.count("expired")) == ([], [], 1)
    space.balanced()


def test_journeys_s6_dropped_events_do_nothing_but_timers_still_fire():
    space = Space(CART % "")
    space.track("10:00", "Cart Modified", cart_id="late")
    for number in range(26):
        space.track(f"11:00:00.{number:03}", "Cart Modified", cart_id=f"c{number}")
    space.until("11:00:01")
    assert space.count("refused:rate_limited") == 1
    assert space.sent == ["11:00 Mail late"]
    space.until("12:00:01")
    assert len(space.sent) == 26


def test_journeys_s6_nothing_is_kept_of_a_person_whose_journeys_are_over():
    space = Space(CART % "")
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.until("12:00")
    assert space.people["m"].kept == b""


def test_journeys_L1_a_version_is_its_content_not_its_name():
    one = journey(CART % "")
    assert version_of(one) == version_of(journey("name: Other\n" + CART % ""))
    assert version_of(one) == version_of(journey(CART % ", re_enter: every"))
    assert version_of(one) != version_of(journey((CART % "").replace("1h", "2h")))


def test_journeys_L1_an_instance_whose_version_is_gone_ends_silently():
    space = Space(CART % "")
    space.track("10:00", "Cart Modified", cart_id="c1")
    space.define(j=(CART % "").replace("1h", "2h"))
    space.older.clear()
    space.define()
    space.until("12:00")
    assert (space.sent, space.count("stopped")) == ([], 1)
    space.balanced()


def test_journeys_T4_an_event_that_no_journey_names_is_not_looked_at():
    space = Space(CART % "")
    assert "Page Viewed" not in space.plan.events
    assert "Cart Modified" in space.plan.events
