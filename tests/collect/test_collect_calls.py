"""What a call must hold, and the stored event that it becomes: pure, no server."""

import json

import pytest

from events import calls
from events.calls import Refused, accept, request_context
from events.event import Received
from events.integrations import enabled
from tests.collect.standin import NOON_MS

NOON = "2026-01-05T12:00:00.000Z"


def shared(type=None, **fields):
    return request_context(
        **{
            "type": type, "project_id": "backend", "channel": "server", "client_side": False,
            "received_at_ms": NOON_MS, "new_message_id": lambda: "api-new", "ip": "203.0.113.9",
            **fields,
        }
    )  # fmt: skip


def stored(call, type="track", **fields):
    """Return the stored event that a call becomes."""
    result = accept(json.loads(json.dumps(call)), shared(type, **fields))
    assert type is None or isinstance(result, Received), result
    event = json.loads(result.body)
    assert event["messageId"] == result.message_id
    return event


def refused(call, type="track", **fields):
    """Return the code for which a call is refused."""
    result = accept(json.loads(json.dumps(call)), shared(type, **fields))
    assert isinstance(result, Refused), result
    assert result.detail
    return result.code


TRACK = {"event": "A", "userId": "u"}


# ---- 5, 6 --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("type", "call", "code"),
    [
        ("track", {"event": "A"}, "no_user_anon_id"),
        ("track", {"event": "A", "userId": None, "anonymousId": None}, "no_user_anon_id"),
        ("identify", {"traits": {}}, "no_user_anon_id"),
        ("track", {"event": "A", "userId": ""}, "id_not_string"),
        ("track", {"event": "A", "userId": 7}, "id_not_string"),
        ("track", {"event": "A", "userId": True, "anonymousId": "a"}, "id_not_string"),
        ("track", {"event": "A", "userId": "u", "anonymousId": ["a"]}, "id_not_string"),
        ("track", {"event": "A", "anonymousId": ""}, "id_not_string"),
        ("track", {"userId": "u"}, "event_not_defined"),
        ("track", {"userId": "u", "event": None}, "event_not_defined"),
        ("track", {"userId": "u", "event": 7}, "event_not_string"),
        ("track", {"userId": "u", "event": {}}, "event_not_string"),
        ("track", {**TRACK, "properties": []}, "properties_not_object"),
        ("track", {**TRACK, "properties": "x"}, "properties_not_object"),
        ("page", {"userId": "u", "properties": 0}, "properties_not_object"),
        ("screen", {"userId": "u", "properties": False}, "properties_not_object"),
        ("identify", {"userId": "u", "traits": []}, "traits_not_object"),
        ("group", {"userId": "u", "groupId": "g", "traits": "x"}, "traits_not_object"),
        ("page", {"userId": "u", "name": ""}, "name_not_string"),
        ("screen", {"userId": "u", "name": 7}, "name_not_string"),
        ("page", {"userId": "u", "category": ""}, "category_not_string"),
        ("screen", {"userId": "u", "category": {}}, "category_not_string"),
        ("group", {"userId": "u"}, "id_required"),
        ("group", {"userId": "u", "groupId": None}, "id_required"),
        ("group", {"userId": "u", "groupId": 7}, "id_not_string"),
        ("alias", {"userId": "u"}, "id_required"),
        ("alias", {"anonymousId": "a", "previousId": "p"}, "id_required"),
        ("alias", {"userId": "u", "previousId": None}, "id_required"),
        ("alias", {"userId": "u", "previousId": ""}, "id_not_string"),
        ("alias", {"previousId": "p"}, "no_user_anon_id"),
    ],
)
def test_collect_s5_what_is_refused_and_why(type, call, code):
    assert refused(call, type) == code


def test_collect_s6_what_suffices():
    stored({"anonymousId": "a"}, "identify")
    stored({"userId": "u", "event": ""}, "track")
    stored({"anonymousId": "a"}, "page")
    stored({"anonymousId": "a"}, "screen")
    stored({"anonymousId": "a", "groupId": "g"}, "group")
    stored({"userId": "u", "previousId": "p"}, "alias")


CONSENT = {"userId": "u", "event": "Segment Consent Preference Updated"}


@pytest.mark.parametrize(
    ("context", "code"),
    [
        ({}, "consent_categorypreferences_should_exist"),
        ({"consent": 3}, "consent_categorypreferences_should_exist"),
        ({"consent": {"categoryPreferences": None}}, "consent_categorypreferences_should_exist"),
        ({"consent": {"categoryPreferences": []}},
         "consent_categorypreferences_fields_should_be_object"),
        ({"consent": {"categoryPreferences": {"a": 1}}},
         "consent_categorypreferences_fields_should_be_bool"),
        ({"consent": {"categoryPreferences": {"a": True}, "version": "2"}},
         "consent_version_should_be_number"),
        ({"consent": {"categoryPreferences": {}}, "device": {"advertisingId": 7}},
         "device_advertisingid_should_be_string"),
    ],
)
def test_collect_s5_a_consent_event_must_carry_the_consent(context, code):
    assert refused({**CONSENT, "context": context}) == code
    stored({**TRACK, "context": context})


def test_collect_s5_a_whole_consent_event_is_taken():
    consent = {"categoryPreferences": {"a": True, "b": False}, "version": 2}
    stored({**CONSENT, "context": {"consent": consent, "device": {"advertisingId": "x"}}})


def test_collect_C17_a_message_id_over_100_characters_is_refused():
    assert stored({**TRACK, "messageId": "m" * 100})
    assert refused({**TRACK, "messageId": "m" * 101}) == "message_id_too_long"


def test_collect_C18_properties_after_the_10000th_are_dropped():
    properties = {f"p{n}": n for n in range(10_001)}
    kept = stored({**TRACK, "properties": properties})["properties"]
    assert list(kept) == [f"p{n}" for n in range(10_000)]
    assert len(stored({"userId": "u", "traits": properties}, "identify")["traits"]) == 10_000


def test_collect_C25_null_equals_absent():
    nulls = dict.fromkeys(
        ("anonymousId", "groupId", "previousId", "name", "category", "properties", "traits",
         "context", "integrations", "timestamp", "sentAt")
    )  # fmt: skip
    with_nulls = stored({**TRACK, **nulls})
    assert with_nulls == stored(TRACK)
    assert None not in with_nulls.values()
    stored({**nulls, "anonymousId": "a", "userId": None}, "page")
    stored({**nulls, "userId": "u"}, "identify")


def test_collect_C25_null_within_properties_and_traits_and_unknown_keys_stays():
    event = stored({**TRACK, "properties": {"a": None}, "mine": None})
    assert event["properties"] == {"a": None}
    assert event["mine"] is None


@pytest.mark.parametrize("key", ["context", "integrations"])
@pytest.mark.parametrize("value", [[], "x", 3, True])
def test_collect_C26_context_and_integrations_must_be_objects(key, value):
    assert refused({**TRACK, key: value}) == "bad_request"
    assert refused(TRACK, **{key: value}) == "bad_request"


@pytest.mark.parametrize("kind", ["track", "Track", "TRACK"])
def test_collect_C27_type_in_any_case_or_action(kind):
    assert stored({**TRACK, "type": kind}, None)["type"] == "track"
    event = stored({**TRACK, "action": kind}, None)
    assert event["type"] == "track"
    assert "action" not in event
    assert stored({**TRACK, "type": kind, "action": "page"}, None)["action"] == "page"


@pytest.mark.parametrize("kind", [None, "", "buy", 3, ["track"], {}, "tracK "])
def test_collect_C27_an_unknown_type_is_refused(kind):
    assert refused({**TRACK, "type": kind}, None) == "bad_request"


def test_collect_C27_the_path_wins_over_the_type():
    assert stored({**TRACK, "type": "page"}, "identify")["type"] == "identify"


def test_collect_C28_a_group_without_any_user_is_refused():
    assert refused({"groupId": "g"}, "group") == "no_user_anon_id"


# ---- 7 --------------------------------------------------------------------------------
def test_collect_s7_the_stored_event_whole():
    call = {
        "event": "Plan Upgraded", "userId": "u_81", "anonymousId": "3f0c", "writeKey": "wk",
        "batch": [1], "options": {"a": 1}, "mine": {"b": 2}, "properties": {"revenue": 49.5},
        "context": {"groupId": "acme", "channel": "browser"}, "integrations": {"All": True},
        "messageId": "m-771", "version": "1.1", "projectId": "other", "receivedAt": "x",
        "timestamp": "2026-01-05T11:59:00+00:00", "sentAt": "2026-01-05T11:59:01.000000+00:00",
    }  # fmt: skip
    assert stored(call) == {
        "type": "track", "event": "Plan Upgraded", "userId": "u_81", "anonymousId": "3f0c",
        "properties": {"revenue": 49.5}, "context": {"groupId": "acme", "channel": "browser"},
        "integrations": {"All": True}, "messageId": "m-771", "mine": {"b": 2},
        "originalTimestamp": "2026-01-05T11:59:00.000Z", "sentAt": "2026-01-05T11:59:01.000Z",
        "receivedAt": NOON, "timestamp": "2026-01-05T11:59:59.000Z", "channel": "server",
        "projectId": "backend", "version": 2,
    }  # fmt: skip


def test_collect_s7_message_id_is_made_when_there_is_none():
    for mine in ({}, {"messageId": ""}, {"messageId": None}, {"messageId": 7}):
        assert stored({**TRACK, **mine})["messageId"] == "api-new"
    assert stored({**TRACK, "messageId": "mine"})["messageId"] == "mine"


@pytest.mark.parametrize("channel", ["server", "browser", "mobile"])
def test_collect_s7_channel_by_source_unless_the_client_says_it(channel):
    assert stored(TRACK, channel=channel)["channel"] == channel
    assert stored({**TRACK, "channel": channel}, channel="server")["channel"] == channel
    for nonsense in ("tv", "", None, 3, ["server"]):
        assert stored({**TRACK, "channel": nonsense}, channel=channel)["channel"] == channel


def test_collect_C29_received_at_is_the_servers():
    assert stored({**TRACK, "receivedAt": "2001-01-01T00:00:00Z"})["receivedAt"] == NOON


def test_collect_C30_ip_for_client_side_events_only_and_never_replaced():
    def ip(context, **fields):
        return stored({**TRACK, "context": context}, **fields)["context"].get("ip", "none")

    assert ip({}) == "none"
    assert ip({}, client_side=True) == "203.0.113.9"
    assert ip({"direct": True}) == "203.0.113.9"
    assert ip({"direct": False}) == "none"
    assert ip({"ip": "0.0.0.0"}, client_side=True) == "0.0.0.0"
    assert ip({"ip": None}, client_side=True) is None
    assert ip({}, client_side=True, ip=None) == "none"
    assert stored({**TRACK, "context": {"direct": True}})["context"]["direct"] is True


def test_collect_s7_context_merges_deep_integrations_shallow_the_item_wins():
    event = stored(
        {**TRACK, "context": {"a": {"x": 1, "z": {"p": 1}}, "b": 1, "c": {"k": 1}},
         "integrations": {"All": False, "X": {"mine": 1}}},
        context={"a": {"x": 2, "y": 2, "z": {"p": 2, "q": 2}}, "b": {"deep": 2}, "c": 2, "d": 2},
        integrations={"X": {"theirs": 2}, "Y": True},
    )  # fmt: skip
    assert event["context"] == {
        "a": {"x": 1, "y": 2, "z": {"p": 1, "q": 2}}, "b": 1, "c": {"k": 1}, "d": 2,
    }  # fmt: skip
    assert event["integrations"] == {"All": False, "X": {"mine": 1}, "Y": True}


def test_collect_s7_items_do_not_share_what_is_filled_in():
    request = shared("track", context={"app": {"name": "x"}}, client_side=True)
    first, second = dict(TRACK), dict(TRACK)
    accept(first, request), accept(second, request)
    assert first["context"] == second["context"]
    assert first["context"] is not second["context"]
    assert "ip" not in request.context


SKEW = [
    ("2026-01-05T13:00:00Z", "2026-01-05T13:00:05Z", "2026-01-05T11:59:55.000Z"),
    ("2012-12-02T00:30:12.984", None, "2012-12-02T00:30:12.984Z"),
    ("2012-12-02T00:30:12.984", "2026-01-05T11:59:59.800Z", "2012-12-02T00:30:13.184Z"),
    (None, None, NOON),
    (None, "2026-01-05T10:00:00Z", NOON),
    ("2026-01-05T12:30:00Z", "2026-01-05T11:00:00Z", "2026-01-05T13:30:00.000Z"),
    ("2026-01-05T08:00:00Z", "2026-01-05T08:00:05Z", "2026-01-05T11:59:55.000Z"),
]


@pytest.mark.parametrize(("timestamp", "sent_at", "expected"), SKEW)
def test_collect_C32_the_devices_clock_is_corrected(timestamp, sent_at, expected):
    call = {**TRACK, "timestamp": timestamp, "sentAt": sent_at}
    assert stored(call)["timestamp"] == expected
    assert stored({**TRACK, "timestamp": timestamp}, sent_at=sent_at)["timestamp"] == expected


def test_collect_C32_what_stands_in_for_a_missing_instant():
    event = stored(TRACK)
    assert event["originalTimestamp"] == NOON
    assert "sentAt" not in event
    event = stored({**TRACK, "sentAt": "2026-01-05T10:00:00Z"})
    assert event["originalTimestamp"] == event["sentAt"] == "2026-01-05T10:00:00.000Z"
    event = stored({**TRACK, "sentAt": "2026-01-05T10:00:00Z"}, sent_at="2026-01-05T09:00:00Z")
    assert event["sentAt"] == "2026-01-05T10:00:00.000Z"


@pytest.mark.parametrize("nonsense", ["", "yesterday", 1767614400000, {}, "2026-13-01", True])
def test_collect_C31_an_unreadable_instant_counts_as_absent(nonsense):
    assert stored({**TRACK, "timestamp": nonsense})["originalTimestamp"] == NOON
    event = stored({**TRACK, "sentAt": nonsense})
    assert "sentAt" not in event
    event = stored({**TRACK, "sentAt": nonsense}, sent_at="2026-01-05T10:00:00Z")
    assert event["sentAt"] == "2026-01-05T10:00:00.000Z"
    assert "sentAt" not in stored(TRACK, sent_at=nonsense)


def test_collect_C32_instants_stay_writable():
    call = {**TRACK, "timestamp": "9999-12-31T23:59:59Z", "sentAt": "0001-01-01T00:00:00Z"}
    assert stored(call)["timestamp"] == "9999-12-31T23:59:59.999Z"
    call = {**TRACK, "timestamp": "0001-01-01T00:00:00Z", "sentAt": "9999-12-31T23:59:59Z"}
    assert stored(call)["timestamp"] == "0001-01-01T00:00:00.000Z"
    call = {**TRACK, "timestamp": "0001-01-01T00:00:00+23:00"}
    assert stored(call)["timestamp"] == "0001-01-01T00:00:00.000Z"


# ---- 9 --------------------------------------------------------------------------------
def test_collect_C38_all_applies_where_no_own_key_exists():
    for absent in (None, {}, {"All": None}, {"Y": True}):
        assert enabled(absent, "X") is True
    assert enabled({"All": False, "X": True}, "X") is True
    assert enabled({"All": False, "X": True}, "Y") is False
    assert enabled({"X": False}, "X") is False
    assert enabled({"X": False}, "Y") is True
    assert enabled({"X": None}, "X") is True


def test_collect_C39_names_have_their_case_and_some_must_be_named():
    assert enabled({"All": False, "slack": True}, "Slack") is False
    assert enabled({}, "Salesforce", default=False) is False
    assert enabled(None, "Salesforce", default=False) is False
    assert enabled({"All": True}, "Salesforce", default=False) is False
    assert enabled({"Salesforce": True}, "Salesforce", default=False) is True


def test_collect_C40_an_object_is_yes_with_options():
    options = {"appsflyerId": "1415211453000-6513894"}
    assert enabled({"All": False, "AppsFlyer": options}, "AppsFlyer") == options
    assert enabled({"All": False, "AppsFlyer": {}}, "AppsFlyer") is True
    assert enabled({"Salesforce": {"a": 1}}, "Salesforce", default=False) == {"a": 1}


def test_collect_C41_the_senders_own_name_turns_nothing_off():
    assert enabled({"Segment.io": False}, "X") is True
    # whatever it says, the event is stored, with the object as sent
    sent = {"All": False, "Segment.io": False, "X": {"a": 1}}
    assert stored({**TRACK, "integrations": sent})["integrations"] == sent


def test_collect_C33_content_does_not_matter_to_the_id():
    one = stored({**TRACK, "messageId": "m", "properties": {"a": 1}})
    other = stored({**TRACK, "messageId": "m", "properties": {"a": 2}}, project_id="shop")
    assert one["messageId"] == other["messageId"] == "m"


def test_collect_s7_every_kind_has_its_own_rule():
    assert set(calls.KINDS) == {"identify", "track", "page", "screen", "group", "alias"}
