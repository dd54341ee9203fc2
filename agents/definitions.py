"""The definitions as the stages see them: compiled once when a `define` record is applied.

What a profile computed under older definitions is brought up to date when it is next touched, or
by the sweep. So what each set of definitions changed is kept with its number, and so is the text
of every journey version that persons may still be in (journeys L1).
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from agents.records import Define
from audiences.plan import Changes, Plan, changed, compile_plan, created
from destinations.catalogue import Destinations, compiled
from destinations.routing import filtered, receivers
from events.durations import millis
from events.event import Event
from events.reading import brief, whole
from identity.settings import Identity, Settings, compile_settings
from journeys import plan as journeys
from journeys.definition import Journey, version_of
from runtime.stage import State, Table
from sources.keys import SourceIndex
from workspace.definitions import Definitions, from_normal


class Since(Struct, frozen=True, array_like=True):
    """What the definitions in force came from: kept, so that a restart compiles the same."""

    created: dict[str, int] = {}
    """Computation -> the instant of its creation (audiences B3, B4)."""
    computations: dict[str, int] = {}
    """Computation -> the number of the definitions that brought or changed it."""
    leaves: dict[str, int] = {}
    """Leaf id in hexadecimal -> the number of the definitions whose profiles must rebuild it."""
    connected: dict[str, int] = {}
    """Computation, NUL, destination -> the number of the definitions that connected them."""
    gone: int = 0
    """The number of the last definitions that took a computation away."""


SINCE: Table[Since] = Table("since", b"Fs", Since)
VERSIONS: Table[bytes] = Table("journey_versions", b"Fj", bytes)
"""(journey, NUL, version) -> the journey as it was defined, in JSON."""
TABLES: tuple[Table[Any], ...] = (SINCE, VERSIONS)


class Compiled(Struct, frozen=True):
    """All that handlers read of the workspace."""

    number: int
    hash: str
    dedup_window_ms: int
    identity: Settings
    plan: Plan
    journeys: journeys.Plan
    destinations: Destinations
    sources: SourceIndex
    definitions: Definitions
    since: Since
    decode: Callable[[bytes], dict[str, Any]] = brief
    """Decodes an event as far as these definitions look into it."""

    def receivers(self, event: Event) -> list[str]:
        """Return the destinations that get this source event."""
        return receivers(self.destinations, event)

    def filtered(self, event: Event) -> list[tuple[str, str]]:
        """Return (destination, reason) of those that the event itself keeps it from."""
        return filtered(self.destinations, event)


def compile_definitions(state: State, record: Define, number: int) -> Compiled:
    """Return the definitions ready for use; keep what a later restart needs.

    Called when a `define` record is applied and at every start; the same both times.
    """
    definitions = from_normal(record.body)
    kept = state.get(SINCE, b"") or Since()
    before: Compiled | None = state.definitions
    keys = [*definitions.audiences, *definitions.computed_traits]
    applied = before is not None and before.number < number
    instants = created(kept.created, keys, state.at_ms) if applied else kept.created
    plan = compile_plan(definitions.audiences, definitions.computed_traits, instants)
    if applied:
        assert before is not None
        changes = changed(before.plan, plan)
        if state.routed:
            # What was received since the creation may have been applied here already.
            news = frozenset(plan.leaves).difference(before.plan.leaves)
            changes = msgspec.structs.replace(changes, leaves=news)
        kept = _since(kept, changes, instants, number)
        state.put(SINCE, b"", kept)
    older = _older(state, definitions.journeys)
    return Compiled(
        number=number,
        hash=record.hash,
        dedup_window_ms=millis(definitions.workspace.dedup_window),
        identity=compile_settings(definitions.identity),
        plan=plan,
        journeys=journeys.compile_plan(definitions.journeys, older),
        destinations=compiled(definitions.destinations),
        sources=SourceIndex(definitions.sources),
        definitions=definitions,
        since=kept,
        decode=whole if any(map(_may_ask, (record.body, *map(_text, older.values())))) else brief,
    )


def _may_ask(text: bytes) -> bool:
    """Return whether a condition in this text may look into an event's context: only if it has the
    word, or a backslash, which a path may have within it."""
    return b"context" in text or b"\\" in text


def _text(journey: Journey) -> bytes:
    return msgspec.json.encode(journey, order="deterministic")


def _since(kept: Since, changes: Changes, instants: dict[str, int], number: int) -> Since:
    leaves = {id: since for id, since in kept.leaves.items()
              if bytes.fromhex(id) not in changes.gone_leaves}
    leaves |= {id.hex(): number for id in sorted(changes.leaves)}
    computations = {key: since for key, since in kept.computations.items() if key in instants}
    computations |= dict.fromkeys(changes.computations, number)
    connected = kept.connected | {
        f"{key}\0{destination}": number for key, destination in changes.connected
    }
    return Since(instants, computations, leaves, connected, number if changes.gone else kept.gone)


def _older(state: State, current: Mapping[str, Journey]) -> dict[tuple[str, str], Journey]:
    """Return all versions ever in force but the current ones; keep the current ones too."""
    for key in sorted(current):
        row = f"{key}\0{version_of(current[key])}".encode()
        if state.get(VERSIONS, row) is None:
            state.put(VERSIONS, row, _text(current[key]))
    older: dict[tuple[str, str], Journey] = {}
    for row, text in state.scan(VERSIONS):
        key, version = row.decode().split("\0")
        if key not in current or version_of(current[key]) != version:
            older[key, version] = msgspec.json.decode(text, type=Journey)
    return older


EMPTY = Compiled(
    number=0,
    hash="",
    dedup_window_ms=millis("24h"),
    identity=compile_settings(Identity()),
    plan=compile_plan({}, {}),
    journeys=journeys.compile_plan({}),
    destinations=compiled({}),
    sources=SourceIndex({}),
    definitions=Definitions(),
    since=Since(),
)
"""In force before any definition arrives: no source, so nothing is taken."""
