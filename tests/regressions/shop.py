"""A worker without a disk: records go in one by one, restarts in between, a replay at the end."""

from typing import Any

import msgspec

from agents.records import Received, Redrive
from app.engine import runner_over
from app.reader import StoreReader
from app.replay import digest
from runtime.envelope import pack
from tables.store import MemoryStore
from tests.sim.workspace import EDITIONS

LOG = "ab" * 16
START_MS = 1_750_000_000_000
DAY = 86_400_000
_encode = msgspec.json.Encoder().encode


class Shop:
    """The simulator's shop. Time is days since the start."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.store = MemoryStore()
        self.reader = StoreReader(self.store)
        self.runner = runner_over(self.store, LOG)
        self.edition(0)

    def put(self, kind: str, at: float, *items: Any) -> None:
        """Append a record, apply it, commit."""
        self.records.append(pack(kind, START_MS + int(at * DAY), items))
        self.runner.apply(len(self.records) - 1, self.records[-1])
        self.runner.commit()

    def edition(self, number: int, at: float = 0) -> None:
        self.put("define", at, EDITIONS[number].define)

    def call(
        self, type: str, id: str, at: float = 0, stamp: float | None = None, **body: Any
    ) -> None:
        """A call with that messageId, at an instant; ``stamp``: its timestamp, when another."""
        ms = START_MS + int(at * DAY)
        stamp_ms = ms if stamp is None else START_MS + int(stamp * DAY)
        data = {"type": type, "messageId": id, "timestamp": "2025-06-15T15:06:40.000Z",
                "context": {}, **body}  # fmt: skip
        self.put("event", at, Received("web", id, ms, stamp_ms, _encode(data)))

    def redrive(self, id: str, at: float = 0) -> None:
        self.put("redrive", at, Redrive(id))

    def restart(self) -> None:
        """The process ends and starts."""
        self.runner = runner_over(self.store, LOG)

    def digest(self) -> str:
        return digest(self.store)

    def replayed(self) -> str:
        """Return the digest that a run without restarts gives."""
        store = MemoryStore()
        runner = runner_over(store, LOG)
        for offset, value in enumerate(self.records):
            runner.apply(offset, value)
        runner.commit()
        return digest(store)
