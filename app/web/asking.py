"""What a request asks for: path parts, lists, limits, instants, cursors, read with care.

Everything here raises `Fault`, in the words of profile-api section 6.
"""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus, unquote_to_bytes

import msgspec
from aiohttp import web

from app.web.access import invalid, unfit

_SEGMENT = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NUMBER = re.compile(r"[0-9]{1,6}")
_MOST = 1000
"""Characters of a cursor, a list or an identifier that are looked at."""


Run = Callable[..., Awaitable[Any]]
"""Runs a function that reads, with its arguments: at once where all is in this process, in a thread
where other workers are asked."""


async def at_once(read: Callable[..., Any], *args: Any) -> Any:
    """Run it here and now."""
    return read(*args)


def segment(request: web.Request, index: int, what: str) -> str:
    """Return the path's part at ``index`` (0 is before the first slash), percent-decoded.

    Refuses characters that must be escaped, broken escapes and control characters. A literal
    plus is a plus.
    Rule: profile-api I3.
    """
    raw = request.rel_url.raw_path.split("/")[index]
    if not _SEGMENT.fullmatch(raw):
        raise unfit(f"the {what} has characters that must be percent-encoded")
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise unfit(f"the {what} is not UTF-8") from error
    if _CONTROL.search(text):
        raise unfit(f"the {what} has control characters")
    return text


def limit(request: web.Request, default: int, most: int) -> int:
    """Return how many elements a page may have.

    Rule: profile-api P1.
    """
    text = request.query.get("limit")
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
        raise unfit(f"limit must be a whole number from 1 to {most}")
    return int(text)


def yes(request: web.Request, name: str) -> bool:
    """Return whether a switch such as ``verbose`` is on."""
    text = request.query.get(name)
    if text in (None, "false", "0"):
        return False
    if text in ("", "true", "1"):
        return True
    raise invalid(f"{name} must be true or false")


def one_of(request: web.Request, name: str, *choices: str) -> str | None:
    """Return the parameter's value; None when it is absent."""
    text = request.query.get(name)
    if text is None or text in choices:
        return text
    raise invalid(f"{name} must be {' or '.join(choices)}")


class Listed:
    """A comma-separated list out of a query: `in` tells whether it names something.

    A comma inside a name is percent-encoded. Some clients encode every comma: a piece that holds
    encoded commas is taken for one name and for several, whichever there is.
    Rule: profile-api section 4.
    """

    __slots__ = ("names", "pieces")

    def __init__(self, names: frozenset[str], pieces: tuple[str, ...] = ()) -> None:
        """Name ``names``; ``pieces`` are names that hold commas, or lists."""
        self.names = names
        self.pieces = pieces

    def __contains__(self, name: str) -> bool:
        """Return whether the list names it."""
        return name in self.names or any(
            name == piece or name in piece.split(",") for piece in self.pieces
        )

    def among(self, known: Any) -> frozenset[str]:
        """Return the names on the list that are in ``known``: the whole piece before its parts."""
        found = {name for name in self.names if name in known}
        for piece in self.pieces:
            found |= {piece} if piece in known else {p for p in piece.split(",") if p in known}
        return frozenset(found)


def listed(request: web.Request, name: str) -> Listed | None:
    """Return the list that a parameter gives; None when it is absent."""
    values = [
        value
        for field, _, value in (
            part.partition("=") for part in request.rel_url.raw_query_string.split("&")
        )
        if unquote_plus(field) == name
    ]
    if not values:
        return None
    pieces = [unquote_plus(piece) for value in values for piece in value.split(",")]
    alone = len(pieces) == 1 and "," in pieces[0]
    return Listed(frozenset(), (pieces[0],)) if alone else Listed(frozenset(pieces))


def instant(request: web.Request, name: str) -> int | None:
    """Return an ISO 8601 date or instant in milliseconds; without an offset it is UTC."""
    text = request.query.get(name)
    if text is None:
        return None
    # A plus in a query is a space: `+02:00` comes as ` 02:00` from clients that do not escape it.
    text = re.sub(r" (\d\d:?\d\d)$", r"+\1", text) if "T" in text else text
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise invalid(f"{name} must be an ISO 8601 date or instant") from error


# ---- cursors -------------------------------------------------------------------------------------
def cursor(resource: str, space: str, last: Any) -> str:
    """Return the opaque cursor after the element with the sort key ``last``.

    Rule: profile-api P2, P4.
    """
    text = msgspec.json.encode((resource, space, last))
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def after_cursor(request: web.Request, resource: str, space: str, kind: Any) -> Any:
    """Return the sort key, of type ``kind``, that the page begins after; None at the start.

    Refuses a cursor of another resource or space.
    Rule: profile-api P4.
    """
    text = request.query.get("next")
    if not text:
        return None
    wrong = invalid("next is not a cursor of this resource")
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        made_for, made_in, last = msgspec.json.decode(decoded, type=tuple[str, str, kind])
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError) as error:
        raise wrong from error
    if (made_for, made_in) != (resource, space):
        raise wrong
    return last


def iso(ms: int) -> str:
    """Return an instant as ISO 8601 UTC with milliseconds."""
    seconds, rest = divmod(ms, 1000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return str(ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:03}Z"
