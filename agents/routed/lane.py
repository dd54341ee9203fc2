"""Stage `intake` in partitions: a lane. Events of one visitor pass it in the order they came.

An event waits until the keeper of its messageId has answered, and until those before it have
left. Then it takes the fast path to its profile, or claims; while a claim of the visitor is under
way, all of that visitor's events claim, or a later one would overtake (protocol 3).
"""

from typing import Any

from msgspec import Struct

from agents.intake import STAGE as INTAKE
from agents.intake import admit, confirm, revoke
from agents.records import Arrive, Claim, Received, Revoke, Tick
from agents.routed.records import Ask, Flushed, Granted, Placed, Recall, Verdict, Water
from agents.usage import VISITORS
from events.event import Id
from identity.extract import account_of, routing_id
from runtime.stage import PartitionState, Stage, Table, place


class Stand(Struct, frozen=True, array_like=True, gc=False):
    """An entry of the lane's queue: an event with what the keeper said of it, or a tick."""

    at_ms: int
    event: Received | None
    verdict: int = 0
    """0: none yet; 1: keep; 2: a duplicate."""
    repeat_of_ms: int = -1


class Flight(Struct, frozen=True, array_like=True, gc=False):
    """Where the visitor's last claim stood in the lane, and the last one that was answered.

    Places, not a count: a repeated or lost answer cannot shut the fast path for ever.
    """

    sent: tuple[int, int]
    answered: tuple[int, int]


QUEUE: Table[Stand] = Table("lane_queue", b"Lq", Stand)
"""Place in the queue -> what waits there. Places are numbers that rise by one: the head is found
without a scan, which would go over all that has left and is not compacted yet."""
BOUNDS: Table[int] = Table("lane_bounds", b"Lb", int)
"""`head`: the first place that is not free yet; `tail`: the next one to be given."""
FLIGHTS: Table[Flight] = Table("lane_flights", b"Lf", Flight)
"""Routing id -> its claims under way."""
_NOWHERE = (-1, -1)


def lane_of(routing_id: Id, partitions: int) -> int:
    """Return the lane of a visitor."""
    return place(routing_id[1], partitions)


def lane_of_call(data: Any, partitions: int) -> int:
    """Return the lane that a call enters by: that of its anonymousId, else of its userId."""
    return place(data.get("anonymousId") or data.get("userId") or "", partitions)


def receive(state: PartitionState, record: Received) -> None:
    """Let an event stand in the queue and ask the keeper of its messageId."""
    at = _stand(state, Stand(state.at_ms, record))
    state.out("dedup", record.message_id,
              Ask(record.message_id, record.timestamp_ms, state.number, at))


def tick(state: PartitionState, _record: Tick) -> None:
    """Let the tick stand behind the events before it."""
    _stand(state, Stand(state.at_ms, None, 1))
    _release(state)


def _stand(state: PartitionState, stand: Stand) -> tuple[int, int]:
    """Put something at the end of the queue; return its place."""
    at = (state.get(BOUNDS, b"tail") or 0, 0)
    state.put(BOUNDS, b"tail", at[0] + 1)
    state.put(QUEUE, _key(at), stand)
    return at


def decide(state: PartitionState, verdict: Verdict) -> None:
    """Note what the keeper said, and let go of what need not wait any more."""
    key = _key(verdict.place)
    stand = state.get(QUEUE, key)
    assert stand is not None, f"a verdict on {verdict.place}, where nothing waits"
    state.put(QUEUE, key, Stand(stand.at_ms, stand.event, 1 if verdict.keep else 2,
                                verdict.repeat_of_ms))
    _release(state)


def _release(state: PartitionState) -> None:
    """While the head of the queue has its verdict, let it go."""
    now_ms = state.at_ms
    while True:
        at = (state.get(BOUNDS, b"head") or 0, 0)
        stand = state.get(QUEUE, _key(at))
        if stand is None or not stand.verdict:
            break
        state.delete(QUEUE, _key(at))
        state.put(BOUNDS, b"head", at[0] + 1)
        state.at_ms = stand.at_ms
        if stand.event is None:
            _pass_on(state, stand.at_ms)
        elif stand.verdict == 2:
            state.count("duplicates")
        else:
            state.attempt(_Admission(stand, at), stand.event, at)
    state.at_ms = now_ms


class _Admission:
    """Lets one event in; what it sends is looked through before it leaves."""

    def __init__(self, stand: Stand, at: tuple[int, int]) -> None:
        self.stand = stand
        self.at = at

    def __call__(self, state: Any, record: Received) -> None:
        """Run `admit`."""
        stand = self.stand
        for stage, key, sent in state.catch(
            lambda state, record: admit(state, record, stand.repeat_of_ms), record
        ):
            if isinstance(sent, Arrive):
                self._forward(state, sent)
            elif isinstance(sent, Claim):
                self._claim(state, sent)
            else:
                state.out(stage, key, sent)

    def _forward(self, state: PartitionState, sent: Arrive) -> None:
        rid = routing_id(sent.event.data, sent.used)
        assert rid is not None
        flight = state.get(FLIGHTS, _rid(rid))
        if flight is None or flight.sent <= flight.answered:
            state.out("profile", sent.profile_id, sent)
        else:
            account = account_of(sent.event.data, sent.event.type)
            self._claim(state, Claim(sent.event, sent.used, rid, account))

    def _claim(self, state: PartitionState, claim: Claim) -> None:
        key = _rid(claim.routing_id)
        flight = state.get(FLIGHTS, key)
        answered = flight.answered if flight is not None else _NOWHERE
        state.put(FLIGHTS, key, Flight(self.at, answered))
        state.out("identity", "", Placed(claim, state.number, self.at))


def grant(state: PartitionState, granted: Granted) -> None:
    """Take an answer: the claim has landed, and its ids may be confirmed."""
    answer = granted.answer
    key = _rid(answer.routing_id)
    flight = state.get(FLIGHTS, key)
    assert flight is not None, f"an answer at {granted.place} that nobody waits for"
    state.put(FLIGHTS, key, Flight(flight.sent, max(flight.answered, granted.place)))
    # A visitor whose events come by another lane than that of the routing id (the anonymousId is
    # blocked) is never granted anything here: nobody would think of revoking it.
    if lane_of(answer.routing_id, state.partitions) == state.number or not answer.profile_id:
        confirm(state, answer)


def recall(state: PartitionState, order: Recall) -> None:
    """Move grants to the survivor, and tell the loser that nothing more comes."""
    for rid in order.routing_ids:
        revoke(state, Revoke(rid, order.loser, order.survivor))
    state.out("profile", order.loser, Flushed(order.loser, order.merge, state.number))


def _pass_on(state: PartitionState, at_ms: int) -> None:
    """Tell every profile partition, and identity, that all of this lane up to now has left."""
    water = Water(state.number, at_ms)
    for number in range(state.partitions):
        state.out("profile", f"#{number}", water)
    state.out("identity", "", water)


def _key(at: tuple[int, int]) -> bytes:
    return at[0].to_bytes(8, "big") + at[1].to_bytes(4, "big")


def _rid(rid: Id) -> bytes:
    return f"{rid[0]}\0{rid[1]}".encode()


STAGE = Stage(
    "intake",
    {Received: receive, Tick: tick, Verdict: decide, Granted: grant, Recall: recall},
    (QUEUE, BOUNDS, FLIGHTS, VISITORS, *INTAKE.tables),
)

