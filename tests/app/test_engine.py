"""The engine around the runner: what it does between commits."""

import asyncio
from typing import Any

import pytest

from agents.records import Define, Received
from app.clock import Clock
from app.engine import TOPIC, Engine
from events.version import VERSION
from tables.store import MemoryStore
from transport.log import Log, NotDurable
from workspace.definitions import digest, load, normal_form

WORKSPACE = """version: 1
sources: {web: {type: website, write_keys: [wk_engine_1]}}
audiences:
  long: {include_anonymous: true, where: {performed: {event: Long, at_least: 1, within: 30d}}}
  short: {include_anonymous: true, where: {performed: {event: Short, at_least: 1, within: 5s}}}
"""


async def test_audiences_E3_a_timer_that_is_due_before_those_known_rings_in_time(tmp_path):
    log = Log.open(tmp_path / "log")
    log.create(TOPIC, 1)
    clock = Clock()
    engine = Engine(log, MemoryStore(), clock)
    definitions, problems = load([("workspace.yaml", WORKSPACE.encode())])
    assert definitions is not None, problems
    body = normal_form(definitions)
    now_ms = clock.now_ms()

    async def send(name: str) -> None:
        text = f'{{"type":"track","event":"{name}","anonymousId":"{name}","messageId":"{name}"}}'
        await engine.accept(now_ms, [Received("web", name, now_ms, now_ms, text.encode())])
        apply()

    def apply() -> None:
        for record in log.read(TOPIC, 0, engine.runner.applied + 1):
            engine.apply(record.offset, record.value, record.cached)
        engine.commit()

    await engine.define(Define(body, digest(body), VERSION))
    apply()
    await send("Long")
    assert engine.next_due_ms > now_ms + 29 * 86_400_000
    await send("Short")
    assert now_ms < engine.next_due_ms < now_ms + 6_000
    log.close()


async def test_ingest_what_was_lost_is_counted_out_once_though_another_took_its_place() -> None:
    class Disk:
        """A log whose first record is lost, and its caller told only after the next one came."""

        identity = "ab" * 16

        def __init__(self) -> None:
            self.told = asyncio.Event()
            self.flushes = 0

        def append(self, *_args: Any) -> int:
            return 0

        async def flush(self) -> None:
            self.flushes += 1
            if self.flushes == 1:
                await self.told.wait()
                raise NotDurable("the disk is full")

    disk: Any = Disk()
    engine = Engine(disk, MemoryStore(), Clock())
    lost = asyncio.create_task(engine._append(b"two", 1, [], 2))
    await asyncio.sleep(0)
    await engine._append(b"five", 1, [], 5)
    disk.told.set()
    with pytest.raises(NotDurable):
        await lost
    assert engine.in_flight == 5
