"""Power cuts on a simulated disk: the production log, stages and archive, cut off in any disk call.

What was answered must be there afterwards; the state must follow the log, and the archive must hold
each event once. After each cut the worker is opened again, on what the disk kept, and goes on.
"""

import asyncio
import contextlib
import gzip
import json
import random
from collections import Counter
from collections.abc import Iterable

from sortedcontainers import SortedDict

from agents.profile_tables import HISTORY
from agents.records import Define
from app.archive import Archiver, catch_up
from app.engine import TOPIC, Engine
from app.reader import StoreReader
from app.state import _check, digest, replay
from events.calls import accept, request_context
from events.event import Received
from tables.store import MemoryStore, Row
from tests.chaos.shop import customers, definitions_text
from tests.transport.simdisk import PowerLoss, SimFiles
from transport.log import Log, NotDurable
from workspace.definitions import digest as digest_of
from workspace.definitions import load, normal_form

START_MS = 1_767_614_400_000
CUTS_A_LIFE = 5


class Clock:
    """Stands where it is put."""

    scripted = False

    def __init__(self) -> None:
        self.ms = START_MS

    def now_ms(self) -> int:
        return self.ms


class Forgetful(MemoryStore):
    """RocksDB without a write-ahead log: a cut takes the last batches, never a part of one."""

    def __init__(self) -> None:
        super().__init__()
        self._late: list[tuple[list[Row], list[bytes]]] = []
        self._disk: dict[bytes, bytes] = {}

    def write(self, puts: Iterable[Row], deletes: Iterable[bytes]) -> None:
        puts, deletes = list(puts), list(deletes)
        super().write(puts, deletes)
        self._late.append((puts, deletes))

    def cut(self, rng: random.Random) -> None:
        for puts, deletes in self._late[: rng.randint(0, len(self._late))]:
            self._disk.update(puts)
            for key in deletes:
                self._disk.pop(key, None)
        self._late.clear()
        self._rows = SortedDict(self._disk)
        self.get = self._rows.get


class Life:
    """A worker on a disk that loses power again and again."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.files = SimFiles(self.rng)
        self.store = Forgetful()
        self.clock = Clock()
        self.devices = customers(seed, 4)
        self.accepted: list[str] = []
        self.answered = 0
        self.unsent: list[list[Received]] = []
        self.define = _definitions()

    async def open(self) -> None:
        self.log = log = Log.open(
            "/data/log", self.files, segment_bytes=20_000, identity=lambda: "ab" * 16
        )
        log.create(TOPIC, 1)
        _check(self.store, log)
        self.engine = Engine(log, self.store, self.clock)
        self.archiver = Archiver("/data/archive", log.identity, self.files)
        catch_up(self.archiver, log, TOPIC, self.engine.runner.codec, StoreReader(self.store))
        self.engine.listeners.append(self.archiver.take)
        while not self.engine.caught_up:
            self._apply(1000)
        if self.engine.runner.definitions.hash != self.define.hash:
            await self.engine.define(self.define)

    def _apply(self, most: int) -> None:
        engine, log = self.engine, self.log
        for record in log.read(TOPIC, 0, engine.runner.applied + 1, most):
            engine.apply(record.offset, record.value, record.cached)
        engine.commit()

    async def step(self) -> None:
        rng = self.rng
        self.clock.ms += rng.choice((1, 200, 5_000, 90_000))
        kind = rng.random()
        if kind < 0.55:
            await self._send()
        elif kind < 0.85:
            self._apply(rng.choice((1, 3, 50)))
        elif kind < 0.93:
            self.archiver.flush_now()
        else:
            await self.engine.beat()

    async def _send(self) -> None:
        if not self.unsent:
            chosen = self.rng.sample(self.devices, 2)
            calls = [device.next() for device in chosen for _ in range(self.rng.choice((1, 3)))]
            context = request_context(
                type=None, project_id="web", channel="browser", client_side=True,
                received_at_ms=self.clock.ms, new_message_id=lambda: "none", sent_at=None,
                context=None, integrations=None, ip=None,
            )
            self.unsent.append([accept(call, context) for call in calls])  # type: ignore[misc]
        batch = self.unsent[0]
        now_ms = self.clock.ms
        await self.engine.accept(now_ms, batch)
        self.unsent.pop(0)
        self.answered += 1
        self.accepted += [one.message_id for one in batch]

    def check(self) -> None:
        """Apply the rest, and compare."""
        while not self.engine.caught_up:
            self._apply(1000)
        self.archiver.flush_now()
        reader = StoreReader(self.store)
        histories = Counter(key[key.index(0) + 9:].decode() for key, _ in reader.scan(HISTORY))
        archived: Counter[str] = Counter()
        for path in self.files.paths():
            if path.endswith(".gz"):
                text = gzip.decompress(self.files.content(path))
                archived.update(json.loads(line)["messageId"] for line in text.splitlines())
        tried = {one.message_id for batch in self.unsent for one in batch}
        for what, found in (("histories", histories), ("the archive", archived)):
            lost = [id for id in self.accepted if not found[id]]
            assert not lost, f"{what} lack {lost[:3]}, which was answered"
            twice = [id for id, count in found.items() if count > 1]
            assert not twice, f"{what} hold {twice[:3]} twice"
            strange = found.keys() - set(self.accepted) - tried
            assert not strange, f"{what} hold {sorted(strange)[:3]}, which nobody sent"
        fresh = MemoryStore()
        replay(fresh, self.log)
        assert digest(fresh) == digest(self.store), "a replay of the log gives another state"


async def live(seed: int) -> tuple[int, int, int]:
    """Live through some power cuts; return how many there were, and how many calls were answered
    and records written. Raises AssertionError."""
    life = Life(seed)
    rng, files = life.rng, life.files
    cuts = 0
    for _ in range(CUTS_A_LIFE):
        files.lose_power_at = files.calls + rng.randrange(1, rng.choice((5, 40, 150)))
        with contextlib.suppress(PowerLoss):
            await life.open()
            while True:
                with contextlib.suppress(NotDurable):
                    await life.step()
        files.power_cut()
        files.lose_power_at = -1
        life.store.cut(rng)
        cuts += 1
    await life.open()
    life.check()
    return cuts, life.answered, life.log.durable_end(TOPIC, 0)


def cut(seeds: Iterable[int]) -> tuple[int, int, list[str]]:
    """Live through many lives; return cuts, answers, and what broke, a line each to repeat it."""
    cuts = answered = 0
    faults = []
    for seed in seeds:
        try:
            found = asyncio.run(live(seed))
        except Exception as error:  # noqa: BLE001, whatever breaks is a finding
            faults.append(f"power cut: python -m tests.chaos --life {seed}: "
                          f"{type(error).__name__}: {error}")
            continue
        cuts += found[0]
        answered += found[1]
    return cuts, answered, faults


def _definitions() -> Define:
    text = definitions_text("http://sink.test")
    found, problems = load([("workspace.yaml", text.encode())])
    assert found is not None, problems
    body = normal_form(found)
    return Define(body, digest_of(body), "chaos")

