"""The key: the property that tells a person's parallel instances apart (journeys V3, V4)."""

from events import paths
from events.event import Seen
from events.operators import text
from journeys.limits import KEY_LENGTH


def key_of(event: Seen, name: str) -> str | None:
    """Return an event's key value as text, so that 17 and "17" are one; None when it has none.

    A value that is missing, empty, longer than 150 characters, a list or an object is none.
    ``name`` is a property, or else a path to one. Rule: journeys V4.
    """
    value = event.properties.get(name)
    if value is None and ("." in name or "\\" in name):
        value = paths.one(paths.parse(name))(event.properties)
    if value is None or isinstance(value, dict | list):
        return None
    shown = text(value)
    return shown if shown and len(shown) <= KEY_LENGTH else None
