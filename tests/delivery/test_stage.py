"""The stage `delivery`: what becomes of jobs and of answers, under a scripted clock."""

import random

import pytest

from agents.delivery import FORWARDS, HOLDS, JOBS, WAITING, job_key
from destinations.retry import backoff_ms
from tests.delivery.rig import HOUR_MS, T0_MS, Rig, job, webhook, window


def key(n: int, queue: str = "p1", destination: str = "webhook") -> bytes:
    return job_key(destination, queue, n)


def test_delivery_s1_jobs_wait_in_order_of_a_number_that_rises_over_all_queues():
    rig = Rig(webhook=webhook(), other=webhook())
    rig.apply(job(1), job(2, "p2"), job(3, "p1", "other"), job(4))
    assert [k for k, _ in rig.jobs] == sorted(
        [key(1), key(2, "p2"), key(3, "p1", "other"), key(4)]
    )
    assert rig.counted("received") == 3
    assert rig.counted("received", "other") == 1


def test_delivery_s2_a_first_failure_waits_for_its_backoff_and_keeps_its_place():
    rig = Rig(webhook=webhook())
    rig.apply(job(1), job(2))
    rig.result(key(1), 1, 503)
    (_, first), (_, second) = rig.jobs
    assert (first.attempts, first.status, first.code) == (1, 503, "503")
    assert first.next_ms == T0_MS + backoff_ms(1, 1)
    assert second.attempts == 0
    assert rig.counted("retrying") == 1


@pytest.mark.parametrize(
    ("outage_ms", "end"), [(4 * HOUR_MS + 60_000, "expired"), (4 * HOUR_MS - 60_000, "delivered")]
)
def test_delivery_s10_4_four_hours_and_a_minute_expire_a_minute_less_is_delivered(outage_ms, end):
    rig = Rig(webhook=webhook())
    rig.apply(job(1))
    attempt = 0
    while rig.jobs:
        attempt += 1
        assert attempt < 200
        rig.clock_ms = max(rig.clock_ms, rig.jobs[0][1].next_ms)
        up = rig.clock_ms - T0_MS >= outage_ms
        rig.result(key(1), attempt, 200 if up else 0, "" if up else "ECONNREFUSED")
    assert rig.counted(end) == 1
    assert rig.counted("retrying") == 0
    assert [(letter.reason, letter.code) for letter in rig.dead] == (
        [("expired", "ECONNREFUSED")] if end == "expired" else []
    )
    if rig.dead:
        assert rig.dead[0].first_attempt_ms == T0_MS
        assert rig.dead[0].at_ms == T0_MS + 4 * HOUR_MS
        assert rig.dead[0].attempts == attempt


def test_delivery_s2_the_window_is_the_destinations_own():
    rig = Rig(webhook=webhook(retry=window("1m")))
    rig.apply(job(1))
    rig.result(key(1), 1, 500)
    rig.clock_ms = T0_MS + 60_000
    rig.result(key(1), 2, 500)
    assert rig.counted("expired") == 1
    assert rig.jobs == []


def test_delivery_s10_3_retry_after_sets_the_instant_and_is_kept_for_the_whole_destination():
    rig = Rig(webhook=webhook())
    rig.apply(job(1))
    rig.result(key(1), 1, 429, retry_after_ms=T0_MS + 90_000)
    assert rig.jobs[0][1].next_ms == T0_MS + 90_000
    assert rig.state.get(HOLDS, b"webhook") == T0_MS + 90_000


def test_delivery_s2_retry_after_counts_for_429_and_503_only_where_the_destination_is_concerned():
    rig = Rig(webhook=webhook())
    rig.apply(job(1))
    rig.result(key(1), 1, 500, retry_after_ms=T0_MS + 90_000)
    assert rig.jobs[0][1].next_ms == T0_MS + backoff_ms(1, 1)
    assert rig.state.get(HOLDS, b"webhook") is None


def test_delivery_s10_6_a_result_that_comes_twice_counts_once():
    rig = Rig(webhook=webhook())
    rig.apply(job(1))
    rig.result(key(1), 1, 500)
    again = rig.state.content()
    rig.result(key(1), 1, 200)
    assert rig.state.content() == again
    rig.clock_ms += 10_000
    rig.result(key(1), 2, 200)
    rig.result(key(1), 2, 200)
    assert rig.counted("delivered") == 1
    assert rig.state.counters["job_results_ignored"] == 2


def test_workspace_WS23_a_disabled_destination_gets_nothing_and_what_waits_is_parked():
    rig = Rig(webhook=webhook())
    rig.apply(job(1))
    rig.define(webhook=webhook(enabled=False))
    rig.apply(job(2))
    assert [row.message_id for _, row in rig.jobs] == ["m1"]
    assert rig.counted("filtered") == 1
    assert rig.counted("received") == 1


def test_workspace_WS23_a_removed_destinations_jobs_are_dead_letters():
    rig = Rig(webhook=webhook(), other=webhook())
    rig.apply(job(1), job(2, "user_id:u2"), job(3, "p1", "other"))
    rig.result(key(1), 1, 503)
    rig.define(other=webhook())
    letters = [(letter.message_id, letter.reason, letter.code, letter.queue) for letter in rig.dead]
    assert letters == [
        ("m1", "destination_removed", "503", "p1"),
        ("m2", "destination_removed", "destination_removed", "user_id:u2"),
    ]
    assert [k for k, _ in rig.jobs] == [key(3, "p1", "other")]
    assert rig.counted("removed") == 2
    assert rig.counted("retrying") == 0


def test_workspace_WS23_a_message_for_a_destination_that_is_gone_is_a_dead_letter_at_once():
    rig = Rig(webhook=webhook())
    rig.apply(job(1, "p1", "gone"))
    assert [(letter.destination, letter.reason) for letter in rig.dead] == [
        ("gone", "destination_removed")
    ]
    assert rig.jobs == []


def test_workspace_WS23_names_that_begin_alike_are_told_apart():
    rig = Rig(web=webhook(), webhook=webhook())
    rig.apply(job(1, "p1", "web"), job(2, "p1", "webhook"))
    rig.define(webhook=webhook())
    assert [row.message_id for _, row in rig.jobs] == ["m2"]


def test_protocol_s5_a_merge_moves_the_losers_jobs_in_between_the_survivors():
    rig = Rig(webhook=webhook(), other=webhook())
    rig.apply(job(1, "S"), job(2, "L"), job(3, "S"), job(4, "L"), job(5, "L", "other"))
    rig.merge("L", "S")
    assert [(k, row.message_id) for k, row in rig.jobs] == [
        (key(5, "S", "other"), "m5"),
        (key(1, "S"), "m1"), (key(2, "S"), "m2"), (key(3, "S"), "m3"), (key(4, "S"), "m4"),
    ]


def test_protocol_s5_a_merge_does_not_touch_other_queues():
    rig = Rig(webhook=webhook())
    rig.apply(job(1, "L2"), job(2, "user_id:L"), job(3, "L\0"))
    before = rig.state.content()
    rig.merge("L", "S")
    assert rig.state.content() == before


def test_protocol_s5_the_answer_to_a_job_that_was_moved_meanwhile_counts():
    rig = Rig(webhook=webhook())
    rig.apply(job(1, "A"), job(2, "B"))
    rig.merge("A", "B")
    rig.merge("B", "C")
    rig.result(key(1, "A"), 1, 200)
    rig.result(key(2, "B"), 1, 500)
    assert [(k, row.attempts) for k, row in rig.jobs] == [(key(2, "C"), 1)]
    rig.clock_ms += 10_000
    rig.result(key(2, "C"), 2, 200)
    assert rig.counted("delivered") == 2
    assert rig.state.rows[FORWARDS.prefix] == {}
    assert rig.state.rows[WAITING.prefix] == {}


def test_delivery_s5_dead_letters_are_kept_for_thirty_days():
    rig = Rig(webhook=webhook())
    rig.apply(job(1), job(2), job(3))
    rig.result(key(1), 1, 400)
    rig.clock_ms += 29 * 24 * HOUR_MS
    rig.result(key(2), 1, 400)
    assert [letter.message_id for letter in rig.dead] == ["m1", "m2"]
    rig.clock_ms += 2 * 24 * HOUR_MS
    rig.result(key(3), 1, 400)
    assert [letter.message_id for letter in rig.dead] == ["m2", "m3"]


@pytest.mark.parametrize("seed", range(20))
def test_delivery_s1_every_job_is_accounted_for_whatever_happens(seed):
    rng = random.Random(seed)
    rig = Rig(a=webhook(), b=webhook())
    n = 0
    for _ in range(300):
        what = rng.random()
        if what < 0.45:
            n += 1
            queue = rng.choice(["p1", "p2", "p3", "user_id:u1"])
            rig.apply(job(n, queue, rng.choice("ab")))
        elif what < 0.9 and rig.jobs:
            k, row = rng.choice(rig.jobs)
            rig.clock_ms = max(rig.clock_ms, row.next_ms)
            rig.result(k, row.attempts + rng.choice([0, 1, 1, 1]), rng.choice([200, 400, 429, 500]))
        elif what < 0.97:
            loser, survivor = rng.sample(["p1", "p2", "p3"], 2)
            rig.merge(loser, survivor)
        else:
            rig.define(**{name: webhook() for name in rng.choice(["a", "b", "ab", "ab"])})
    waiting = {"a": 0, "b": 0}
    retrying = {"a": 0, "b": 0}
    for k, row in rig.jobs:
        name = k[:1].decode()
        waiting[name] += 1
        retrying[name] += row.attempts > 0
    for name in "ab":
        ends = ("delivered", "discarded", "expired", "removed")
        ended = sum(rig.counted(end, name) for end in ends)
        assert rig.counted("received", name) - ended == waiting[name]
        assert rig.counted("retrying", name) == retrying[name]
    held = {}
    for k, _ in rig.state.scan(JOBS):
        if b":" not in k[:-9]:
            held[k[:-9]] = held.get(k[:-9], 0) + 1
    assert dict(rig.state.scan(WAITING)) == held
    moved = {k[-8:]: k for k, row in rig.jobs if row.moved}
    assert dict(rig.state.scan(FORWARDS)) == moved
