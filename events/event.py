"""The stored event as the stages see it: one of the six calls, already checked and normalised.

`body` is the event's JSON as it is stored, archived and delivered; `data` the same, decoded.
Nothing downstream parses a timestamp again: the instants stand beside it in milliseconds.
"""

from typing import Any

from msgspec import Struct

Id = tuple[str, str]
"""An external id: ``(type, value)``, normalised."""

FUTURE_MS = 5 * 60 * 1000


class Received(Struct, frozen=True, array_like=True, gc=False):
    """An accepted call: the stored event, as HTTP normalised it (collect 7) and the log has it.

    Its text alone: what was decoded at the door is let go of there, while it is in the processor's
    cache. Kept for the stages until the log is synced, it costs more than to decode it again.
    """

    source: str
    message_id: str
    received_at_ms: int
    timestamp_ms: int
    body: bytes


class Event(Struct, gc=False):
    """One accepted call, on its way through the stages. Treated as frozen by everybody.

    ``at_ms`` is the instant every decision uses; ``timestamp_ms`` the corrected client instant.
    """

    source: str
    message_id: str
    type: str
    at_ms: int
    received_at_ms: int
    timestamp_ms: int
    body: bytes
    data: dict[str, Any]
    repeat_of_ms: int = -1
    """The stored timestamp of an earlier occurrence outside the dedup window; -1: none."""

    @property
    def name(self) -> str | None:
        """Return the name conditions know it by; None for identify, group and alias.

        Rule: events E-12 (`Page Viewed`, `Screen Viewed`).
        """
        kind = self.type
        if kind == "track":
            name: str = self.data["event"]
            return name
        if kind == "page":
            return "Page Viewed"
        if kind == "screen":
            return "Screen Viewed"
        return None

    @property
    def effective_ms(self) -> int:
        """Return the timestamp that windows use: never more than 5 minutes ahead of receipt.

        Rule: audiences E5.
        """
        if self.timestamp_ms > self.received_at_ms + FUTURE_MS:
            return self.received_at_ms
        return self.timestamp_ms


class Seen(Struct, frozen=True, gc=False):
    """What conditions and journeys see of an event, live or read back from the history.

    ``properties`` holds ``page_name`` / ``screen_name`` beside what was sent (audiences 4.1).
    """

    name: str
    timestamp_ms: int
    at_ms: int
    message_id: str
    source: str
    properties: dict[str, Any]
    context: dict[str, Any]


def seen(event: Event) -> Seen | None:
    """Return the event as conditions see it; None when it has no name (identify, group, alias)."""
    # Event.name and Event.effective_ms, written out: this runs for every event.
    kind, data = event.type, event.data
    properties = data.get("properties") or {}
    if kind == "track":
        name = data["event"]
    elif kind == "page" or kind == "screen":
        name = "Page Viewed" if kind == "page" else "Screen Viewed"
        own = data.get("name")
        if own is not None:
            properties = {**properties, f"{kind}_name": own}
    else:
        return None
    timestamp_ms = event.timestamp_ms
    if timestamp_ms > event.received_at_ms + FUTURE_MS:
        timestamp_ms = event.received_at_ms
    return Seen(name, timestamp_ms, event.at_ms, event.message_id, event.source, properties,
                data.get("context") or {})
