"""Sends prepared bodies over a few keep-alive connections, as fast as they are answered, and is
the webhook's sink: one process of its own, so that the side under test has its core to itself.

    python -m bench.load sink PORT      POST / takes messages, GET / tells how many there were
"""

import asyncio
import sys
import time
from collections.abc import Iterable

import aiohttp
import msgspec
import uvloop
from aiohttp import web

JSON = {"Content-Type": "application/json"}
CONNECTIONS = 8

_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


async def send(url: str, bodies: Iterable[bytes], connections: int = CONNECTIONS,
               headers: dict[str, str] = JSON) -> float:
    """Post every body, in order, over so many connections. Return the seconds it took."""
    left = iter(bodies)
    started = time.perf_counter()

    async def one(session: aiohttp.ClientSession) -> None:
        for body in left:
            while True:
                async with session.post(url, data=body, headers=headers) as answer:
                    await answer.read()
                    if answer.status == 200:
                        break
                    if answer.status != 429:
                        raise RuntimeError(f"the side under test answered {answer.status}")
                    await asyncio.sleep(0.05)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:
        await asyncio.gather(*(one(session) for _ in range(connections)))
    return time.perf_counter() - started


async def sink(port: int) -> None:
    """Answer 200 to everything, and count what came."""
    count = 0

    async def take(request: web.Request) -> web.Response:
        nonlocal count
        count += messages(await request.read())
        return web.Response(body=b"ok")

    async def tell(_request: web.Request) -> web.Response:
        return web.Response(text=str(count))

    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/", take)
    app.router.add_get("/", tell)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def messages(body: bytes) -> int:
    """Return how many messages a webhook's request holds."""
    return len(_items(body)) if body.startswith(b"[") else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["sink"]:
        uvloop.run(sink(int(sys.argv[2])))
