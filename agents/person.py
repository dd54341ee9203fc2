"""What every input of a person does alike: evaluate, tell, arm the timer, store."""

from collections.abc import Collection, Container, Iterable
from typing import Any

from msgspec.structs import replace

from agents.profile_tables import CONDITIONS, MEMBERS, PROFILES, RUNNING, TIMERS
from agents.records import Job
from audiences.calls import messages
from audiences.evaluate import (
    Change,
    Entered,
    Exited,
    TraitChanged,
    due_keys,
    next_flip,
    settle,
)
from events.event import Seen
from journeys import moves
from journeys.moves import Outcome
from journeys.view import View
from profiles.profile import Profile
from runtime.stage import State

OVERDUE_MS = 60_000
"""A journey's timer later than this waits for the tick behind the backlog (journeys T7)."""


class Conditions:
    """What the conditions of one profile remember, as `audiences` reads and writes it.

    Of leaves that remember little in ``small``, which `kept` puts into the profile; of the others
    in rows of their own.
    """

    __slots__ = ("_id", "_small", "_state", "before", "small")

    def __init__(self, state: State, profile: Profile) -> None:
        self._state = state
        self._small: frozenset[bytes] = state.definitions.plan.small
        self._id = profile.id
        self.before = self.small = profile.leaves

    def get(self, leaf_id: bytes) -> Any:
        """Return what the leaf remembers, or None."""
        if leaf_id in self._small:
            return self.small.get(leaf_id)
        return self._state.get(CONDITIONS, self._key(leaf_id))

    def put(self, leaf_id: bytes, value: Any) -> None:
        """Keep what the leaf remembers."""
        if leaf_id in self._small:
            if self.small is self.before:
                self.small = dict(self.before)
            self.small[leaf_id] = value
        else:
            self._state.put(CONDITIONS, self._key(leaf_id), value)

    def delete(self, leaf_id: bytes) -> None:
        """Forget it."""
        if leaf_id in self._small:
            self.small = {key: value for key, value in self.small.items() if key != leaf_id}
        else:
            self._state.delete(CONDITIONS, self._key(leaf_id))

    def _key(self, leaf_id: bytes) -> bytes:
        return self._id.encode() + b"\0" + leaf_id


def settle_person(
    state: State,
    profile: Profile,
    touched: Iterable[str],
    now_ms: int,
    announce: Collection[str] = (),
    conditions: Conditions | None = None,
) -> Profile:
    """Look again at what was touched; tell the destinations what changed.

    ``conditions``: those of the profile, when the caller has changed them.
    """
    if conditions is None:
        conditions = Conditions(state, profile)
    settled = settle(state.definitions.plan, profile, touched, conditions, now_ms, announce)
    after = replace(
        profile, computed=settled.computed, memberships=settled.memberships, flips=settled.flips,
        leaves=conditions.small,
    )
    if settled.changes:
        count_members(state, profile, after, settled.changes)
        announce_changes(state, after, settled.changes, now_ms)
    return after


def count_members(
    state: State, before: Profile, after: Profile, changes: Iterable[Change]
) -> None:
    """Keep the audiences' members and sizes."""
    for change in changes:
        if isinstance(change, TraitChanged):
            continue
        was_inside = is_inside(before, change.key)
        if isinstance(change, Entered) and not was_inside:
            enlist(state, after, change.key)
        elif isinstance(change, Exited) and was_inside:
            strike(state, after.id, change.key)


def is_inside(profile: Profile, audience: str) -> bool:
    """Return whether the person is in the audience."""
    standing = profile.memberships.get(audience)
    return standing is not None and standing.inside


def enlist(state: State, profile: Profile, audience: str) -> None:
    """The person is a member from now on."""
    entered_at_ms = profile.memberships[audience].entered_at_ms
    state.put(MEMBERS, f"{audience}\0{profile.id}".encode(), entered_at_ms)
    state.count(f"audience:{audience}:size")


def strike(state: State, profile_id: str, audience: str) -> None:
    """The person is a member no more."""
    state.delete(MEMBERS, f"{audience}\0{profile_id}".encode())
    state.add(f"audience:{audience}:size", -1)


def announce_changes(
    state: State,
    profile: Profile,
    changes: Iterable[Change],
    now_ms: int,
    only: Container[tuple[str, str]] | None = None,
) -> None:
    """Send what destinations are to hear of the changes."""
    definitions = state.definitions
    for message in messages(
        "default", definitions.plan, profile, changes, definitions.destinations, now_ms, only
    ):
        state.out("delivery", profile.id,
                  Job(message.destination, profile.id, message.message_id, message.body))


def offer(
    state: State, profile: Profile, before: Profile, occurred: Seen, now_ms: int
) -> Profile:
    """Let journeys see the event: exit rules, hold branches, entries (journeys T4)."""
    running = state.get(RUNNING, profile.id.encode())
    outcome = moves.offer(
        state.definitions.journeys, running, occurred, View(profile, before), now_ms
    )
    return moved(state, profile, outcome)


def moved(state: State, profile: Profile, outcome: Outcome | None) -> Profile:
    """Keep what journeys decided and send what they send."""
    if outcome is None:
        return profile
    key = profile.id.encode()
    if outcome.running is None:
        if state.get(RUNNING, key) is not None:
            state.delete(RUNNING, key)
    else:
        state.put(RUNNING, key, outcome.running)
    for journey, version, step, what in outcome.counts:
        state.count(f"journey:{journey}:{version}:{step}:{what}")
    for send in outcome.sends:
        state.out("delivery", profile.id,
                  Job(send.destination, profile.id, send.message_id, send.body))
    if outcome.due_ms == profile.journeys_due_ms:
        return profile
    return replace(profile, journeys_due_ms=outcome.due_ms)


def fire(state: State, profile: Profile, before_ms: int, *, ticking: bool = False) -> Profile:
    """Fire the person's timers due before an instant, in their order.

    Conditions change at the instant they are due (audiences E4); journeys move at the instant of
    the input that fires them, which is logged (journeys T6). Without a tick, a journey's timer
    that is long overdue stays: what still lies in the log may end the journey first (T7).
    """
    now_ms = before_ms - 1 if ticking else before_ms
    while True:
        flip_ms = next_flip(profile.flips)
        move_ms = profile.journeys_due_ms
        if not ticking and now_ms - move_ms > OVERDUE_MS:
            move_ms = 0
        if flip_ms and flip_ms < before_ms and (not move_ms or flip_ms <= move_ms):
            keys = due_keys(profile, flip_ms)
            profile = settle_person(state, profile, keys, flip_ms)
            assert next_flip(profile.flips) != flip_ms, f"a timer of {keys} does not move on"
        elif move_ms and move_ms < before_ms:
            running = state.get(RUNNING, profile.id.encode())
            outcome = moves.fire(
                state.definitions.journeys, running, View(profile, profile), move_ms, now_ms
            )
            assert outcome is not None, "a profile's timer is not that of its journeys"
            assert outcome.due_ms != move_ms, "a journey's timer does not move on"
            profile = moved(state, profile, outcome)
        else:
            return profile


def next_due(profile: Profile) -> int:
    """Return the earliest instant at which time changes something; 0: never."""
    flip_ms = next_flip(profile.flips)
    move_ms = profile.journeys_due_ms
    return min(flip_ms, move_ms) if flip_ms and move_ms else flip_ms or move_ms


def store(
    state: State, stored: Profile | None, profile: Profile, *, rung: bool = False
) -> None:
    """Write the profile and see that its timer stands early enough.

    A timer that stands too early is left: it rings, finds nothing due, and is set anew. So an
    event that only puts an expiry off writes no timer.
    """
    key = profile.id.encode()
    armed_ms = profile.armed_ms
    if (
        rung
        or stored is None
        or profile.flips is not stored.flips
        or profile.journeys_due_ms != stored.journeys_due_ms
    ):
        due_ms = next_due(profile)
        if rung or (due_ms and (not armed_ms or due_ms < armed_ms)):
            if armed_ms:
                state.delete(TIMERS, armed_ms.to_bytes(8, "big") + key)
            if due_ms:
                state.put(TIMERS, due_ms.to_bytes(8, "big") + key, b"")
            profile = replace(profile, armed_ms=due_ms)
    state.put(PROFILES, key, profile)
