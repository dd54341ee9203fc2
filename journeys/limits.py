"""The limits of a definition: names, counts, durations (journeys Y3, Y6, section 6)."""

from collections.abc import Mapping
from typing import Any

from events import filters
from events.durations import millis
from events.operators import Trouble

SHORTEST_MS = 5 * 60_000
LONGEST_MS = 182 * 86_400_000
"""Delays and holds lie between these."""

NAME_LENGTH = 73
"""Of names of journeys, steps, branches and events."""
PROPERTY_LENGTH = 500
"""Of the name of a key's property (V4)."""
KEY_LENGTH = 150
"""Of a key's value (V4)."""

STEPS_LIMIT = 50
BRANCHES_LIMIT = 9
EXITS_LIMIT = 10
ACTIVATIONS_LIMIT = 5
MAPPINGS_LIMIT = 100
PAYLOAD_BYTES = 32 * 1024
DESTINATION_KEY_LENGTH = 31


def duration_problems(name: str, text: str) -> list[Trouble]:
    """Return what is wrong with how long a delay or hold lasts (Y3)."""
    try:
        duration_ms = millis(text)
    except ValueError as error:
        return [((name,), str(error), "give a whole number and a unit")]
    if SHORTEST_MS <= duration_ms <= LONGEST_MS:
        return []
    return [((name,), f"{text} is not within 5 minutes and 182 days", "give from 5m to 182d")]


def name_problems(at: tuple[str | int, ...], kind: str, name: str) -> list[Trouble]:
    """Return what is wrong with a name: empty, or over the limit (Y6)."""
    if not name.strip():
        return [(at, f"the {kind} is empty", "give it a name")]
    if len(name) > NAME_LENGTH:
        what = f"the {kind} has {len(name)} characters, more than {NAME_LENGTH}"
        return [(at, what, "shorten it")]
    return []


def property_problems(at: tuple[str | int, ...], name: str) -> list[Trouble]:
    """Return what is wrong with the name of a key's property (V4)."""
    if not name:
        return [(at, "the property is empty", "name a property of the event")]
    if len(name) > PROPERTY_LENGTH:
        what = f"the property has {len(name)} characters, more than {PROPERTY_LENGTH}"
        return [(at, what, "name another property")]
    return []


def count_problems(at: tuple[str | int, ...], what: str, count: int, limit: int) -> list[Trouble]:
    """Return that there are too many of something (Y6)."""
    if count <= limit:
        return []
    return [(at, f"{count} {what}, more than {limit}", "remove some")]


def where_problems(at: tuple[str | int, ...], where: Mapping[str, Any]) -> list[Trouble]:
    """Return what is wrong in a `where`."""
    return [((*at, "where", *keys), what, mend) for keys, what, mend in filters.problems(where)]
