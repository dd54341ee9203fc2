"""The production stages, with a bug planted that only poison events meet, and compiled only once.

Definitions are compiled anew at every start, and a simulated worker starts often: what compiling
gives for equal definitions is shared between runs. It is never changed by anybody.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from agents import definitions as definitions_room
from agents.records import Arrive
from app import engine as engine_room
from journeys import plan as journeys_room
from runtime.stage import Stage


def poisonous(stage: Stage) -> Stage:
    """Return the stage `profile` with the bug that poison events meet; a second try is fine."""
    arrive = stage.handlers[Arrive]
    conditions = next(table for table in stage.tables if table.name == "conditions")

    def handle(state: Any, record: Arrive) -> None:
        arrive(state, record)
        name = record.event.name
        if name in ("Poison", "Poison Row") and not state.redriving:
            state.count("poison:left behind")
            if name == "Poison":
                raise ValueError("poison")
            state.put(conditions, b"left behind", 1 << 70)  # which nothing can keep

    return Stage(stage.name, {**stage.handlers, Arrive: handle}, stage.tables)


_parsed: dict[bytes, Any] = {}
_plans: dict[Any, Any] = {}
_journeys: dict[Any, Any] = {}
_settings: dict[int, Any] = {}
_from_normal = definitions_room.from_normal
_compile_plan = definitions_room.compile_plan
_compile_journeys = journeys_room.compile_plan
_compile_settings = definitions_room.compile_settings


def _parse(body: bytes) -> Any:
    if body not in _parsed:
        _parsed[body] = _from_normal(body)
    return _parsed[body]


def _plan(audiences: Any, computed: Any, since: Any = None) -> Any:
    key = (id(audiences), id(computed), tuple(sorted((since or {}).items())))
    if key not in _plans:
        if len(_plans) > 500:
            _plans.clear()
        _plans[key] = _compile_plan(audiences, computed, since)
    return _plans[key]


def _journey_plan(current: Any, older: Any = None) -> Any:
    key = (id(current), tuple(sorted(older or ())))
    if key not in _journeys:
        _journeys[key] = _compile_journeys(current, older)
    return _journeys[key]


def _identity(identity: Any) -> Any:
    key = id(identity)
    if key not in _settings:
        _settings[key] = _compile_settings(identity)
    return _settings[key]


def forget() -> None:
    """Compile everything anew from now on: what compiles it is another."""
    for kept in (_parsed, _plans, _journeys, _settings):
        kept.clear()


@contextlib.contextmanager
def put(*patches: tuple[Any, str, Any]) -> Iterator[None]:
    """Put other values in place of attributes for a while."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    try:
        for owner, name, value in patches:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


def sim_stages(change: Callable[[Stage], Stage] = lambda stage: stage) -> Any:
    """Return the context in which engines run the simulator's stages; ``change`` may plant a bug
    in each."""
    stages = tuple(
        change(poisonous(stage) if stage.name == "profile" else stage)
        for stage in engine_room.STAGES
    )
    return put(
        (engine_room, "STAGES", stages),
        (definitions_room, "from_normal", _parse),
        (definitions_room, "compile_plan", _plan),
        (definitions_room, "compile_settings", _identity),
        (journeys_room, "compile_plan", _journey_plan),
    )
