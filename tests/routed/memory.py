"""All partitions of a workspace in one process, over inboxes in memory."""

import random
from typing import Any

from agents.records import Continue, Define, Received, Tick
from agents.routed.lane import lane_of_call
from app.partitions import STAGES, WIRE, numbers, partition, route
from app.reader import StoreReader
from runtime.envelope import Batch
from runtime.routed import Checkpoint, Partition
from tables.store import MemoryStore

Place = tuple[str, int]


class Inbox:
    """A totally ordered inbox."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        """Batches from outside, and mail as bytes."""


class Net:
    """Partitions, what waits for them, and a checkpoint at a time."""

    def __init__(self, partitions: int, seed: int = 0) -> None:
        self.partitions = partitions
        self.rng = random.Random(seed)
        self.inboxes: dict[Place, Inbox] = {}
        self.stores: dict[Place, MemoryStore] = {}
        self.parts: dict[Place, Partition] = {}
        self.places = [(stage, n) for stage in STAGES for n in numbers(stage, partitions)]
        for at in self.places:
            self.inboxes[at] = Inbox()
            self.stores[at] = MemoryStore()
            self.open(at)

    def open(self, at: Place) -> None:
        """Take a partition up where its store stands."""
        self.parts[at] = partition(self.stores[at], f"{at[0]}-{at[1]}", *at, self.partitions)

    # ---- from outside
    def put(self, at: Place, kind: str, at_ms: int, *items: Any) -> None:
        """Append a record to an inbox."""
        self.inboxes[at].records.append(Batch(kind, at_ms, list(items)))

    def define(self, define: Define, at_ms: int) -> None:
        """Put definitions in force everywhere."""
        for at in self.places:
            self.put(at, "define", at_ms, define)

    def event(self, record: Received, data: Any, at_ms: int) -> None:
        """Let an event in by its lane."""
        self.put(("intake", lane_of_call(data, self.partitions)), "event", at_ms, record)

    def tick(self, at_ms: int) -> None:
        """Let time pass on every lane."""
        for number in range(self.partitions):
            self.put(("intake", number), "tick", at_ms, Tick())

    # ---- the work
    @property
    def busy(self) -> list[Place]:
        """Return whose inbox holds more than is applied."""
        return [at for at in self.places
                if self.parts[at].applied + 1 < len(self.inboxes[at].records)]

    def step(self, at: Place, most: int = 8) -> None:
        """Apply some records of an inbox and make a checkpoint."""
        part = self.parts[at]
        records = self.inboxes[at].records
        for _ in range(self.rng.randint(1, most)):
            offset = part.applied + 1
            if offset == len(records):
                break
            value = records[offset]
            part.apply(offset, Batch("mail", 0, WIRE.decode(value))
                       if isinstance(value, bytes) else value)
        checkpoint = part.prepare(lambda stage, key: route(stage, key, self.partitions))
        self.send(checkpoint)
        part.complete(checkpoint)

    def send(self, checkpoint: Checkpoint, phases: int = 99) -> None:
        """Let others see what a checkpoint sends."""
        for sends in checkpoint.phases[:phases]:
            for stage, number, items in sends:
                self.inboxes[stage, number].records.append(WIRE.encode(items))

    def rest(self) -> None:
        """Work until nothing waits."""
        while busy := self.busy:
            self.step(self.rng.choice(busy))

    def sweep(self, at_ms: int) -> None:
        """Bring all profiles up to the definitions in force."""
        for _ in range(20):
            for number in range(self.partitions):
                self.put(("profile", number), "continue", at_ms, Continue(1000))
            self.rest()

    # ---- what came of it
    def readers(self, stage: str) -> list[StoreReader]:
        """Return the readers over all partitions of a stage."""
        return [StoreReader(self.stores[at]) for at in self.places if at[0] == stage]

    def counters(self) -> dict[str, int]:
        """Return all counters, summed."""
        found: dict[str, int] = {}
        for at in self.places:
            for name, value in StoreReader(self.stores[at]).counters():
                found[name] = found.get(name, 0) + value
        return {name: value for name, value in sorted(found.items()) if value}
