"""The HTTP server: aiohttp, with the faults that it leaves to its users put right.

A head that does not arrive closes the connection; what is no HTTP gets one line in the log, without
its text, and an answer that says nothing of how we are built; bodies come as they were sent, so
that gzip is inflated under our own limit (aiohttp takes a gzip that was cut off for whole).
"""

import asyncio
import logging
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

IDLE_SECONDS: Final = 25.0
"""A connection waits this long for the head of a request, the first or the next."""
LINGER_SECONDS: Final = 5.0
"""What is left of a refused body is read and thrown away for so long."""
STUCK_SECONDS: Final = 30.0
"""A sender that takes nothing of its answers for so long is cut off."""
BACKLOG: Final = 1024

_log = logging.getLogger("watersmeet.http")


async def start(
    app: web.Application,
    host: str,
    port: int,
    *,
    idle_seconds: float = IDLE_SECONDS,
    linger_seconds: float = LINGER_SECONDS,
    stuck_seconds: float = STUCK_SECONDS,
) -> web.AppRunner:
    """Serve ``app``; return the runner, which knows its `addresses` and ends with `cleanup()`.

    Raises OSError when the address cannot be had.
    """
    runner = _Runner(
        app,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=idle_seconds,
        lingering_time=linger_seconds,
        shutdown_timeout=5.0,
    )
    runner.stuck_seconds = stuck_seconds
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


class _Runner(web.AppRunner):
    __slots__ = ("stuck_seconds",)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        server = _Server(
            made.request_handler, request_factory=made.request_factory, **made._kwargs
        )
        server.stuck_seconds = self.stuck_seconds
        return server


class _Server(web.Server):
    stuck_seconds: float

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    __slots__ = ("_stuck",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._stuck: asyncio.TimerHandle | None = None
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._unstick()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Answers pile up: cut the sender off unless it reads on."""
        super().pause_writing()
        if self._stuck is None and self._manager is not None and self.transport is not None:
            seconds = self._manager.stuck_seconds
            self._stuck = self._loop.call_later(seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads on."""
        self._unstick()
        super().resume_writing()

    def _unstick(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def handle_error(
        self,
        _request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        _message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what broke: the sender's HTTP, or something of ours."""
        if isinstance(exc, HttpProcessingError):
            _log.info("refused what is no HTTP: %s", type(exc).__name__)
            return _answer(400, b'{"code":"bad_http","message":"the request is not valid HTTP"}')
        # a bug: the traceback goes to the log, and only there
        _log.error("a request handler broke", exc_info=exc)
        return _answer(
            status, b'{"code":"server_error","message":"something broke here; it was logged"}'
        )

    def log_exception(self, *_args: Any, **kw: Any) -> None:
        """Log what broke outside a handler, unless it is the sender who broke it."""
        exc = kw.get("exc_info")
        if isinstance(exc, web.RequestPayloadError | ConnectionError | asyncio.CancelledError):
            _log.info("a request broke off: %s", type(exc).__name__)
            return
        _log.error("a connection broke", exc_info=exc)


def _answer(status: int, body: bytes) -> web.Response:
    answer = web.Response(
        status=status,
        body=body,
        headers={
            hdrs.CONTENT_TYPE: "application/json",
            hdrs.SERVER: "Watersmeet",
            "X-Content-Type-Options": "nosniff",
        },
    )
    answer.force_close()
    return answer
