"""Reading the body of a request: never more, never longer, never more of them at once than stated.

Every fault is a `Fault` that says what the answer is.
"""

import asyncio
import zlib
from typing import Final

from aiohttp import StreamReader, hdrs, web

READ_SECONDS: Final = 20.0
HELD_BYTES: Final = 64 * 1024 * 1024

_GZIP = b"\x1f\x8b"
_GZIP_OVERHEAD = 4096
"""A body that gzip cannot shorten grows a little."""


class Fault(Exception):
    """The request is refused as a whole: the answer's status, code and sentence."""

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: float = 0, close: bool = False
    ) -> None:
        """Keep them; ``close``: the rest of the request is not to be waited for."""
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        self.close = close


def too_large(limit: int) -> Fault:
    """Return the refusal of a body that is too long. Rule: collect C-14, C-15."""
    return Fault(400, "payload_too_large", f"Exceed payload limit of {limit} bytes")


def overloaded(retry_after_s: float) -> Fault:
    """Return the refusal when there is too much to do. Rule: collect C-23."""
    return Fault(
        429,
        "overloaded",
        "too much is being sent now, send it again later",
        retry_after_s=max(retry_after_s, 1),
    )


class Room:
    """The memory that all bodies share: being read, or waiting until they are durable."""

    __slots__ = ("_most", "held")

    def __init__(self, most: int = HELD_BYTES) -> None:
        """Hold at most so many bytes."""
        self.held = 0
        self._most = most

    def take(self, size: int) -> None:
        """Count bytes in. Raises Fault, with nothing counted, when they are too many."""
        if self.held + size > self._most:
            raise overloaded(1)
        self.held += size

    def give(self, size: int) -> None:
        """Count bytes out."""
        self.held -= size
        assert self.held >= 0


class Held:
    """What one request holds of the room."""

    __slots__ = ("_bytes", "_room")

    def __init__(self, room: Room) -> None:
        """Begin with nothing."""
        self._room = room
        self._bytes = 0

    def take(self, size: int) -> None:
        """Hold more. Raises Fault when there is no room."""
        self._room.take(size)
        self._bytes += size

    def release(self) -> None:
        """Give all of it back."""
        self._room.give(self._bytes)
        self._bytes = 0


async def read(request: web.Request, limit: int, held: Held, seconds: float) -> bytes:
    """Return the body, inflated; at most ``limit`` bytes.

    Raises Fault when it is too long, too slow, broken, or there is no room for it.
    Rule: collect C-10, C-14, C-15.
    """
    encoding = request.headers.get(hdrs.CONTENT_ENCODING)
    most = limit if encoding is None else limit + _GZIP_OVERHEAD
    length = request.content_length
    if length is not None and length > most:
        raise too_large(limit)
    content = request.content
    try:
        if content.is_eof():
            body = content.read_nowait()
            held.take(len(body))
        else:
            async with asyncio.timeout(seconds):
                body = await _gather(content, most, limit, held)
    except TimeoutError:
        raise Fault(408, "too_slow", "the body did not arrive in time", close=True) from None
    except (web.RequestPayloadError, ConnectionError, asyncio.IncompleteReadError):
        raise Fault(
            400, "malformed_body", "the body is broken or ends too early", close=True
        ) from None
    # a server that inflates by itself (aiohttp's default) has left no gzip here
    if encoding is not None and body[:2] == _GZIP and encoding.strip().lower() == "gzip":
        body = inflate(body, limit)
        held.take(len(body))
    if len(body) > limit:
        raise too_large(limit)
    return body


async def _gather(content: StreamReader, most: int, limit: int, held: Held) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while not content.at_eof():
        chunk = await content.readany()
        size += len(chunk)
        if size > most:
            raise too_large(limit)
        held.take(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


def inflate(body: bytes, limit: int) -> bytes:
    """Return the body without its gzip, which may have several members.

    Never makes more than ``limit`` bytes and one. Raises Fault.
    Rule: collect C-10.
    """
    chunks: list[bytes] = []
    room = limit + 1
    while body:
        member = zlib.decompressobj(wbits=31)
        try:
            chunk = member.decompress(body, room)
        except zlib.error:
            raise Fault(400, "malformed_body", "the gzip of the body is broken") from None
        chunks.append(chunk)
        room -= len(chunk)
        if room <= 0:
            raise too_large(limit)
        if not member.eof:
            raise Fault(400, "malformed_body", "the gzip of the body ends too early")
        body = member.unused_data
    return b"".join(chunks)
