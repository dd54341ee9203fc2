"""The fused runner: one log, all stages, one atomic write.

Each record of the raw log runs through the stages to quiescence, what a handler sends being
handled, with all that follows, before what it sends next. One batch holds every stage's changes
and the applied offset; it is written after the log is durable, so state may lag the log and never
leads it (protocol 10). An event that breaks a handler is set aside and its neighbours go on; a
control record that does stops the worker.
"""

import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from runtime.envelope import VERSION, Codec
from runtime.overlay import Overlay
from runtime.stage import Stage, Table
from tables.store import StateDamaged, Store

FORMAT = 1
"""The version of what stands in the store. A newer one is refused, an older one is rebuilt."""


class Progress(Struct, frozen=True, array_like=True):
    """How far the state has come: one row, in every batch."""

    format: int
    log: str
    """The identity of the log this state follows."""
    applied: int
    """The offset of the last record applied; -1: none."""
    at_ms: int
    definitions: int
    """The number of `define` records applied."""


class Poison(Struct, frozen=True, array_like=True):
    """An item set aside: its bytes, where it stood, and what it broke."""

    offset: int
    index: int
    kind: str
    at_ms: int
    stage: str
    error: str
    item: bytes


PROGRESS: Table[Progress] = Table("progress", b"!p", Progress)
DEFINITIONS: Table[bytes] = Table("definitions", b"!d", bytes)
COUNTERS: Table[int] = Table("counters", b"!c", int)
POISON: Table[Poison] = Table("poison", b"!x", Poison)
_TABLES: tuple[Table[Any], ...] = (PROGRESS, DEFINITIONS, COUNTERS, POISON)
_encode = msgspec.msgpack.Encoder().encode


class WrongState(Exception):
    """The state does not belong to this log, or was written by a newer program."""


class Kind(Struct, frozen=True):
    """How the items of one kind of envelope are run."""

    item: type
    stages: tuple[str, ...]
    """Who gets each item, in order."""
    control: bool = True
    """An item that breaks a handler stops the worker; otherwise it is counted and set aside."""
    define: bool = False
    """The items are definitions, taken in force before the stages see them."""
    redrive: bool = False
    """The items name set-aside ones by ``id``; those are what is run."""
    mail: bool = False
    """Routed: the items come from other stages, each with its origin."""
    closes: bool = False
    """Timers up to the envelope's instant have fired: later inputs lie behind it (protocol 3)."""


class Runner:
    """Applies records in order and is the `State` that handlers see (runtime.stage)."""

    def __init__(
        self,
        store: Store,
        log: str,
        stages: Sequence[Stage],
        kinds: Mapping[str, Kind],
        compile: Callable[[Any, Any, int], Any],
        tables: Iterable[Table[Any]] = (),
        first: Any = None,
    ) -> None:
        """Take up the store where it stands.

        ``log`` is the identity of the log; ``compile(state, record, number)`` turns a definition
        into what ``state.definitions`` is; ``first`` is in force before any definition arrives.
        Raises WrongState when the store follows another log or is of another format.
        """
        self._store = store
        all_tables = [*_TABLES, *tables, *(table for stage in stages for table in stage.tables)]
        self._overlay = Overlay(store, all_tables)
        self._stages = {stage.name: stage for stage in stages}
        self._kinds = kinds
        self._compile = compile
        self._first = first
        self._log = log
        self.codec = Codec({name: kind.item for name, kind in kinds.items()})
        self._outs: list[tuple[Stage, Any]] = []
        self._effects: list[tuple[str, int, Any]] = []
        self._ones: list[str] = []
        self._tally: list[tuple[str, int]] = []
        self.count = self._ones.append
        self._stage = ""
        self.redriving = False
        self.put_back: Mapping[int, Mapping[int, int]] = {}
        """By offset and index, the events that a redrive takes up later in the log, and where the
        last one does. Before that they are set aside in any case: a program that no longer breaks
        on them would apply them in another place than the one that did."""
        self._batch: list[tuple[int, bytes]] = []
        self.get = self._overlay.get
        self.put = self._overlay.put
        self.delete = self._overlay.delete
        self.scan = self._overlay.scan
        self.counters: dict[str, int] = {}
        self._load()

    def _load(self) -> None:
        """Stand where the store stands."""
        progress = self._overlay.get(PROGRESS, b"") or Progress(FORMAT, self._log, -1, 0, 0)
        if progress.format != FORMAT:
            raise WrongState(
                f"the state is of format {progress.format}, this program reads {FORMAT}: "
                "start the program that wrote it, or `faust -A app rebuild`"
            )
        if progress.log != self._log:
            raise WrongState(
                f"the state follows log {progress.log}, the log here is {self._log}: "
                "put the right log back, or `faust -A app rebuild`"
            )
        self.applied = self.position = progress.applied
        self.at_ms = self._floor_ms = progress.at_ms
        self.defined = progress.definitions
        self.counters = {key.decode(): value for key, value in self._overlay.scan(COUNTERS)}
        self._batch.clear()
        self._outs.clear()
        self._effects.clear()
        self._ones.clear()
        self._tally.clear()
        body = self._overlay.get(DEFINITIONS, b"")
        if body is None:
            self.definitions = self._first
        else:
            self.definitions = None  # a start changes nothing: there is no "before" to compare with
            item = next(kind.item for kind in self._kinds.values() if kind.define)
            self.definitions = self._compile(
                self, msgspec.msgpack.decode(body, type=item), self.defined
            )
            self._overlay.keep()

    # ---- what handlers call besides get, put, delete, scan
    number = 0
    routed = False
    """Whether other stages have partitions of their own."""

    def out(self, stage: str, key: str, record: Any) -> None:  # noqa: ARG002, one process, no key
        """Send a record to a stage; when none has that name, to who takes the batch's effects."""
        target = self._stages.get(stage)
        if target is None:
            self._effects.append((stage, self.position, record))
        else:
            self._outs.append((target, record))

    def add(self, name: str, by: int) -> None:
        """Add to a counter."""
        self._tally.append((name, by))

    # ---- applying
    def apply(self, offset: int, value: bytes, items: list[Any] | None = None) -> int:
        """Apply one record of the log. Return how many items it had; 0 if it was applied before.

        ``items`` are the record's items already decoded, when the writer still has them.
        """
        if offset <= self.applied:
            return 0
        assert offset == self.applied + 1, f"record {offset} follows {self.applied}"
        self._batch.append((offset, value))  # not the items: what is decoded is soon let go of
        if self._overlay.careful:
            return self._take(offset, value, items)
        if offset in self.put_back:
            return self._carefully()
        try:
            return self._take(offset, value, items)
        except STOPS:
            raise
        except Exception as error:  # noqa: BLE001, found again, and dealt with, by `_carefully`
            damage(error)
            return self._carefully()

    def _take(self, offset: int, value: bytes, items: list[Any] | None) -> int:
        batch = self.codec.unpack(value, items)
        kind = self._kinds[batch.kind]
        self.position = offset
        self.at_ms = max(self._floor_ms, batch.at_ms)
        if kind.control:
            for item in batch.items:
                self._control(kind, item)
        elif self._overlay.careful:
            for index, item in enumerate(batch.items):
                self._guarded(kind, item, Place(batch.kind, offset, index), value, index)
        else:
            (entry,) = kind.stages  # events enter by one stage
            self._run_all(self._stages[entry], batch.items)
        if not kind.control:
            self._tally.append(("logged", len(batch.items)))
        self._floor_ms = self.at_ms + 1 if kind.closes else self.at_ms
        self.applied = offset
        return len(batch.items)

    def _control(self, kind: Kind, item: Any) -> None:
        if kind.define:
            self.defined += 1
            self.put(DEFINITIONS, b"", _encode(item))
            self.definitions = self._compile(self, item, self.defined)
        if kind.redrive:
            self._redrive(item.id)
            return
        for name in kind.stages:
            self._run(self._stages[name], item)
        self._overlay.keep()

    def _run_all(self, stage: Stage, records: list[Any]) -> None:
        """`_run` each, written out: this is the way of every event."""
        outs, handlers, name = self._outs, stage.handlers, stage.name
        if stage.prepare is not None:
            records = stage.prepare(self.definitions, records)
        if stage.reads is not None:
            table, keys_of = stage.reads
            self._overlay.fetch(table, keys_of(records))
        for record in records:
            self._stage = name
            handlers[type(record)](self, record)
            if outs:
                sent = outs[:]
                outs.clear()
                for target, follows in sent:
                    self._stage = target.name
                    target.handlers[type(follows)](self, follows)
                    if outs:
                        last = outs[:]
                        outs.clear()
                        for lower, record in last:
                            self._run(lower, record)

    def _run(self, stage: Stage, record: Any) -> None:
        """Handle a record and, depth first, all that follows from it."""
        outs = self._outs
        first = len(outs)
        self._stage = stage.name
        stage.handlers[type(record)](self, record)
        if len(outs) > first:
            sent = outs[first:]
            del outs[first:]
            for target, follows in sent:
                self._run(target, follows)

    # ---- what breaks
    def _carefully(self) -> int:
        """Something in the batch broke a handler, or cannot be encoded: go through it again, ready
        to undo each event. Return how many items the last record had."""
        batch = list(self._batch)
        self._overlay.discard()
        self._load()
        self._overlay.careful = True
        count = 0
        try:
            for offset, value in batch:
                count = self.apply(offset, value)
        finally:
            self._overlay.careful = False
        return count

    def _guarded(self, kind: Kind, item: Any, place: "Place", value: bytes, index: int) -> None:
        """Run an event; when it breaks a handler, undo what it did and keep it."""
        marks = len(self._ones), len(self._tally), len(self._effects)
        if self.position < self.put_back.get(place.offset, {}).get(place.index, -1):
            self._set_aside(place, "", "taken up again later", value, index)
            return
        try:
            for name in kind.stages:
                self._run(self._stages[name], item)
        except STOPS:
            raise
        except Exception as error:  # noqa: BLE001, whatever an event breaks, its neighbours go on
            damage(error)
            self._overlay.undo()
            self._outs.clear()
            del self._ones[marks[0]:], self._tally[marks[1]:], self._effects[marks[2]:]
            self._set_aside(place, self._stage, told(error), value, index)
        self._overlay.keep()

    def _set_aside(self, place: "Place", stage: str, why: str, value: bytes, index: int) -> None:
        item = _encode(self.codec.unpack(value, None).items[index])
        row = Poison(place.offset, place.index, place.kind, self.at_ms, stage, why, item)
        self.put(POISON, f"{place.offset}.{place.index}".encode(), row)
        self.count("set_aside")
        self._overlay.keep()

    def _redrive(self, poison_id: str) -> None:
        key = poison_id.encode()
        row = self.get(POISON, key)
        if row is None:
            return
        if not self._overlay.careful:
            raise _TakeCare
        kind = self._kinds[row.kind]
        value = msgspec.msgpack.encode((VERSION, row.kind, row.at_ms, [msgspec.Raw(row.item)]))
        self.add("set_aside", -1)
        self.delete(POISON, key)
        self._overlay.keep()
        item = self.codec.unpack(value, None).items[0]
        self.redriving = True
        try:
            self._guarded(kind, item, Place(row.kind, row.offset, row.index), value, 0)
        finally:
            self.redriving = False

    # ---- the batch
    def commit(self) -> "Written":
        """Write all that was applied since the last commit, as one batch."""
        puts, deletes = self._encoded()
        self._store.write(puts, deletes)
        rows = self._overlay.written()
        effects: dict[str, list[tuple[int, Any]]] = {}
        for name, position, record in self._effects:
            effects.setdefault(name, []).append((position, record))
        self._effects.clear()
        self._batch.clear()
        return Written(self.applied, rows, effects)

    def _encoded(self) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """Return the batch's rows; what cannot be encoded is found and set aside."""
        try:
            return self._changes()
        except (TypeError, ValueError, OverflowError):
            self._carefully()
            return self._changes()

    def _balanced(self) -> None:
        """Every logged event is accounted for."""
        counters = self.counters
        balance = sum(counters.get(name, 0) for name in SETTLED)
        assert counters.get("logged", 0) == balance, f"events are unaccounted for: {counters}"

    def _changes(self) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        counters = self.counters
        changed = Counter(self._ones)
        for name, by in self._tally:
            changed[name] += by
        self._ones.clear()
        self._tally.clear()
        for name, by in changed.items():
            counters[name] = counters.get(name, 0) + by
        self._balanced()
        for name in sorted(changed):
            self.put(COUNTERS, name.encode(), counters[name])
        self.put(
            PROGRESS, b"", Progress(FORMAT, self._log, self.applied, self._floor_ms, self.defined)
        )
        self._overlay.keep()
        return self._overlay.changes()


class _TakeCare(Exception):
    """The record must be run so that what it does can be undone."""


STOPS = (StateDamaged, MemoryError, OSError, AssertionError)
"""What no event is to blame for: the worker stops."""


def damage(error: Exception) -> None:
    # What rocksdict raises when the store cannot be read.
    if type(error) is Exception and str(error).startswith(("Corruption", "IO error")):
        raise StateDamaged(str(error)) from error


SETTLED = ("duplicates", "filtered", "unresolved", "applied", "set_aside")
"""What becomes of a logged event: these counters add up to ``logged``."""


class Place(Struct, frozen=True):
    """Where an item stood in the log; ``index`` in its envelope."""

    kind: str
    offset: int
    index: int


class Written(Struct, frozen=True):
    """What a commit wrote: rows by table prefix (None: deleted), and what left for elsewhere."""

    applied: int
    rows: dict[bytes, dict[bytes, Any]]
    effects: dict[str, list[tuple[int, Any]]]


def told(error: Exception) -> str:
    """Return the error and where it was raised, on one line, without the event's text."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    name = frame.filename.rsplit("/", 2)
    return f"{type(error).__name__} in {frame.name} ({'/'.join(name[-2:])}:{frame.lineno})"
