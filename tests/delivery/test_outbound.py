"""Outbound against real sockets on loopback; only the clock of retries is scripted."""

import asyncio
import json

from tests.delivery.rig import job, webhook


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
