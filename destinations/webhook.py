"""Webhook: each message to a URL as JSON; many at once as a JSON array of them (catalog 1)."""

import hashlib
import hmac
import re
from collections.abc import Sequence

from destinations.request import Kind, Message, Request, Settings
from events.version import VERSION

_URL = re.compile(r"https?://[^\s/?#]+[^\s]*", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")

OWN_HEADERS = frozenset(
    {
        "content-type",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "host",
        "user-agent",
        "x-message-id",
        "x-attempt",
        "x-signature",
        "x-signature-256",
    }
)
"""Headers that settings may not give: they say what the message is."""


def request(settings: Settings, messages: Sequence[Message]) -> Request:
    """Return the POST of one message, or of a batch in order as a JSON array.

    Bodies go out as the bytes they are: compact JSON, keys in the order in which they were sent.
    `X-Message-Id` and `X-Attempt` are those of the first message; every message carries its own
    `messageId` inside. `X-Signature` signs the first message alone, as Segment's does, and
    `X-Signature-256` the whole raw body: check that one.
    Rule: workspace WS-20, catalog 1.
    """
    first = messages[0]
    assert settings.batch or len(messages) == 1
    body = _array(messages) if settings.batch else first.body
    headers = {
        **settings.headers,
        "Content-Type": "application/json",
        "User-Agent": f"Watersmeet/{VERSION}",
        "X-Message-Id": header_text(first.message_id),
        "X-Attempt": str(first.attempt),
    }
    if settings.secret:
        secret = settings.secret.encode()
        headers["X-Signature"] = hmac.digest(secret, first.body, hashlib.sha1).hex()
        headers["X-Signature-256"] = hmac.digest(secret, body, hashlib.sha256).hex()
    return Request("POST", settings.url, headers, body)


def fault(settings: Settings) -> str | None:
    """Return what is wrong with the settings, naming the key and never its value; None: nothing."""
    if not _URL.fullmatch(settings.url):
        return "settings.url: must be an http:// or https:// address"
    for name, value in settings.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            return "settings.headers: a header's name has letters, digits and hyphens"
        if name.lower() in OWN_HEADERS:
            return f"settings.headers.{name}: this header is set by the platform"
        if not _HEADER_VALUE.fullmatch(value):
            return f"settings.headers.{name}: a header's value is one line of ASCII"
    return None


def header_text(text: str) -> str:
    """Return a messageId as a header can carry it: whatever is not visible ASCII becomes `?`.

    The sender chose it, and a header with a line break would be two.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if " " <= char <= "~" else "?" for char in text)


def _array(messages: Sequence[Message]) -> bytes:
    return b"[%b]" % b",".join([message.body for message in messages])


KIND = Kind("webhook", "Webhook", 4000, request, fault)
