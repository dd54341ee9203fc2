"""What destinations send to: keeps every message, in order of arrival, and misbehaves a little."""

import asyncio
import json
import random
import threading
from typing import Any

from aiohttp import web


class Sink:
    """A webhook on a port of its own, in a thread of its own."""

    def __init__(self, seed: int = 0, *, shaky: bool = True) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        """(path's last word, message), repeats included."""
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.refused = 0
        self.statuses: list[int] = []
        """What the next requests are answered; then 200."""
        self._rng = random.Random(seed)
        self._shaky = shaky
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._up = threading.Event()

    def __enter__(self) -> "Sink":
        self._thread.start()
        self._up.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._begin())
        self._up.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _begin(self) -> None:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_post("/{which}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        found = json.loads(body)
        messages = found if isinstance(found, list) else [found]
        which = request.match_info["which"]
        if self._shaky:
            luck = self._rng.random()
            if luck < 0.2:
                await asyncio.sleep(luck / 10)
            if luck > 0.99:
                self.refused += 1
                return web.Response(status=500)
        if self.statuses:
            status = self.statuses.pop(0)
            if status != 200:
                self.refused += 1
                return web.Response(status=status)
        self.messages += [(which, message) for message in messages]
        self.headers.append(dict(request.headers))
        self.bodies.append(body)
        return web.Response()

    def of(self, which: str) -> list[dict[str, Any]]:
        """Return the messages to one destination, repeats included."""
        return [message for name, message in list(self.messages) if name == which]
