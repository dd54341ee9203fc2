"""What every kind of step is made of: its definition, what it is ready to do, its edges.

A step answers with a move: go on, wait, start anew, or send and go on. It changes nothing itself.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from events.event import Seen
from events.operators import Trouble
from journeys.instance import Instance
from journeys.view import View

END = "end"
"""Where a path ends."""


class Send(Struct, frozen=True, gc=False):
    """One message for one destination: an activation (E6, E9)."""

    destination: str
    message_id: str
    body: bytes
    """The call as JSON, ``messageId`` in it."""


class Wait(Struct, frozen=True, gc=False):
    """Stay until an instant."""

    until_ms: int


class Go(Struct, frozen=True, gc=False):
    """Go on to ``next``. ``way`` is what it is counted as: ``branch:NAME``, ``timeout``, ``else``;
    empty: there is but one way.

    ``remember``: the name under which the event that caused it enters the context; empty: not.
    """

    next: str
    way: str = ""
    remember: str = ""


class Again(Struct, frozen=True, gc=False):
    """Stay, with the timer set anew (H5)."""

    until_ms: int
    way: str
    remember: str


class Emit(Struct, frozen=True, gc=False):
    """Send, then go on. ``counts`` says what became of each activation."""

    next: str
    sends: tuple[Send, ...]
    counts: tuple[str, ...]


Move = Wait | Go | Again | Emit


class Setting(Struct, frozen=True):
    """What a step knows of its journey."""

    space: str
    journey: str
    names: tuple[str, ...]
    """All names that the context can hold."""
    reused: frozenset[str]
    """Events that occur more than once among the entry and the branches of holds (C2)."""

    def alias(self, event: str, branch: str) -> str:
        """Return the name under which a branch's event enters the context (C2)."""
        return f"{event} - {branch}" if event in self.reused else event


class Step:
    """A step ready for use. ``listens`` are the events that it may move on."""

    __slots__ = ()
    listens: frozenset[str] = frozenset()

    def arrive(self, instance: Instance, person: View, now_ms: int) -> Move:
        """Return what happens when an instance comes to this step."""
        raise NotImplementedError

    def due(self, instance: Instance, now_ms: int) -> Move:
        """Return what happens when its timer fires; never called early (D5)."""
        raise NotImplementedError

    def meet(self, instance: Instance, event: Seen, now_ms: int) -> Move | None:
        """Return what an event does to an instance that waits here; None: nothing."""
        raise NotImplementedError


class Edge(Struct, frozen=True):
    """A way out of a step: the keys where it is written, the step it leads to (empty: back into
    this one), its branch (empty: it has no name) and the event that it adds to the context."""

    at: tuple[str | int, ...]
    to: str
    branch: str = ""
    event: str = ""


class Read(Struct, frozen=True):
    """A context path that a step reads; ``optional``: it may well be missing (Y5)."""

    at: tuple[str | int, ...]
    path: str
    optional: bool = False


class References(Struct, frozen=True):
    """What a definition may refer to in its workspace, and what its steps share."""

    audiences: frozenset[str]
    destinations: frozenset[str]
    names: tuple[str, ...] = ()
    """All names that the context can hold."""
    keyed: bool = True
    """The entry has a key (V3)."""
    every: bool = True
    """``re_enter`` is ``every``."""


def nothing(_step: Any) -> list[Any]:
    """Return nothing: for kinds without branches, or that read no context."""
    return []


class StepKind(Struct, frozen=True):
    """A kind of step: one file in `journeys/steps/`, one line in `journeys/catalogue.py`."""

    name: str
    definition: type
    ready: Callable[[Setting, str, Any, str], Step]
    """(setting, step id, definition, next) -> the step ready for use."""
    problems: Callable[[Any, References], list[Trouble]]
    branches: bool = False
    """Whether it goes on by branches of its own, ``edges``, rather than by ``next``."""
    edges: Callable[[Any], list[Edge]] = nothing
    reads: Callable[[Any], list[Read]] = nothing
