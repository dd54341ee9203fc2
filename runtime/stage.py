"""The contract of a stage: a pure function of its state and one input record.

A handler reads state, asks the rules, puts what changes and names what goes out. It sees no
clock, no file and no other input: `at_ms` and `definitions` are part of the logged input. The
runtime owns acknowledgement, retry, poison and the write to disk.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from xxhash import xxh3_64_intdigest

T = TypeVar("T")


class Table(Generic[T]):
    """A table of a stage: its place in the store and the type of its rows.

    ``prefix`` is two bytes and unique; ``type`` any msgspec type, kept as msgpack; ``bytes``
    rows are kept as they are. ``cached`` False: rows that are written and hardly ever read again
    are not held in memory.
    """

    __slots__ = ("cached", "name", "prefix", "type")

    def __init__(
        self, name: str, prefix: bytes, type: type[T] | Any, *, cached: bool = True
    ) -> None:
        assert len(prefix) == 2
        self.name = name
        self.prefix = prefix
        self.type = type
        self.cached = cached


class State(Protocol):
    """What a handler may touch. Values are frozen: never change what `get` returned, put a new one.

    Everything put by a handler that raises is undone: the record is set aside as a whole.
    """

    at_ms: int
    definitions: Any
    position: int
    """The offset of the record of the log that is being applied."""
    routed: bool
    """Whether what is sent goes to other partitions: then nothing of theirs can be read here."""
    number: int
    """Of a partition: which one."""
    redriving: bool
    """The present event was set aside, and is taken up again."""

    def get(self, table: Table[T], key: bytes) -> T | None:
        """Return the row, or None."""

    def put(self, table: Table[T], key: bytes, value: T) -> None:
        """Write the row."""

    def delete(self, table: Table[Any], key: bytes) -> None:
        """Remove the row, if there is one."""

    def scan(
        self, table: Table[T], prefix: bytes = b"", start: bytes = b""
    ) -> Iterator[tuple[bytes, T]]:
        """Yield (key, row) in key order, keys that begin with ``prefix``, from ``start`` on.

        Sees what was put before. Costs a seek, so it has no place on the hot path.
        """

    def out(self, stage: str, key: str, record: Any) -> None:
        """Send a record to a stage's inbox; in the fused mode it is handled, with all that
        follows from it, before the next one that this handler sends."""

    def count(self, name: str, /) -> None:
        """Add one to a counter, which is state like any other (names ``applied``, ``a:b``)."""

    def add(self, name: str, by: int) -> None:
        """Add to a counter."""


class PartitionState(State, Protocol):
    """What the handlers of a stage that has partitions may touch besides."""

    partitions: int
    """How many there are of each stage."""
    index: int
    """Which item of the record at `position` is being applied."""

    def attempt(
        self, handler: "Handler", record: Any, place: tuple[int, int]
    ) -> bool:
        """Run what an event does, and set it aside when that breaks; return whether it did not."""

    def catch(self, handler: "Handler", record: Any) -> list[tuple[str, str, Any]]:
        """Run a handler and return what it would send: stage, key, record."""


def place(key: str | bytes, partitions: int) -> int:
    """Return the partition of a key: one fast hash, the same everywhere and for ever."""
    return xxh3_64_intdigest(key.encode() if isinstance(key, str) else key) % partitions


Handler = Callable[[Any, Any], None]
"""Called with the `State` and a record."""


class Stage:
    """A named set of handlers, one for each type of record that its inbox carries."""

    __slots__ = ("handlers", "name", "prepare", "reads", "tables")

    def __init__(
        self,
        name: str,
        handlers: Mapping[type, Handler],
        tables: tuple[Table[Any], ...],
        prepare: "Prepare | None" = None,
        reads: "Reads | None" = None,
    ) -> None:
        """``prepare`` may make the items of an envelope ready, all at once; ``reads``: the row that
        each item, or what was made of it, asks for first, fetched for all of them at once.

        Both only spare time: an item alone is handled as it is.
        """
        self.name = name
        self.handlers = dict(handlers)
        self.tables = tables
        self.prepare = prepare
        self.reads = reads


Prepare = Callable[[Any, list[Any]], list[Any]]
"""Of the definitions in force and some items: for each item, a record that handlers take instead.
It sees no state."""
Reads = tuple[Table[Any], Callable[[list[Any]], list[bytes]]]
"""A table that is not cached, and the keys of some items' rows in it."""
