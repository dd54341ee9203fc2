"""Stage `identity` in partitions: one serial writer a space, in the order of its own inbox.

What `agents.identity` decides goes out in the form that other partitions can act on in any
interleaving: merges are numbered, the survivor is told to wait, the loser to hand over once every
lane that may hold a grant of it has flushed (protocol 4, 5).
"""

from typing import Any

from agents.identity import STAGE as IDENTITY
from agents.identity import claim as decide
from agents.records import Answer, Claim, MergeOut, Revoke
from agents.routed.lane import lane_of
from agents.routed.records import Await, Give, Granted, Placed, Recall, Water
from events.event import Id
from runtime.stage import PartitionState, Stage, Table

MERGES: Table[int] = Table("merge_numbers", b"Im", int)
"""One row: the last merge's number."""
WATERS: Table[int] = Table("identity_waters", b"Iw", int)
"""Lane -> the last tick that came by it; `told`: the last that was passed on."""
_TOLD = b"told"


def claim(state: PartitionState, placed: Placed) -> None:
    """Decide, and tell everybody. A claim that breaks the rules is answered all the same, or its
    visitor's fast path would stay shut."""
    if not state.attempt(_Decision(placed), placed.claim, (state.position, state.index)):
        state.add("applied", -1)
        rid = placed.claim.routing_id
        _answer(state, placed, Answer(rid, "", ()))


class _Decision:
    """Runs one claim and rewrites what it says."""

    def __init__(self, placed: Placed) -> None:
        self.placed = placed

    def __call__(self, state: Any, record: Claim) -> None:
        """Run the claim."""
        sent = state.catch(decide, record)
        routing_ids: dict[str, dict[int, list[Id]]] = {}
        for _, _, one in sent:
            if isinstance(one, Revoke):
                lane = lane_of(one.routing_id, state.partitions)
                routing_ids.setdefault(one.loser, {}).setdefault(lane, []).append(one.routing_id)
        recalls: list[Recall] = []
        answer: Answer | None = None
        for stage, key, one in sent:
            if isinstance(one, MergeOut):
                number = (state.get(MERGES, b"") or 0) + 1
                state.put(MERGES, b"", number)
                lanes = routing_ids.get(one.loser, {})
                state.out("profile", one.survivor, Await(number, one.survivor, one.loser))
                state.out("profile", one.loser, Give(number, one.loser, one.survivor,
                                                     one.message_id, tuple(sorted(lanes))))
                recalls += [Recall(number, lane, one.loser, one.survivor, tuple(lanes[lane]))
                            for lane in sorted(lanes)]
            elif isinstance(one, Answer):
                answer = one
            elif not isinstance(one, Revoke):
                state.out(stage, key, one)
        for recall in recalls:
            state.out("intake", str(recall.lane), recall)
        assert answer is not None
        _answer(state, self.placed, answer)


def _answer(state: PartitionState, placed: Placed, answer: Answer) -> None:
    state.out("intake", str(placed.lane), Granted(answer, placed.place))


def water(state: PartitionState, mark: Water) -> None:
    """Pass on the least of what came by all lanes: so far all claims are decided (protocol 8)."""
    state.put(WATERS, str(mark.way).encode(), mark.at_ms)
    least = min((state.get(WATERS, str(lane).encode()) or 0) for lane in range(state.partitions))
    if least > (state.get(WATERS, _TOLD) or 0):
        state.put(WATERS, _TOLD, least)
        for number in range(state.partitions):
            state.out("profile", f"#{number}", Water(-1, least))


STAGE = Stage("identity", {Placed: claim, Water: water}, (MERGES, WATERS, *IDENTITY.tables))
