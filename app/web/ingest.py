"""The tracking API: what SDKs send is checked, made durable, and only then answered 200 (collect).

A request is decoded, its calls become stored events (`events.calls`), and one append to the log
carries them all. What is refused is counted by reason and leaves no other trace: no event text
reaches a log line, an answer or a counter's name.
"""

import asyncio
import base64
import binascii
import ipaddress
import math
import secrets
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
from aiohttp import hdrs, web
from msgspec import Raw, Struct

from app.web.refusals import UNKNOWN, Refusals
from events.calls import Accepted, Refused, RequestContext, accept, request_context
from events.wire import (
    NOT_AN_OBJECT,
    Malformed,
    decode_batch,
    decode_call,
    decode_value,
    long_numbers,
)
from sources.keys import KnownSource, SourceIndex

SINGLE_BYTES: Final = 32 * 1024
BATCH_BYTES: Final = 500 * 1024
BATCH_ITEMS: Final = 2_500
SPREAD_BYTES: Final = 4 * 1024 * 1024
"""What a batch's shared context and integrations may add to all of its calls together."""
READ_SECONDS: Final = 20.0
HELD_BYTES: Final = 64 * 1024 * 1024
"""Request bodies in memory at one time: being read, or waiting until they are durable."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Overloaded(Exception):
    """The log cannot take more now; come back in ``retry_after_s``."""

    def __init__(self, retry_after_s: float = 1.0) -> None:
        """Say when."""
        super().__init__(f"overloaded, retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class NotDurable(Exception):
    """The calls could not be made durable: none of them was accepted."""

    def __init__(self, retry_after_s: float = 1.0) -> None:
        """Say when to try again."""
        super().__init__("not durable")
        self.retry_after_s = retry_after_s


class Intake(Protocol):
    """Where accepted calls go."""

    def source_index(self) -> SourceIndex:
        """Return the sources as they are defined now."""

    def now_ms(self) -> int:
        """Return the wall clock in milliseconds."""

    async def append(self, received_at_ms: int, calls: list[Accepted]) -> None:
        """Return when the calls are durable, all of them.

        Raises Overloaded before memory grows, NotDurable when the disk fails.
        """


class _Answer(Exception):
    """The request is refused as a whole, with this answer."""

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: float = 0, close: bool = False
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        self.close = close


class _Route(Struct, frozen=True):
    """What a path decides."""

    type: str | None
    """The call; None: a batch."""
    client: bool


_CALLS = ("identify", "track", "page", "screen", "group", "alias")
_ROUTES = {
    **{f"/v1/{call}": _Route(call, client=False) for call in _CALLS},
    **{f"/v1/{call[0]}": _Route(call, client=True) for call in _CALLS},
    "/v1/batch": _Route(None, client=False),
    "/v1/b": _Route(None, client=True),
    "/v1/import": _Route(None, client=False),
}

_SUCCESS: Final = b'{"success":true}'
_METHODS = "GET, POST, OPTIONS"
_ALLOWED_HEADERS = "authorization, content-type, x-retry-count"
_PREFLIGHT_SECONDS = "7200"
_TYPES = frozenset(("", "application/json", "text/plain"))
_encode = msgspec.json.Encoder().encode
_GZIP = b"\x1f\x8b"


def add_routes(
    app: web.Application,
    intake: Intake,
    *,
    refusals: Refusals | None = None,
    proxies: tuple[Network, ...] = (),
    held_bytes: int = HELD_BYTES,
    read_seconds: float = READ_SECONDS,
) -> None:
    """Serve the tracking API on ``app``.

    ``proxies``: networks whose X-Forwarded-For is believed (C-30); none by default.
    """
    tracking = Tracking(
        intake,
        refusals if refusals is not None else Refusals(),
        proxies=proxies,
        held_bytes=held_bytes,
        read_seconds=read_seconds,
    )
    for path, route in _ROUTES.items():
        handler = tracking.handler(route)
        app.router.add_route("*", path, handler)
        app.router.add_route("*", path + "/", handler)


class Tracking:
    """Handles the requests of all routes."""

    def __init__(
        self,
        intake: Intake,
        refusals: Refusals,
        *,
        proxies: tuple[Network, ...] = (),
        held_bytes: int = HELD_BYTES,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        """Send what is accepted to ``intake``, count the rest in ``refusals``."""
        self.held = 0
        """Bytes of bodies in memory now."""
        self._intake = intake
        self._refusals = refusals
        self._proxies = proxies
        self._held_bytes = held_bytes
        self._read_seconds = read_seconds

    def handler(self, route: _Route) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Return the handler of one path."""

        async def handle(request: web.Request) -> web.Response:
            if request.method == hdrs.METH_POST:
                return await self._post(request, route)
            if request.method == hdrs.METH_OPTIONS:
                return _preflight(request)
            fault = _Answer(405, "method_not_allowed", "send it by POST")
            answer = _refusal(request, fault)
            answer.headers[hdrs.ALLOW] = "POST, OPTIONS"
            return answer

        return handle

    async def _post(self, request: web.Request, route: _Route) -> web.Response:
        held = _Held(self)
        try:
            if "X-Retry-Count" in request.headers:
                self._count_retry(request.headers["X-Retry-Count"])
            _check_type(request)
            limit = SINGLE_BYTES if route.type is not None else BATCH_BYTES
            body = await self._read(request, limit, held)
            received_at_ms = self._intake.now_ms()
            calls = self._accept(request, route, body, received_at_ms)
            if calls:
                await self._intake.append(received_at_ms, calls)
                self._refusals.accepted += len(calls)
        except _Answer as fault:
            self._refusals.request(fault.code)
            return _refusal(request, fault)
        except Malformed as error:
            self._refusals.request("malformed_json")
            return _refusal(request, _Answer(400, "malformed_json", f"malformed JSON: {error}"))
        except Overloaded as error:
            self._refusals.request("overloaded")
            return _refusal(request, _overloaded(error.retry_after_s))
        except NotDurable as error:
            self._refusals.request("not_durable")
            return _refusal(request, _Answer(
                503, "not_durable", "the calls could not be stored, send them again",
                retry_after_s=error.retry_after_s,
            ))
        finally:
            held.release()
        return web.Response(body=_SUCCESS, headers=_headers(request))

    def _count_retry(self, text: str) -> None:
        if text.isascii() and text.isdigit() and text.strip("0"):
            self._refusals.retries += 1

    # ---- the body --------------------------------------------------------------------------------
    async def _read(self, request: web.Request, limit: int, held: "_Held") -> bytes:
        """Return the body, inflated. Raises _Answer when it is too long, too slow or broken."""
        packed = request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
        most = limit if not packed else limit + 4096
        length = request.content_length
        if length is not None and length > most:
            raise _too_large(limit)
        content = request.content
        try:
            if content.is_eof():
                body = content.read_nowait()
                held.take(len(body))
            else:
                async with asyncio.timeout(self._read_seconds):
                    body = await _read_slowly(content, most, limit, held)
        except TimeoutError:
            raise _Answer(408, "too_slow", "the body did not arrive in time", close=True) from None
        except (web.RequestPayloadError, ConnectionError):
            raise _Answer(
                400, "malformed_body", "the body is broken or ends too early", close=True
            ) from None
        if packed and body[:2] == _GZIP:
            # so it is when the server was started without aiohttp's own inflating (app.web.server)
            body = _inflated(body, limit)
            held.take(len(body))
        if len(body) > limit:
            raise _too_large(limit)
        return body

    # ---- the calls -------------------------------------------------------------------------------
    def _accept(
        self, request: web.Request, route: _Route, body: bytes, received_at_ms: int
    ) -> list[Accepted]:
        """Return the stored events; what is refused is counted. Raises _Answer and Malformed."""
        key = _basic_key(request.headers.get(hdrs.AUTHORIZATION))
        if route.type is not None:
            call = decode_call(body)
            if call is NOT_AN_OBJECT:
                raise Malformed("the body must be an object")
            if key is None and isinstance(call, dict):
                key = call.get("writeKey")
            known = self._known(key, 1)
            if known is None:
                return []
            context = self._context(request, route, known, received_at_ms)
            return self._all(known, [call], context)
        batch, marked = decode_batch(body)
        raws: list[Raw] = (batch.batch or []) if batch is not None else []
        items = [bytes(raw) for raw in raws[:BATCH_ITEMS]]
        if key is None and batch is not None:
            key = decode_value(batch.write_key)
            if not isinstance(key, str) and items:
                first = decode_call(items[0], marked=marked)
                key = first.get("writeKey") if isinstance(first, dict) else None
        known = self._known(key, len(raws) or 1)
        mobile = known is not None and known.source.type == "mobile"
        if len(body) > SINGLE_BYTES and not mobile:
            for item in items:
                if len(item) > SINGLE_BYTES:
                    raise _Answer(400, "event_too_large", f"Exceed payload limit of {SINGLE_BYTES}"
                                  " bytes for an item of a batch")
        if known is None:
            return []
        if batch is None:
            self._refusals.call(known.key, "bad_request")
            return []
        if not raws:
            self._refusals.call(known.key, "empty_batch")
            return []
        if len(raws) > BATCH_ITEMS:
            self._refusals.call(known.key, "batch_limit_exceeded", len(raws) - BATCH_ITEMS)
        spread = len(bytes(batch.context)) + len(bytes(batch.integrations))
        if spread > SINGLE_BYTES or spread * len(items) > SPREAD_BYTES + len(items) * 8:
            raise _Answer(400, "payload_too_large", "Exceed payload limit: context and integrations"
                          " of the batch are too large to be stored with each of its items")
        context = self._context(
            request, route, known, received_at_ms,
            sent_at=decode_value(batch.sent_at),
            context=decode_value(batch.context),
            integrations=decode_value(batch.integrations),
        )
        numbers = long_numbers(body)
        calls: list[dict[str, Any] | Refused] = []
        for item in items:
            if mobile and len(item) > SINGLE_BYTES:
                calls.append(_TOO_LARGE)
            else:
                calls.append(decode_call(item, numbers=numbers, marked=marked))
        accepted = self._all(known, calls, context)
        if not accepted:
            self._refusals.request("empty_batch_result")
        elif len(accepted) < len(raws):
            self._refusals.request("multi_user_error")
        return accepted

    def _known(self, key: object, calls: int) -> KnownSource | None:
        known = None
        if isinstance(key, str):
            known = self._intake.source_index().by_write_key.get(key)
        if known is None:
            self._refusals.call(UNKNOWN, "unknown_source", calls)
            return None
        if not known.source.enabled:
            self._refusals.call(known.key, "source_disabled", calls)
            return None
        return known

    def _context(
        self,
        request: web.Request,
        route: _Route,
        known: KnownSource,
        received_at_ms: int,
        *,
        sent_at: object = None,
        context: object = None,
        integrations: object = None,
    ) -> RequestContext:
        return request_context(
            type=route.type,
            project_id=known.key,
            channel=known.channel,
            client_side=route.client or known.client_side,
            received_at_ms=received_at_ms,
            new_message_id=_new_message_id,
            sent_at=sent_at,
            context=context,
            integrations=integrations,
            ip=self._peer(request),
        )

    def _all(
        self, known: KnownSource, calls: list[dict[str, Any] | Refused], context: RequestContext
    ) -> list[Accepted]:
        accepted: list[Accepted] = []
        seen: set[str] = set()
        for call in calls:
            result = accept(call, context) if type(call) is dict else call
            if type(result) is not Accepted:
                self._refusals.call(known.key, result.code)
            elif result.message_id in seen:
                self._refusals.call(known.key, "duplicate")
            else:
                seen.add(result.message_id)
                accepted.append(result)
        return accepted

    def _peer(self, request: web.Request) -> str | None:
        """Return the client's IPv4 address; None when it has none. Rule: collect C-30."""
        remote = request.remote
        if self._proxies:
            remote = _behind(remote, request.headers.getall("X-Forwarded-For", []), self._proxies)
        return remote if remote is not None and ":" not in remote and remote else None


class _Held:
    """The bytes of one request's body that are in memory."""

    __slots__ = ("_bytes", "_tracking")

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking
        self._bytes = 0

    def take(self, size: int) -> None:
        """Count more of it. Raises _Answer when all bodies together are too many."""
        tracking = self._tracking
        tracking.held += size
        self._bytes += size
        if tracking.held > tracking._held_bytes:
            raise _overloaded(1.0)

    def release(self) -> None:
        """It is gone."""
        self._tracking.held -= self._bytes
        self._bytes = 0
        assert self._tracking.held >= 0


async def _read_slowly(
    content: Any, most: int, limit: int, held: _Held
) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while not content.at_eof():
        chunk = await content.readany()
        size += len(chunk)
        held.take(len(chunk))
        if size > most:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _inflated(body: bytes, limit: int) -> bytes:
    """Return the body without gzip, of which it may have several members.

    Never makes more than ``limit`` bytes and one. Rule: collect C-10.
    """
    chunks: list[bytes] = []
    room = limit + 1
    while body:
        inflate = zlib.decompressobj(wbits=31)
        try:
            chunk = inflate.decompress(body, room)
        except zlib.error:
            raise _Answer(400, "malformed_body", "the gzip of the body is broken") from None
        chunks.append(chunk)
        room -= len(chunk)
        if room <= 0:
            raise _too_large(limit)
        if not inflate.eof:
            raise _Answer(400, "malformed_body", "the gzip of the body ends too early")
        body = inflate.unused_data
    return b"".join(chunks)


def _check_type(request: web.Request) -> None:
    header = request.headers.get(hdrs.CONTENT_TYPE, "")
    if header in _TYPES or header.partition(";")[0].strip().lower() in _TYPES:
        return
    raise _Answer(
        400, "unsupported_content_type", "send JSON as application/json or text/plain"
    )


def _basic_key(header: str | None) -> str | None:
    """Return the write key of a Basic header; None when there is none. Rule: collect C-02, C-04."""
    if header is None:
        return None
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    rest = rest.strip()
    try:
        decoded = base64.b64decode(rest + "=" * (-len(rest) % 4), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    return decoded.partition(":")[0].strip() or None


def _behind(
    remote: str | None, forwarded: list[str], proxies: tuple[Network, ...]
) -> str | None:
    """Return the last address of the chain that is no configured proxy."""
    chain = [part.strip() for header in forwarded for part in header.split(",")]
    address = remote
    while True:
        try:
            parsed = ipaddress.ip_address(address or "")
        except ValueError:
            return None
        if not any(parsed in network for network in proxies) or not chain:
            return str(parsed)
        address = chain.pop()


def _new_message_id() -> str:
    return f"api-{secrets.token_hex(16)}"


_TOO_LARGE = Refused("event_too_large", f"the item has more than {SINGLE_BYTES} bytes")


# ---- answers -------------------------------------------------------------------------------------
def _too_large(limit: int) -> _Answer:
    return _Answer(400, "payload_too_large", f"Exceed payload limit of {limit} bytes")


def _overloaded(retry_after_s: float) -> _Answer:
    return _Answer(
        429, "overloaded", "too much is being sent now, send it again later",
        retry_after_s=max(retry_after_s, 1),
    )


def _origin(request: web.Request) -> str:
    """Return what the browser may know; only plain text is echoed."""
    origin = request.headers.get(hdrs.ORIGIN, "")
    return origin if origin and _plain(origin) else "*"


def _plain(text: str) -> bool:
    return len(text) <= 2048 and text.isascii() and text.isprintable()


def _headers(request: web.Request) -> dict[str, str]:
    return {
        hdrs.CONTENT_TYPE: "application/json",
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: _origin(request),
        hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS: "true",
        hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: "Retry-After, X-RateLimit-Reset",
        hdrs.VARY: "Origin",
    }


def _preflight(request: web.Request) -> web.Response:
    """Return the answer to a browser that asks first. Rule: collect C-11."""
    asked = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
    headers = _headers(request)
    del headers[hdrs.CONTENT_TYPE]
    headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = _METHODS
    headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = (
        asked if asked and _plain(asked) else _ALLOWED_HEADERS
    )
    headers[hdrs.ACCESS_CONTROL_MAX_AGE] = _PREFLIGHT_SECONDS
    headers[hdrs.VARY] = "Origin, Access-Control-Request-Headers"
    return web.Response(status=200, headers=headers)


def _refusal(request: web.Request, fault: _Answer) -> web.Response:
    headers = _headers(request)
    if fault.retry_after_s:
        seconds = str(max(1, math.ceil(fault.retry_after_s)))
        headers[hdrs.RETRY_AFTER] = seconds
        if fault.status == 429:
            headers["X-RateLimit-Reset"] = seconds
    answer = web.Response(
        status=fault.status,
        body=_encode({"code": fault.code, "message": fault.message}),
        headers=headers,
    )
    if fault.close:
        answer.force_close()
    return answer
