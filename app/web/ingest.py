"""The tracking API: what SDKs send is checked, made durable, and only then answered 200 (collect).

A request is decoded, its calls become stored events (`events.calls`), and one append to the log
carries them all. What is refused is counted by reason and leaves no other trace: no text of an
event reaches a log line, an answer or a counter's name.
"""

import base64
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from aiohttp import hdrs, web
from msgspec import Struct

from app.web import answers, bodies
from app.web.bodies import Fault, Held, Room
from app.web.refusals import UNKNOWN, Refusals
from events.calls import Refused, RequestContext, accept, request_context
from events.event import Received
from events.wire import (
    NOT_AN_OBJECT,
    Malformed,
    decode_batch,
    decode_call,
    decode_calls,
    decode_value,
    long_numbers,
)
from sources.keys import KnownSource, SourceIndex

SINGLE_BYTES: Final = 32 * 1024
BATCH_BYTES: Final = 500 * 1024
BATCH_ITEMS: Final = 2_500
SPREAD_BYTES: Final = 4 * 1024 * 1024
"""What the context and integrations of a batch may add to all of its items together."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Overloaded(Exception):
    """The log cannot take more now; come back in ``retry_after_s``."""

    def __init__(self, retry_after_s: float = 1) -> None:
        """Say when."""
        super().__init__(f"overloaded, retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class NotDurable(Exception):
    """The calls could not be made durable: none of them was accepted."""

    def __init__(self, retry_after_s: float = 1) -> None:
        """Say when to try again."""
        super().__init__(f"not durable, retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Intake(Protocol):
    """Where accepted calls go."""

    def source_index(self) -> SourceIndex:
        """Return the sources as they are defined now."""

    def now_ms(self) -> int:
        """Return the wall clock in milliseconds."""

    async def append(self, received_at_ms: int, calls: list[Received]) -> None:
        """Return when the calls are durable, all of them.

        Raises Overloaded before memory grows, NotDurable when the disk fails.
        """


class Route(Struct, frozen=True):
    """What a path decides: the call (None: a batch), and whether its senders are clients."""

    type: str | None
    client: bool


_CALLS = ("identify", "track", "page", "screen", "group", "alias")
ROUTES: Final = {
    **{f"/v1/{call}": Route(call, client=False) for call in _CALLS},
    **{f"/v1/{call[0]}": Route(call, client=True) for call in _CALLS},
    "/v1/batch": Route(None, client=False),
    "/v1/b": Route(None, client=True),
    "/v1/import": Route(None, client=False),
}

_TYPES = frozenset(("", "application/json", "text/plain"))
_ITEM_TOO_LARGE = Refused("event_too_large", f"the item has more than {SINGLE_BYTES} bytes")


def add_routes(
    app: web.Application,
    intake: Intake,
    *,
    refusals: Refusals | None = None,
    proxies: Sequence[Network] = (),
    held_bytes: int = bodies.HELD_BYTES,
    read_seconds: float = bodies.READ_SECONDS,
) -> None:
    """Serve the tracking API on ``app``; start that with `app.web.listener.start`.

    ``proxies``: networks whose X-Forwarded-For is believed; ``held_bytes``: memory for all bodies
    at a time, over it the answer is 429; ``read_seconds``: a body must have arrived by then.
    """
    tracking = Tracking(
        intake,
        Refusals() if refusals is None else refusals,
        proxies=tuple(proxies),
        room=Room(held_bytes),
        read_seconds=read_seconds,
    )
    for path, route in ROUTES.items():
        handler = tracking.handler(route)
        app.router.add_route("*", path, handler)
        app.router.add_route("*", f"{path}/", handler)


class Tracking:
    """Handles the requests of all routes."""

    def __init__(
        self,
        intake: Intake,
        refusals: Refusals,
        *,
        proxies: tuple[Network, ...],
        room: Room,
        read_seconds: float,
    ) -> None:
        """Send what is accepted to ``intake``, count the rest in ``refusals``."""
        self._intake = intake
        self._refusals = refusals
        self._proxies = proxies
        self._room = room
        self._read_seconds = read_seconds

    def handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Return the handler of one path."""

        async def handle(request: web.Request) -> web.Response:
            if request.method == hdrs.METH_POST:
                return await self._post(request, route)
            if request.method == hdrs.METH_OPTIONS:
                return answers.preflight(request)
            return answers.refusal(request, Fault(405, "method_not_allowed", "send it by POST"))

        return handle

    async def _post(self, request: web.Request, route: Route) -> web.Response:
        held = Held(self._room)
        try:
            await self._take(request, route, held)
        except Fault as fault:
            return self._refuse(request, fault)
        except Malformed as error:
            return self._refuse(request, Fault(400, "malformed_json", f"malformed JSON: {error}"))
        except Overloaded as error:
            return self._refuse(request, bodies.overloaded(error.retry_after_s))
        except NotDurable as error:
            message = "the calls could not be stored, send them again later"
            again = max(error.retry_after_s, 1)
            return self._refuse(request, Fault(503, "not_durable", message, retry_after_s=again))
        finally:
            held.release()
        return answers.success(request)

    def _refuse(self, request: web.Request, fault: Fault) -> web.Response:
        self._refusals.request(fault.code)
        return answers.refusal(request, fault)

    async def _take(self, request: web.Request, route: Route, held: Held) -> None:
        """Return when what can be accepted is durable and the rest is counted."""
        if "X-Retry-Count" in request.headers:
            self._refusals.retry(request.headers["X-Retry-Count"])
        _check_type(request)
        limit = BATCH_BYTES if route.type is None else SINGLE_BYTES
        body = await bodies.read(request, limit, held, self._read_seconds)
        received_at_ms = self._intake.now_ms()
        read = self._single if route.type is not None else self._batch
        accepted = read(request, route, body, received_at_ms)
        if accepted:
            await self._intake.append(received_at_ms, accepted)
            self._refusals.accepted += len(accepted)

    # ---- from a body to stored events ------------------------------------------------------------
    def _single(
        self, request: web.Request, route: Route, body: bytes, received_at_ms: int
    ) -> list[Received]:
        call = decode_call(body)
        if call is NOT_AN_OBJECT:
            raise Malformed("the body must be an object")
        known = self._source(request, _own_key(call), 1)
        if known is None:
            return []
        context = self._shared(request, route, known, received_at_ms)
        return self._accept(known, [call], context)

    def _batch(
        self, request: web.Request, route: Route, body: bytes, received_at_ms: int
    ) -> list[Received]:
        batch, marked = decode_batch(body)
        raws = (batch.batch or []) if batch is not None else []
        items = [bytes(raw) for raw in raws[:BATCH_ITEMS]]
        key = decode_value(batch.write_key) if batch is not None else None
        if type(key) is not str and items:
            key = _own_key(decode_call(items[0], marked=marked))
        known = self._source(request, key, len(raws) or 1)
        mobile = known is not None and known.source.type == "mobile"
        largest = max(map(len, items), default=0)
        if largest > SINGLE_BYTES and not mobile:
            raise bodies.too_large(SINGLE_BYTES)
        if known is None:
            return []
        if batch is None or not raws:
            self._refusals.call(known.key, "bad_request" if batch is None else "empty_batch")
            return []
        if len(raws) > BATCH_ITEMS:
            self._refusals.call(known.key, "batch_limit_exceeded", len(raws) - BATCH_ITEMS)
        shared_bytes = len(bytes(batch.context)) + len(bytes(batch.integrations))
        if shared_bytes > SINGLE_BYTES or shared_bytes * len(items) > SPREAD_BYTES:
            raise bodies.too_large(SINGLE_BYTES)
        context = self._shared(
            request,
            route,
            known,
            received_at_ms,
            sent_at=decode_value(batch.sent_at),
            context=decode_value(batch.context),
            integrations=decode_value(batch.integrations),
        )
        numbers = None if long_numbers(body) else False
        calls: Iterable[dict[str, Any] | Refused]
        if mobile and largest > SINGLE_BYTES:
            calls = [
                _ITEM_TOO_LARGE
                if len(item) > SINGLE_BYTES
                else decode_call(item, numbers=numbers, marked=marked)
                for item in items
            ]
        else:
            calls = decode_calls(items, numbers=numbers, marked=marked)
        accepted = self._accept(known, calls, context)
        if len(accepted) < len(raws):
            self._refusals.request("multi_user_error" if accepted else "empty_batch_result")
        return accepted

    def _source(self, request: web.Request, own_key: object, calls: int) -> KnownSource | None:
        """Return whose calls these are; None, and all of them counted, when they are nobody's.

        Rule: collect C-05, C-06.
        """
        key = _basic_key(request.headers.get(hdrs.AUTHORIZATION)) or own_key
        known = None
        if type(key) is str:
            known = self._intake.source_index().by_write_key.get(key)
        if known is None:
            self._refusals.call(UNKNOWN, "unknown_source", calls)
            return None
        if not known.source.enabled:
            self._refusals.call(known.key, "source_disabled", calls)
            return None
        return known

    def _shared(
        self,
        request: web.Request,
        route: Route,
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
            ip=_peer(request, self._proxies),
        )

    def _accept(
        self, known: KnownSource, calls: Iterable[dict[str, Any] | Refused], context: RequestContext
    ) -> list[Received]:
        """Return the stored events, of equal messageIds the first valid one. Rule: collect C-35."""
        # Each call goes all its way while it is in the processor's cache; nothing is counted until
        # all are known to be JSON.
        results = [accept(call, context) if type(call) is dict else call for call in calls]
        accepted: list[Received] = []
        ids: set[str] = set()
        for result in results:
            if type(result) is Refused:
                self._refusals.call(known.key, result.code)
            elif result.message_id in ids:
                self._refusals.call(known.key, "duplicate")
            else:
                ids.add(result.message_id)
                accepted.append(result)
        return accepted


# ---- what the headers say ------------------------------------------------------------------------
def _check_type(request: web.Request) -> None:
    """Raise Fault for a body that does not claim to be JSON. Rule: collect C-09."""
    header = request.headers.get(hdrs.CONTENT_TYPE, "")
    if header in _TYPES or header.partition(";")[0].strip().lower() in _TYPES:
        return
    message = "send JSON, with Content-Type application/json or text/plain"
    raise Fault(400, "unsupported_content_type", message)


def _basic_key(header: str | None) -> str | None:
    """Return the write key of a Basic header, colon or not; None when there is none.

    Rule: collect C-02.
    """
    if header is None:
        return None
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    rest = rest.strip()
    try:
        decoded = base64.b64decode(rest + "=" * (-len(rest) % 4), validate=True).decode("ascii")
    except ValueError:  # binascii.Error and UnicodeDecodeError are such
        return None
    return decoded.partition(":")[0].strip() or None


def _own_key(call: dict[str, Any] | Refused) -> object:
    return call.get("writeKey") if type(call) is dict else None


def _peer(request: web.Request, proxies: tuple[Network, ...]) -> str | None:
    """Return the sender's IPv4 address; None when it has none, or none that can be believed.

    Rule: collect C-30.
    """
    remote = request.remote
    if not proxies and remote and ":" not in remote:
        return remote
    forwarded = request.headers.getall("X-Forwarded-For", ()) if proxies else ()
    chain = [part.strip() for header in forwarded for part in header.split(",")]
    while True:
        try:
            address = ipaddress.ip_address(remote or "")
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if not chain or not any(address in network for network in proxies):
            return str(address) if address.version == 4 else None
        remote = chain.pop()


def _new_message_id() -> str:
    return f"api-{secrets.token_hex(16)}"
