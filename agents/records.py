"""What the stages say to each other, and what enters from outside.

From outside come `Received` (HTTP), `Result` (outbound), `Tick`, `Define`, `Continue`, `Redrive`
and `Rebase`: only these stand in the raw log. The rest follows from them (protocol 2, 10).
"""

from typing import Any

from msgspec import Struct

from events.event import Event, Id
from events.event import Received as Received
from journeys.instance import Running
from profiles.profile import ExternalId, Profile


# ---- from outside: items of envelopes in the raw log ---------------------------------------------
class Result(Struct, frozen=True, gc=False, array_like=True):
    """What a destination answered to a job's attempt; acted on when it comes back (protocol 10)."""

    job: bytes
    attempt: int
    status: int
    """The HTTP status; 0 when there was no answer, then `code` says why."""
    code: str
    body: str
    retry_after_ms: int = -1
    """The instant before which the destination asked not to be called again; -1: it did not."""


class Tick(Struct, frozen=True, gc=False, array_like=True):
    """Timers due at or before the envelope's instant fire now."""


class Define(Struct, frozen=True, gc=False, array_like=True):
    """The whole definitions in normal form (JSON), their hash and the program's version."""

    body: bytes
    hash: str
    program: str


class Continue(Struct, frozen=True, gc=False, array_like=True):
    """Bring the next profiles up to the definitions in force (protocol 10)."""

    profiles: int


class Redrive(Struct, frozen=True, gc=False, array_like=True):
    """Take up a set-aside event again, by the id under which it is kept."""

    id: str


# ---- between stages ------------------------------------------------------------------------------
class SeenUser(Struct, frozen=True, array_like=True, gc=False):
    """intake -> usage: a userId was seen on a source."""

    user_id: str
    source: str


class Claim(Struct, frozen=True, gc=False):
    """intake -> identity: decide whose event this is."""

    event: Event
    ids: tuple[Id, ...]
    """The event's candidate ids in extraction order, normalised, blocked values gone."""
    routing_id: Id
    account: str = ""
    """The group id that the event names (group call, or context.groupId); empty: none."""


class Answer(Struct, frozen=True, gc=False):
    """identity -> intake: the visitor's ids now confirmed on one profile, best-ranked first."""

    routing_id: Id
    profile_id: str
    ids: tuple[Id, ...]
    account: str = ""


class Revoke(Struct, frozen=True, gc=False):
    """identity -> intake: what was granted on a merged profile is now granted on the survivor."""

    routing_id: Id
    loser: str
    survivor: str


class Arrive(Struct, frozen=True, gc=False):
    """-> profile: an event of this profile. `added` are identifiers newly mapped to it."""

    event: Event
    profile_id: str
    used: tuple[Id, ...]
    demoted: tuple[Id, ...] = ()
    added: tuple[ExternalId, ...] = ()
    account_id: str = ""
    """The profile id of the account that the event names; empty: none."""


class MergeOut(Struct, frozen=True, gc=False):
    """identity -> profile (the loser): hand all state over to the survivor."""

    loser: str
    survivor: str
    message_id: str


class Hand(Struct, frozen=True, gc=False):
    """profile (the loser) -> profile (the survivor): the state handed over."""

    survivor: str
    profile: Profile
    conditions: tuple[tuple[bytes, Any], ...]
    journeys: Running | None
    message_id: str


class AccountCall(Struct, frozen=True, gc=False):
    """identity -> profile (an account): a group call's traits, and the link to the person."""

    event: Event
    account_id: str
    group_id: str
    person_id: str
    created: bool


class Job(Struct, frozen=True, gc=False):
    """-> delivery: one message for one destination, in order per queue.

    ``queue`` is the profile id, or ``type:value`` of the routing id for source events.
    """

    destination: str
    queue: str
    message_id: str
    body: bytes


class Moved(Struct, frozen=True, gc=False):
    """profile -> delivery: jobs waiting under the loser now wait under the survivor."""

    loser: str
    survivor: str
