"""Which identifiers a call carries, and what stays out of the space."""

import pytest

from identity.extract import account_of, candidates, gate, routing_id, trace
from identity.settings import compile_settings, faults, unsupported
from tests.identity.graph import settings

DEFAULTS = compile_settings(settings())


def ids(data, type="track", **fields):
    return list(candidates(data, type, compile_settings(settings(**fields))))


def entry(value, type="phone", collection="users", encoding="none"):
    return {"id": value, "type": type, "collection": collection, "encoding": encoding}


def context(**fields):
    return {"context": fields}


# ---- 2.1, 2.2: where
@pytest.mark.parametrize(
    ("type", "places"),
    [
        ("identify", {"traits", "context"}),
        ("track", {"properties", "context"}),
        ("page", {"properties", "context"}),
        ("screen", {"properties", "context"}),
        ("group", {"context"}),
        ("alias", {"context"}),
    ],
)
def test_identity_s2_each_call_is_read_where_it_speaks_of_the_person(type, places):
    data = {
        "userId": "u1", "anonymousId": "a1", "previousId": "p1", "groupId": "g1",
        "traits": {"email": "traits@x.test"},
        "properties": {"email": "properties@x.test"},
        "context": {"traits": {"email": "context@x.test"}, "groupId": "g2"},
    }  # fmt: skip
    found = ids(data, type)
    assert found[0] == ("user_id", "u1")
    assert found[-1] == ("anonymous_id", "a1")
    assert {value.partition("@")[0] for type, value in found if type == "email"} == places
    assert len(found) == 2 + len(places)


@pytest.mark.parametrize("system", ["android", "ios"])
def test_identity_s2_devices_give_ids_under_their_systems_name(system):
    device = {"id": "d1", "advertisingId": "ad1", "token": "t1", "adTrackingEnabled": True}
    all_three = [(f"{system}.id", "d1"), (f"{system}.idfa", "ad1"), (f"{system}.push_token", "t1")]
    assert ids(context(device={**device, "type": system.upper()})) == all_three
    for off in (False, None, "true", 1):
        found = ids(context(device={**device, "type": system, "adTrackingEnabled": off}))
        assert found == [all_three[0], all_three[2]]
    assert ids(context(device={**device, "type": "windows"})) == []
    assert ids(context(device=device)) == []


def test_identity_s2_the_client_id_is_read_where_the_sender_put_it():
    integrations = {"Google Analytics": {"clientId": "ga1"}}
    assert ids(context(integrations=integrations)) == [("ga_client_id", "ga1")]
    assert ids({"integrations": integrations}) == []


def test_identity_s2_emails_of_properties_can_be_switched_off():
    data = {"properties": {"email": "e@x.test"}}
    assert ids(data) == [("email", "e@x.test")]
    assert ids(data, email_from_properties=False) == []


def test_identity_s2_legacy_types_count_only_when_named():
    data = {
        "cross_domain_id": "c1",
        "context": {"traits": {"crossDomainId": "c2"}, "Braze": {"braze_id": "b1"}},
    }
    assert ids(data) == []
    assert ids(data, types={"cross_domain_id": {}, "braze_id": {}}) == [
        ("braze_id", "b1"), ("cross_domain_id", "c1"), ("cross_domain_id", "c2"),
    ]  # fmt: skip


# ---- 2.3: X1 to X7
@pytest.mark.parametrize("match", [None, ["appId"], ["app_id"]])
@pytest.mark.parametrize("key", ["appId", "app_id"])
def test_identity_X1_a_custom_types_key_in_both_spellings(match, key):
    types = {"app_id": {"match": match} if match else {}}
    for data, type in (
        ({"traits": {key: "7"}}, "identify"),
        ({"properties": {key: "7"}}, "page"),
        (context(traits={key: "7"}), "group"),
    ):
        assert ids(data, type, types=types) == [("app_id", "7")]
    assert ids({"traits": {key: "7"}}, "group", types=types) == []


def test_identity_X1_many_custom_types():
    types = {f"kind_{n}": {} for n in range(20)}
    found = ids({"properties": {"kind_17": "x", "kind3": "y", "other": "z"}}, types=types)
    assert found == [("kind_17", "x"), ("kind_3", "y")]


def test_identity_X1_what_a_definition_may_not_say():
    wrong = settings(
        order=["email", "email"],
        types={"group_id": {}, "email": {"match": ["mail"]}, "all": {}},
        blocked={"user_id": [{"regex": "("}, {}, {"exact": "a", "regex": "b"}, ""]},
    )
    assert {path for path, _, _ in faults(wrong)} == {
        ("order", 1), ("types", "group_id"), ("types", "email", "match"), ("types", "all"),
        ("blocked", "user_id", 0, "regex"), ("blocked", "user_id", 1), ("blocked", "user_id", 2),
        ("blocked", "user_id", 3),
    }  # fmt: skip
    assert faults(settings(types={"loyalty_id": {"limit": 1, "match": ["loyaltyId"]}})) == []
    assert unsupported(settings(alias_merges=True)) == [
        (("alias_merges",), "true is not supported yet")
    ]
    assert unsupported(settings()) == []


@pytest.mark.parametrize("missing", ["id", "type", "collection", "encoding"])
def test_identity_X2_an_incomplete_entry_is_ignored_and_told(missing):
    whole = entry("+15550001122")
    broken = {key: value for key, value in whole.items() if key != missing}
    for bad in (broken, {**whole, missing: None}):
        data = context(externalIds=[bad, whole])
        assert ids(data) == [("phone", "+15550001122")]
        assert [reason for reason, _, _ in trace(data, "track", DEFAULTS).dropped] == [
            "external_id_incomplete"
        ]


def test_identity_X2_other_collections_and_encodings_are_no_ids_of_a_person():
    assert ids(context(externalIds=[
        entry("1", collection="accounts"), entry("2", collection="things"),
        entry("3", encoding="base64"), entry("4", type="group_id"), "5", None, 6, [],
    ])) == []  # fmt: skip
    assert ids(context(externalIds={"id": "1"})) == []


@pytest.mark.parametrize("type", ["Phone", "PHONE", "", 7, ["phone"], "a:b", "a\0b"])
def test_identity_X3_entries_of_other_casings_are_ignored(type):
    assert ids(context(externalIds=[entry("1", type=type)])) == []


def test_identity_X4_new_types_count_unless_switched_off():
    data = context(externalIds=[entry("L1", type="loyalty_id"), entry("e@x", type="email")])
    assert ids(data) == [("email", "e@x"), ("loyalty_id", "L1")]
    assert ids(data, auto_add_types=False) == [("email", "e@x")]
    named = ids(data, auto_add_types=False, types={"loyalty_id": {}})
    assert named == [("email", "e@x"), ("loyalty_id", "L1")]


def test_identity_X5_a_value_counts_once_and_places_have_an_order():
    data = {
        "traits": {"email": "1@x"},
        "context": {
            "traits": {"email": "2@x"},
            "externalIds": [entry("4@x", "email"), entry("1@x", "email"), entry("3@x", "email")],
        },
    }
    assert [value for _, value in ids(data, "identify")] == ["1@x", "2@x", "4@x", "3@x"]
    data["properties"] = {"email": "5@x"}
    assert [value for _, value in ids(data, "track")] == ["2@x", "5@x", "4@x", "1@x", "3@x"]


@pytest.mark.parametrize(
    ("type", "sent", "value"),
    [
        ("email", " Ann@X.Test\t", "ann@x.test"),
        ("phone", " +1 (555) 000-1122 ", "+15550001122"),
        ("phone", "00 no number", "00 no number"),
        ("phone", "5550001122", "5550001122"),
        ("loyalty_id", " AbC ", "AbC"),
    ],
)
def test_identity_X6_values_are_normalised_before_they_are_compared(type, sent, value):
    data = context(externalIds=[entry(sent, type)])
    assert ids(data) == [(type, value)]
    assert DEFAULTS.normalised(type, sent) == value
    assert trace(data, "track", DEFAULTS).raw == ({(type, value): sent} if sent != value else {})


@pytest.mark.parametrize(
    ("normalize", "value"), [("none", "Ab@C"), ("lower", "ab@c"), ("email", "ab@c")]
)
def test_identity_X6_normalisation_is_an_option_of_the_type(normalize, value):
    found = ids({"userId": " Ab@C"}, types={"user_id": {"normalize": normalize}})
    assert found == [("user_id", value)]
    kept = ids({"userId": "+1 555 000 1122"}, types={"user_id": {"normalize": "phone"}})
    assert kept == [("user_id", "+15550001122")]


@pytest.mark.parametrize("value", [None, "", "  ", [], ["x"], {}, {"id": "x"}, True, False])
def test_identity_X7_what_is_no_identifier(value):
    data = {
        "userId": value, "anonymousId": value, "traits": {"email": value},
        "context": {
            "traits": {"email": value}, "device": {"type": "ios", "id": value},
            "externalIds": [entry(value)],
            "integrations": {"Google Analytics": {"clientId": value}},
        },
    }  # fmt: skip
    assert ids(data, "identify") == []
    assert ids({"traits": value, "context": value}, "identify") == []
    shapes = ("traits", "device", "externalIds", "integrations", "Braze")
    assert ids(context(**dict.fromkeys(shapes, value)), types={"braze_id": {}}) == []


@pytest.mark.parametrize(
    ("sent", "value"),
    [(7, "7"), (7.0, "7"), (7.5, "7.5"), (10**20, "1" + "0" * 20), (1e21, "1e+21")],
)
def test_identity_X7_numbers_are_identifiers(sent, value):
    assert ids({"userId": sent}) == [("user_id", value)]


# ---- 4.1: blocked values
@pytest.mark.parametrize(
    "value", ["-1", "null", "NULL", "anonymous", " Anonymous ", "0", "000-0", "-", "---"]
)
def test_identity_s4_suggested_values_are_blocked_for_every_type(value):
    data = {"userId": value, "context": {"externalIds": [entry(value, "loyalty_id")]}}
    assert ids(data) == []
    assert ids(data, suggested=False) != []
    reasons = {reason for reason, _, _ in trace(data, "track", DEFAULTS).dropped}
    assert reasons == {"value_blocked"}


def test_identity_s4_further_suggested_values_are_an_option():
    for value in ("undefined", "None", "NaN", "[object Object]"):
        assert ids({"userId": value}) == [("user_id", value)]
        assert ids({"userId": value}, suggested_more=True) == []


def test_identity_s4_own_values_exact_in_any_case_and_regexes_as_written():
    blocked = {
        "all": [{"regex": "^[0-]*$"}, {"regex": "(?i)^test-"}],
        "user_id": [{"exact": "Guest"}, "nobody", {"regex": "bot$"}],
    }
    for value in ("GUEST", "Nobody", "robot", "Test-1", "00"):
        assert ids({"userId": value}, blocked=blocked) == []
    for value in ("guests", "bots", "Bot", "my test-1"):
        assert ids({"userId": value}, blocked=blocked) == [("user_id", value)]
    assert ids({"anonymousId": "guest"}, blocked=blocked) == [("anonymous_id", "guest")]
    assert ids({"anonymousId": "TEST-2"}, blocked=blocked) == []
    # Matched after normalisation, so an email is compared in lower case.
    assert ids({"traits": {"email": " A@TEST.x"}}, "identify",
               blocked={"email": [{"regex": "^a@test"}]}) == []  # fmt: skip


# ---- routing ids
def test_identity_G9_a_blocked_anonymous_id_routes_nothing():
    for data, expected in (
        ({"userId": "u1", "anonymousId": "a1"}, ("anonymous_id", "a1")),
        ({"userId": "u1", "anonymousId": "null"}, ("user_id", "u1")),
        ({"userId": "0", "anonymousId": "0", "traits": {"email": "e@x"}}, ("email", "e@x")),
        ({"userId": "0", "anonymousId": "null"}, None),
        ({}, None),
    ):
        assert routing_id(data, candidates(data, "identify", DEFAULTS)) == expected
    many = context(externalIds=[entry("z", "zeta"), entry("b", "beta")])
    assert routing_id(many, candidates(many, "track", DEFAULTS)) == ("beta", "b")


# ---- accounts and gates
def test_identity_B2_the_account_is_the_group_calls_or_the_contexts():
    assert account_of({"groupId": " g1 ", "context": {"groupId": "g2"}}, "group") == "g1"
    assert account_of({"groupId": "g1", "context": {"groupId": "g2"}}, "track") == "g2"
    assert account_of({"groupId": 7}, "group") == "7"
    for data in ({}, {"context": None}, context(groupId=None), context(groupId="")):
        assert account_of(data, "track") == ""


def test_identity_G1_personas_false_keeps_a_call_out():
    assert gate({"integrations": {"Personas": False}}, "track", DEFAULTS)
    for integrations in ({"Personas": True}, {"Personas": 0}, {"All": False}, {}, None):
        assert gate({"integrations": integrations}, "track", DEFAULTS) is None


def test_identity_G3_group_ids_that_are_empty_or_too_long():
    for value, reason in (("", "group_id_empty"), (" ", "group_id_empty"),
                          (None, "group_id_empty"), ({}, "group_id_empty"),
                          ("g" * 501, "group_id_too_long"), ("g" * 500, None), (7, None)):
        assert gate({"groupId": value}, "group", DEFAULTS) == reason
    for value, reason in (("", "group_id_empty"), (None, None), ("g" * 501, "group_id_too_long"),
                          ("g" * 500, None)):
        assert gate(context(groupId=value), "track", DEFAULTS) == reason
    assert gate(context(groupId=""), "page", DEFAULTS) is None


def test_identity_G5_more_than_300_properties_or_traits_and_identify_from_300_on():
    def of(count):
        return {f"k{n}": n for n in range(count)}

    for data, type, reason in (
        ({"properties": of(300)}, "track", None),
        ({"properties": of(301)}, "track", "too_many_properties"),
        ({"properties": of(301)}, "page", "too_many_properties"),
        ({"traits": of(299)}, "identify", None),
        ({"traits": of(300)}, "identify", "too_many_traits"),
        ({"groupId": "g", "traits": of(300)}, "group", None),
        ({"groupId": "g", "traits": of(301)}, "group", "too_many_traits"),
    ):
        assert gate(data, type, DEFAULTS) == reason


def test_identity_G6_before_1970():
    for timestamp, reason in (("1969-12-31T23:59:59.999Z", "timestamp_before_1970"),
                              ("1970-01-01T00:00:00.000Z", None),
                              ("0001-01-01T00:00:00.000Z", "timestamp_before_1970")):
        assert gate({"timestamp": timestamp}, "track", DEFAULTS) == reason
