"""Sends prepared bodies over a few keep-alive connections, as fast as they are answered, and is
the webhook's sink: one process of its own, so that the side under test has its core to itself.

    python -m bench.load sink PORT
"""

import asyncio
import sys
import time

import aiohttp
import uvloop
from aiohttp import web


async def send(url: str, bodies: list[bytes], connections: int, headers: dict[str, str]) -> float:
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
    """Answer 200 to everything."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b"ok")

    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["sink"]:
        uvloop.run(sink(int(sys.argv[2])))
