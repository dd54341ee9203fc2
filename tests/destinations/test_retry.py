"""When a message is tried again."""

import pytest

from destinations.retry import asked_ms, backoff_ms, next_attempt_ms

HOUR_MS = 3_600_000
NOW_MS = 1_800_000_000_000


@pytest.mark.parametrize(
    ("attempt", "longest_ms"),
    [(1, 10_000), (2, 20_000), (3, 40_000), (4, 80_000), (5, 160_000), (6, 300_000), (60, 300_000)],
)
def test_delivery_s2_waits_double_up_to_five_minutes_with_half_of_it_jitter(attempt, longest_ms):
    waits = [backoff_ms(job, attempt) for job in range(1, 2_001)]
    assert longest_ms // 2 <= min(waits) < longest_ms * 0.51
    assert longest_ms * 0.99 < max(waits) <= longest_ms


def test_delivery_s2_the_jitter_is_derived_and_not_drawn():
    assert backoff_ms(7, 1) == backoff_ms(7, 1) == 6877
    assert backoff_ms(7, 2) == 16608
    assert len({backoff_ms(job, 1) for job in range(100)}) > 90


def test_delivery_s10_4_an_outage_that_ends_within_the_window_has_one_more_attempt_in_it():
    for job in range(50):
        now_ms, attempt, attempts = NOW_MS, 1, [NOW_MS]
        while True:
            due = next_attempt_ms(job, attempt, NOW_MS, now_ms, 4 * HOUR_MS)
            if due is None:
                break
            assert due > now_ms
            now_ms, attempt = due, attempt + 1
            attempts.append(now_ms)
        assert attempts[-1] == NOW_MS + 4 * HOUR_MS
        assert any(at >= NOW_MS + 4 * HOUR_MS - 60_000 for at in attempts)


def test_delivery_s2_retry_after_is_the_earliest_and_never_shortens_the_wait():
    assert next_attempt_ms(1, 1, NOW_MS, NOW_MS, 4 * HOUR_MS, NOW_MS + 90_000) == NOW_MS + 90_000
    soon = next_attempt_ms(1, 1, NOW_MS, NOW_MS, 4 * HOUR_MS, NOW_MS + 1)
    assert soon == NOW_MS + backoff_ms(1, 1)


def test_delivery_s2_retry_after_beyond_the_window_is_waited_for_once():
    beyond = NOW_MS + 5 * HOUR_MS
    assert next_attempt_ms(1, 1, NOW_MS, NOW_MS, 4 * HOUR_MS, beyond) == beyond
    assert next_attempt_ms(1, 2, NOW_MS, beyond, 4 * HOUR_MS) is None


def test_delivery_s2_nobody_can_ask_for_more_than_a_day():
    far = NOW_MS + 400 * 24 * HOUR_MS
    assert next_attempt_ms(1, 1, NOW_MS, NOW_MS, 4 * HOUR_MS, far) == NOW_MS + 24 * HOUR_MS


@pytest.mark.parametrize(
    ("header", "wait_ms"),
    [("90", 90_000), (" 0 ", 0), ("99999999999999", 24 * HOUR_MS),
     ("Fri, 15 Jan 2027 08:01:30 GMT", 90_000), ("Fri, 15 Jan 2027 07:00:00 GMT", 0)],
)
def test_delivery_s2_retry_after_holds_seconds_or_a_date(header, wait_ms):
    assert asked_ms(header, NOW_MS) == NOW_MS + wait_ms


@pytest.mark.parametrize("header", [None, "", "soon", "-5", "1.5", "१२", "Fri, 99 Jan 2027", "\0"])
def test_delivery_s2_retry_after_that_says_nothing_is_passed_over(header):
    assert asked_ms(header, NOW_MS) == -1
