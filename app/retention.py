"""The log forgets what is old, and bases are made so that it may.

Before a record goes, a verified base stands in for it, the state has what it did on disk, and the
archive has its events. The work of it is done in a process of its own (`app/proving.py`); the
worker goes on meanwhile.
"""

import asyncio
import contextlib
import logging
import os
import subprocess
import sys

import msgspec

from app import bases
from app.archive import Archiver
from app.engine import TOPIC, Engine
from app.settings import Settings
from app.steps import step
from tables.store import RocksStore

LOOK_SECONDS = 1.0
PAUSE_SECONDS = 600.0
"""After a base was refused, the next is made this much later."""
DAY_MS = 86_400_000

logger = logging.getLogger("watersmeet")


class Retention:
    """Cuts one log."""

    def __init__(self, settings: Settings, engine: Engine, archiver: Archiver) -> None:
        """Do nothing before `run` or `base`."""
        self.settings = settings
        self.engine = engine
        self.archiver = archiver
        self._making = asyncio.Lock()

    async def run(self) -> None:
        """Cut whenever the log is too long or too old, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._wanted() <= self.engine.log.start(TOPIC, 0):
                continue
            try:
                await self.cut()
            except (bases.BaseRefused, OSError) as error:
                logger.error("the log keeps more than it should, its oldest records cannot go: %s",
                             error)
                await asyncio.sleep(PAUSE_SECONDS)

    def _wanted(self) -> int:
        """Return the record before which all should go.

        Ages are those in the log, by its own latest instant: a clock that jumps deletes nothing.
        """
        settings = self.settings
        return self.engine.log.outlived(
            TOPIC, 0,
            max_bytes=settings.log_bytes or None,
            max_age_ms=settings.log_days * DAY_MS or None,
            now_ms=self.engine.runner.at_ms,
        )

    async def cut(self) -> int:
        """Remove what should go, and can. Return the log's first record.

        Raises BaseRefused when the state is not what the log gives, OSError.
        """
        data, log = self.settings.data, self.engine.log
        wanted = self._wanted()
        floor = bases.floor(data)
        if floor is None or floor < wanted:
            await self.base()
            floor = bases.floor(data)
        assert floor is not None
        await self.archiver.flush(note=True)
        before = min(wanted, floor, self.archiver.covered + 1)
        if before > log.start(TOPIC, 0):
            step("retention.covered")
            log.truncate(TOPIC, 0, before)
            step("retention.cut")
        return log.start(TOPIC, 0)

    async def base(self) -> bases.Base:
        """Make a base of the present state; return it when it is verified.

        Raises BaseRefused when it cannot be.
        """
        settings, store = self.settings, self.engine.store
        assert isinstance(store, RocksStore)
        async with self._making:
            await asyncio.to_thread(bases.copy, settings.data, store)
            prover = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "app.proving",
                str(settings.data), str(settings.log_folder), str(os.getpid()),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            )
            try:
                assert prover.stdout is not None
                said = (await prover.stdout.read()).strip()
                code = await prover.wait()
            finally:
                if prover.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        prover.kill()
            if code != 0:
                raise bases.BaseRefused(said.decode() or f"the verification ended with {code}")
            return msgspec.json.decode(said.splitlines()[-1], type=bases.Base)
