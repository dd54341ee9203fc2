"""A journey's instance, and all that one person has running: small, stored and read whole.

An instance is one passage of one person through one version of a journey, for one key value.
Rule: journeys 1, V3, V5, section 6.
"""

from hashlib import blake2b
from typing import Any

from msgspec import Struct

INSTANCES_LIMIT = 25
"""Instances of one person at once, over all journeys (section 6)."""

EVENTS_LIMIT = 25
"""Events of one person in a second that journeys act on (section 6)."""

LIFE_MS = 365 * 86_400_000
"""An instance ends without sends after this long (section 6)."""

RESTARTS_LIMIT = 100
"""Restarts of holds in one instance (H5)."""


class Instance(Struct, frozen=True, gc=False, array_like=True):
    """Where one passage stands. It always waits: ``due_ms`` is when its timer fires."""

    id: str
    journey: str
    version: str
    key: str
    """The entry event's key value as text; empty: the journey has no key."""
    entered_at_ms: int
    entry_timestamp_ms: int
    entry_message_id: str
    step: str
    arrived_at_ms: int
    due_ms: int
    context: dict[str, dict[str, Any]] = {}
    """Name of an event, or its alias, to its properties when it came (C1)."""
    restarts: int = 0
    last_message_id: str = ""
    """The event that last moved or restarted it; empty: none since entry."""


class Running(Struct, frozen=True, gc=False, array_like=True):
    """All that journeys keep of one person."""

    instances: tuple[Instance, ...] = ()
    """In order of entry."""
    once: tuple[str, ...] = ()
    """Journeys with ``re_enter: once`` that were entered; sorted (V3, G3)."""
    recent: tuple[int, ...] = ()
    """Instants of the events of the last second that journeys acted on (section 6)."""


NOTHING = Running()


def next_due(running: Running | None) -> int:
    """Return when the earliest timer fires; 0: nothing waits."""
    if running is None or not running.instances:
        return 0
    return min(instance.due_ms for instance in running.instances)


def digest(*parts: str, size: int = 16) -> str:
    """Return a hash of the parts, in hexadecimal: what is derived is the same on every replay."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return blake2b(joined.encode(), digest_size=size).hexdigest()


def instance_id(
    space: str, journey: str, version: str, profile_id: str, key: str, message_id: str
) -> str:
    """Return the id of the instance that an event starts; it stays through merges (G1)."""
    return "ep_" + digest(space, journey, version, profile_id, key, message_id)
