"""What only partitions say to each other: questions, orders that wait, and time."""

from typing import Any

from msgspec import Struct

from agents.delivery import JobRow
from agents.records import (
    AccountCall,
    Answer,
    Arrive,
    Claim,
    Hand,
    Job,
    Received,
    SeenUser,
)
from events.event import Id
from profiles.profile import Occurrence


class Ask(Struct, frozen=True, array_like=True, gc=False):
    """intake -> dedup: is this messageId new? ``lane`` and ``place`` tell where the event waits."""

    message_id: str
    timestamp_ms: int
    lane: int
    place: tuple[int, int]


class Verdict(Struct, frozen=True, array_like=True, gc=False):
    """dedup -> intake: it is, or not."""

    lane: int
    place: tuple[int, int]
    keep: bool
    repeat_of_ms: int


class Placed(Struct, frozen=True, array_like=True, gc=False):
    """intake -> identity: a claim, with the lane that waits for its answer and its place there."""

    claim: Claim
    lane: int
    place: tuple[int, int]


class Granted(Struct, frozen=True, array_like=True, gc=False):
    """identity -> intake: the answer to the claim at ``place``; without ids: nothing is granted."""

    answer: Answer
    place: tuple[int, int]


class Recall(Struct, frozen=True, array_like=True, gc=False):
    """identity -> intake: what this lane was granted on the loser holds on the survivor; tell the
    loser when nothing of yours is under way to it any more."""

    merge: int
    lane: int
    loser: str
    survivor: str
    routing_ids: tuple[Id, ...]


class Flushed(Struct, frozen=True, array_like=True, gc=False):
    """intake -> profile (the loser): nothing of this lane is under way to you any more."""

    profile_id: str
    merge: int
    lane: int


class Give(Struct, frozen=True, array_like=True, gc=False):
    """identity -> profile (the loser): once all lanes have flushed, hand over."""

    merge: int
    loser: str
    survivor: str
    message_id: str
    lanes: tuple[int, ...]


class Await(Struct, frozen=True, array_like=True, gc=False):
    """identity -> profile (the survivor): do nothing more before the loser's state is here."""

    merge: int
    survivor: str
    loser: str


class Given(Struct, frozen=True, array_like=True, gc=False):
    """profile (the loser) -> profile (the survivor): the state, the history, and what waited."""

    merge: int
    hand: Hand
    history: tuple[tuple[bytes, Occurrence], ...]
    waiting: tuple["Waiting", ...]


class Waiting(Struct, frozen=True, array_like=True, gc=False):
    """An entry of a profile's queue: an event or an order, its instant, and its place in the
    inbox."""

    at_ms: int
    place: tuple[int, int]
    arrive: Arrive | None = None
    account: AccountCall | None = None
    give: Give | None = None
    awaits: Await | None = None


class Water(Struct, frozen=True, array_like=True, gc=False):
    """Everything up to this instant that came by this way is before you in the inbox (protocol 8).

    ``way`` is a lane's number; -1: identity.
    """

    way: int
    at_ms: int


class Moving(Struct, frozen=True, array_like=True, gc=False):
    """profile (the loser) -> delivery: give the jobs that wait to the survivor's queue."""

    merge: int
    loser: str
    survivor: str


class Expect(Struct, frozen=True, array_like=True, gc=False):
    """profile (the survivor) -> delivery: jobs of the loser come before all that follows."""

    merge: int
    survivor: str


class Jobs(Struct, frozen=True, array_like=True, gc=False):
    """delivery (of the loser) -> delivery (of the survivor): the jobs that waited, in order."""

    merge: int
    survivor: str
    jobs: tuple[tuple[str, int, JobRow], ...]


MAIL: tuple[type[Any], ...] = (
    Ask, Verdict, Placed, Granted, Recall, Flushed, Give, Await, Given, Water, SeenUser, Moving,
    Expect, Jobs, Arrive, AccountCall, Job,
)
"""All that stages say to each other in partitions."""

RAW: tuple[type[Any], ...] = (Received,)
