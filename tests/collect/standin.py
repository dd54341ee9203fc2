"""What stands behind the tracking API in these tests, and what stands before it."""

import asyncio
import base64
import io
import json
from typing import Any

from aiohttp import ClientSession, web

from app.web import ingest, listener
from app.web.refusals import Refusals
from events.event import Received
from sources.definition import Source
from sources.keys import SourceIndex

NOON_MS = 1_767_614_400_000
"""2026-01-05T12:00:00.000Z: the server's clock stands still there."""

SERVER, WEBSITE, MOBILE, OFF = "wk_server_1", "wk_website_1", "wk_mobile_1", "wk_off_12345"
SOURCES = {
    "backend": Source(type="server", write_keys=(SERVER, "wk_server_2")),
    "shop": Source(type="website", write_keys=(WEBSITE,)),
    "phone": Source(type="mobile", write_keys=(MOBILE,)),
    "old": Source(type="server", write_keys=(OFF,), enabled=False),
}


class StandIn:
    """An intake that keeps what it is given, and fails when told to."""

    def __init__(self) -> None:
        self.index = SourceIndex(SOURCES)
        self.appends: list[tuple[int, list[Received]]] = []
        self.failures: list[Exception] = []
        """Raised by the next appends, one each."""
        self.gate: asyncio.Event | None = None
        """Appends wait for it."""
        self.clock_ms = NOON_MS

    def source_index(self) -> SourceIndex:
        return self.index

    def now_ms(self) -> int:
        return self.clock_ms

    async def append(self, received_at_ms: int, calls: list[Received]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.appends.append((received_at_ms, calls))

    @property
    def events(self) -> list[dict[str, Any]]:
        """All stored events so far."""
        return [json.loads(call.body) for _, calls in self.appends for call in calls]


class Api:
    """A running tracking API over a stand-in."""

    def __init__(self, **options: Any) -> None:
        self.intake = StandIn()
        self.refusals = Refusals()
        self.app = web.Application()
        self.options = options
        self.server_options: dict[str, float] = {}
        self.host, self.port = "127.0.0.1", 0

    async def __aenter__(self) -> "Api":
        ingest.add_routes(self.app, self.intake, refusals=self.refusals, **self.options)
        self.runner = await listener.start(self.app, self.host, 0, **self.server_options)
        self.port = self.runner.addresses[0][1]
        self.session = ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()
        await self.runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def send(
        self, path: str, body: Any, key: str | None = SERVER, method: str = "POST", **headers: str
    ) -> "Answer":
        """Send a body (bytes as they are, all else as JSON); header names with _ for -."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        if len(data) > 1_000_000:
            data = io.BytesIO(data)
        fields = {"Content-Type": "application/json"}
        if key is not None:
            fields["Authorization"] = basic(key + ":")
        for name, value in headers.items():
            fields[name.replace("_", "-")] = value
        async with self.session.request(
            method, self.url + path, data=data, headers=fields
        ) as answer:
            return Answer(answer.status, await answer.read(), dict(answer.headers))

    async def accepted(self, path: str, body: Any, key: str | None = SERVER, **headers: str) -> Any:
        """Send, and return the one stored event that came of it."""
        before = len(self.intake.events)
        answer = await self.send(path, body, key, **headers)
        assert answer.success, answer
        assert len(self.intake.events) == before + 1, self.refusals.calls
        return self.intake.events[-1]

    async def refused(self, path: str, body: Any, key: str | None = SERVER) -> str:
        """Send, and return the reason for which the one call of it was refused."""
        before = dict(self.refusals.calls)
        events = len(self.intake.events)
        answer = await self.send(path, body, key)
        assert answer.success, answer
        assert len(self.intake.events) == events, self.intake.events[events:]
        new = {
            key: count - before.get(key, 0)
            for key, count in self.refusals.calls.items()
            if count != before.get(key, 0)
        }
        assert list(new.values()) == [1], new
        return next(iter(new))[1]

    async def raw(self, data: bytes, seconds: float = 5, answers: int = 1) -> bytes:
        """Write bytes to a fresh connection, return what comes back: so many answers at most."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(data)
        back = b""
        try:
            async with asyncio.timeout(seconds):
                while part := await reader.read(65536):
                    back += part
                    if back.count(b"}") >= answers:
                        break
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()
        return back


class Answer:
    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status = status
        self.body = body
        self.headers = headers

    @property
    def success(self) -> bool:
        return self.status == 200 and self.body == b'{"success":true}'

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"{self.status} {self.body!r}"


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def post(path: str, body: bytes, *headers: str, key: str = SERVER) -> bytes:
    """Return a whole request as bytes."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Authorization: {basic(key + ':')}",
        "Content-Type: application/json",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


TRACK = {"event": "Plan Upgraded", "userId": "u_81"}
