"""Outbound against real sockets on loopback; only the clock of retries is scripted."""

import asyncio
import hmac
import json

import pytest
from aiohttp import web

from app.outbound import Breaker
from tests.delivery.rig import job, per_second, webhook


async def test_workspace_WS20_a_message_is_posted_as_stored_with_its_headers(rigs, sinks):
    sink = await sinks()
    rig = rigs(webhook=webhook(sink.url, headers={"X-Team": "growth"}))
    await rig.start()
    rig.apply(job(1))
    await rig.drained()
    headers, body = sink.got[0]
    assert body == b'{"messageId":"m1","n":1}'
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == "Watersmeet/0.1.0"
    assert headers["X-Message-Id"] == "m1"
    assert headers["X-Attempt"] == "1"
    assert headers["X-Team"] == "growth"
    assert "X-Signature" not in headers
    assert rig.counted("delivered") == 1


async def test_delivery_s10_1_two_500_then_200_is_delivered_once_with_three_attempts(rigs, sinks):
    sink = await sinks()
    sink.statuses = [500, 500]
    rig = rigs(webhook=webhook(sink.url))
    await rig.start()
    rig.apply(job(1))
    for attempt in (1, 2):
        await rig.until(lambda attempt=attempt: rig.jobs[0][1].attempts == attempt)
        assert rig.counted("retrying") == 1
        rig.clock_ms = rig.jobs[0][1].next_ms
    await rig.drained()
    assert [headers["X-Attempt"] for headers, _ in sink.got] == ["1", "2", "3"]
    assert sink.ids == ["m1", "m1", "m1"]
    assert rig.counted("delivered") == 1
    assert rig.counted("retrying") == 0
    assert rig.dead == []


async def test_delivery_s10_2_a_400_is_discarded_after_one_attempt(rigs, sinks):
    sink = await sinks()
    sink.statuses = [400]
    rig = rigs(webhook=webhook(sink.url))
    await rig.start()
    rig.apply(job(1))
    await rig.drained()
    (letter,) = rig.dead
    assert (letter.reason, letter.code, letter.attempts, letter.answer) == (
        "discarded", "400", 1, "no",
    )
    assert letter.body == b'{"messageId":"m1","n":1}'
    assert rig.counted("discarded") == 1
    assert len(sink.got) == 1


async def test_workspace_WS20_batches_are_arrays_of_the_bodies(rigs, sinks):
    sink = await sinks()
    rig = rigs(webhook=webhook(sink.url, batch_size=100))
    await rig.start()
    rig.apply(*(job(n, f"p{n % 7}") for n in range(250)))
    await rig.drained()
    bodies = [json.loads(body) for _, body in sink.got]
    assert all(len(body) <= 100 for body in bodies)
    assert len(sink.got) <= 10
    seen = [one["n"] for body in bodies for one in body]
    assert sorted(seen) == list(range(250))
    for queue in range(7):
        assert [n for n in seen if n % 7 == queue] == list(range(queue, 250, 7))
    await asyncio.sleep(0.05)
    assert rig.outbound.status()["webhook"]["in_memory"] == 0


async def test_catalog_s1_signatures_fit_the_bytes_on_the_wire(rigs, sinks):
    sink = await sinks()
    rig = rigs(webhook=webhook(sink.url, secret="${SECRET}", batch_size=10))
    rig.env = {"SECRET": "s3cret"}
    rig.apply(*(job(n, f"p{n}") for n in range(1, 4)))
    await rig.start()
    await rig.drained()
    headers, body = sink.got[0]
    first = b'{"messageId":"m1","n":1}'
    assert body.startswith(b"[" + first)
    assert headers["X-Signature"] == hmac.new(b"s3cret", first, "sha1").hexdigest()
    assert headers["X-Signature-256"] == hmac.new(b"s3cret", body, "sha256").hexdigest()


# ---- order


async def test_delivery_s4_a_later_job_waits_while_an_earlier_one_of_its_queue_is_retried(
    rigs, sinks
):
    sink = await sinks()
    sink.answer = lambda request, n: web.Response(
        status=503 if request.headers["X-Message-Id"] == "m1" and n < 2 else 200
    )
    rig = rigs(webhook=webhook(sink.url))
    await rig.start()
    rig.apply(job(1, "p1"), job(2, "p1"), job(3, "p2"))
    await rig.until(lambda: len(sink.got) == 2 and len(rig.jobs) == 2)
    assert sorted(sink.ids) == ["m1", "m3"]
    rig.apply(job(4, "p1"))
    await asyncio.sleep(0.05)
    assert len(sink.got) == 2
    rig.clock_ms = rig.jobs[0][1].next_ms
    await rig.drained()
    assert sink.ids[2:] == ["m1", "m2", "m4"]


async def test_delivery_s4_an_aborted_job_lets_its_queue_go_on(rigs, sinks):
    sink = await sinks()
    sink.statuses = [400, 200]
    rig = rigs(webhook=webhook(sink.url))
    await rig.start()
    rig.apply(job(1), job(2))
    await rig.drained()
    assert sink.ids == ["m1", "m2"]
    assert rig.counted("discarded") == rig.counted("delivered") == 1


async def test_delivery_s4_five_hundred_messages_of_one_person_leave_in_order_and_fast(rigs, sinks):
    sink = await sinks()
    rig = rigs(webhook=webhook(sink.url))
    await rig.start()
    rig.apply(*(job(n) for n in range(500)))
    await rig.drained(10)
    assert sink.ids == [f"m{n}" for n in range(500)]


async def test_protocol_s5_a_merge_while_a_request_is_under_way_sends_nothing_twice(rigs, sinks):
    sink = await sinks()
    go = asyncio.Event()

    async def answer(request, n):
        await go.wait()
        return web.Response()

    sink.answer = answer
    rig = rigs(webhook=webhook(sink.url))
    await rig.start()
    rig.apply(job(1, "L"), job(2, "L"), job(3, "S"), job(4, "S"))
    await rig.until(lambda: len(sink.got) == 2)
    rig.merge("L", "S")
    rig.apply(job(5, "S"))
    await asyncio.sleep(0.02)
    go.set()
    await rig.drained()
    assert sorted(sink.ids[:2]) == ["m1", "m3"]
    assert sink.ids[2:] == ["m2", "m4", "m5"]
    assert rig.state.counters["job_results_ignored"] == 0


async def test_protocol_s5_a_moved_job_in_retry_goes_before_the_survivors_later_ones(rigs, sinks):
    sink = await sinks()
    sink.statuses = [500]
    rig = rigs(webhook=webhook(sink.url))
    await rig.start()
    rig.apply(job(1, "L"))
    await rig.until(lambda: rig.jobs[0][1].attempts == 1)
    rig.merge("L", "S")
    rig.apply(job(2, "S"))
    await asyncio.sleep(0.03)
    assert sink.ids == ["m1"]
    rig.clock_ms = rig.jobs[0][1].next_ms
    await rig.drained()
    assert sink.ids == ["m1", "m1", "m2"]


# ---- retries, holds, limits


async def test_delivery_s10_3_retry_after_holds_the_whole_destination_also_after_a_restart(
    rigs, sinks
):
    sink = await sinks()
    sink.answer = lambda request, n: (
        web.Response(status=429, headers={"Retry-After": "90"}) if n == 0 else web.Response()
    )
    rig = rigs(webhook=webhook(sink.url))
    start_ms = rig.clock_ms
    await rig.start()
    rig.apply(job(1, "p1"))
    await rig.until(lambda: rig.jobs[0][1].attempts == 1)
    rig.apply(job(2, "p2"))
    rig.clock_ms = start_ms + 89_000
    await asyncio.sleep(0.4)
    assert sink.ids == ["m1"]
    await rig.stop()
    await rig.start()
    await asyncio.sleep(0.1)
    assert sink.ids == ["m1"]
    rig.clock_ms = start_ms + 90_001
    await rig.drained()
    assert sorted(sink.ids[1:]) == ["m1", "m2"]


async def test_delivery_s6_a_rate_limit_is_kept(rigs, sinks):
    sink = await sinks()
    rig = rigs(webhook=webhook(sink.url, rate_limit=per_second(50)))
    await rig.start()
    loop = asyncio.get_running_loop()
    start = loop.time()
    rig.apply(*(job(n, f"p{n}") for n in range(40)))
    await rig.drained()
    assert 0.7 <= loop.time() - start <= 3


async def test_workspace_WS22_present_members_go_first_and_at_the_rate_limit(rigs, sinks):
    sink = await sinks()
    rig = rigs(webhook=webhook(sink.url, rate_limit=per_second(100)))
    rig.apply(*(job(n, f"p{n}") for n in range(30)))
    await rig.start()
    rig.apply(job(100, "p29"), job(101, "p3"))
    await rig.until(lambda: len(sink.got) >= 5)
    await rig.drained()
    assert sink.ids.index("m29") < sink.ids.index("m100")
    assert sink.ids.index("m3") < sink.ids.index("m101")


async def test_delivery_s6_at_most_twenty_requests_are_under_way(rigs, sinks):
    sink = await sinks()
    under_way = most = 0

    async def answer(request, n):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return web.Response()

    sink.answer = answer
    rig = rigs(webhook=webhook(sink.url))
    await rig.start()
    rig.apply(*(job(n, f"p{n}") for n in range(100)))
    await rig.drained()
    assert most == 20


async def test_delivery_s6_a_dead_destination_is_left_alone_after_a_hundred_failures(rigs):
    rig = rigs(webhook=webhook("http://127.0.0.1:1/"))
    await rig.start()
    rig.apply(*(job(n, f"p{n}") for n in range(400)))
    await rig.until(lambda: rig.outbound.status()["webhook"]["open"])
    await asyncio.sleep(0.1)
    assert 100 <= len(rig.results) < 130
    assert {result.code for result in rig.results} == {"ECONNREFUSED"}


def test_delivery_s6_the_breaker_lets_one_through_after_30_s_and_doubles_up_to_10_minutes():
    breaker = Breaker()
    for n in range(200):
        breaker.sent()
        breaker.answered(100.0, n % 4 == 0)
    assert not breaker.is_open
    for _ in range(100):
        breaker.sent()
        breaker.answered(170.0, True)
    assert breaker.is_open
    now, pauses = 170.0, []
    for _ in range(7):
        pauses.append(breaker.pause_s(now))
        now += pauses[-1]
        assert breaker.pause_s(now) == 0
        breaker.sent()
        assert breaker.pause_s(now) > 0
        breaker.answered(now, True)
    assert pauses == [30, 60, 120, 240, 480, 600, 600]
    now += 600
    breaker.sent()
    breaker.answered(now, False)
    assert not breaker.is_open


async def test_delivery_s6_429_without_an_instant_slows_the_destination_down(rigs, sinks):
    sink = await sinks()
    sink.answer = lambda request, n: web.Response(status=429)
    rig = rigs(webhook=webhook(sink.url))
    await rig.start()
    rig.apply(*(job(n, f"p{n}") for n in range(300)))
    await asyncio.sleep(0.8)
    assert len(sink.got) == 20
    await rig.until(lambda: len(sink.got) > 20)
    assert not rig.outbound.status()["webhook"]["open"]


def test_delivery_s6_pauses_after_429_double_up_to_a_minute_and_end_with_success():
    breaker = Breaker()
    now, pauses = 100.0, []
    for _ in range(8):
        breaker.too_many(now)
        breaker.too_many(now)
        pauses.append(breaker.pause_s(now))
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    breaker.enough()
    breaker.too_many(now)
    assert breaker.pause_s(now) == 1


# ---- definitions


async def test_workspace_WS23_a_disabled_destination_is_parked_and_goes_on_when_enabled(
    rigs, sinks
):
    sink = await sinks()
    rig = rigs(webhook=webhook(sink.url))
    rig.apply(job(1))
    rig.define(webhook=webhook(sink.url, enabled=False))
    await rig.start()
    await asyncio.sleep(0.4)
    assert sink.got == []
    rig.define(webhook=webhook(sink.url))
    await rig.drained()
    assert sink.ids == ["m1"]


async def test_workspace_WS23_a_removed_destination_gets_nothing_more(rigs, sinks):
    sink = await sinks()
    sink.statuses = [500]
    rig = rigs(webhook=webhook(sink.url))
    await rig.start()
    rig.apply(job(1), job(2))
    await rig.until(lambda: rig.jobs[0][1].attempts == 1)
    rig.define()
    rig.clock_ms += 3_600_000
    await rig.until(lambda: not rig.outbound._lines)
    assert sink.ids == ["m1"]
    assert [letter.reason for letter in rig.dead] == ["destination_removed"] * 2


async def test_delivery_s2_settings_are_read_afresh_for_what_already_waits(rigs, sinks):
    old, new = await sinks(), await sinks()
    old.statuses = [503]
    rig = rigs(webhook=webhook(old.url))
    await rig.start()
    rig.apply(job(1))
    await rig.until(lambda: rig.jobs[0][1].attempts == 1)
    rig.define(webhook=webhook(new.url))
    rig.clock_ms = rig.jobs[0][1].next_ms
    await rig.drained()
    assert (old.ids, new.ids) == (["m1"], ["m1"])


# ---- crash and stop


async def test_delivery_s10_6_a_crash_in_mid_request_sends_again_under_the_same_id(rigs, sinks):
    sink = await sinks()
    hang = asyncio.Event()

    async def answer(request, n):
        if n == 0:
            await hang.wait()
        return web.Response()

    sink.answer = answer
    rig = rigs(webhook=webhook(sink.url))
    await rig.start()
    rig.apply(job(1), job(2))
    await rig.until(lambda: len(sink.got) == 1)
    await rig.crash()
    assert len(rig.jobs) == 2
    await rig.start()
    await rig.drained()
    hang.set()
    assert sink.ids == ["m1", "m1", "m2"]
    assert [headers["X-Attempt"] for headers, _ in sink.got] == ["1", "1", "1"]
    assert rig.counted("delivered") == 2


async def test_protocol_s10_what_waited_before_a_start_goes_out_in_order(rigs, sinks):
    sink = await sinks()
    rig = rigs(webhook=webhook(sink.url, batch_size=50))
    rig.apply(*(job(n, f"p{n % 100}") for n in range(2_000)))
    await rig.start()
    await rig.drained(20)
    seen = [one["n"] for _, body in sink.got for one in json.loads(body)]
    assert sorted(seen) == list(range(2_000))
    for queue in range(100):
        mine = [n for n in seen if n % 100 == queue]
        assert mine == sorted(mine)


async def test_protocol_s10_results_that_cannot_be_logged_wait_and_nothing_is_sent_twice(
    rigs, sinks
):
    sink = await sinks()
    rig = rigs(webhook=webhook(sink.url))
    rig.refuse_results = 1
    await rig.start()
    rig.apply(*(job(n, f"p{n}") for n in range(10)))
    await rig.drained()
    assert len(sink.got) == 10


async def test_delivery_s1_stop_logs_what_came_back_and_cuts_off_what_hangs(rigs, sinks):
    sink = await sinks()
    hang = asyncio.Event()

    async def answer(request, n):
        if request.headers["X-Message-Id"] == "m1":
            await hang.wait()
        return web.Response()

    sink.answer = answer
    rig = rigs(webhook=webhook(sink.url, timeout="60s"))
    await rig.start()
    rig.apply(job(1, "p1"), job(2, "p2"))
    await rig.until(lambda: len(sink.got) == 2)
    loop = asyncio.get_running_loop()
    start = loop.time()
    await rig.stop()
    hang.set()
    assert loop.time() - start < 3
    assert [row.message_id for _, row in rig.jobs] == ["m1"]


# ---- settings and secrets


async def test_delivery_s2_settings_that_cannot_be_filled_in_discard_with_invalid_settings(
    rigs, sinks
):
    sink = await sinks()
    rig = rigs(webhook=webhook(sink.url, secret="${NOT_SET}"))
    await rig.start()
    rig.apply(job(1))
    await rig.drained()
    assert [(letter.reason, letter.code) for letter in rig.dead] == [
        ("discarded", "INVALID_SETTINGS")
    ]
    assert sink.got == []


async def test_workspace_WS04_no_secret_stands_in_a_result_a_dead_letter_or_a_log_line(
    rigs, sinks, caplog
):
    sink = await sinks()

    def echo(request, n):
        return web.Response(status=400, text=f"{request.path} {dict(request.headers)} pa55word")

    sink.answer = echo
    rig = rigs(webhook=webhook(
        sink.url + "/${URL_KEY}", secret="${SECRET}", headers={"Authorization": "Bearer ${TOKEN}"}
    ))
    rig.env = {"URL_KEY": "k3y1n5ide", "SECRET": "pa55word", "TOKEN": "t0k3nt0k3n"}
    with caplog.at_level("DEBUG"):
        await rig.start()
        rig.apply(job(1))
        await rig.drained()
    assert sink.got[0][0]["Authorization"] == "Bearer t0k3nt0k3n"
    kept = repr(rig.results) + repr(rig.dead) + caplog.text
    for secret in rig.env.values():
        assert secret not in kept
    assert "***" in rig.dead[0].answer


# ---- redirects


async def test_delivery_s2_redirects_are_followed_with_method_and_body(rigs, sinks):
    first, second = await sinks(), await sinks()
    statuses = iter([301, 302, 307, 308])
    first.answer = lambda request, n: web.Response(
        status=next(statuses), headers={"Location": second.url}
    )
    rig = rigs(webhook=webhook(first.url, headers={"Authorization": "for the first alone"}))
    await rig.start()
    for n in range(4):
        rig.apply(job(n))
        await rig.drained()
    assert [body for _, body in second.got] == [job(n).body for n in range(4)]
    assert all("Authorization" not in headers for headers, _ in second.got)
    assert all("Authorization" in headers for headers, _ in first.got)
    assert rig.counted("delivered") == 4


async def test_delivery_s2_a_sixth_redirect_is_not_followed(rigs, sinks):
    sink = await sinks()
    sink.answer = lambda request, n: web.Response(status=307, headers={"Location": "/again"})
    rig = rigs(webhook=webhook(sink.url))
    await rig.start()
    rig.apply(job(1))
    await rig.drained()
    assert len(sink.got) == 6
    assert [(letter.reason, letter.code) for letter in rig.dead] == [("discarded", "307")]


@pytest.mark.parametrize("location", ["", "file:///etc/passwd", "gopher://x/", "http://[", "//"])
async def test_delivery_s2_a_redirect_to_nowhere_is_discarded_with_its_status(
    rigs, sinks, location
):
    sink = await sinks()
    sink.answer = lambda request, n: web.Response(status=302, headers={"Location": location})
    rig = rigs(webhook=webhook(sink.url))
    await rig.start()
    rig.apply(job(1))
    await rig.drained()
    assert [(letter.reason, letter.code) for letter in rig.dead] == [("discarded", "302")]
