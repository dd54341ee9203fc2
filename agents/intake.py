"""Stage `intake`: is this event new, and is its person known already, or must `identity` decide?

Keyed by routing id. In the fused mode `dedup` is a look-up, and no claim is ever in flight: the
answer is here before the next event (protocol 3, 10).
"""

from typing import Any

import msgspec
from msgspec import Struct

from agents.archive import TABLES as ARCHIVE_TABLES
from agents.archive import drop, keep
from agents.definitions import Compiled
from agents.records import Answer, Arrive, Claim, Job, Received, Revoke
from agents.usage import note
from events.event import Event, Id
from identity.extract import account_of, candidates, gate, routing_id
from identity.settings import Settings
from runtime.stage import Stage, State, Table


class Sight(Struct, frozen=True, gc=False, array_like=True):
    """When a messageId was first seen (dedup window), and the timestamp its event is kept under."""

    at_ms: int
    timestamp_ms: int


class Links(Struct, frozen=True, gc=False, array_like=True):
    """What `identity` confirmed of a visitor: ids, best-ranked first, all on one profile.

    ``settings`` is the hash of the identity settings under which that was so.
    """

    profile_id: str
    ids: tuple[Id, ...]
    account: str
    settings: str


SIGHTS: Table[Sight] = Table("sights", b"Ds", Sight, cached=False)
LINKS: Table[Links] = Table("links", b"Dl", Links)

def receive(state: State, record: Received) -> None:
    """Pass on an event that is new: to the archive, its destinations, and its person.

    Rule: collect C-33, C-35; identity 3; protocol 3.
    """
    keep, repeat_of_ms = sight(state, record.message_id, record.timestamp_ms)
    if keep:
        admit(state, record, repeat_of_ms)
    else:
        state.count("duplicates")
        drop(state, record.message_id)


class Ready(Struct, frozen=True, gc=False):
    """An event, and what of its handling asks no state."""

    record: Received
    key: bytes
    """Its messageId, as `SIGHTS` has it."""
    data: dict[str, Any]
    type: str
    ids: tuple[Id, ...]
    routing_id: Id | None
    reason: str | None
    """Why it stays out of the space; None: it does not."""


def prepare(definitions: Compiled, records: list[Received]) -> list[Ready]:
    """Return the events made ready, for `receive_ready`.

    Thing by thing for all of an envelope, so that what works on them stays in the processor's
    cache: 0.7 us an event less than event by event.
    """
    decode, settings = definitions.decode, definitions.identity
    data = [decode(record.body) for record in records]
    types: list[str] = [one["type"] for one in data]
    ids = [candidates(one, type, settings) for one, type in zip(data, types, strict=True)]
    routing = [
        each[0] if len(each) == 1 else routing_id(one, each)
        for one, each in zip(data, ids, strict=True)
    ]
    reasons = [gate(one, type, settings) for one, type in zip(data, types, strict=True)]
    keys = [record.message_id.encode() for record in records]
    return list(map(Ready, records, keys, data, types, ids, routing, reasons))


def receive_ready(state: State, ready: Ready) -> None:
    """`receive`, of an event made ready."""
    record = ready.record
    if state.get(SIGHTS, ready.key) is None:
        state.put(SIGHTS, ready.key, Sight(state.at_ms, record.timestamp_ms))
        _admit(state, ready, -1)
    else:
        receive(state, record)


def sight(state: State, message_id: str, timestamp_ms: int) -> tuple[bool, int]:
    """Remember a messageId; return whether the event is to be kept, and the timestamp of its first
    occurrence when that was before the dedup window, else -1."""
    at_ms = state.at_ms
    key = message_id.encode()
    seen = state.get(SIGHTS, key)
    if seen is None:
        state.put(SIGHTS, key, Sight(at_ms, timestamp_ms))
        return True, -1
    if at_ms < seen.at_ms + state.definitions.dedup_window_ms:
        return False, -1
    first_ms = seen.timestamp_ms
    if first_ms < 0:  # of before 1970: it was kept out and stands nowhere (identity G6)
        state.put(SIGHTS, key, Sight(at_ms, timestamp_ms))
        return True, -1
    state.put(SIGHTS, key, Sight(at_ms, first_ms))
    return True, first_ms


def admit(state: State, record: Received, repeat_of_ms: int) -> None:
    """Pass on an event that is no duplicate; ``repeat_of_ms`` as in `Event`."""
    _admit(state, prepare(state.definitions, [record])[0], repeat_of_ms)


def _admit(state: State, ready: Ready, repeat_of_ms: int) -> None:
    at_ms = state.at_ms
    definitions = state.definitions
    record, data = ready.record, ready.data
    source = record.source
    event = Event(source, record.message_id, ready.type, at_ms, record.received_at_ms,
                  record.timestamp_ms, record.body, data, repeat_of_ms)
    note(state, source, data.get("userId") or "", data.get("anonymousId") or "", at_ms)
    keep(state, event)

    rid, reason = ready.routing_id, ready.reason
    if source in definitions.destinations.by_source:
        _deliver(state, event, rid)

    if reason is not None:
        state.count("filtered")
        state.count(f"filtered:{reason}")
    elif rid is None:
        state.count("unresolved")
        state.count("unresolved:no_matching_identifiers")
    else:
        _settle(state, event, ready.ids, rid, definitions.identity)


def _deliver(state: State, event: Event, rid: Id | None) -> None:
    """Send the event itself to the destinations that take its source's."""
    definitions = state.definitions
    queue = f"{rid[0]}:{rid[1]}" if rid else f"message:{event.message_id}"
    for destination in definitions.receivers(event):
        state.out("delivery", queue, Job(destination, queue, event.message_id, event.body))
    if event.data.get("integrations"):
        for destination, _ in definitions.filtered(event):
            state.count(f"jobs_filtered:{destination}")


def _settle(
    state: State, event: Event, ids: tuple[Id, ...], rid: Id, settings: Settings
) -> None:
    """Forward an event whose ids are all confirmed on one profile, claim the ids of any other."""
    state.count("applied")
    account = ""
    if event.type == "group" or "groupId" in (event.data.get("context") or ()):
        account = account_of(event.data, event.type)
    links = state.get(LINKS, f"{rid[0]}\0{rid[1]}".encode())
    if (
        links is not None
        and links.settings == settings.hash
        and event.type != "group"
        and (not account or account == links.account)
    ):
        granted = links.ids
        used: tuple[Id, ...]
        if len(ids) == 1:
            used = ids if ids[0] in granted else ()
        else:
            used = tuple([id for id in granted if id in ids])
        if len(used) == len(ids):
            state.out("profile", links.profile_id, Arrive(event, links.profile_id, used))
            return
    state.out("identity", "default", Claim(event, ids, rid, account))


def confirm(state: State, answer: Answer) -> None:
    """Keep what was confirmed, or that nothing is: then this visitor's events always claim."""
    key = _key(answer.routing_id)
    links = state.get(LINKS, key)
    if answer.profile_id:
        settings: Settings = state.definitions.identity
        ids = answer.ids
        if (
            links is not None
            and links.profile_id == answer.profile_id
            and links.settings == settings.hash
        ):
            # What was confirmed before still holds: else who sends now these ids and now those
            # would always claim.
            ids = settings.ranked(dict.fromkeys((*links.ids, *ids)))
        state.put(LINKS, key, Links(answer.profile_id, ids, answer.account, settings.hash))
    elif links is not None:
        state.delete(LINKS, key)


def revoke(state: State, order: Revoke) -> None:
    """What was granted on a merged profile is granted on the survivor."""
    key = _key(order.routing_id)
    links = state.get(LINKS, key)
    if links is not None and links.profile_id == order.loser:
        state.put(LINKS, key, msgspec.structs.replace(links, profile_id=order.survivor))


def _key(rid: Id) -> bytes:
    return f"{rid[0]}\0{rid[1]}".encode()


STAGE = Stage(
    "intake",
    {Received: receive, Ready: receive_ready, Answer: confirm, Revoke: revoke},
    (SIGHTS, LINKS, *ARCHIVE_TABLES),
    prepare=prepare,
    reads=(SIGHTS, lambda records: [ready.key for ready in records]),
)
