"""Authentication, decoding, CORS, limits and answers, over HTTP."""

import asyncio
import gzip
import ipaddress
import json

import pytest

from app.web import ingest
from tests.collect.standin import (
    MOBILE,
    NOON_MS,
    OFF,
    SERVER,
    TRACK,
    WEBSITE,
    Api,
    basic,
)

ITEM = {"type": "track", **TRACK}


def sized(size: int, **fields) -> bytes:
    """Return a call of exactly ``size`` bytes."""
    call = {**ITEM, **fields, "properties": {"pad": ""}}
    missing = size - len(json.dumps(call))
    call["properties"]["pad"] = "x" * missing
    data = json.dumps(call).encode()
    assert len(data) == size
    return data


# ---- 1 --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        *((f"/v1/{kind}", kind) for kind in ("identify", "track", "page", "screen")),
        *((f"/v1/{kind[0]}", kind) for kind in ("identify", "track", "page", "screen")),
        ("/v1/group", "group"), ("/v1/g", "group"), ("/v1/alias", "alias"), ("/v1/a/", "alias"),
        ("/v1/track/", "track"),
    ],
)
async def test_collect_s1_each_path_fixes_the_type(api, path, kind):
    body = {**TRACK, "groupId": "g", "previousId": "p", "type": "somethingelse"}
    event = await api.accepted(path, body)
    assert event["type"] == kind


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/b", "/v1/import", "/v1/batch/"])
async def test_collect_s1_each_batch_path_takes_a_batch(api, path):
    assert (await api.accepted(path, {"batch": [ITEM]}))["type"] == "track"


async def test_collect_C01_short_routes_and_client_sources_and_direct_are_client_side(api):
    async def has_ip(path, body, key):
        return "ip" in (await api.accepted(path, body, key))["context"]

    assert not await has_ip("/v1/track", TRACK, SERVER)
    assert await has_ip("/v1/t", TRACK, SERVER)
    assert await has_ip("/v1/b", {"batch": [ITEM]}, SERVER)
    assert await has_ip("/v1/track", TRACK, WEBSITE)
    assert await has_ip("/v1/import", {"batch": [ITEM]}, MOBILE)
    assert not await has_ip("/v1/import", {"batch": [ITEM]}, SERVER)
    assert await has_ip("/v1/track", {**TRACK, "context": {"direct": True}}, SERVER)
    assert not await has_ip("/v1/track", {**TRACK, "context": {"direct": "yes"}}, SERVER)


# ---- 2 --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "form", [SERVER + ":", SERVER, SERVER + "\n", SERVER + " :", "wk_server_2:"]
)
async def test_collect_C02_basic_with_or_without_colon_and_newline(api, form):
    event = await api.accepted("/v1/track", TRACK, None, Authorization=basic(form))
    assert event["projectId"] == "backend"


async def test_collect_C02_the_scheme_may_have_any_case_and_padding_may_be_missing(api):
    header = basic(SERVER).replace("Basic", "bAsIc").rstrip("=")
    await api.accepted("/v1/track", TRACK, None, Authorization=header)


async def test_collect_C03_write_key_in_the_body_alone(api):
    event = await api.accepted("/v1/t", {**TRACK, "writeKey": WEBSITE}, None)
    assert event["projectId"] == "shop"
    event = await api.accepted("/v1/b", {"batch": [ITEM], "writeKey": MOBILE}, None)
    assert event["projectId"] == "phone"


async def test_collect_C04_bearer_and_body_key(api):
    body = {"batch": [ITEM], "writeKey": SERVER}
    event = await api.accepted("/v1/batch", body, None, Authorization="Bearer abc.def.ghi")
    assert event["projectId"] == "backend"


async def test_collect_C05_header_before_batch_before_first_item(api):
    item = {**ITEM, "writeKey": MOBILE}
    event = await api.accepted("/v1/b", {"batch": [item], "writeKey": WEBSITE}, SERVER)
    assert event["projectId"] == "backend"
    event = await api.accepted("/v1/b", {"batch": [item], "writeKey": WEBSITE}, None)
    assert event["projectId"] == "shop"
    other = {**ITEM, "writeKey": OFF, "userId": 1}
    event = await api.accepted("/v1/b", {"batch": [item, other]}, None)
    assert event["projectId"] == "phone"
    assert "writeKey" not in event


async def test_collect_C05_a_header_that_holds_no_key_does_not_hide_the_body(api):
    body = {**TRACK, "writeKey": SERVER}
    for header in ("Basic %%%", "Basic", "Basic Og==", "Digest x", ""):
        await api.accepted("/v1/track", body, None, Authorization=header)


async def test_collect_C06_unknown_missing_and_disabled_keys_are_answered_200_and_counted(api):
    assert await api.refused("/v1/track", TRACK, "wk_nobody_1") == "unknown_source"
    assert await api.refused("/v1/track", TRACK, None) == "unknown_source"
    assert await api.refused("/v1/track", {**TRACK, "writeKey": 7}, None) == "unknown_source"
    assert await api.refused("/v1/track", TRACK, OFF) == "source_disabled"
    assert api.refusals.calls == {("", "unknown_source"): 3, ("old", "source_disabled"): 1}
    assert (await api.send("/v1/batch", {"batch": [ITEM, ITEM]}, None)).success
    assert api.refusals.by_reason()["unknown_source"] == 5


async def test_collect_C06_an_unknown_key_does_not_hide_malformed_json(api):
    assert (await api.send("/v1/track", b"{", "wk_nobody_1")).status == 400


# ---- 3 --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "kind",
    ["application/json", "text/plain", "text/plain;charset=UTF-8",
     "application/json; charset=utf-8", "APPLICATION/JSON", ""],
)
async def test_collect_C09_json_in_these_types(api, kind):
    await api.accepted("/v1/track", TRACK, Content_Type=kind)


async def test_collect_C09_no_content_type_at_all(api):
    body = json.dumps(TRACK).encode()
    head = f"POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: {basic(SERVER)}\r\n"
    back = await api.raw(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert back.startswith(b"HTTP/1.1 200 ")
    assert len(api.intake.events) == 1


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/html", "image/png"])
async def test_collect_C09_other_types_are_refused(api, kind):
    answer = await api.send("/v1/track", TRACK, Content_Type=kind)
    assert answer.status == 400
    assert answer.json["code"] == "unsupported_content_type"


async def test_collect_C10_gzip_is_inflated(api):
    body = gzip.compress(json.dumps(TRACK).encode())
    await api.accepted("/v1/track", body, Content_Encoding="gzip")
    await api.accepted("/v1/track", body, Content_Encoding="GZIP")


async def test_collect_C10_several_gzip_members(api):
    text = json.dumps(TRACK).encode()
    body = gzip.compress(text[:9]) + gzip.compress(text[9:])
    await api.accepted("/v1/track", body, Content_Encoding="gzip")


async def test_collect_C10_the_limit_is_on_what_comes_out(api):
    fits = gzip.compress(sized(32768))
    assert (await api.send("/v1/track", fits, Content_Encoding="gzip")).success
    answer = await api.send("/v1/track", gzip.compress(sized(32769)), Content_Encoding="gzip")
    assert answer.status == 400
    assert "Exceed payload limit" in answer.json["message"]


async def test_collect_C10_chunked_bodies(api):
    async def parts():
        for part in (b'{"event":"A",', b'"userId":', b'"u"}'):
            yield part
            await asyncio.sleep(0)

    async with api.session.post(
        api.url + "/v1/track", data=parts(),
        headers={"Authorization": basic(SERVER), "Content-Type": "text/plain"},
    ) as answer:
        assert answer.status == 200
    assert api.intake.events[0]["event"] == "A"


async def test_collect_C11_preflight(api):
    answer = await api.send(
        "/v1/t", b"", None, "OPTIONS", Origin="https://shop.example.org",
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization,content-type,x-my-own",
    )
    assert answer.status in (200, 204)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example.org"
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type,x-my-own"
    assert int(answer.headers["Access-Control-Max-Age"]) >= 600


async def test_collect_C11_preflight_without_what_to_echo(api):
    for path in ("/v1/b", "/v1/batch/", "/v1/import", "/v1/identify"):
        answer = await api.send(path, b"", None, "OPTIONS")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        for name in ("authorization", "content-type", "x-retry-count"):
            assert name in answer.headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("/v1/t", json.dumps(TRACK).encode(), 200), ("/v1/t", b"{", 400), ("/v1/t", b"x" * 40000, 400),
     ("/v1/b", b"[]", 400)],
)
async def test_collect_C12_every_answer_can_be_read_by_a_browser(api, path, body, status):
    answer = await api.send(path, body, Origin="https://shop.example.org")
    assert answer.status == status
    assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example.org"
    exposed = answer.headers["Access-Control-Expose-Headers"]
    assert exposed == "Retry-After, X-RateLimit-Reset"


async def test_collect_C12_also_overload_and_failure(api):
    api.intake.failures = [ingest.Overloaded(1), ingest.NotDurable(1)]
    for status in (429, 503):
        answer = await api.send("/v1/t", TRACK, Origin="https://shop.example.org")
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example.org"
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


async def test_collect_C12_an_origin_that_cannot_be_echoed_is_answered_with_a_star(api):
    for origin in ("https://exämple.org", "x" * 3000):
        answer = await api.send("/v1/t", TRACK, Origin=origin)
        assert answer.success
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_collect_C13_retries_are_accepted_and_counted(api):
    await api.accepted("/v1/track", TRACK, X_Retry_Count="3")
    for no_retry in ("0", "x", "-1", "", "٣"):
        await api.accepted("/v1/track", TRACK, X_Retry_Count=no_retry)
    assert api.refusals.retries == 1


# ---- 4 --------------------------------------------------------------------------------
async def test_collect_C14_a_single_message_has_32_kilobytes(api):
    await api.accepted("/v1/track", sized(32 * 1024))
    answer = await api.send("/v1/track", sized(32 * 1024 + 1))
    assert answer.status == 400
    assert "Exceed payload limit" in answer.json["message"]


async def test_collect_C15_a_batch_has_500_kilobytes(api):
    body = b'{"batch":[' + b",".join([sized(30_000)] * 17) + b"]}"
    fits = body[:-1] + b" " * (500 * 1024 - len(body)) + b"}"
    assert (await api.send("/v1/batch", fits)).success
    answer = await api.send("/v1/batch", fits + b" ")
    assert answer.status == 400
    assert "Exceed payload limit" in answer.json["message"]


@pytest.mark.parametrize("key", [SERVER, WEBSITE])
async def test_collect_C15_one_item_too_large_refuses_all_of_a_server_or_website_batch(api, key):
    good, fits, bad = sized(100), sized(32 * 1024), sized(32 * 1024 + 1)
    assert (await api.send("/v1/batch", b'{"batch":[%s,%s]}' % (good, fits), key)).success
    answer = await api.send("/v1/batch", b'{"batch":[%s,%s]}' % (good, bad), key)
    assert answer.status == 400
    assert len(api.intake.appends) == 1


async def test_collect_C15_one_item_too_large_is_dropped_from_a_mobile_batch(api):
    body = b'{"batch":[%s,%s]}' % (sized(100), sized(32 * 1024 + 1))
    event = await api.accepted("/v1/b", body, MOBILE)
    assert len(event["properties"]["pad"]) < 100
    assert api.refusals.calls == {("phone", "event_too_large"): 1}


async def test_collect_C16_items_after_the_2500th_are_discarded(api):
    items = [{"type": "page", "userId": "u", "messageId": f"m{n}"} for n in range(2503)]
    assert (await api.send("/v1/batch", {"batch": items})).success
    assert len(api.intake.events) == 2500
    assert api.intake.events[-1]["messageId"] == "m2499"
    assert api.refusals.calls == {("backend", "batch_limit_exceeded"): 3}


async def test_collect_C17_a_message_id_has_100_characters(api):
    assert (await api.accepted("/v1/track", {**TRACK, "messageId": "é" * 100}))["messageId"]
    too_long = {**TRACK, "messageId": "é" * 101}
    assert await api.refused("/v1/track", too_long) == "message_id_too_long"


async def test_collect_C20_a_kilobyte_is_1024_bytes_of_utf8_as_sent(api):
    call = json.dumps({**TRACK, "properties": {"pad": ""}}).encode()
    room = 32 * 1024 - len(call)
    padded = "ü" * (room // 2) + "x" * (room % 2)
    body = json.dumps({**TRACK, "properties": {"pad": padded}}, ensure_ascii=False).encode()
    assert len(body) == 32 * 1024
    await api.accepted("/v1/track", body)
    assert (await api.send("/v1/track", body.replace(b'"x', b'"xx') + b" ")).status == 400


async def test_collect_C20_what_the_sdks_may_send_at_most_fits(api):
    # Python closes a batch when it reaches 475,000 bytes, the last item of 32,768 included
    items = [sized(32_000, messageId=f"m{n}") for n in range(14)]
    items.append(sized(32_768, messageId="last"))
    body = b'{"batch": [' + b", ".join(items) + b'], "sentAt": "2026-01-05T11:59:59.000001+00:00"}'
    assert len(body) > 475_000
    assert (await api.send("/v1/batch", body)).success
    # Node and analytics.js: 480 and 450 KB in all
    items = [sized(30_000, messageId=f"n{n}") for n in range(16)]
    assert (await api.send("/v1/batch", b'{"batch":[' + b",".join(items) + b"]}")).success
    assert len(api.intake.events) == 31


async def test_collect_s4_a_shared_context_cannot_be_spread_without_end(api):
    items = [{"type": "page", "userId": "u"}] * 2000
    context = {"pad": "x" * 20_000}
    answer = await api.send("/v1/batch", {"batch": items, "context": context})
    assert answer.status == 400
    assert not api.intake.appends
    assert (await api.send("/v1/batch", {"batch": items[:100], "context": context})).success


# ---- 5 --------------------------------------------------------------------------------
async def test_collect_C21_success_is_exactly_200(api):
    for path, body in (("/v1/track", TRACK), ("/v1/track", {}), ("/v1/batch", {"batch": []})):
        answer = await api.send(path, body)
        assert answer.status == 200
        assert answer.body == b'{"success":true}'
        assert answer.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"3", b'"x"', b"null", b"{} {}", b'{"a":1,}', b"{'a':1}", b"\xff"]
)
@pytest.mark.parametrize("path", ["/v1/track", "/v1/batch"])
async def test_collect_C22_malformed_json_is_400_with_code_and_message(api, path, body):
    answer = await api.send(path, body)
    assert answer.status == 400
    assert sorted(answer.json) == ["code", "message"]
    assert answer.json["code"] == "malformed_json"
    assert api.refusals.requests == {"malformed_json": 1}


async def test_collect_C23_overload_is_429_with_both_headers_in_seconds(api):
    api.intake.failures = [ingest.Overloaded(2.2)]
    answer = await api.send("/v1/track", TRACK)
    assert answer.status == 429
    assert answer.headers["Retry-After"] == answer.headers["X-RateLimit-Reset"] == "3"
    assert sorted(answer.json) == ["code", "message"]
    await api.accepted("/v1/track", TRACK)


async def test_collect_C23_503_only_when_not_durable_and_the_id_may_come_again(api):
    api.intake.failures = [ingest.NotDurable(1)]
    call = {**TRACK, "messageId": "m1"}
    answer = await api.send("/v1/track", call)
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert (await api.accepted("/v1/track", call))["messageId"] == "m1"


async def test_collect_C23_200_only_after_it_is_durable(api):
    api.intake.gate = asyncio.Event()
    sending = asyncio.create_task(api.send("/v1/track", TRACK))
    done, _ = await asyncio.wait([sending], timeout=0.1)
    assert not done
    api.intake.gate.set()
    assert (await sending).success


async def test_collect_C23_bodies_that_fill_the_memory_are_answered_429(api):
    del api
    async with Api(held_bytes=100_000) as small:
        small.intake.gate = asyncio.Event()
        body = b'{"batch":[' + sized(30_000) + b"]}"
        waiting = [asyncio.create_task(small.send("/v1/batch", body)) for _ in range(3)]
        await asyncio.sleep(0.2)
        answer = await small.send("/v1/batch", body)
        assert answer.status == 429
        assert "Retry-After" in answer.headers
        small.intake.gate.set()
        assert all(answer.success for answer in await asyncio.gather(*waiting))
        assert (await small.send("/v1/batch", body)).success


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "PROPFIND"])
@pytest.mark.parametrize("path", ["/v1/track", "/v1/b/", "/v1/import"])
async def test_collect_s5_other_methods_are_405(api, path, method):
    answer = await api.send(path, b"", SERVER, method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "POST, OPTIONS"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_collect_s5_batch_codes(api):
    async def codes(batch):
        before = dict(api.refusals.calls), dict(api.refusals.requests)
        assert (await api.send("/v1/batch", {"batch": batch})).success
        return [
            {key[-1] if type(key) is tuple else key for key in now if now[key] != then.get(key)}
            for now, then in zip((api.refusals.calls, api.refusals.requests), before, strict=True)
        ]

    assert await codes([]) == [{"empty_batch"}, set()]
    assert await codes(None) == [{"empty_batch"}, set()]
    assert await codes({"a": 1}) == [{"bad_request"}, set()]
    assert await codes([{}]) == [{"bad_request"}, {"empty_batch_result"}]
    assert await codes([1, ITEM]) == [{"bad_request"}, {"multi_user_error"}]
    assert await codes([ITEM]) == [set(), set()]
    assert len(api.intake.events) == 2


# ---- 7, 8 --------------------------------------------------------------------------------
async def test_collect_C29_one_receipt_for_a_batch(api):
    items = [{**ITEM, "receivedAt": "2001-01-01T00:00:00.000Z"}] * 20
    assert (await api.send("/v1/batch", {"batch": items})).success
    assert {event["receivedAt"] for event in api.intake.events} == {"2026-01-05T12:00:00.000Z"}
    assert [at for at, _ in api.intake.appends] == [NOON_MS]


async def test_collect_C30_the_peer_fills_ip_once(api):
    event = await api.accepted("/v1/t", {**TRACK, "context": {"ip": "0.0.0.0"}})
    assert event["context"]["ip"] == "0.0.0.0"
    event = await api.accepted("/v1/t", TRACK, X_Forwarded_For="203.0.113.9")
    assert event["context"]["ip"] == "127.0.0.1"


async def test_collect_C30_forwarded_addresses_count_from_configured_proxies(api):
    del api
    networks = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8"))
    async with Api(proxies=networks) as behind:
        async def ip(chain):
            event = await behind.accepted("/v1/t", TRACK, X_Forwarded_For=chain)
            return event["context"].get("ip")

        assert await ip("203.0.113.9") == "203.0.113.9"
        assert await ip("198.51.100.1, 203.0.113.9, 10.1.1.1") == "203.0.113.9"
        assert await ip("::ffff:203.0.113.9") == "203.0.113.9"
        assert await ip("2001:db8::1") is None
        assert await ip("nonsense") is None


async def test_collect_C33_C35_in_a_batch_the_first_valid_copy_of_an_id_wins(api):
    items = [
        {**ITEM, "messageId": "m1", "userId": 7},
        {**ITEM, "messageId": "m1", "event": "first"},
        {**ITEM, "messageId": "m1", "event": "second"},
        {**ITEM, "messageId": "m2"},
    ]
    assert (await api.send("/v1/batch", {"batch": items})).success
    assert [event["event"] for event in api.intake.events] == ["first", "Plan Upgraded"]
    assert api.refusals.calls == {("backend", "id_not_string"): 1, ("backend", "duplicate"): 1}


async def test_collect_C34_a_duplicate_is_answered_200(api):
    items = [{**ITEM, "messageId": "m1"}] * 2
    assert (await api.send("/v1/batch", {"batch": items})).success
    assert len(api.intake.events) == 1
