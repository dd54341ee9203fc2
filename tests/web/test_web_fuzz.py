"""Whatever is asked, the read side answers, and never with a fault of its own."""

import asyncio
import base64

import pytest
from aiohttp import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from tests.web.reading import NOW_MS, TOKEN, membership, trait

RESOURCES = ["traits", "external_ids", "events", "metadata", "links", "x", "%ff", "", "a/b"]
NAMES = ["user_id:u1", "use_1", "email:a@x", "user_id:%00", ":", "%F0%9F%98%80:1", "use_",
         "a" * 500, "user_id:u1%2Ftraits", "..", "%2e%2e", "user_id:\u00fc", "group_id:g1",
         "user_id:{}"]
VALUES = st.one_of(
    st.sampled_from(["", "0", "1", "10", "-1", "1e3", "true", "desc", "asc", "audience", "%00",
                     "%ff", "2026-03-01", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
                     "2026-03-01T00:00:00.5%2B02:00", "a,b,%2C,,", ",", "E"]),
    st.text(max_size=20),
    st.sampled_from([
        '["users/events","default",[100000000000000000000000000,"m"]]',
        '["users/events","default",[-5,"\\u0000"]]', '["users/events","default",[1,"\\ud800"]]',
        '["users/traits","default","t05"]', '["users/traits","default",null]', "[[[[[[", "[]",
        '["users/links","default","zzz"]', '["users/external_ids","default",[1,"a","b"]]',
        '["audiences/vip/members","default","use_"]',
    ]).map(lambda text: base64.urlsafe_b64encode(text.encode()).decode()),
)
QUERY = st.lists(st.tuples(
    st.sampled_from(["limit", "next", "include", "exclude", "class", "verbose", "sort", "start",
                     "end", "month", "x", "%ff"]), VALUES), max_size=4)
PATHS = st.one_of(
    st.tuples(st.sampled_from(["spaces", "namespaces"]), st.sampled_from(["default", "o", "%ff"]),
              st.sampled_from(["users", "accounts", "shoes", "%00"]), st.sampled_from(NAMES),
              st.sampled_from(RESOURCES),
              ).map(lambda p: f"/v1/{p[0]}/{p[1]}/collections/{p[2]}/profiles/{p[3]}/{p[4]}"),
    st.sampled_from(["/v1/usage", "/metrics", "/health", "/v1/spaces/default/audiences",
                     "/v1/spaces/default/audiences/vip/members", "/v1/spaces/default/journeys/cart",
                     "/v1/spaces/default/journeys/%ff", "/v1/spaces//", "/v1/spaces", "//", "/%"]),
)


@pytest.fixture
def filled(platform):
    platform.audiences = {"vip": "VIP"}
    platform.journeys = {"cart": "Cart"}
    platform.kinds = {"vip": "audience"}
    platform.profile(ids=[("user_id", "u1"), ("email", "a@x")], links=("acc_1",),
                     traits={f"t{at:02}": trait(at) for at in range(30)},
                     memberships={"vip": membership(True)}, absorbed=("use_0",))
    platform.profile("acc_1", "accounts", ids=[("group_id", "g1")], links=("use_1",))
    platform.profile("use_0", survivor="use_1")
    for at in range(20):
        platform.event(f"m{at}", NOW_MS - at, ("use_1", "use_0")[at % 2], event="E")
    platform.member("vip", "use_1")
    return platform


async def test_web_no_request_is_answered_with_a_fault_of_ours(filled, call):
    loop = asyncio.get_running_loop()
    answered = []

    @settings(max_examples=400, deadline=None,
              suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(path=PATHS, query=QUERY, method=st.sampled_from(["GET", "GET", "GET", "POST", "HEAD",
                                                            "OPTIONS", "DELETE"]),
           token=st.sampled_from([TOKEN, TOKEN, TOKEN, "wrong", ""]))
    def ask(path, query, method, token):
        filled.seconds += 61
        asked = "&".join(f"{name}={URL.build(query={'v': value}).raw_query_string[2:]}"
                         if "%" not in value else f"{name}={value}" for name, value in query)
        future = asyncio.run_coroutine_threadsafe(
            call(f"{path}?{asked}", method, {"Authorization": f"Bearer {token}"}), loop)
        try:
            status, headers, told = future.result(10)
        except (ClientError, ValueError):  # what the client itself does not send
            return
        answered.append(status)
        assert status < 500 or path == "/health"
        if "Request-Id" not in headers:
            assert status == 400  # refused by the HTTP parser, before there is a request
        elif status >= 400 and method != "HEAD":
            assert told["error"]["code"]

    await asyncio.to_thread(ask)
    assert answered.count(200) > 20
    assert (await call("/v1/spaces/default/collections/users/profiles/use_1/traits"))[0] == 200
