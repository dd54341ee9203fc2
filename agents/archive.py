"""What the raw archive needs of the stages: which events of the log were kept.

The archive is written outside, after a commit (`app/archive.py`): a stage touches no file. After a
crash the state may have come further than the files, so what is not plain from the log itself
stands in the state: which events were duplicates, and which were put back after a fix.
"""

from msgspec import Struct

from events.event import Event
from runtime.stage import State, Table


class Kept(Struct, frozen=True, gc=False, array_like=True):
    """What the archive gets of an event."""

    received_at_ms: int
    body: bytes


DROPPED: Table[int] = Table("archive_dropped", b"Ad", int, cached=False)
"""(offset in 8 bytes, messageId) -> how many events of that record were duplicates by that id."""

REDRIVEN: Table[Kept] = Table("archive_redriven", b"Ar", Kept, cached=False)
"""(offset of the redrive in 8 bytes, messageId) -> the event."""

TABLES = (DROPPED, REDRIVEN)


def keep(state: State, event: Event) -> None:
    """Send a kept event to the archive."""
    kept = Kept(event.received_at_ms, event.body)
    if state.redriving:
        state.put(REDRIVEN, archive_key(state.position, event.message_id), kept)
    state.out("archive", event.source, kept)


def drop(state: State, message_id: str) -> None:
    """Remember that the present event is a duplicate: it does not go to the archive."""
    key = archive_key(state.position, message_id)
    state.put(DROPPED, key, (state.get(DROPPED, key) or 0) + 1)


def archive_key(position: int, message_id: str) -> bytes:
    """Return the key of rows about a message of one record of the log."""
    return position.to_bytes(8, "big") + message_id.encode()
