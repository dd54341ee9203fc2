"""A lot: the partitions of one number, of all stages, on the worker that owns the number.

Taken up in this order: the broker refuses whoever had it, the changelogs are read to their end,
only then is anything applied. Each checkpoint sends, appends to the changelog, then writes; a lot
that cannot go on is given up as a whole, and taken up again from what is durable (protocol 9).
"""

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agents.routed.records import MAIL
from app.cluster.topics import Names, stages_of
from app.partitions import WIRE, partition, route
from app.reader import StoreReader
from app.steps import step
from runtime.envelope import Batch
from runtime.fused import WrongState
from runtime.routed import Item, Partition, Sends
from tables.store import RocksStore, StateDamaged
from transport.kafka import Changelog, Fenced, KafkaSettings, Outbox, OutOfRange, Row, Unknown

logger = logging.getLogger("watersmeet")

MAIL_MARK = b"M"
"""The first byte of a record from another stage; what comes from outside is an envelope."""
ITEMS = 100
"""Of one record, so that it stays far below what a broker takes."""
BATCH = 64
"""Records of an inbox applied in one checkpoint."""
POSITION = b"!k"
"""Row of the store: the changelog's offset up to which it holds, and when that was."""
STALE_MS = 12 * 3_600_000
"""A store that was not written for so long may lack that rows are gone (delete.retention.ms)."""

assert MAIL, "stages speak to each other"


class Position(Struct, frozen=True, array_like=True):
    """How far a store follows its changelog."""

    offset: int
    at_ms: int


Records = list[tuple[int, bytes]]
"""Offsets and values, in order."""


class Lot:
    """The partitions of one number."""

    def __init__(
        self, number: int, partitions: int, names: Names, folder: Path, kafka: KafkaSettings,
        outbox: Outbox, cache: Any, now_ms: Callable[[], int],
    ) -> None:
        """Open nothing yet."""
        self.number = number
        self.partitions = partitions
        self.names = names
        self.parts: dict[str, Partition] = {}
        self.readers: dict[str, StoreReader] = {}
        self.ready = False
        self.lost = False
        """Somebody else has it, or it cannot be known: nothing may be written any more."""
        self.opened = asyncio.Event()
        self._folder = folder / str(number)
        self._outbox = outbox
        self._cache = cache
        self._now_ms = now_ms
        self._stores: dict[str, RocksStore] = {}
        self._locks = {stage: asyncio.Lock() for stage in stages_of(number)}
        self._changelog = Changelog(
            kafka, [names.changelog(stage) for stage in stages_of(number)], number,
            names.transactional_id(number),
        )

    # ---- taken up
    async def open(self) -> dict[tuple[str, int], int]:
        """Take the number over; return from where each inbox is to be read.

        Raises NotReached, WrongState.
        """
        await self._changelog.open()
        for stage in stages_of(self.number):
            store = await self._recovered(stage)
            self._stores[stage] = store
            self.readers[stage] = StoreReader(store)
            log = f"{self.names.inbox(stage)}-{self.number}"
            self.parts[stage] = partition(store, log, stage, self.number, self.partitions)
        self.ready = True
        self.opened.set()
        return {(self.names.inbox(stage), self.number): part.applied + 1
                for stage, part in self.parts.items()}

    async def _recovered(self, stage: str) -> RocksStore:
        """Return the stage's store, brought up to its changelog."""
        folder = self._folder / stage
        try:
            return await self._follow(stage, folder)
        except (StateDamaged, OutOfRange, WrongState) as error:
            logger.warning("%s: %s; built anew from the changelog", folder, error)
            shutil.rmtree(folder)
            return await self._follow(stage, folder)

    async def _follow(self, stage: str, folder: Path) -> RocksStore:
        folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240, once a take-over
        store = RocksStore(folder, cache=self._cache)
        try:
            found = store.get(POSITION)
            position = msgspec.msgpack.decode(found, type=Position) if found else Position(0, 0)
            if position.at_ms and position.at_ms + STALE_MS < self._now_ms():
                raise StateDamaged("it was not in use for long")
            async for rows, offset in self._changelog.recover(
                position.offset, self.names.changelog(stage)
            ):
                puts = [(key, value) for key, value in rows if value is not None]
                gone = {key for key, value in rows if value is None}
                # Within these rows the last one of a key counts.
                last = dict(rows)
                store.write(
                    [*((key, value) for key, value in dict(puts).items()
                       if last[key] is not None), self._position(offset)],
                    [key for key in gone if last[key] is None],
                )
        except BaseException:
            store.close()
            raise
        return store

    def _position(self, offset: int) -> tuple[bytes, bytes]:
        return POSITION, msgspec.msgpack.encode(Position(offset, self._now_ms()))

    # ---- worked on
    async def work(self, stage: str, records: Records) -> dict[bytes, dict[bytes, Any]]:
        """Apply records of a stage's inbox and make a checkpoint; return the rows it wrote.

        Raises Fenced and Unknown, and then nothing but `close` may follow; Broken.
        """
        async with self._locks[stage]:
            if not self.ready:
                return {}
            part = self.parts[stage]
            fresh = [(offset, value) for offset, value in records if offset > part.applied]
            if not fresh:
                return {}
            for offset, value in fresh:
                part.apply(offset, Batch("mail", 0, WIRE.decode(value[1:]))
                           if value.startswith(MAIL_MARK) else value)
            checkpoint = part.prepare(
                lambda stage, key: route(stage, key, self.partitions)
            )
            step("lot.applied")
            try:
                for phase in checkpoint.phases:
                    await self._outbox.send(self._mails(phase))
                    step("lot.sent")
                if not self.ready:  # given up meanwhile: what was sent is known by its origin
                    return {}
                rows: list[Row] = [*checkpoint.puts, *((key, None) for key in checkpoint.deletes)]
                offset = await self._changelog.append(rows, self.names.changelog(stage))
            except (Fenced, Unknown, asyncio.CancelledError):
                self.ready = False
                raise
            step("lot.logged")
            if not self.ready:  # given up meanwhile: its successor has what was appended
                return {}
            checkpoint.puts.append(self._position(offset))
            written = part.complete(checkpoint)
            step("lot.written")
            return written

    def _mails(self, sends: Sends) -> list[tuple[str, int, bytes]]:
        return [
            (self.names.inbox(stage), number, MAIL_MARK + WIRE.encode(part))
            for stage, number, items in sends
            for part in _parts(items)
        ]

    # ---- given up
    async def close(self) -> None:
        """Let go. What is under way ends by itself, without being written here."""
        self.ready = False
        self.opened.clear()
        await self._changelog.close()
        for lock in self._locks.values():
            async with asyncio.timeout(10):
                await lock.acquire()
        for store in self._stores.values():
            store.close()
        self._stores.clear()
        self.parts.clear()
        self.readers.clear()


def _parts(items: list[Item]) -> list[list[Item]]:
    return [items[at:at + ITEMS] for at in range(0, len(items), ITEMS)]
