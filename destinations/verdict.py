"""What a destination's answer means: delivered, to be tried again, or given up (delivery 2)."""

from typing import Literal

Verdict = Literal["delivered", "retry", "discard"]

NETWORK = frozenset(
    {
        "ENOTFOUND",
        "ECONNREFUSED",
        "ECONNRESET",
        "ECONNABORTED",
        "EHOSTUNREACH",
        "EAI_AGAIN",
        "ETIMEDOUT",
        "EREFUSED",
        "ECERT",
    }
)
"""Why there was no answer, where trying again may help. `ECERT`: the TLS hand-shake failed."""

REFUSED = frozenset({"address_refused", "INVALID_SETTINGS"})
"""Why nothing was sent, and will not be: only a person can mend it."""

ASKS = frozenset({429, 503})
"""The answers whose `Retry-After` is heard; it then holds for the whole destination."""

_RETRIED = frozenset({408, 423, 425, 429})


def judge(status: int, code: str) -> Verdict:
    """Return what the answer ``status`` means; where it is 0 none came, and ``code`` says why.

    Redirects were followed before; a status of 3xx here is one that was not. 401 and 403 are
    given up at once: a webhook's credentials do not refresh themselves. Every 5xx but 501 is tried
    again, also those that no list names (catalog 1), and so is a code that nobody knows: the
    window bounds both.
    Rule: delivery 2, delivery 3 (last line).
    """
    if 200 <= status < 300:
        return "delivered"
    if status == 0:
        return "discard" if code in REFUSED else "retry"
    if status in _RETRIED or (500 <= status < 600 and status != 501):
        return "retry"
    return "discard"


def reason(status: int, code: str) -> str:
    """Return the reason code that is shown for the answer: the status, else what went wrong."""
    return str(status) if status else code
