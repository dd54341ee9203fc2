"""A stage `delivery` and an outbound around an in-memory state: what the runner does, by hand."""

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from agents.delivery import DEAD, JOBS, STAGE, JobRow, settled_definitions
from agents.records import Job, Moved, Result
from app.outbound import Outbound
from destinations.addresses import networks
from destinations.catalogue import Destinations, compiled
from destinations.definition import Destination, Events, RateLimit, Retry, WebhookSettings
from tests.stages import MemoryState

HOUR_MS = 3_600_000
T0_MS = 1_800_000_000_000


def webhook(url: str = "http://127.0.0.1:1/", **more: Any) -> Destination:
    """Return a definition; what is not a setting stands beside them."""
    outside = {"enabled", "sources", "events", "retry", "rate_limit", "include_traits", "name"}
    given = {key: more.pop(key) for key in list(more) if key in outside}
    return Destination(type="webhook", settings=WebhookSettings(url=url, **more), **given)


def window(text: str) -> Retry:
    """Return the retry settings with this window."""
    return Retry(window=text)


def per_second(limit: float) -> RateLimit:
    """Return the limit."""
    return RateLimit(per_second=limit)


def only(types: Any = None, names: Any = None) -> Events:
    """Return which events are asked for."""
    given = {"types": types, "names": names}
    return Events(**{key: value for key, value in given.items() if value is not None})


class Definitions:
    """As much of a workspace's definitions as delivery reads."""

    def __init__(self, given: dict[str, Destination]) -> None:
        self.destinations: Destinations = compiled(given)


def job(n: int, queue: str = "p1", destination: str = "webhook") -> Job:
    """Return a job with the id ``m<n>``."""
    return Job(destination, queue, f"m{n}", b'{"messageId":"m%d","n":%d}' % (n, n))


class Rig:
    """One workspace: feed it jobs, look at what is left."""

    def __init__(self, **given: Destination) -> None:
        self.clock_ms = T0_MS
        self.state = MemoryState(Definitions(given), T0_MS)
        self.results: list[Result] = []
        self.outbound: Outbound | None = None
        self.refuse_results = 0
        self.env: dict[str, str] = {}

    # ---- outbound
    async def start(self, allow: str = "127.0.0.0/8, ::1") -> Outbound:
        self.outbound = Outbound(
            self.state,
            lambda: self.state.definitions,
            self._append,
            lambda: self.clock_ms,
            networks(allow),
            self.env,
        )
        await self.outbound.start()
        return self.outbound

    async def stop(self) -> None:
        if self.outbound is not None:
            await self.outbound.stop(0.2)
            self.outbound = None

    async def crash(self) -> None:
        """Lose what outbound knows, and what it has not logged."""
        outbound, self.outbound = self.outbound, None
        outbound._results.clear()
        tasks = [*outbound._tasks, *(t for line in outbound._lines.values() for t in line.flights)]
        outbound.closing = True
        for line in outbound._lines.values():
            line.rest()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for line in outbound._lines.values():
            await line.close()

    async def _append(self, results: list[Result]) -> None:
        if self.refuse_results:
            self.refuse_results -= 1
            raise OSError("no space left on device")
        self.results.extend(results)
        self.apply(*results)

    # ---- the log
    def apply(self, *records: Any) -> None:
        """Let the stage handle the records as one batch, and tell outbound what was committed."""
        before = dict(self.state.rows.get(JOBS.prefix, {}))
        for record in records:
            self.state.run(STAGE, record, self.clock_ms)
        self._tell(before)

    def _tell(self, before: dict[bytes, bytes]) -> None:
        after = self.state.rows.get(JOBS.prefix, {})
        rows: dict[bytes, JobRow | None] = {
            key: self.state.get(JOBS, key) for key in after if before.get(key) != after[key]
        }
        rows |= {key: None for key in before if key not in after}
        if self.outbound is not None:
            self.outbound.committed(rows)

    def define(self, **given: Destination) -> None:
        before = dict(self.state.rows.get(JOBS.prefix, {}))
        self.state.definitions = Definitions(given)
        self.state.at_ms = self.clock_ms
        settled_definitions(self.state)
        self._tell(before)
        if self.outbound is not None:
            self.outbound.defined()

    def merge(self, loser: str, survivor: str) -> None:
        self.apply(Moved(loser, survivor))

    def result(self, key: bytes, attempt: int, status: int, code: str = "", **more: Any) -> None:
        self.apply(Result(key, attempt, status, code, "", **more))

    # ---- what is left
    @property
    def jobs(self) -> list[tuple[bytes, JobRow]]:
        return list(self.state.scan(JOBS))

    @property
    def dead(self) -> list[Any]:
        return [letter for _, letter in self.state.scan(DEAD)]

    def counted(self, what: str, destination: str = "webhook") -> int:
        return self.state.counters[f"jobs_{what}:{destination}"]

    async def until(self, true: Callable[[], bool], seconds: float = 5.0) -> None:
        """Wait until it is true; fail if it does not become so."""
        end = asyncio.get_running_loop().time() + seconds
        while not true():
            assert asyncio.get_running_loop().time() < end, "it did not come to it in time"
            await asyncio.sleep(0.005)

    async def drained(self, seconds: float = 5.0) -> None:
        await self.until(lambda: not self.jobs, seconds)


class Sink:
    """A destination on loopback: answers as told and keeps what it got."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.answer: Callable[[web.Request, int], Any] | None = None
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> "Sink":
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hook"
        return self

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        n = len(self.got)
        self.got.append((dict(request.headers), body))
        if self.answer is not None:
            answer = self.answer(request, n)
            if asyncio.iscoroutine(answer):
                answer = await answer
            return answer
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, text="thanks" if status < 400 else "no")

    @property
    def ids(self) -> list[str]:
        return [headers["X-Message-Id"] for headers, _ in self.got]
