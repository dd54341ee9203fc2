"""The Profile API, called over HTTP."""

import base64
import logging
import time

import pytest

from app.web import profile_api
from profiles.profile import Computed, ExternalId
from tests.web.reading import DAY_MS, NOW_MS, TOKEN, membership, trait

USERS = "/v1/spaces/default/collections/users/profiles"
ACCOUNTS = "/v1/spaces/default/collections/accounts/profiles"
PAGE_MS = 60_000


def basic(text):
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


async def every(call, path, what="data"):
    """Follow the cursor to its end and return the pages."""
    pages, following = [], ""
    while True:
        joint = "&" if "?" in path else "?"
        status, _, told = await call(f"{path}{joint}next={following}" if following else path)
        assert status == 200, told
        pages.append(told[what])
        following = told["cursor"]["next"]
        assert bool(following) == told["cursor"]["has_more"]
        if not following:
            return pages


# ---- access --------------------------------------------------------------------------------------
async def test_profile_api_C1_C2_both_path_forms_answer(platform, call):
    platform.profile(ids=[("user_id", "u1")], traits={"a": trait(1)})
    for root in ("spaces", "namespaces"):
        status, _, told = await call(
            f"/v1/{root}/default/collections/users/profiles/user_id:u1/traits")
        assert status == 200
        assert told["cursor"]["url"] == f"{USERS}/use_1/traits"


@pytest.mark.parametrize("headers", [
    basic(f"{TOKEN}:"), basic(TOKEN), {"Authorization": f"Bearer {TOKEN}"},
    {"Authorization": f"bearer  {TOKEN}"},
])
async def test_profile_api_C3_the_token_is_the_user_name_or_a_bearer(platform, call, headers):
    platform.profile(ids=[("user_id", "u1")])
    assert (await call(f"{USERS}/user_id:u1/traits", headers=headers))[0] == 200


@pytest.mark.parametrize("headers", [
    {}, basic("wrong:"), {"Authorization": "Basic %%%"}, {"Authorization": "Bearer wrong"},
    {"Authorization": "Bearer"}, {"Authorization": "Digest x"}, basic(""),
])
async def test_profile_api_C3_anything_else_is_refused(platform, call, headers):
    platform.profile(ids=[("user_id", "u1")])
    status, sent, told = await call(f"{USERS}/user_id:u1/traits", headers=headers)
    assert status == 401
    assert told["error"]["code"] == "authentication_error"
    assert told["error"]["message"]
    assert sent["Request-Id"]
    assert platform.lookups == 0


async def test_profile_api_C4_the_token_opens_its_own_space_only(platform, call):
    platform.profile(ids=[("user_id", "u1")])
    status, _, told = await call("/v1/spaces/other/collections/users/profiles/user_id:u1/traits")
    assert (status, told["error"]["code"]) == (403, "forbidden")


async def test_profile_api_C5_no_CORS_header_is_ever_sent(platform, call):
    platform.profile(ids=[("user_id", "u1")])
    path = f"{USERS}/user_id:u1/traits"
    origin = {"Origin": "https://evil.test", "Access-Control-Request-Method": "GET"}
    preflight = await call(path, method="OPTIONS", headers=origin)
    read = await call(path, headers={**call.headers, **origin})
    for _, headers, _ in (preflight, read):
        assert not [name for name in headers if name.lower().startswith("access-control")]
    assert preflight[0] >= 400


async def test_profile_api_C6_more_than_100_in_a_second_are_refused(platform, call):
    platform.profile(ids=[("user_id", "u1")])
    path = f"{USERS}/user_id:u1/metadata"
    for at in range(100):
        platform.seconds = at / 101
        assert (await call(path))[0] == 200
    platform.seconds = 0.999
    status, headers, told = await call(path)
    assert (status, told["error"]["code"]) == (429, "rate_limit_error")
    assert headers["Retry-After"] == "1"
    platform.seconds = 1.0
    assert (await call(path))[0] == 200


async def test_profile_api_C7_C8_every_answer_has_an_id_and_is_JSON(platform, call):
    ids = set()
    for path in (f"{USERS}/user_id:nobody/traits", f"{USERS}/user_id:u1/nothing", "/v1/nothing",
                 "/health", "/v1/spaces/default/nothing", f"{USERS}/user_id:u1/traits?limit=x"):
        _, headers, told = await call(path)
        ids.add(headers["Request-Id"])
        assert headers["Content-Type"].startswith("application/json")
        assert isinstance(told, dict)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "aiohttp" not in headers["Server"]
    assert len(ids) == 6


async def test_profile_api_C8_what_breaks_is_answered_without_its_insides(platform, call, caplog):
    platform.profile(ids=[("user_id", "u1")])
    platform.profile(ids=[("user_id", "u1")], computed={"x": Computed(1, NOW_MS)})
    platform.kinds = None  # breaks the handler
    status, headers, told = await call(f"{USERS}/user_id:u1/traits")
    assert status == 500
    assert told == {"error": {"code": "server_error",
                              "message": "something broke here; it was logged"}}
    assert headers["Request-Id"] in caplog.text


async def test_profile_api_C9_a_read_of_50_traits_or_10_events_takes_a_few_ms(platform, call):
    platform.profile(ids=[("user_id", "u1")],
                     traits={f"trait_{at}": trait("x" * 50) for at in range(300)})
    for at in range(200):
        platform.event(f"m{at:03}", NOW_MS - at * PAGE_MS, event="Seen",
                       properties={"a": "b" * 900})
    took = []
    for at in range(200):
        platform.seconds += 1
        path = "traits?limit=50" if at % 2 else "events?limit=10"
        started = time.process_time()
        await call.user(f"user_id:u1/{path}")
        took.append((time.process_time() - started) * 1000)
    took.sort()
    assert took[100] < 10, took[-5:]  # of CPU, the client's with it: the machine may be loaded


async def test_profile_api_C10_what_was_committed_is_read_at_once(platform, call):
    platform.profile(ids=[("user_id", "u1")], traits={"a": trait(1)})
    assert (await call.user("user_id:u1/traits"))["traits"] == {"a": 1}
    platform.profile(ids=[("user_id", "u1")], traits={"a": trait(2)})
    assert (await call.user("user_id:u1/traits"))["traits"] == {"a": 2}


async def test_profile_api_s6_authentication_comes_before_rate_before_validation(platform, call):
    path = f"{USERS}/user_id:nobody/traits?limit=0"
    for _ in range(120):
        assert (await call(path, headers={}))[0] == 401
    assert (await call(path))[0] in (400, 404)
    for _ in range(99):
        await call(path)
    assert (await call(path))[0] == 429
    assert (await call("/v1/spaces/default/nothing", headers={}))[0] == 401


# ---- the identifier ------------------------------------------------------------------------------
async def test_profile_api_I1_a_value_may_hold_colons(platform, call):
    platform.profile(ids=[("user_id", "a:b:c")])
    assert (await call(f"{USERS}/user_id:a:b:c/traits"))[0] == 200
    assert (await call(f"{USERS}/user_id:a%3Ab%3Ac/traits"))[0] == 200


async def test_profile_api_I1_a_value_may_hold_slashes_and_letters_of_any_script(platform, call):
    platform.profile(ids=[("user_id", "a/ü %25")])
    assert (await call(f"{USERS}/user_id:a%2F%C3%BC%20%2525/traits"))[0] == 200


async def test_profile_api_I2_a_merged_id_answers_as_the_survivor(platform, call):
    platform.profile("use_1", ids=[("user_id", "u1")], absorbed=("use_2", "use_3"))
    platform.profile("use_2", survivor="use_1")
    platform.profile("use_3", survivor="use_2")
    for name in ("use_1", "use_2", "use_3"):
        assert (await call.user(f"{name}/traits"))["cursor"]["url"] == f"{USERS}/use_1/traits"


async def test_profile_api_I3_a_plus_is_a_plus_escaped_or_not(platform, call):
    platform.profile(ids=[("phone", "+15550001122")])
    assert (await call(f"{USERS}/phone:%2B15550001122/traits"))[0] == 200
    assert (await call(f"{USERS}/phone:+15550001122/traits"))[0] == 200


@pytest.mark.parametrize("value", ["%ff", "%zz", "%0a", "%00", "a|b", 'a"b', "a%7", "%C3%28"])
async def test_profile_api_I3_odd_characters_are_refused(platform, call, value):
    status, _, told = await call(f"{USERS}/user_id:{value}/traits")
    assert (status, told["error"]["code"]) == (400, "validation_error")


async def test_profile_api_I4_the_query_is_normalised_by_its_type(platform, call):
    platform.profile(ids=[("email", "ann@x.test"), ("user_id", "Ann")])
    assert (await call(f"{USERS}/email:Ann@X.test/traits"))[0] == 200
    assert (await call(f"{USERS}/user_id:Ann/traits"))[0] == 200
    assert (await call(f"{USERS}/user_id:ann/traits"))[0] == 404


async def test_profile_api_I5_log_lines_hold_a_hash_of_the_value(platform, call, caplog):
    platform.profile(ids=[("email", "ann@x.test")])
    with caplog.at_level(logging.INFO, "watersmeet.access"):
        await call(f"{USERS}/email:ann@x.test/traits?include=secret_trait")
        await call(f"{USERS}/email:bob@x.test/%0d%0aforged")
    lines = [line.getMessage() for line in caplog.records if line.name == "watersmeet.access"]
    assert len(lines) == 2
    assert lines[0].startswith("users #")
    assert " traits 200 " in lines[0]
    for word in ("ann", "bob", "x.test", "secret", "forged", "\n"):
        assert word not in "".join(lines)


@pytest.mark.parametrize("name", ["user_id:nobody", "shoe_size:44", "use_nobody", "nobody",
                                  "group_id:g1", "acc_1"])
async def test_profile_api_I6_an_unknown_type_or_value_is_not_found(platform, call, name):
    platform.profile("acc_1", "accounts", ids=[("group_id", "g1")])
    status, _, told = await call(f"{USERS}/{name}/traits")
    assert (status, told["error"]["code"]) == (404, "not_found")


async def test_profile_api_I6_an_unknown_collection_is_invalid(platform, call):
    status, _, told = await call("/v1/spaces/default/collections/shoes/profiles/user_id:u/traits")
    assert (status, told["error"]["code"]) == (400, "validation_error")
    for name in (":u1", "user_id:"):
        assert (await call(f"{USERS}/{name}/traits"))[0] == 400


# ---- pages ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(("resource", "most"), [
    ("traits", 200), ("external_ids", 100), ("events", 100), ("links", 20),
])
async def test_profile_api_P1_a_limit_out_of_range_is_refused(platform, call, resource, most):
    platform.profile(ids=[("user_id", "u1")])
    path = f"{USERS}/user_id:u1/{resource}"
    for good in (1, most):
        assert (await call(f"{path}?limit={good}"))[0] == 200
    for bad in ("0", most + 1, "-1", "x", "1.5", "", "%D9%A1", "9" * 30):
        status, _, told = await call(f"{path}?limit={bad}")
        assert (status, told["error"]["code"]) == (400, "validation_error")


async def test_profile_api_P2_P3_traits_come_by_key_in_pages_of_ten(platform, call):
    platform.profile(ids=[("user_id", "u1")],
                     traits={f"t{at:02}": trait(at) for at in reversed(range(25))})
    pages = await every(call, f"{USERS}/user_id:u1/traits", "traits")
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [key for page in pages for key in page] == [f"t{at:02}" for at in range(25)]


async def test_profile_api_P2_what_comes_in_before_the_cursor_shifts_nothing(platform, call):
    traits = {f"t{at:02}": trait(at) for at in range(15)}
    platform.profile(ids=[("user_id", "u1")], traits=traits)
    told = await call.user("user_id:u1/traits")
    platform.profile(ids=[("user_id", "u1")], traits={"a": trait(0), **traits})
    rest = await call.user(f"user_id:u1/traits?next={told['cursor']['next']}")
    assert list(rest["traits"]) == [f"t{at:02}" for at in range(10, 15)]


async def test_profile_api_P2_P3_external_ids_come_by_time_then_type_and_value(platform, call):
    same = [ExternalId(kind, value, NOW_MS, "web", "m") for kind, value in
            (("user_id", "u1"), ("email", "b@x"), ("email", "a@x"))]
    early = ExternalId("phone", "+1", NOW_MS - 1, "app", "m0")
    platform.profile(ids=[*same, early])
    pages = await every(call, f"{USERS}/user_id:u1/external_ids?limit=2")
    assert [(id["type"], id["id"]) for page in pages for id in page] == [
        ("phone", "+1"), ("email", "a@x"), ("email", "b@x"), ("user_id", "u1")]


async def test_profile_api_P2_P3_events_come_by_time_then_message_id(platform, call):
    platform.profile(ids=[("user_id", "u1")])
    for name in ("b", "a", "c"):
        platform.event(name, NOW_MS - 5, event="E")
    platform.event("z", NOW_MS - 9, event="E")
    platform.event("d", NOW_MS - 1, event="E")
    for sort, expected in (("desc", "dcbaz"), ("asc", "zabcd")):
        pages = await every(call, f"{USERS}/user_id:u1/events?limit=2&sort={sort}")
        assert "".join(event["message_id"] for page in pages for event in page) == expected
        assert [len(page) for page in pages] == [2, 2, 1]


async def test_profile_api_P4_a_cursor_of_something_else_is_refused(platform, call):
    platform.profile(ids=[("user_id", "u1")],
                     traits={f"t{at:02}": trait(at) for at in range(15)})
    for at in range(15):
        platform.event(f"m{at}", NOW_MS - at, event="E")
    good = (await call.user("user_id:u1/traits"))["cursor"]["next"]
    event = (await call.user("user_id:u1/events"))["cursor"]["next"]
    other = base64.urlsafe_b64encode(b'["users/traits","other","t01"]').decode()
    shape = base64.urlsafe_b64encode(b'["users/traits","default",[1,2]]').decode()
    for bad in (event, other, shape, "garbage", good[:-3], "%C3%BC", "!!"):
        status, _, told = await call(f"{USERS}/user_id:u1/traits?next={bad}")
        assert (status, told["error"]["code"]) == (400, "invalid_request_error"), bad


async def test_profile_api_P4_a_cursor_outlives_a_merge(platform, call):
    platform.profile("use_2", ids=[("user_id", "u1")])
    for at in range(12):
        platform.event(f"m{at:02}", NOW_MS - at, "use_2", event="E")
    told = await call.user("use_2/events")
    platform.profile("use_1", ids=[("user_id", "u1"), ("user_id", "u0")], absorbed=("use_2",))
    platform.profile("use_2", survivor="use_1")
    rest = await call.user(f"use_2/events?next={told['cursor']['next']}")
    assert [event["message_id"] for event in rest["data"]] == ["m10", "m11"]
    assert rest["data"][0]["related"] == {"users": "use_1"}


# ---- traits --------------------------------------------------------------------------------------
async def test_profile_api_S1_a_membership_is_true_then_false_and_absent_before(platform, call):
    platform.kinds = {"in": "audience", "out": "audience", "never": "audience"}
    platform.profile(ids=[("user_id", "u1")],
                     memberships={"in": membership(True), "out": membership(False, 1, 2)})
    assert (await call.user("user_id:u1/traits"))["traits"] == {"in": True, "out": False}


async def test_profile_api_S3_verbose_names_the_source_that_won(platform, call):
    platform.profile(ids=[("user_id", "u1")], traits={"a": trait(1, NOW_MS, "app")})
    told = await call.user("user_id:u1/traits?verbose=true")
    assert told["traits"] == {"a": {"value": 1, "source_id": "app",
                                    "updated_at": "2026-03-01T12:00:00.000Z"}}


async def test_profile_api_S4_null_is_absent_and_the_empty_string_is_not(platform, call):
    platform.profile(ids=[("user_id", "u1")], traits={"t": trait(None), "e": trait("")},
                     computed={"c": Computed(None, NOW_MS)})
    assert (await call.user("user_id:u1/traits"))["traits"] == {"e": ""}


async def test_profile_api_S5_an_account_answers_the_same_resources(platform, call):
    platform.profile("acc_1", "accounts", ids=[("group_id", "g1")], traits={"plan": trait("pro")},
                     links=("use_1",))
    platform.profile("use_1", ids=[("user_id", "u1")], links=("acc_1",))
    platform.event("m1", NOW_MS, "acc_1", "group", used=(("group_id", "g1"),), groupId="g1",
                   traits={"plan": "pro"})
    told = {}
    for resource in ("traits", "external_ids", "events", "metadata", "links"):
        status, _, told[resource] = await call(f"{ACCOUNTS}/group_id:g1/{resource}")
        assert status == 200, told
    assert told["traits"]["traits"] == {"plan": "pro"}
    assert told["external_ids"]["data"][0]["type"] == "group_id"
    assert told["events"]["data"][0]["related"] == {"accounts": "acc_1"}
    assert told["events"]["data"][0]["external_ids"][0]["collection"] == "accounts"
    assert told["metadata"]["metadata"]["first_message_id"] == "m-first"
    assert told["links"]["data"][0]["to_collection"] == "users"
    assert (await call(f"{ACCOUNTS}/user_id:u1/traits"))[0] == 404


async def test_profile_api_s4_include_and_class_narrow_the_traits(platform, call):
    platform.kinds = {"vip": "audience", "orders": "computed_trait"}
    platform.profile(
        ids=[("user_id", "u1")], traits={"a": trait(1), "b": trait(2), "x,y": trait(3)},
        computed={"orders": Computed(4, NOW_MS)},
        memberships={"vip": membership(True), "deleted": membership(True)},
    )
    for query, expected in (
        ("include=a,zzz", {"a": 1}),
        ("class=audience", {"vip": True}),
        ("class=computed_trait", {"orders": 4}),
        ("class=audience&include=vip,a", {"vip": True}),
        ("class=computed_trait&include=a", {}),
        ("include=x%2Cy", {"x,y": 3}),
        ("include=x%2Cy,a", {"a": 1, "x,y": 3}),
        ("include=a%2Cb", {"a": 1, "b": 2}),
        ("include=", {}),
    ):
        assert (await call.user(f"user_id:u1/traits?{query}"))["traits"] == expected, query
    for query in ("class=shoes", "verbose=maybe"):
        status, _, told = await call(f"{USERS}/user_id:u1/traits?{query}")
        assert (status, told["error"]["code"]) == (400, "invalid_request_error")


async def test_profile_api_s4_external_ids_can_be_asked_by_type(platform, call):
    platform.profile(ids=[("user_id", "u1"), ("email", "a@x"), ("phone", "+1")])
    told = await call.user("user_id:u1/external_ids?include=user_id,email")
    assert told["data"][0] == {
        "collection": "users", "type": "user_id", "id": "u1", "encoding": "none",
        "source_id": "web", "created_at": "2026-02-28T12:00:00.000Z", "first_message_id": "m0"}
    assert [id["type"] for id in told["data"]] == ["user_id", "email"]


# ---- events --------------------------------------------------------------------------------------
async def test_profile_api_s5_pages_and_screens_come_out_as_track_calls(platform, call):
    platform.profile(ids=[("user_id", "u1"), ("anonymous_id", "an-5")])
    platform.event("m1", NOW_MS - 1, type="page", name="Pricing", properties={"path": "/pricing"},
                   context={"library": {"name": "analytics.js"}}, used=(("anonymous_id", "an-5"),),
                   demoted=(("email", "e@x"),))
    platform.event("m2", NOW_MS - 2, type="screen", name="Home", properties=None)
    platform.event("m3", NOW_MS - 3, type="page")
    platform.event("m4", NOW_MS - 4, type="identify", traits={"a": 1})
    data = (await call.user("user_id:u1/events"))["data"]
    assert data[0] == {
        "type": "track", "event": "Page Viewed", "message_id": "m1", "source_id": "web",
        "timestamp": "2026-03-01T11:59:59.999Z",
        "external_ids": [{"collection": "users", "type": "anonymous_id", "id": "an-5",
                          "encoding": "none"}],
        "properties": {"path": "/pricing", "page_name": "Pricing"},
        "context": {"library": {"name": "analytics.js"}}, "related": {"users": "use_1"},
    }
    assert (data[1]["event"], data[1]["properties"]) == ("Screen Viewed", {"screen_name": "Home"})
    assert (data[2]["event"], data[2]["properties"]) == ("Page Viewed", {})
    assert (data[3]["type"], data[3]["traits"]) == ("identify", {"a": 1})
    assert "event" not in data[3]
    told = await call.user("user_id:u1/events?verbose=true&limit=1")
    assert told["data"][0]["external_ids_demoted"][0]["id"] == "e@x"


async def test_profile_api_s4_start_and_end_are_both_exclusive(platform, call):
    platform.profile(ids=[("user_id", "u1")])
    for at in range(5):
        platform.event(f"m{at}", NOW_MS - at * 1000, event="E")
    told = await call.user("user_id:u1/events?sort=asc"
                           "&start=2026-03-01T11:59:56.000Z&end=2026-03-01T12:00:00.000Z")
    assert [event["message_id"] for event in told["data"]] == ["m3", "m2", "m1"]
    told = await call.user("user_id:u1/events?start=2026-03-01T13:59:58%2B02:00")
    assert [event["message_id"] for event in told["data"]] == ["m0", "m1"]
    told = await call.user("user_id:u1/events?start=2026-03-01T13:59:58+02:00")
    assert [event["message_id"] for event in told["data"]] == ["m0", "m1"]
    assert (await call.user("user_id:u1/events?start=2026-03-02"))["data"] == []
    for bad in ("yesterday", "2026-13-01", "", "9" * 40):
        status, _, told = await call(f"{USERS}/user_id:u1/events?start={bad}")
        assert (status, told["error"]["code"]) == (400, "invalid_request_error")


async def test_profile_api_S7_events_go_back_14_days_and_traits_have_no_age(platform, call):
    platform.profile(ids=[("user_id", "u1")], traits={"old": trait(1, NOW_MS - 900 * DAY_MS)})
    platform.event("old", NOW_MS - 15 * DAY_MS, event="E")
    platform.event("young", NOW_MS - 13 * DAY_MS, event="E")
    for query in ("", "?start=2020-01-01", "?sort=asc"):
        told = await call.user(f"user_id:u1/events{query}")
        assert [event["message_id"] for event in told["data"]] == ["young"]
    assert (await call.user("user_id:u1/traits"))["traits"] == {"old": 1}


async def test_profile_api_s4_events_are_chosen_by_name(platform, call):
    platform.profile(ids=[("user_id", "u1")])
    platform.event("m1", NOW_MS - 1, type="page", name="Pricing")
    platform.event("m2", NOW_MS - 2, event="Order Completed")
    platform.event("m3", NOW_MS - 3, event="Cart, Emptied")
    platform.event("m4", NOW_MS - 4, type="identify")
    for query, expected in (
        ("exclude=Page+Viewed", "234"), ("exclude=Page%20Viewed", "234"),
        ("include=Page%20Viewed,Order+Completed", "12"), ("include=Cart%2C%20Emptied", "3"),
        ("include=Page%20Viewed&exclude=Page%20Viewed", ""),
        ("include=Order%20Completed%2CPage%20Viewed", "12"),
    ):
        told = await call.user(f"user_id:u1/events?{query}")
        assert "".join(event["message_id"][1:] for event in told["data"]) == expected, query


async def test_profile_api_s4_a_rare_name_is_found_page_after_page(platform, call, monkeypatch):
    monkeypatch.setattr(profile_api, "ROWS_A_REQUEST", 10)
    platform.profile(ids=[("user_id", "u1")])
    for at in range(35):
        platform.event(f"m{at:02}", NOW_MS - at, event="Rare" if at in (3, 33) else "E")
    pages = await every(call, f"{USERS}/user_id:u1/events?include=Rare")
    assert [event["message_id"] for page in pages for event in page] == ["m03", "m33"]


async def test_profile_api_I2_the_history_of_a_survivor_holds_what_the_merged_did(platform, call):
    platform.profile("use_1", ids=[("user_id", "u1")], absorbed=("use_2", "use_3"))
    for name, owner, back in (("a", "use_2", 5), ("b", "use_1", 4), ("c", "use_3", 3),
                              ("d", "use_2", 2), ("e", "use_1", 1), ("b", "use_3", 4)):
        platform.event(name, NOW_MS - back, owner, event="E")
    for sort, expected in (("asc", "abcde"), ("desc", "edcba")):
        pages = await every(call, f"{USERS}/user_id:u1/events?limit=2&sort={sort}")
        assert "".join(event["message_id"] for page in pages for event in page) == expected


# ---- metadata, links -----------------------------------------------------------------------------
async def test_profile_api_S8_metadata_tells_the_first_and_the_last(platform, call):
    platform.profile(ids=[("user_id", "u1")], absorbed=("use_0",))
    told = await call.user("user_id:u1/metadata")
    assert told == {"metadata": {
        "created_at": "2026-02-28T12:00:00.000Z", "updated_at": "2026-03-01T12:00:00.000Z",
        "expires_at": None, "first_message_id": "m-first", "first_source_id": "web",
        "last_message_id": "m-last", "last_source_id": "app"}}
    told = await call.user("user_id:u1/metadata?verbose=true")
    assert told["metadata"]["merged_segment_ids"] == ["use_0"]


async def test_profile_api_s5_links_tell_the_accounts_of_a_person(platform, call):
    platform.profile("acc_1", "accounts", ids=[("group_id", "acme-1")])
    platform.profile(ids=[("user_id", "u1")], links=("acc_1",))
    told = await call.user("user_id:u1/links")
    assert told["data"] == [{"to_collection": "accounts", "external_ids": [
        {"collection": "accounts", "type": "group_id", "id": "acme-1", "encoding": "none",
         "source_id": "web", "created_at": "2026-02-28T12:00:00.000Z"}]}]
    assert told["cursor"] == {"url": f"{USERS}/use_1/links", "has_more": False, "next": "",
                              "limit": 20}


async def test_profile_api_P3_an_account_of_30_persons_comes_in_two_pages(platform, call):
    names = tuple(f"use_{at:02}" for at in range(31))
    platform.profile("acc_1", "accounts", ids=[("group_id", "x")], links=names)
    for at, name in enumerate(names):
        platform.profile(name, ids=[("user_id", f"u{at}")])
    platform.profile("use_30", survivor="use_04")
    pages = await every(call, f"{ACCOUNTS}/group_id:x/links")
    assert [len(page) for page in pages] == [20, 10]
    assert [link["external_ids"][0]["id"] for page in pages for link in page] == [
        f"u{at}" for at in range(30)]
