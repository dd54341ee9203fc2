"""A worker that already knows many people: filled once a run, over HTTP, and used by many rows.

Two in five of them have told who they are, one in five an address, too; all have one event. Their
ids are those of the town `TOWN` in `people.py`, so that its traffic meets people who are known.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from bench.load import send
from bench.make_workspace import WRITE_KEY, write
from bench.people import iso, visitor
from bench.processes import Worker

TOWN = 7
BATCH = 250

_messages = msgspec.json.Decoder(list[dict[str, Any]]).decode


class Sink:
    """The webhook, in this process, so that its clock is the sender's."""

    def __init__(self) -> None:
        """Take messages and forget them, unless `listener` is set."""
        self.listener: Callable[[dict[str, Any], float], None] | None = None
        self.address = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.address = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.listener is not None:
            now = time.time()
            for message in _messages(body):
                self.listener(message, now)
        return web.Response(body=b"ok")

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()


class Large:
    """The folder of many people, and a worker on it."""

    def __init__(self, folder: Path, people: int) -> None:
        """Nothing is begun before it is asked for."""
        self.people = people
        self.data = folder / "large"
        self.config = folder / "large-workspace"
        self.sink = Sink()
        self.filled_per_s = 0.0
        self._worker: Worker | None = None
        self._filled = False

    async def worker(self) -> Worker:
        """Return a worker that serves, the folder filled."""
        if self._worker is None:
            self._worker = Worker(self.data, await self.workspace())
            await self._worker.up()
            if not self._filled:
                self.filled_per_s = await fill(self._worker, range(self.people))
                self._filled = True
        return self._worker

    async def workspace(self) -> Path:
        """Return the folder of the definitions, their webhook listening."""
        if not self.sink.address:
            await self.sink.start()
            write(self.config, self.sink.address)
            (self.config / "short.yaml").write_text(
                "version: 1\naudiences:\n  pinged:\n"
                "    where: {performed: {event: Ping Sent, at_least: 1, within: 5s}}\n"
                "    destinations: [{to: sink, send: [track]}]\n"
            )
        return self.config

    async def folder(self) -> Path:
        """Return the data folder, filled, and no worker on it."""
        if not self._filled:
            await self.worker()
        self.stop()
        return self.data

    def stop(self) -> None:
        """Stop the worker, in order."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    async def close(self) -> None:
        """Stop all."""
        self.stop()
        await self.sink.stop()


async def fill(worker: Worker, people: Iterable[int]) -> float:
    """Have the worker meet these people. Return events a second, from HTTP to delivered."""
    began = time.perf_counter()
    await post(worker, (event(person) for person in people), BATCH)
    await worker.settled(0.2)
    return worker.sent / (time.perf_counter() - began)


def event(person: int) -> bytes:
    """Return the one event that a person starts with."""
    head = (f'{{"messageId":"fill-{person}","anonymousId":"{visitor(person, 0, TOWN)}",'
            f'"timestamp":"{iso(time.time_ns() // 1_000_000)}",'
            '"context":{"locale":"en-GB","timezone":"Europe/Berlin"},')
    if person % 5 < 2:
        address = f',"email":"p{person}@shop.test"' if person % 5 else ""
        return (f'{head}"type":"identify","userId":"u-{person}",'
                f'"traits":{{"first_name":"Name{person}"{address}}}}}').encode()
    return (f'{head}"type":"page","name":"Home","properties":'
            '{"category":"shoes","path":"/"}}').encode()


async def post(worker: Worker, events: Iterable[bytes], size: int) -> None:
    """Post encoded calls in batches, and count them as sent."""
    def bodies() -> Iterator[bytes]:
        held: list[bytes] = []
        for one in events:
            held.append(one)
            if len(held) == size:
                yield body(held)
                held.clear()
        if held:
            yield body(held)

    def body(calls: list[bytes]) -> bytes:
        worker.sent += len(calls)
        return b'{"writeKey":"%b","batch":[%b]}' % (WRITE_KEY.encode(), b",".join(calls))

    await send(f"{worker.address}/v1/batch", bodies())


