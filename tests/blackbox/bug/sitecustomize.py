"""A bug, for workers with this folder on their PYTHONPATH: events named `Broken` break a stage."""

from typing import Any

from agents.profile import STAGE
from agents.records import Arrive

_arrive = STAGE.handlers[Arrive]


def _break(state: Any, record: Any) -> None:
    _arrive(state, record)
    if record.event.name == "Broken":
        raise ZeroDivisionError("a bug")


STAGE.handlers[Arrive] = _break
