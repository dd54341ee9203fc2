"""Ingest alone: POST of 100 events, checked, appended to the log, synced and answered; no stages.

Limits, on the same bytes in turn: an aiohttp server that only reads the body and answers, one that
also decodes the body's JSON, and a loop that appends the bytes to a file and syncs each request.

    python -m bench.ingest routes PORT FOLDER     the tracking API's routes, on the real log
    python -m bench.ingest read PORT              read the body, answer 200
    python -m bench.ingest decode PORT            read the body, decode it, answer 200
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop
from aiohttp import web

from bench.load import send
from bench.make_workspace import WRITE_KEY, write
from bench.people import GAP_MS, batches
from bench.processes import Served, as_the_worker, free_port
from bench.row import Bench, Row, compared, spread

ROUNDS = 5
TOPIC = "raw"
LIMITS = {"read": "reading the body and answering", "append": "append and fdatasync",
          "decode": "reading, decoding and answering"}


async def measure(bench: Bench) -> list[Row]:
    """Measure ingest against the slower of reading and appending, and against decoding."""
    events = bench.size(40_000, 10_000)
    folder = bench.folder / "ingest"
    folder.mkdir()
    speeds: dict[str, list[float]] = {"ingest": [], **{name: [] for name in LIMITS}}
    cpu = {"ingest": 0.0, "read": 0.0, "decode": 0.0}
    with _server("routes", folder) as routes, _server("read", folder) as read, \
            _server("decode", folder) as decode:
        servers = {"ingest": routes, "read": read, "decode": decode}
        for server in servers.values():
            await server.ready("/")
        for number in range(ROUNDS + 1):
            start_ms = time.time_ns() // 1_000_000 - events * GAP_MS
            bodies = batches(number, 100_000, events, start_ms, WRITE_KEY)
            took = {"append": append(folder / "appended", bodies)}
            for name, server in servers.items():
                before = server.cpu_seconds
                took[name] = await send(f"{server.address}/v1/batch", bodies)
                if number:
                    cpu[name] += server.cpu_seconds - before
            if number:
                for name, seconds in took.items():
                    speeds[name].append(events / seconds)
        stored = int(await routes.get("/"))
    slower = min(("read", "append"), key=lambda name: statistics.median(speeds[name]))
    every = events * ROUNDS / 1e6
    told = "; ".join(f"{what} {spread(speeds[name])}" for name, what in LIMITS.items())
    notes = (
        f"events/s: ingest {spread(speeds['ingest'])}; {told}",
        f"processor time an event: ingest {cpu['ingest'] / every:.1f} us, reading "
        f"{cpu['read'] / every:.1f} us, reading and decoding {cpu['decode'] / every:.1f} us",
        f"{stored:,} events stood in the log at the end",
    )

    def against(name: str, limit: str, goal: str | None, notes: Sequence[str]) -> Row:
        pairs = list(zip(speeds["ingest"], speeds[limit], strict=True))
        return compared(name, "events/s", pairs, goal, (f"the limit: {LIMITS[limit]}", *notes))

    return [
        against("Ingest alone, 100 events a request", slower, ">= 0.5", notes),
        against("Ingest alone, against decoding the same bodies", "decode", None, ()),
    ]


def _server(mode: str, folder: Path) -> Served:
    port = free_port()
    command = [sys.executable, "-m", "bench.ingest", mode, str(port), str(folder)]
    return Served(command, folder / f"{mode}.out", port)


def append(path: Path, bodies: list[bytes]) -> float:
    """Append the bodies, a sync each. Return the seconds it took."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        began = time.perf_counter()
        for body in bodies:
            os.write(file, body)
            os.fdatasync(file)
        return time.perf_counter() - began
    finally:
        os.close(file)
        path.unlink()


# ---- the servers ---------------------------------------------------------------------------------
async def _serve(app: web.Application, port: int) -> None:
    from app.web import listener

    await listener.start(app, "127.0.0.1", port)
    await asyncio.Event().wait()


async def routes(port: int, folder: Path) -> None:
    """Serve the tracking API with an intake that appends, and answers when that is durable."""
    from app.folder import files
    from app.web import ingest
    from events.event import Received
    from runtime.envelope import pack
    from sources.keys import SourceIndex
    from transport.log import Log
    from workspace.definitions import load

    write(folder / "workspace", "http://127.0.0.1:9/")
    definitions, problems = load(files(folder / "workspace")[0], {})
    assert definitions is not None, problems
    sources = SourceIndex(definitions.sources)
    log = Log.open(folder / "log")
    log.create(TOPIC, 1)
    count = 0

    class Intake:
        """What `app/worker.py` and `app/engine.py` do with accepted calls, and nothing after."""

        def source_index(self) -> SourceIndex:
            return sources

        def now_ms(self) -> int:
            return time.time_ns() // 1_000_000

        async def append(self, received_at_ms: int, calls: list[Received]) -> None:
            nonlocal count
            value = pack("event", received_at_ms, calls)
            offset = log.append(TOPIC, 0, value, None, received_at_ms, calls)
            await log.flush()
            log.release(TOPIC, 0, offset + 1)
            count += len(calls)

    async def tell(_request: web.Request) -> web.Response:
        return web.Response(text=str(count))

    app = web.Application(client_max_size=1 << 20)
    ingest.add_routes(app, Intake())
    as_the_worker()
    app.router.add_get("/", tell)
    await _serve(app, port)


async def answer(port: int, decoding: bool) -> None:
    """Serve the limit: the body is read, decoded or not, and 200 is the answer."""
    decode = msgspec.json.Decoder().decode

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        if decoding:
            decode(body)
        return web.Response(body=b'{"success":true}', content_type="application/json")

    async def here(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(client_max_size=1 << 20)
    app.router.add_post("/v1/batch", take)
    app.router.add_get("/", here)
    await _serve(app, port)


if __name__ == "__main__":
    if sys.argv[1:2] == ["routes"]:
        uvloop.run(routes(int(sys.argv[2]), Path(sys.argv[3])))
    else:
        uvloop.run(answer(int(sys.argv[2]), sys.argv[1] == "decode"))
