"""The only door for HTTP out: sends what waits, and logs what came back.

A send starts only from a job that is committed. What an answer means is decided by the stage
`delivery` when the logged result comes round (protocol 10); here only its class counts: may the
queue go on at once, or must it wait for the instant of the next attempt? After a start every job
without a result goes out again, under its own id.

Each destination has its own connections, its own twenty requests in flight, its own pace and its
own thread for names: one that is slow or dead holds up nobody else.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import aiohttp
from yarl import URL

from agents.delivery import ANSWER_LENGTH, HOLDS, JobRow
from agents.records import Result
from app.guard import AddressRefused, Guard
from app.waiting import Entry, Reader, Waiting
from destinations.addresses import Network
from destinations.catalogue import Ready
from destinations.request import InvalidSettings, Message, Request, Settings, without_secrets
from destinations.retry import asked_ms
from destinations.verdict import ASKS, judge

CONNECTIONS = 20
REDIRECTS = 5
BATCH_BYTES = 1_000_000
LINGER_S = 0.02
"""How long a request that is not full waits for more, where several messages go in one."""
FLUSH_S = 0.02
MOST_RESULTS = 1_000
MOST_UNLOGGED = 10_000
ANSWER_BYTES = 64 << 10
LOOK_S = 0.25
"""How often every destination is looked at: definitions and a scripted clock may have changed."""

_log = logging.getLogger("watersmeet.outbound")
_REDIRECTED = frozenset({301, 302, 303, 307, 308})
_TOKENS = {
    errno.ECONNREFUSED: "ECONNREFUSED",
    errno.ECONNRESET: "ECONNRESET",
    errno.EPIPE: "ECONNRESET",
    errno.ECONNABORTED: "ECONNABORTED",
    errno.EHOSTUNREACH: "EHOSTUNREACH",
    errno.ENETUNREACH: "EHOSTUNREACH",
    errno.ETIMEDOUT: "ETIMEDOUT",
}
_CUT = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientResponseError,
)


class Answer:
    """What came back: a status and its text, or 0 and why there is none."""

    __slots__ = ("asked_ms", "code", "status", "text")

    def __init__(self, status: int, code: str = "", text: str = "", asked_ms: int = -1) -> None:
        self.status = status
        self.code = code
        self.text = text
        self.asked_ms = asked_ms


class Outbound:
    """Sends for all destinations. Everything runs on the event loop that called `start`."""

    def __init__(
        self,
        reader: Reader,
        definitions: Callable[[], Any],
        append: Callable[[list[Result]], Awaitable[Any]],
        now_ms: Callable[[], int],
        allow: Sequence[Network] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Take what is needed; nothing is read or sent before `start`.

        ``reader`` reads what is committed; ``definitions()`` are those in force, with
        ``destinations``; ``append`` logs results as one envelope and returns when they are
        durable; ``env`` fills in `${NAME}`.
        """
        self.reader = reader
        self.definitions = definitions
        self.now_ms = now_ms
        self.allow = tuple(allow)
        self.env = env or {}
        self._append = append
        self._lines: dict[bytes, Line] = {}
        self._results: list[Result] = []
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.closing = True

    async def start(self) -> None:
        """Begin to send: every job that waits in the table goes out."""
        self.closing = False
        self._tasks = [asyncio.create_task(self._flush()), asyncio.create_task(self._look())]
        self.defined()

    async def stop(self, patience_s: float = 3.0) -> None:
        """Send nothing new, wait a moment for what is under way, log what came back, close.

        What is cut off has no result: it goes out again at the next start.
        """
        self.closing = True
        for line in self._lines.values():
            line.rest()
        flights = [task for line in self._lines.values() for task in line.flights]
        if flights:
            _, late = await asyncio.wait(flights, timeout=patience_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*flights, return_exceptions=True)
        deadline = asyncio.get_running_loop().time() + 2
        while self._results and asyncio.get_running_loop().time() < deadline:
            self._wake.set()
            await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for line in self._lines.values():
            await line.close()
        self._lines.clear()

    def changed(
        self, puts: Iterable[tuple[bytes, JobRow]], deletes: Iterable[bytes] = ()
    ) -> None:
        """Take in the job rows that a commit put and deleted. To be called after it, in order."""
        if self.closing:
            return
        lines = self._lines
        touched: dict[bytes, Line] = {}
        for key, row in puts:
            name = key[: key.index(0)]
            line = touched.get(name)
            if line is None:
                line = touched[name] = lines.get(name) or self._line(name)
            line.waiting.put(key, row)
        for key in deletes:
            name = key[: key.index(0)]
            line = touched.get(name)
            if line is None:
                line = lines.get(name)
                if line is None:
                    continue
                touched[name] = line
            line.waiting.delete(key)
        for line in touched.values():
            line.pump()

    def committed(self, rows: Mapping[bytes, JobRow | None]) -> None:
        """Take in a commit's rows of the table `jobs` as the runner tells them: None is deleted."""
        self.changed(
            [(key, row) for key, row in rows.items() if row is not None],
            [key for key, row in rows.items() if row is None],
        )

    def defined(self) -> None:
        """Take in that other definitions are in force now."""
        for key in self.definitions().destinations:
            name = key.encode()
            if name not in self._lines:
                self._line(name)
        for line in self._lines.values():
            line.pump()

    def status(self) -> dict[str, dict[str, Any]]:
        """Return, by destination, what is under way; for `/metrics` and `/health`."""
        return {
            name.decode(): {
                "in_memory": line.waiting.in_memory,
                "in_flight": len(line.flights),
                "held_until_ms": line.held_ms,
                "open": line.breaker.is_open,
                "refusals": line.refusals,
            }
            for name, line in sorted(self._lines.items())
        }

    @property
    def idle(self) -> bool:
        """Return whether nothing is under way and nothing is left to log."""
        return not self._results and not any(line.flights for line in self._lines.values())

    @property
    def clogged(self) -> bool:
        """Return whether so many results wait to be logged that nothing new is sent."""
        return len(self._results) >= MOST_UNLOGGED

    def log(self, results: list[Result]) -> None:
        """Have the results logged soon."""
        self._results.extend(results)
        self._wake.set()

    def destination(self, key: str) -> Ready | None:
        """Return the destination as it is defined now; None: it is gone."""
        found: Ready | None = self.definitions().destinations.get(key)
        return found

    def _line(self, name: bytes) -> "Line":
        line = self._lines[name] = Line(self, name.decode())
        return line

    async def _flush(self) -> None:
        """Log results in groups: many in one envelope, and never one sync a message."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._results:
                group = self._results[:MOST_RESULTS]
                clogged = self.clogged
                try:
                    await self._append(group)
                except Exception as why:  # noqa: BLE001, the log may be full: nothing is lost by waiting
                    _log.warning("results cannot be logged (%s), trying again", type(why).__name__)
                    await asyncio.sleep(1)
                    continue
                del self._results[: len(group)]
                if clogged and not self.clogged:
                    for line in self._lines.values():
                        line.pump()
                if len(self._results) < MOST_RESULTS:
                    await asyncio.sleep(FLUSH_S)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            destinations = self.definitions().destinations
            for name, line in list(self._lines.items()):
                if line.key in destinations or line.flights:
                    line.pump()
                else:
                    del self._lines[name]
                    line.rest()
                    await line.close()


class Line:
    """One destination's way out."""

    def __init__(self, outbound: Outbound, key: str) -> None:
        self.key = key
        self._outbound = outbound
        self._loop = asyncio.get_running_loop()
        self.waiting = Waiting(key, outbound.reader, outbound.now_ms)
        self.flights: set[asyncio.Task[None]] = set()
        self.breaker = Breaker()
        self.refusals = 0
        """Answers of 401 and 403 in a row: somebody should look at the credentials."""
        self.held_ms = outbound.reader.get(HOLDS, key.encode()) or 0
        self._guard = Guard(outbound.allow)
        self._session: aiohttp.ClientSession | None = None
        self._ready: Ready | None = None
        self._settings: Settings | None = None
        self._timer: asyncio.Handle | None = None
        self._rings_at = 0.0
        self._soon: asyncio.Handle | None = None
        self._lingers: float | None = None
        self._free_at = 0.0
        """When the rate limit lets the next request go (GCRA)."""

    def rest(self) -> None:
        """Start nothing more."""
        for handle in (self._timer, self._soon):
            if handle is not None:
                handle.cancel()
        self._timer = self._soon = None

    async def close(self) -> None:
        """Let the connections go."""
        if self._session is not None:
            await self._session.close()
        await self._guard.close()

    # ---- what goes next
    def pump(self) -> None:
        """Start as many requests as may go now, and see to it that the next is thought of."""
        outbound = self._outbound
        if outbound.closing or self._soon is not None:
            return
        ready = outbound.destination(self.key)
        if ready is None or not ready.enabled:
            return  # parked (workspace WS-23)
        if ready is not self._ready:
            self._define(ready)
        waiting = self.waiting
        waiting.wake()
        if waiting.load():
            self._soon = self._loop.call_soon(self._again)
        flights = self.flights
        while waiting.ready and len(flights) < CONNECTIONS and not outbound.clogged:
            pause_s = self._pause_s(ready)
            if pause_s > 0:
                self._call_in(pause_s)
                return
            if not waiting.next_is_full(ready.batch_size):
                now = self._loop.time()
                if self._lingers is None:
                    self._lingers = now + LINGER_S
                if self._lingers > now:
                    self._call_in(self._lingers - now)
                    return
            self._lingers = None
            entries = waiting.take(ready.batch_size, BATCH_BYTES)
            if not entries:
                break
            self._spend(ready)
            self.breaker.sent()
            task = self._loop.create_task(self._fly(entries, ready, self._settings))
            flights.add(task)
            task.add_done_callback(flights.discard)
        if waiting.next_ms is not None:
            self._call_in(max(0.001, (waiting.next_ms - outbound.now_ms()) / 1000))

    def _again(self) -> None:
        self._soon = None
        self.pump()

    def _call_in(self, seconds: float) -> None:
        when = self._loop.time() + seconds
        if self._timer is not None:
            if self._rings_at <= when and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._rings_at = when  # uvloop's handles do not tell, when the instant is now
        self._timer = self._loop.call_at(when, self._rang)

    def _rang(self) -> None:
        self._timer = None
        self.pump()

    def _pause_s(self, ready: Ready) -> float:
        """Return how long this destination is to be left alone; 0: it may be called."""
        held_ms = self.held_ms - self._outbound.now_ms()
        if held_ms > 0:
            return held_ms / 1000
        now = self._loop.time()
        closed = self.breaker.pause_s(now)
        if closed > 0:
            return closed
        return self._free_at - now if ready.per_second and self._free_at > now else 0.0

    def _spend(self, ready: Ready) -> None:
        """Count a request against the rate; a timer that rang late may catch up a little."""
        if ready.per_second:
            step = 1 / ready.per_second
            now = self._loop.time()
            self._free_at = max(self._free_at, now - min(0.01, step)) + step

    def _define(self, ready: Ready) -> None:
        """Settings are read afresh: new credentials count for what already waits."""
        self._ready = ready
        try:
            self._settings = ready.settings(self._outbound.env)
        except InvalidSettings as why:
            _log.error("destinations.%s.%s; what waits for it is discarded", self.key, why)
            self._settings = None

    # ---- one request
    async def _fly(self, entries: list[Entry], ready: Ready, settings: Settings | None) -> None:
        if settings is None:
            answer = Answer(0, "INVALID_SETTINGS")
        else:
            messages = [
                Message(entry.row.message_id, entry.attempt, entry.row.body) for entry in entries
            ]
            try:
                request = ready.kind.request(settings, messages)
                answer = await self._send(request, settings, ready.timeout_ms / 1000)
            except Exception as why:  # noqa: BLE001, whatever it is must not strand the queue
                _log.error("destinations.%s: a request broke: %s", self.key, type(why).__name__)
                answer = Answer(0, "ECONNABORTED")
        status, code = answer.status, answer.code
        final = judge(status, code) != "retry"
        if answer.asked_ms > self.held_ms:
            self.held_ms = answer.asked_ms
        self.refusals = self.refusals + 1 if status in (401, 403) else 0
        self.breaker.answered(
            self._loop.time(), status >= 500 or status == 408 or (status == 0 and not final)
        )
        if status == 429 and answer.asked_ms < 0:
            self.breaker.too_many(self._loop.time())
        elif final:
            self.breaker.enough()
        finish = self.waiting.finish
        results = [
            Result(entry.key, entry.attempt, status, code, answer.text, answer.asked_ms)
            for entry in entries
            if finish(entry, final)
        ]
        if results:
            self._outbound.log(results)
        task = asyncio.current_task()
        assert task is not None
        self.flights.discard(task)
        self.pump()

    async def _send(self, request: Request, settings: Settings, timeout_s: float) -> Answer:
        """Send, following redirects; every connection passes the guard.

        The verdict stands with the status line: what happens to the rest of the answer, that it
        drips, breaks off or never comes, changes nothing.
        """
        session = self._session or self._open()
        answer: Answer | None = None
        try:
            url = URL(request.url)
        except ValueError:
            return Answer(0, "INVALID_SETTINGS")
        try:
            async with asyncio.timeout(timeout_s):
                method, body, headers = request.method, request.body, request.headers
                for _ in range(REDIRECTS + 1):
                    async with session.request(
                        method, url, data=body, headers=headers, allow_redirects=False
                    ) as response:
                        status = response.status
                        target = _target(url, response) if status in _REDIRECTED else None
                        if target is None:
                            answer = Answer(status)
                            await self._read(answer, response, settings)
                            return answer
                    if target.origin() != url.origin():
                        # What the operator put in for one host is not for another to see.
                        given = {name.lower() for name in settings.headers}
                        headers = {
                            name: value
                            for name, value in headers.items()
                            if name.lower() not in given
                        }
                    if status == 303:
                        method, body = "GET", b""
                    url = target
                return Answer(status)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RuntimeError) as why:
            if answer is None:
                answer = Answer(0, token(why))
                if answer.code == "INVALID_SETTINGS" and self._guard.refuses(url.host or ""):
                    answer.code = "address_refused"  # an address in an odd form: 127.1, 0x7f.1
            return answer

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=self._guard.connector(CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers={"Accept": "*/*", "Accept-Encoding": "identity"},
        )
        return self._session

    async def _read(
        self, answer: Answer, response: aiohttp.ClientResponse, settings: Settings
    ) -> None:
        """Read the answer's body, up to a bound; of one that says no, keep the beginning."""
        delivered = 200 <= answer.status < 300
        if answer.status in ASKS:
            now_ms = self._outbound.now_ms()
            answer.asked_ms = asked_ms(response.headers.get("Retry-After"), now_ms)
        body = b""
        while len(body) < ANSWER_BYTES:
            chunk = await response.content.read(ANSWER_BYTES - len(body))
            if not chunk:
                break
            body += chunk
        if not delivered:
            text = without_secrets(settings, body[: 4 * ANSWER_LENGTH].decode("utf-8", "replace"))
            answer.text = text[:ANSWER_LENGTH]


class Breaker:
    """Stops calling a destination that hardly ever answers (delivery 6, Circuit breaker).

    Opens when at least half of at least 100 attempts within a minute failed; then lets one
    request through after 30 s, and doubles that up to 10 minutes while it fails. A 429 that names
    no instant is a pause of a second, doubled up to a minute while they go on.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._attempts = 0
        self._failures = 0
        self._until = 0.0
        self._span = 0.0
        """How long it is open; 0: it is closed."""
        self._probing = False
        self._quiet_until = 0.0
        self._quiet = 0.0

    @property
    def is_open(self) -> bool:
        """Return whether calls are held back."""
        return self._span > 0

    def pause_s(self, now: float) -> float:
        """Return how long to wait; 0: go on."""
        if not self._span:
            return max(0.0, self._quiet_until - now)
        if self._probing:
            return 1.0
        return max(0.0, self._until - now)

    def too_many(self, now: float) -> None:
        """It answered 429 and did not say for how long; those sent together count once."""
        if now >= self._quiet_until:
            self._quiet = min(self._quiet * 2 or 1.0, 60.0)
            self._quiet_until = now + self._quiet

    def enough(self) -> None:
        """It took a request."""
        self._quiet = 0.0

    def sent(self) -> None:
        """A request was started."""
        if self._span:
            self._probing = True

    def answered(self, now: float, failed: bool) -> None:
        """A request ended."""
        if self._span:
            if not failed:
                self._span = 0.0
                self._attempts = self._failures = 0
            elif self._probing:
                self._span = min(self._span * 2, 600.0)
                self._until = now + self._span
            self._probing = False
            return
        if now - self._since > 60:
            self._since = now
            self._attempts = self._failures = 0
        self._attempts += 1
        self._failures += failed
        if self._attempts >= 100 and self._failures * 2 >= self._attempts:
            self._span = 30.0
            self._until = now + self._span


def token(why: BaseException) -> str:
    """Return why no answer came, in one word; never a text that may hold an address or a secret."""
    if isinstance(why, aiohttp.InvalidURL):
        return "INVALID_SETTINGS"
    if isinstance(why, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError)):
        return "ECERT"
    cause = why.os_error if isinstance(why, aiohttp.ClientConnectorError) else why
    if isinstance(cause, AddressRefused):
        return "address_refused"
    if isinstance(cause, ssl.SSLError):
        return "ECERT"
    if isinstance(cause, socket.gaierror):
        return "EAI_AGAIN" if cause.errno == socket.EAI_AGAIN else "ENOTFOUND"
    if isinstance(cause, OSError) and cause.errno in _TOKENS:
        return _TOKENS[cause.errno]
    if isinstance(cause, TimeoutError):
        return "ETIMEDOUT"
    if isinstance(why, aiohttp.ClientConnectorDNSError):
        return "ENOTFOUND"
    if isinstance(why, _CUT):
        return "ECONNRESET"
    return "ECONNABORTED"


def _target(url: URL, response: aiohttp.ClientResponse) -> URL | None:
    """Return where a redirect leads; None: nowhere that may be followed.

    The message keeps its method and its body (but 303, which says to fetch), and what was meant
    for TLS does not go on without.
    """
    location = response.headers.get("Location")
    if not location:
        return None
    try:
        target = url.join(URL(location))
    except ValueError:
        return None
    if target.scheme not in ("http", "https") or not target.host:
        return None
    if url.scheme == "https" and target.scheme == "http":
        return None
    return target
