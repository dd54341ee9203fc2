"""Stage `profile` in partitions: each profile is a sequential process over its own queue.

Mostly the queue is empty and bypassed. An event waits in it while a merge is under way, or while a
timer is due before it that no tick covers yet; what ends a wait comes by the mailbox and passes
the queue (protocol 5, 8).
"""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from agents.accounts import account_call
from agents.catching_up import begin_sweep, step, without_gone
from agents.history import occurrences
from agents.merging import hand_over, take_over
from agents.profile import STAGE as PROFILE
from agents.profile import arrive, ring
from agents.profile_tables import HISTORY, PROFILES, TIMERS
from agents.records import AccountCall, Arrive, Continue, Define, Hand, MergeOut, Moved
from agents.routed.records import (
    Await,
    Expect,
    Flushed,
    Give,
    Given,
    Moving,
    Waiting,
    Water,
)
from audiences.evaluate import rebuild
from profiles.profile import Occurrence, Profile
from runtime.stage import PartitionState, Stage, State, Table


class Line(Struct, frozen=True, array_like=True, gc=False):
    """A profile's queue, and the lanes that flushed, by merge. There is no row for an empty one."""

    waiting: tuple[Waiting, ...] = ()
    flushed: dict[int, tuple[int, ...]] = {}
    given: tuple[int, ...] = ()
    """The merges whose state is here already (`GIVEN`)."""


LINES: Table[Line] = Table("profile_lines", b"Pq", Line)
"""Profile id -> its queue."""
GIVEN: Table[Given] = Table("profile_given", b"Pg", Given, cached=False)
"""Merge number in 8 bytes -> what was handed over and is not taken yet."""
WATERS: Table[int] = Table("profile_waters", b"Px", int)
"""Way -> the last tick that came by it."""
_EMPTY = Line()


# ---- what comes in -------------------------------------------------------------------------------
def event(state: PartitionState, record: Arrive) -> None:
    """An event of a person."""
    _enter(state, record.profile_id,
           Waiting(state.at_ms, (state.position, state.index), arrive=record))


def account(state: PartitionState, record: AccountCall) -> None:
    """A group call, at its account."""
    _enter(state, record.account_id,
           Waiting(state.at_ms, (state.position, state.index), account=record))


def give(state: PartitionState, order: Give) -> None:
    """The profile was merged into another."""
    _enter(state, order.loser, Waiting(state.at_ms, (state.position, state.index), give=order))


def awaits(state: PartitionState, order: Await) -> None:
    """Another profile was merged into this one."""
    _enter(state, order.survivor, Waiting(state.at_ms, (state.position, state.index), awaits=order))


def flushed(state: PartitionState, mail: Flushed) -> None:
    """A lane has nothing more under way to a loser."""
    line = state.get(LINES, mail.profile_id.encode()) or _EMPTY
    lanes = tuple(sorted({*line.flushed.get(mail.merge, ()), mail.lane}))
    _advance(state, mail.profile_id, replace(line, flushed={**line.flushed, mail.merge: lanes}))


def given(state: PartitionState, mail: Given) -> None:
    """A loser's state is here."""
    survivor = mail.hand.survivor
    state.put(GIVEN, mail.merge.to_bytes(8, "big"), mail)
    line = state.get(LINES, survivor.encode()) or _EMPTY
    _advance(state, survivor, replace(line, given=(*line.given, mail.merge)))


def water(state: PartitionState, mark: Water) -> None:
    """Time has passed on one way. What all ways have passed is the partition's clock: everything
    up to it is in the inbox, so timers up to it may fire."""
    before_ms = clock(state)
    state.put(WATERS, str(mark.way).encode(), mark.at_ms)
    now_ms = clock(state)
    if now_ms <= before_ms:
        return
    state.at_ms = now_ms
    for id, line in list(state.scan(LINES)):
        _advance(state, id.decode(), line)
    while True:
        late = []
        for key, _ in state.scan(TIMERS):
            if int.from_bytes(key[:8], "big") > now_ms:
                break
            if state.get(LINES, key[8:]) is None:  # else the queue decides
                late.append(key)
                if len(late) == 1000:
                    break
        if not late:
            return
        for key in late:
            ring(state, key, now_ms)


def clock(state: PartitionState) -> int:
    """Return the instant up to which everything is in the inbox."""
    return min((state.get(WATERS, str(way).encode()) or 0)
               for way in range(-1, state.partitions))


# ---- the queue -----------------------------------------------------------------------------------
def _enter(state: PartitionState, id: str, entry: Waiting) -> None:
    key = id.encode()
    line = state.get(LINES, key)
    if line is None and (entry.arrive or entry.account):
        profile = state.get(PROFILES, key)
        if profile is None or not profile.armed_ms or profile.armed_ms >= entry.at_ms:
            _apply(state, entry)
            return
    line = line or _EMPTY
    _advance(state, id, replace(line, waiting=(*line.waiting, entry)))


def _may_go(line: Line, entry: Waiting) -> bool:
    if entry.give is not None:
        return set(entry.give.lanes) <= set(line.flushed.get(entry.give.merge, ()))
    if entry.awaits is not None:
        return entry.awaits.merge in line.given
    return True


def _advance(state: PartitionState, id: str, line: Line) -> None:
    """Run what may run: entries up to the next timer in the order of their instants, the timer,
    what comes after it; an order never before what stands before it."""
    key = id.encode()
    now_ms = state.at_ms
    clock_ms = clock(state)
    while line.waiting:
        profile = state.get(PROFILES, key)
        armed_ms = profile.armed_ms if profile is not None else 0
        at, instant_ms = _next(line)
        entry = line.waiting[at]
        if not _may_go(line, entry):
            break
        if armed_ms and armed_ms < instant_ms and instant_ms > clock_ms + 1:
            # Timers due before it may be on their way here with what must come before them.
            if armed_ms > clock_ms:
                break
            state.at_ms = clock_ms
            ring(state, armed_ms.to_bytes(8, "big") + key, clock_ms)
            continue
        line = replace(line, waiting=(*line.waiting[:at], *line.waiting[at + 1:]))
        state.put(LINES, key, line)
        state.at_ms = instant_ms
        line = _run(state, id, line, entry)
    if not line.waiting:
        profile = state.get(PROFILES, key)
        if profile is not None and 0 < profile.armed_ms <= clock_ms:
            state.at_ms = clock_ms
            ring(state, profile.armed_ms.to_bytes(8, "big") + key, clock_ms)
    if line == _EMPTY:
        state.delete(LINES, key)
    else:
        state.put(LINES, key, line)
    state.at_ms = now_ms


def _next(line: Line) -> tuple[int, int]:
    """Return which entry is next, and its instant: the earliest of the first order and the events
    before it.

    So an order goes before an event that is later than what stands behind the order: else a timer
    due between the two would fire too early, or the one wait for the other.
    """
    best, best_ms = 0, -1
    for at, entry in enumerate(line.waiting):
        instant_ms = _instant(line, at)
        if best_ms < 0 or instant_ms < best_ms:
            best, best_ms = at, instant_ms
        if entry.give or entry.awaits:
            break
    return best, best_ms


def _instant(line: Line, at: int) -> int:
    """Return the instant of an entry; an order counts with the least of what stands behind it."""
    entry = line.waiting[at]
    if entry.arrive or entry.account:
        return entry.at_ms
    return min(one.at_ms for one in line.waiting[at:])


def _run(state: PartitionState, id: str, line: Line, entry: Waiting) -> Line:
    """Run an entry. Return the queue behind it."""
    if entry.give is not None:
        return _hand_over(state, line, entry.give)
    if entry.awaits is not None:
        return _take_over(state, id, line, entry.awaits)
    _apply(state, entry)
    return line


def _apply(state: PartitionState, entry: Waiting) -> None:
    state.at_ms = entry.at_ms
    handler: Any
    record: Any
    handler, record = (
        (arrive, entry.arrive) if entry.arrive is not None else (account_call, entry.account)
    )
    if not state.attempt(handler, record, entry.place):
        state.add("applied", -1)


def _hand_over(state: PartitionState, line: Line, order: Give) -> Line:
    """Give up state, history, and what waits behind."""
    _exists(state, order.loser, order.message_id)
    hand: Hand | None = None
    for stage, key, sent in state.catch(
        hand_over, MergeOut(order.loser, order.survivor, order.message_id)
    ):
        if isinstance(sent, Hand):
            hand = sent
        elif isinstance(sent, Moved):
            state.out("delivery", order.loser, Moving(order.merge, order.loser, order.survivor))
        else:
            state.out(stage, key, sent)
    assert hand is not None
    history: list[tuple[bytes, Occurrence]] = []
    for owner in (order.loser, *hand.profile.absorbed):
        for key_, row in state.scan(HISTORY, owner.encode() + b"\0"):
            history.append((key_, row))
    for key_, _ in history:
        state.delete(HISTORY, key_)
    kept = {merge: lanes for merge, lanes in line.flushed.items() if merge != order.merge}
    state.out("profile", order.survivor,
              Given(order.merge, hand, tuple(history), line.waiting))
    return Line((), kept, line.given)


def _take_over(state: PartitionState, id: str, line: Line, order: Await) -> Line:
    """Unite, and put what waited at the loser before what waits here."""
    number = order.merge.to_bytes(8, "big")
    mail = state.get(GIVEN, number)
    assert mail is not None
    state.delete(GIVEN, number)
    state.out("delivery", id, Expect(order.merge, id))
    for key, row in mail.history:
        state.put(HISTORY, key, row)
    _exists(state, id, mail.hand.message_id)
    take_over(state, under_present_definitions(state, mail.hand))
    left = tuple(merge for merge in line.given if merge != order.merge)
    handed = tuple(_readdressed(entry, id) for entry in mail.waiting)
    return Line((*handed, *line.waiting), line.flushed, left)


def under_present_definitions(state: State, hand: Hand) -> Hand:
    """Return what was handed over as it is under the definitions in force here.

    Definitions reach partitions at different moments, so the loser's may have been others: what its
    conditions remember is made anew from its history, which is here. Cost: nothing otherwise.
    """
    definitions, profile = state.definitions, hand.profile
    plan, known = definitions.plan, profile.definitions
    if known == definitions.number:
        return hand
    rows = rebuild(plan, list(plan.leaves), occurrences(state, profile))
    if definitions.since.gone > known:
        profile = without_gone(plan, profile, state.at_ms)
    return replace(
        hand,
        profile=replace(profile, leaves={id: rows[id] for id in sorted(rows) if id in plan.small}),
        conditions=tuple((id, rows[id]) for id in sorted(rows) if id not in plan.small),
    )


def _readdressed(entry: Waiting, id: str) -> Waiting:
    if entry.arrive is not None:
        return replace(entry, arrive=replace(entry.arrive, profile_id=id))
    return entry


def _exists(state: PartitionState, id: str, message_id: str) -> None:
    """A profile whose only event broke a rule, and was set aside, has no row yet."""
    key = id.encode()
    if state.get(PROFILES, key) is None:
        state.count("profiles")
        state.put(PROFILES, key, Profile(
            id, "users", state.at_ms, state.at_ms, message_id, "", message_id, "",
            definitions=state.definitions.number,
        ))


STAGE = Stage(
    "profile",
    {
        Arrive: event, AccountCall: account, Give: give, Await: awaits, Flushed: flushed,
        Given: given, Water: water, Define: begin_sweep, Continue: step,
    },
    (LINES, GIVEN, WATERS, *PROFILE.tables),
)

