"""The routed runner: one stage, one partition, one inbox.

A partition folds over its inbox as the fused runner does over the raw log; what its handlers send
goes to other partitions' inboxes instead of being handled at once. One checkpoint is, in this
order: what is sent, phase by phase, each acknowledged before the next; the changed rows with the
applied offset, in the changelog; the same rows in the store (protocol 9). Each item carries its
origin, and a receiver takes each origin once, so that what a crash between these has sent twice
counts once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from runtime.envelope import Batch, Codec
from runtime.fused import POISON, STOPS, Kind, Poison, Runner, damage, told
from runtime.stage import Stage, State, Table, place
from tables.store import Store

PHASES = ("dedup", "usage", "delivery"), ("profile",), ("identity",), ("intake",)
"""What lies downstream first, answers last: a record that lets another act must not be visible
before what it presumes (protocol, law 3)."""


class Origin(Struct, frozen=True, array_like=True, gc=False):
    """Which input an item follows from, and which of its outputs it is (protocol, law 2)."""

    stage: str
    partition: int
    offset: int
    seq: int


class Item(Struct, frozen=True, array_like=True, gc=False):
    """What one stage says to another: the record, its instant, and where it came from."""

    origin: Origin
    at_ms: int
    record: Any


class Seen(Struct, frozen=True, array_like=True, gc=False):
    """The last origin taken from one sending partition."""

    offset: int
    seq: int


SEEN: Table[Seen] = Table("origins", b"!o", Seen)
"""(stage, NUL, partition) -> the last origin taken from there."""

Sends = list[tuple[str, int, list[Item]]]
"""Target stage, target partition, and the items, in order."""


class Checkpoint(Struct):
    """What a commit is about to write and send."""

    phases: list[Sends]
    puts: list[tuple[bytes, bytes]]
    deletes: list[bytes]
    applied: int
    kept: list[tuple[int, Any]]
    """For the archive of this partition: the offset, and what it keeps."""


class Partition(Runner):
    """One partition of one stage. Handlers see it as their `State`."""

    def __init__(
        self,
        store: Store,
        inbox: str,
        stage: Stage,
        number: int,
        partitions: int,
        kinds: Mapping[str, Kind],
        compile: Callable[[Any, Any, int], Any],
        tables: Iterable[Table[Any]] = (),
        first: Any = None,
    ) -> None:
        """Take up the store where it stands. ``inbox`` is the identity of the inbox."""
        self.stage = stage.name
        self.number = number
        self.partitions = partitions
        self._caught: list[tuple[str, str, Any]] | None = None
        super().__init__(store, inbox, (stage,), kinds, compile, tables=(SEEN, *tables),
                         first=first)

    routed = True
    index = 0
    """Which item of the record at `position` is being applied."""

    # ---- what handlers call
    def out(self, stage: str, key: str, record: Any) -> None:
        """Send a record to the inbox of a stage's partition, with this input's checkpoint."""
        if self._caught is not None:
            self._caught.append((stage, key, record))
        else:
            self._effects.append((stage, self.position, (key, self.at_ms, record)))

    def catch(self, handler: Callable[[State, Any], None], record: Any) -> list[
        tuple[str, str, Any]
    ]:
        """Run a handler and return what it would send: stage, key, record."""
        assert self._caught is None
        caught: list[tuple[str, str, Any]] = []
        self._caught = caught
        try:
            handler(self, record)
        finally:
            self._caught = None
        return caught

    # ---- applying
    def _take(self, offset: int, value: Any, items: list[Any] | None) -> int:
        batch = self._unpack(value, items)
        kind = self._kinds[batch.kind]
        self.position = offset
        self._floor(kind, batch)
        if kind.mail:
            self._take_mail(kind, batch.items)
        elif kind.control:
            for self.index, item in enumerate(batch.items):
                self._control(kind, item)
        else:
            (name,) = kind.stages
            for self.index, item in enumerate(batch.items):
                self._run(self._stages[name], item)
            self._tally.append(("logged", len(batch.items)))
        self._floor_ms = self.at_ms + 1 if kind.closes else max(self._floor_ms, self.at_ms)
        self.applied = offset
        return len(batch.items)

    def _unpack(self, value: Any, items: list[Any] | None) -> Batch:
        return value if type(value) is Batch else self.codec.unpack(value, items)

    def _floor(self, kind: Kind, batch: Batch) -> None:
        """Set the instant: within a lane it never falls (protocol 3). That of definitions is the
        same in all partitions, or they would compute different things from them."""
        self.at_ms = batch.at_ms if kind.define else max(self._floor_ms, batch.at_ms)

    def _take_mail(self, kind: Kind, items: list[Item]) -> None:
        floor_ms = self._floor_ms
        (name,) = kind.stages
        for self.index, item in enumerate(items):
            origin = item.origin
            key = f"{origin.stage}\0{origin.partition}".encode()
            last = self.get(SEEN, key)
            if last is not None and (origin.offset, origin.seq) <= (last.offset, last.seq):
                continue
            self.at_ms = item.at_ms
            self._run(self._stages[name], item.record)
            self.put(SEEN, key, Seen(origin.offset, origin.seq))
            self._overlay.keep()
        self.at_ms = floor_ms

    def attempt(
        self, handler: Callable[[State, Any], None], record: Any, place: tuple[int, int]
    ) -> bool:
        """Run what an event does, and set it aside when that breaks; return whether it did not.

        ``place`` is where the event stood in the inbox, which may be long before the input that
        lets it go on. Everything else that breaks stops the partition (protocol, law 1).
        """
        if not self._overlay.careful:
            handler(self, record)
            return True
        self._overlay.keep()
        marks = len(self._ones), len(self._tally), len(self._effects)
        try:
            handler(self, record)
        except STOPS:
            raise
        except Exception as error:  # noqa: BLE001, whatever an event breaks, its neighbours go on
            damage(error)
            self._overlay.undo()
            self._caught = None
            del self._ones[marks[0]:], self._tally[marks[1]:], self._effects[marks[2]:]
            row = Poison(*place, type(record).__name__, self.at_ms, self.stage, told(error),
                         msgspec.msgpack.encode(record))
            self.put(POISON, f"{place[0]}.{place[1]}".encode(), row)
            self.count("set_aside")
            self._overlay.keep()
            return False
        self._overlay.keep()
        return True

    # ---- the checkpoint
    def prepare(self, route: Callable[[str, str], int]) -> Checkpoint:
        """Return what the commit sends and writes. Follow with `complete` when all of it is
        acknowledged; a partition that cannot is thrown away and taken up again.

        ``route(stage, key)`` tells the target's partition.
        """
        puts, deletes = self._encoded()
        targets: dict[tuple[str, int], list[Item]] = {}
        kept: list[tuple[int, Any]] = []
        offset, seq = -1, 0
        for stage, position, (key, at_ms, record) in self._effects:
            if stage == "archive":
                kept.append((position, record))
                continue
            if position != offset:
                offset, seq = position, 0
            item = Item(Origin(self.stage, self.number, offset, seq), at_ms, record)
            seq += 1
            targets.setdefault((stage, route(stage, key)), []).append(item)
        phases = [
            [(stage, number, items) for (stage, number), items in targets.items() if stage in phase]
            for phase in PHASES
        ]
        return Checkpoint(phases, puts, deletes, self.applied, kept)

    def complete(self, checkpoint: Checkpoint) -> dict[bytes, dict[bytes, Any]]:
        """Write the rows; all before is acknowledged. Return them by table."""
        self._store.write(checkpoint.puts, checkpoint.deletes)
        rows = self._overlay.written()
        self._effects.clear()
        self._batch.clear()
        return rows

    def _balanced(self) -> None:
        """What is logged here may be settled elsewhere, and later."""


class Wire:
    """Turns items into bytes and back: each record under its type's name."""

    def __init__(self, types: Sequence[type]) -> None:
        """``types`` are all that stages say to each other."""
        self._names = {type: type.__name__ for type in types}
        self._decoders: dict[str, Callable[[Raw], Any]] = {
            type.__name__: msgspec.msgpack.Decoder(type).decode for type in types
        }
        self._encode = msgspec.msgpack.Encoder().encode
        self._items = msgspec.msgpack.Decoder(list[tuple[Origin, int, str, Raw]]).decode

    def encode(self, items: list[Item]) -> bytes:
        """Return the bytes of some items."""
        names = self._names
        return self._encode(
            [(item.origin, item.at_ms, names[type(item.record)], item.record) for item in items]
        )

    def decode(self, value: bytes) -> list[Item]:
        """Return the items."""
        decoders = self._decoders
        return [
            Item(origin, at_ms, decoders[name](raw))
            for origin, at_ms, name, raw in self._items(value)
        ]


__all__ = [
    "SEEN", "Checkpoint", "Codec", "Item", "Origin", "Partition", "Seen", "Wire", "place",
]
