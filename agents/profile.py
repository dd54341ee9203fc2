"""Stage `profile`: one person's events, in order, become traits, memberships, journeys, messages.

Keyed by profile id. The order within one input is fixed (journeys T4): earlier timers, identity,
traits, computed traits, audiences, exit rules, hold branches, entries. A timer due strictly before
an input fires before it; on a tie the input goes first (audiences E4, journeys T3). Merges are in
`agents/merging.py`, what new definitions mean in `agents/catching_up.py`.
"""

from msgspec.structs import replace

from agents.accounts import account_call
from agents.catching_up import begin_sweep, step, up_to_date
from agents.history import kept
from agents.merging import hand_over, take_over
from agents.person import Conditions, fire, offer, settle_person, store
from agents.profile_tables import (
    CONDITIONS,
    HISTORY,
    MEMBERS,
    PROFILES,
    RUNNING,
    SWEEP,
    TIMERS,
)
from agents.records import AccountCall, Arrive, Continue, Define, Hand, MergeOut, Tick
from audiences.evaluate import asked, identified, observe, open_to, unreadable
from events.event import seen
from profiles import traits
from profiles.profile import Occurrence, Profile, history_key
from runtime.stage import Stage, State


def arrive(state: State, record: Arrive) -> None:
    """Apply an event to its person."""
    event = record.event
    definitions = state.definitions
    found = state.get(PROFILES, record.profile_id.encode())
    if found is None:
        before = _born(state, record)
    else:
        assert not found.survivor, f"an event reached the tombstone {found.id}"
        before = found
        if before.definitions != definitions.number:
            before = up_to_date(state, before)
        if before.armed_ms and before.armed_ms < event.at_ms:
            before = fire(state, before, event.at_ms)
    if event.repeat_of_ms >= 0 and kept(state, before, event):
        _again(state, record, found, before)
        return
    state.put(
        HISTORY,
        history_key(before.id, event.timestamp_ms, event.message_id),
        Occurrence(event.source, event.type, event.at_ms, event.received_at_ms, before.id,
                   record.used, record.demoted, event.body),
    )
    plan = definitions.plan
    occurred = seen(event)
    leaves = asked(plan, occurred) if occurred is not None else ()
    conditions = None
    touched: tuple[str, ...] = ()
    if leaves and occurred is not None:
        conditions = Conditions(state, before)
        touched = observe(leaves, occurred, conditions)
    changed = traits.merge(before.traits, event) if event.type == "identify" else None
    links = before.links
    if record.account_id and record.account_id not in links:
        links = tuple(sorted((*links, record.account_id)))
    profile = replace(
        before,
        updated_at_ms=event.at_ms,
        last_message_id=event.message_id,
        last_source=event.source,
        ids=(*before.ids, *record.added) if record.added else before.ids,
        traits={**before.traits, **changed} if changed else before.traits,
        links=links,
        leaves=before.leaves if conditions is None else conditions.small,
    )
    if changed:
        touched += plan.reading(changed)
        if unread := unreadable(plan, changed):
            state.add("dates_unreadable", unread)
    if touched:
        touched = open_to(plan, profile, touched)
    if record.added:
        touched += identified(plan, before.ids, profile)
    if touched:
        profile = settle_person(state, profile, touched, event.at_ms, (), conditions)
    if occurred is not None and occurred.name in definitions.journeys.events:
        profile = offer(state, profile, before, occurred, event.at_ms)
    store(state, found, profile)


def _again(state: State, record: Arrive, found: Profile | None, before: Profile) -> None:
    """Take an old event, sent again after the dedup window: the history keeps one (identity 10,
    18). Under other identity settings it may bring identifiers that it did not bring before."""
    at_ms = record.event.at_ms
    profile = replace(before, updated_at_ms=at_ms, ids=(*before.ids, *record.added))
    touched = identified(state.definitions.plan, before.ids, profile) if record.added else ()
    if touched:
        profile = settle_person(state, profile, touched, at_ms)
    store(state, found, profile)


def _born(state: State, record: Arrive) -> Profile:
    event = record.event
    state.count("profiles")
    return Profile(
        record.profile_id, "users", event.at_ms, event.at_ms, event.message_id, event.source,
        event.message_id, event.source, definitions=state.definitions.number,
    )


def tick(state: State, _record: Tick) -> None:
    """Fire all timers due by now, in order of their instants."""
    now_ms = state.at_ms
    while True:
        late: list[bytes] = []
        for key, _ in state.scan(TIMERS):
            if int.from_bytes(key[:8], "big") > now_ms or len(late) == 1000:
                break
            late.append(key)
        if not late:
            return
        for key in late:
            ring(state, key, now_ms)


def ring(state: State, key: bytes, now_ms: int) -> None:
    """Fire the timers due by ``now_ms`` of the profile that a row of `TIMERS` names."""
    armed_ms, id = int.from_bytes(key[:8], "big"), key[8:]
    profile = state.get(PROFILES, id)
    if profile is None or profile.armed_ms != armed_ms:
        state.delete(TIMERS, key)
        return
    present = profile
    if present.definitions != state.definitions.number:
        present = up_to_date(state, present)
    present = fire(state, present, now_ms + 1, ticking=True)
    store(state, profile, present, rung=True)


STAGE = Stage(
    "profile",
    {
        Arrive: arrive,
        AccountCall: account_call,
        MergeOut: hand_over,
        Hand: take_over,
        Tick: tick,
        Define: begin_sweep,
        Continue: step,
    },
    (PROFILES, HISTORY, MEMBERS, CONDITIONS, RUNNING, TIMERS, SWEEP),
)


def sweeping(state: State) -> bool:
    """Return whether profiles are being brought up to new definitions."""
    return state.get(SWEEP, b"") is not None
