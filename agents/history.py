"""A person's history, read back: rows of the profile itself and of those it absorbed, in order."""

from collections.abc import Iterable, Iterator
from heapq import merge

from agents.profile_tables import HISTORY
from events.event import Event, Seen, seen
from events.reading import whole
from profiles.profile import Occurrence, Profile, history_key
from runtime.stage import State


def events(state: State, profile: Profile) -> Iterator[Event]:
    """Yield all that the person has done, by timestamp. Costs a row an event."""
    return merge(*(_rows(state, id) for id in (profile.id, *profile.absorbed)), key=_order)


def kept(state: State, profile: Profile, event: Event) -> bool:
    """Return whether an event that was sent again stands in the profile's history already.

    Under the timestamp of the first occurrence, or, when that was another person's, its own.
    """
    return any(
        state.get(HISTORY, history_key(id, stamp_ms, event.message_id)) is not None
        for id in (profile.id, *profile.absorbed)
        for stamp_ms in (event.repeat_of_ms, event.timestamp_ms)
    )


def occurrences(
    state: State, profile: Profile, names: Iterable[str] | None = None
) -> Iterator[Seen]:
    """Yield the events that conditions know by name, by timestamp; only some names, if given."""
    wanted = None if names is None else frozenset(names)
    for event in events(state, profile):
        found = seen(event)
        if found is not None and (wanted is None or found.name in wanted):
            yield found


def _rows(state: State, profile_id: str) -> Iterator[Event]:
    prefix = profile_id.encode() + b"\0"
    for key, row in state.scan(HISTORY, prefix):
        yield _event(key[len(prefix):], row)


def _event(key: bytes, row: Occurrence) -> Event:
    return Event(row.source, key[8:].decode(), row.type, row.at_ms, row.received_at_ms,
                 int.from_bytes(key[:8], "big"), row.body, whole(row.body))


def _order(event: Event) -> tuple[int, str]:
    return event.timestamp_ms, event.message_id
