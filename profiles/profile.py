"""The profile's core record: small, bounded by the limits of the rules, read and written whole.

What a person has done is not here: the history has a row an event, and conditions that remember
much have rows of their own.
"""

from typing import Any

from msgspec import Struct


class Trait(Struct, frozen=True, gc=False, array_like=True):
    """A custom trait's winning update; ``value`` None is a tombstone (identity 6)."""

    value: Any
    timestamp_ms: int
    received_at_ms: int
    message_id: str
    source: str

    @property
    def order(self) -> tuple[int, int, str]:
        """Return what updates of one key are ordered by."""
        return (self.timestamp_ms, self.received_at_ms, self.message_id)


class ExternalId(Struct, frozen=True, gc=False, array_like=True):
    """An identifier of the profile: who brought it and when."""

    type: str
    value: str
    created_at_ms: int
    source: str
    message_id: str


class Computed(Struct, frozen=True, gc=False, array_like=True):
    """A computed trait's present value; None once its source set became empty (audiences T5)."""

    value: Any
    updated_at_ms: int
    changes: int = 0
    """How often it has changed: it numbers the messages (audiences M9)."""


class Membership(Struct, frozen=True, gc=False, array_like=True):
    """A person's standing in an audience; absent before the first entry.

    ``transitions`` counts entries and exits: it numbers the messages (audiences M9).
    """

    inside: bool
    entered_at_ms: int
    exited_at_ms: int
    transitions: int


class Profile(Struct, frozen=True, gc=False, array_like=True):
    """One person, or one account (``collection`` ``accounts``)."""

    id: str
    collection: str
    created_at_ms: int
    updated_at_ms: int
    first_message_id: str
    first_source: str
    last_message_id: str
    last_source: str
    ids: tuple[ExternalId, ...] = ()
    traits: dict[str, Trait] = {}
    computed: dict[str, Computed] = {}
    memberships: dict[str, Membership] = {}
    flips: dict[str, int] = {}
    """Computation key -> the earliest instant its result could change without input (E2)."""
    links: tuple[str, ...] = ()
    """Of a person: the profile ids of accounts; of an account: of its persons. Sorted."""
    absorbed: tuple[str, ...] = ()
    """Profiles merged into this one: their history rows stand under their own ids."""
    journeys_due_ms: int = 0
    """The earliest timer of this person's journey instances; 0: none."""
    armed_ms: int = 0
    """The instant under which this profile stands in the timer table; 0: it does not."""
    definitions: int = 0
    """The number of the definitions under which computations were last brought up to date."""
    survivor: str = ""
    """Not empty: a tombstone; this profile was merged into that one."""
    leaves: dict[bytes, Any] = {}
    """Leaf id -> what it remembers, for the leaves that remember little (`Leaf.small`)."""


class Occurrence(Struct, frozen=True, gc=False, array_like=True):
    """A row of the history: an event as it was applied to this profile.

    Keyed (profile id, NUL, timestamp in 8 bytes, messageId). It is also the evidence of identity
    (``used``, best-ranked first) and, for identify and group calls, the trait update log.
    """

    source: str
    type: str
    at_ms: int
    received_at_ms: int
    segment_id: str
    used: tuple[tuple[str, str], ...]
    demoted: tuple[tuple[str, str], ...]
    body: bytes


def history_key(profile_id: str, timestamp_ms: int, message_id: str) -> bytes:
    """Return the key of an event's row; rows of one profile lie in order of their timestamps."""
    return b"%b\0%b%b" % (profile_id.encode(), timestamp_ms.to_bytes(8, "big"), message_id.encode())
