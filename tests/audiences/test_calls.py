"""What destinations are told: M1 to M4, M9 to M12, S3, S4, WS-21, WS-22."""

import msgspec
from msgspec import Struct

from audiences import evaluate
from audiences.calls import address, messages, present
from audiences.plan import changed
from profiles.profile import ExternalId
from tests.audiences.driver import Person, audience, observe, occurred, plan_of, trait

WHERE = {"performed": {"event": "Bought", "within": "7d"}}


class Webhook(Struct):
    name: str = ""
    enabled: bool = True
    include_traits: tuple[str, ...] = ()


HOOK = {"hook": Webhook()}


def told(person, changes, destinations=HOOK, only=None):
    """Return the decoded calls."""
    found = messages(
        "default", person.plan, person.profile, changes, destinations, person.now, only
    )
    calls = [msgspec.json.decode(message.body) for message in found]
    assert [message.message_id for message in found] == [call["messageId"] for call in calls]
    return calls


def settled(person, *events):
    """Let events arrive and return the changes."""
    changes = []
    for event in events:
        person.until(event.at_ms)
        touched = observe(person.plan, event, person.states)
        found = evaluate.settle(person.plan, person.profile, touched, person.states, person.now)
        person.apply(found)
        changes += found.changes
    return changes


def due(person):
    """Return what is settled by the timers due now."""
    keys = evaluate.due_keys(person.profile, person.now)
    return evaluate.settle(person.plan, person.profile, keys, person.states, person.now)


def buyer(to=({"to": "hook"},), ids=(("user_id", "u-31"), ("email", "o@shop.test")), computed=None):
    plan = plan_of({"vip_buyers": audience(WHERE, destinations=list(to))}, computed)
    person = Person(plan, ids=ids)
    return person, settled(person, occurred("Bought", "2025-01-01 10:00"))


def test_audiences_M1_entering_and_leaving_are_tracks_by_default():
    person, changes = buyer()
    (enter,) = told(person, changes)
    assert (enter["type"], enter["event"]) == ("track", "Audience Entered")
    assert enter["properties"] == {"audience_key": "vip_buyers", "vip_buyers": True}
    assert enter["timestamp"] == "2025-01-01T10:00:00.000Z"
    person.now += 7 * 86_400_000
    out = due(person)
    person.apply(out)
    (exit_,) = told(person, out.changes)
    assert exit_["event"] == "Audience Exited"
    assert exit_["properties"] == {"audience_key": "vip_buyers", "vip_buyers": False}


def test_audiences_M1_event_names_are_configurable_and_both_calls_can_be_sent():
    person, changes = buyer([{"to": "hook", "send": ["identify", "track"], "enter_event": "In"}])
    first, second = told(person, changes)
    assert (first["type"], first["traits"]["vip_buyers"]) == ("identify", True)
    assert "event" not in first
    assert (second["type"], second["event"]) == ("track", "In")
    assert first["messageId"] != second["messageId"]


def test_audiences_M1_the_context_names_the_computation():
    person, changes = buyer()
    assert told(person, changes)[0]["context"]["personas"] == {
        "computation_class": "audience",
        "computation_id": "aud_vip_buyers",
        "computation_key": "vip_buyers",
        "namespace": "default",
        "space_id": "default",
    }


def test_audiences_M2_a_computed_trait_is_told_as_identify_or_trait_computed():
    spent = trait(
        type="sum",
        event="Bought",
        property="revenue",
        destinations=[{"to": "hook", "send": ["identify", "track"]}],
    )
    person = Person(plan_of({}, {"spent": spent}))
    changes = settled(person, occurred("Bought", "2025-01-01", revenue=49.5))
    identify, track = told(person, changes)
    assert identify["traits"] == {"spent": 49.5}
    assert (track["event"], track["properties"]) == (
        "Trait Computed",
        {"trait_key": "spent", "spent": 49.5},
    )
    assert track["context"]["personas"]["computation_class"] == "trait"


def test_audiences_M2_a_trait_that_became_empty_is_told_as_null():
    last = trait(
        type="last", event="E", property="x", window={"within": "1d"}, destinations=[{"to": "hook"}]
    )
    person = Person(plan_of({}, {"last_x": last}))
    settled(person, occurred("E", "2025-01-01", x=1))
    person.now += 86_400_000
    out = due(person)
    assert told(person, out.changes)[0]["properties"] == {"trait_key": "last_x", "last_x": None}


def test_audiences_M3_integrations_name_the_one_destination():
    person, changes = buyer()
    assert told(person, changes)[0]["integrations"] == {"All": False, "hook": True}
    named = told(person, changes, {"hook": Webhook("Mailer")})
    assert named[0]["integrations"] == {"All": False, "Mailer": True}


def test_audiences_M4_the_email_sits_in_traits():
    person, changes = buyer([{"to": "hook", "send": ["identify", "track"]}])
    identify, track = told(person, changes)
    assert identify["traits"] == {"vip_buyers": True, "email": "o@shop.test"}
    assert track["context"]["traits"] == {"email": "o@shop.test"}
    person.has(email="new@shop.test")
    assert told(person, changes)[0]["traits"]["email"] == "new@shop.test"


def test_audiences_M4_who_has_no_email_has_no_key_for_it():
    person, changes = buyer(ids=[("user_id", "u")])
    assert "traits" not in told(person, changes)[0]["context"]


def test_audiences_M9_message_ids_follow_from_what_is_told_and_nothing_else():
    (one, first), (other, second) = buyer(), buyer()
    assert told(one, first)[0]["messageId"] == told(other, second)[0]["messageId"]
    assert told(one, first)[0]["messageId"].startswith("personas_")
    seen = {told(one, first)[0]["messageId"]}
    for _ in range(3):  # out and in again: other transitions, other ids
        one.now = evaluate.next_flip(one.profile.flips)
        out = due(one)
        one.apply(out)
        back = settled(one, occurred("Bought", one.now))
        seen |= {call["messageId"] for call in told(one, [*out.changes, *back])}
    assert len(seen) == 7


def test_audiences_M9_values_within_one_millisecond_have_ids_of_their_own():
    count = trait(type="count", event="E", destinations=[{"to": "hook"}])
    person = Person(plan_of({}, {"n": count}))
    changes = settled(person, *(occurred("E", "2025-01-01", id=f"m{n}") for n in range(3)))
    calls = told(person, changes)
    assert [call["properties"]["n"] for call in calls] == [1, 2, 3]
    assert len({call["messageId"] for call in calls}) == 3


def test_audiences_M9_another_definition_gives_other_ids():
    person, changes = buyer()
    edited, others = buyer()
    where = {"any": [WHERE, {"trait": {"x": {"exists": True}}}]}
    edited.plan = plan_of({"vip_buyers": audience(where, destinations=[{"to": "hook"}])})
    assert told(person, changes)[0]["messageId"] != told(edited, others)[0]["messageId"]


def test_audiences_M10_calls_come_in_the_order_of_the_changes():
    plan = plan_of(
        {
            "b": audience({"audience": "z"}, destinations=[{"to": "hook"}]),
            "z": audience(WHERE, destinations=[{"to": "hook"}]),
        }
    )
    person = Person(plan)
    changes = settled(person, occurred("Bought", "2025-01-01"))
    assert [call["properties"]["audience_key"] for call in told(person, changes)] == ["z", "b"]


def test_audiences_M11_calls_are_no_input_of_computations():
    """An audience on the very event that tells of entries: no call comes back to it."""
    plan = plan_of(
        {
            "a": audience(WHERE, destinations=[{"to": "hook"}]),
            "b": {"performed": {"event": "Audience Entered"}},
        }
    )
    person = Person(plan)
    changes = settled(person, occurred("Bought", "2025-01-01"))
    assert [call["event"] for call in told(person, changes)] == ["Audience Entered"]
    assert not person.inside("b")


def test_audiences_WS22_a_first_connection_is_sent_the_present_members_only():
    person, _ = buyer([{"to": "hook"}])
    new = plan_of({"vip_buyers": audience(WHERE, destinations=[{"to": "hook"}, {"to": "crm"}])})
    connected = changed(person.plan, new).connected
    assert connected == (("vip_buyers", "crm"),)
    person.plan = new
    both = HOOK | {"crm": Webhook("CRM")}
    calls = told(person, present(new, person.profile, connected), both, only=frozenset(connected))
    assert [(call["event"], call["integrations"]) for call in calls] == [
        ("Audience Entered", {"All": False, "CRM": True})
    ]
    outsider = Person(new)
    assert present(new, outsider.profile, connected) == ()


def test_audiences_M12_without_history_a_later_connection_hears_of_new_changes_only():
    one, two = (
        plan_of({"a": audience(WHERE, history=False, destinations=to)})
        for to in ([], [{"to": "hook"}])
    )
    assert changed(one, two).connected == ()


def test_audiences_S3_S4_chosen_traits_go_along_and_missing_ones_are_left_out():
    person, changes = buyer(
        [{"to": "hook", "send": ["identify", "track"]}],
        computed={"orders": {"type": "count", "event": "Bought"}},
    )
    person.has(plan="pro", gone=None)
    carried = ("plan", "orders", "gone", "never", "vip_buyers")
    identify, track = told(person, [changes[-1]], {"hook": Webhook(include_traits=carried)})
    assert identify["traits"] == {
        "plan": "pro",
        "orders": 1,
        "vip_buyers": True,
        "email": "o@shop.test",
    }
    assert track["properties"] == {
        "plan": "pro",
        "orders": 1,
        "vip_buyers": True,
        "audience_key": "vip_buyers",
    }


def test_workspace_WS21_one_call_a_person_with_the_user_id_added_last():
    ids = [("anonymous_id", "a1"), ("user_id", "u1"), ("user_id", "u2"), ("loyalty_id", "l")]
    person, changes = buyer(ids=ids)
    (call,) = told(person, changes)
    assert call["userId"] == "u2"
    assert "anonymousId" not in call
    assert call["context"]["externalIds"] == [
        {"id": value, "type": type, "collection": "users", "encoding": "none"}
        for type, value in ids
    ]


def test_workspace_WS21_without_a_user_id_the_anonymous_id():
    person, changes = buyer(ids=[("email", "a@b.test"), ("anonymous_id", "a1")])
    (call,) = told(person, changes)
    assert call["anonymousId"] == "a1"
    assert "userId" not in call


def test_workspace_WS21_added_last_is_by_instant_then_by_place():
    def id(value, at):
        return ExternalId("user_id", value, at, "", "")

    assert address([id("new", 5), id("old", 1)]) == ("user_id", "new")
    assert address([id("one", 5), id("two", 5)]) == ("user_id", "two")
    assert address([]) == ("", "")


def test_workspace_WS23_who_is_disabled_or_gone_is_told_nothing():
    person, changes = buyer()
    assert told(person, changes, {"hook": Webhook(enabled=False)}) == []
    assert told(person, changes, {}) == []
