"""When a message is tried again, and when not any more (delivery 2)."""

from email.utils import parsedate_to_datetime
from typing import Final

from xxhash import xxh3_64_intdigest

BASE_MS: Final = 10_000
CAP_MS: Final = 300_000
WINDOW_MS: Final = 4 * 3_600_000
LONGEST_ASK_MS: Final = 24 * 3_600_000
"""A Retry-After beyond a day is read as a day: no answer may hold a person's queue for a year."""


def backoff_ms(job: int, attempt: int) -> int:
    """Return how long to wait after ``attempt`` (from 1) of the job with number ``job`` failed.

    Between half and all of min(300 s, 10 s x 2^(attempt - 1)): the share is a hash of both, so
    that a replay waits as long, and jobs that failed together do not come back together.
    Rule: delivery 2 (Backoff).
    """
    longest = min(CAP_MS, BASE_MS << min(attempt - 1, 10))
    seed = job.to_bytes(8, "big") + attempt.to_bytes(4, "big")
    half = longest // 2
    return half + xxh3_64_intdigest(seed) % (longest - half + 1)


def next_attempt_ms(
    job: int, attempt: int, first_ms: int, now_ms: int, window_ms: int, not_before_ms: int = -1
) -> int | None:
    """Return the instant of the attempt after ``attempt``, which failed now; None: expired.

    ``first_ms`` is the instant of the first attempt, ``not_before_ms`` the instant before which the
    destination asked not to be called (-1: it did not). The last attempt is made at the end of
    the window, so an outage that ends within it loses nothing; one asked for beyond the window
    is waited for once.
    Rule: delivery 2 (Window, Retry-After), delivery 10.4.
    """
    end_ms = first_ms + window_ms
    if now_ms >= end_ms:
        return None
    due_ms = min(now_ms + backoff_ms(job, attempt), end_ms)
    return max(due_ms, min(not_before_ms, now_ms + LONGEST_ASK_MS))


def asked_ms(retry_after: str | None, now_ms: int) -> int:
    """Return the instant that a `Retry-After` header names, -1 for none or nonsense.

    It holds seconds or an HTTP date. At most a day ahead; one in the past is now.
    Rule: delivery 2 (Retry-After).
    """
    text = (retry_after or "").strip()
    if not text:
        return -1
    if text.isascii() and text.isdigit():
        wait_ms = int(text) * 1000 if len(text) < 10 else LONGEST_ASK_MS
    else:
        try:
            wait_ms = int(parsedate_to_datetime(text).timestamp() * 1000) - now_ms
        except (ValueError, OverflowError):
            return -1
    return now_ms + min(max(wait_ms, 0), LONGEST_ASK_MS)
