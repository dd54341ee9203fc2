"""Bugs put into the routed mode while the simulator runs: each rule of the protocol switched off.

A bug is a context in which some part of the product, or of what drives it, is another; its
docstring says which rule is broken. Rules of the protocol's model without a counterpart here:

- survey, queued: undo and split are not built.
- delete (flush, deletion): the deletion of persons is not built.
- drain: the number of partitions cannot be changed yet.
- valid-first: an event is checked at the door; only valid ones are logged.
- value, lag, chain: fences that were weighed and not chosen; ours is the changelog's one writer.
- handed events first: a queue goes by instants, so it matters among equal ones alone, where no
  seed has met it.
- wait touch: an event always fires earlier timers of its person; `events_do_not_wait_for_time`
  is that rule.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from msgspec.structs import replace

from agents import intake, person, usage
from agents.records import Arrive
from agents.routed import desk, home, lane, writer
from agents.routed.records import (
    Await,
    Expect,
    Flushed,
    Give,
    Given,
    Granted,
    Placed,
    Recall,
    Verdict,
    Water,
)
from app import partitions as net
from runtime import routed
from runtime.routed import SEEN, Item, Origin, Partition, Seen
from runtime.stage import Stage
from tests.routed import world as worlds
from tests.routed.world import Logged, Owner, World
from tests.sim.stages import put

Bug = Callable[[], AbstractContextManager[None]]
BUGS: dict[str, Bug] = {}


def bug(make: Bug) -> Bug:
    """List a bug under the name of its function."""
    BUGS[make.__name__] = make
    return make


def _handling(name: str, **handlers: Callable[..., None]) -> AbstractContextManager[None]:
    """Put other handlers in place of a stage's, by the name of the record; each gets the right one
    too."""
    stage = net.STAGES[name]
    changed = dict(stage.handlers)
    for record, right in stage.handlers.items():
        wrong = handlers.pop(record.__name__, None)
        if wrong is not None:
            changed[record] = (
                lambda state, sent, wrong=wrong, right=right: wrong(right, state, sent)
            )
    assert not handlers
    stages = {**net.STAGES, name: Stage(name, changed, stage.tables)}
    return put((net, "STAGES", stages))


@contextlib.contextmanager
def _both(*bugs: AbstractContextManager[None]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for one in bugs:
            stack.enter_context(one)
        yield


# ---- merges (protocol 4, 5) ----------------------------------------------------------------------
@bug
def barrier() -> AbstractContextManager[None]:
    """The survivor goes on before the lost one's state is there."""

    def awaits(_right: Any, _state: Any, _order: Await) -> None:
        return

    def given(_right: Any, state: Any, mail: Given) -> None:
        id = mail.hand.survivor
        state.put(home.GIVEN, mail.merge.to_bytes(8, "big"), mail)
        line = state.get(home.LINES, id.encode()) or home.Line()
        line = home._take_over(state, id, line, Await(mail.merge, id, mail.hand.profile.id))
        home._advance(state, id, line)

    return _handling("profile", Await=awaits, Given=given)


@bug
def freeze() -> AbstractContextManager[None]:
    """The lost one goes on while its order waits for the lanes."""

    def event(right: Any, state: Any, record: Arrive) -> None:
        line = state.get(home.LINES, record.profile_id.encode())
        if line is not None and line.waiting and line.waiting[0].give:
            home._apply(state, home.Waiting(state.at_ms, (state.position, state.index), record))
        else:
            right(state, record)

    return _handling("profile", Arrive=event)


@bug
def flush() -> AbstractContextManager[None]:
    """The lost one hands over at once."""

    def give(right: Any, state: Any, order: Give) -> None:
        right(state, replace(order, lanes=()))

    return _handling("profile", Give=give, Flushed=lambda *_: None)


@bug
def flush_with_redirect() -> AbstractContextManager[None]:
    """The lost one hands over at once, and sends on what stale links still send."""

    def give(right: Any, state: Any, order: Give) -> None:
        right(state, replace(order, lanes=()))

    def event(right: Any, state: Any, record: Arrive) -> None:
        profile = state.get(home.PROFILES, record.profile_id.encode())
        if profile is not None and profile.survivor:
            state.out("profile", profile.survivor, replace(record, profile_id=profile.survivor))
        else:
            right(state, record)

    return _handling("profile", Give=give, Arrive=event, Flushed=lambda *_: None)


@bug
def recall_without_revoke() -> AbstractContextManager[None]:
    """A lane says that it has flushed, and goes on with its old grants."""

    def recall(_right: Any, state: Any, order: Recall) -> None:
        state.out("profile", order.loser, Flushed(order.loser, order.merge, state.number))

    return _handling("intake", Recall=recall)


@bug
def mailbox() -> AbstractContextManager[None]:
    """What ends a wait stands in the queue behind it."""
    behind: list[Any] = []

    def queued(right: Any, state: Any, mail: Any) -> None:
        id = mail.profile_id if isinstance(mail, Flushed) else mail.hand.survivor
        line = state.get(home.LINES, id.encode())
        if line is not None and line.waiting:
            behind.append(mail)
        else:
            right(state, mail)

    return _handling("profile", Flushed=queued, Given=queued)


@bug
def one_lane_is_enough() -> AbstractContextManager[None]:
    """The lost one waits for some lane, not for all of them."""
    right = home._may_go

    def may_go(line: Any, entry: Any) -> bool:
        some = entry.give is not None and entry.give.merge in line.flushed
        return some or right(line, entry)

    def flushed(handle: Any, state: Any, mail: Flushed) -> None:
        if not state.get(home.PROFILES, mail.profile_id.encode()).survivor:
            handle(state, mail)

    return _both(put((home, "_may_go", may_go)), _handling("profile", Flushed=flushed))


@bug
def queue_left_behind() -> AbstractContextManager[None]:
    """What waited at the lost one is not handed over."""

    def given(right: Any, state: Any, mail: Given) -> None:
        right(state, replace(mail, waiting=()))

    return _handling("profile", Given=given)


@bug
def history_left_behind() -> AbstractContextManager[None]:
    """The history stays in the lost one's partition."""

    def given(right: Any, state: Any, mail: Given) -> None:
        right(state, replace(mail, history=()))

    return _handling("profile", Given=given)


@bug
def jobs_not_awaited() -> AbstractContextManager[None]:
    """A queue does not wait for the jobs of who was merged into it."""

    def jobs(right: Any, state: Any, mail: Any) -> None:
        right(state, mail)
        queue = mail.survivor
        held = state.get(desk.HELD, queue.encode()) or ()
        desk._drain(state, queue, (desk.Entry(expect=Expect(mail.merge, queue)), *held))

    return _handling("delivery", Expect=lambda *_: None, Jobs=jobs)


@bug
def handed_over_as_it_was() -> AbstractContextManager[None]:
    """What the lost one's conditions remember is taken though its definitions were others."""
    return put((home, "under_present_definitions", lambda _state, hand: hand))


# ---- lanes (protocol 3) --------------------------------------------------------------------------
@bug
def inflight() -> AbstractContextManager[None]:
    """The fast path is open while a claim of the visitor is under way."""
    return put((lane._Admission, "_forward", lambda _self, state, sent:
                state.out("profile", sent.profile_id, sent)))


@bug
def echo() -> AbstractContextManager[None]:
    """Any answer counts as the answer to all claims, not only to those up to its own."""

    def grant(right: Any, state: Any, granted: Granted) -> None:
        flight = state.get(lane.FLIGHTS, lane._rid(granted.answer.routing_id))
        right(state, replace(granted, place=flight.sent))

    return _handling("intake", Granted=grant)


@bug
def poison_is_not_answered() -> AbstractContextManager[None]:
    """A claim that was set aside is not answered, so its visitor's fast path stays shut."""
    def claim(_right: Any, state: Any, placed: Placed) -> None:
        if not state.attempt(writer._Decision(placed), placed.claim,
                             (state.position, state.index)):
            state.add("applied", -1)

    return _handling("identity", Placed=claim)


@bug
def in_turn() -> AbstractContextManager[None]:
    """An event leaves its lane as soon as its verdict is there."""

    def release(state: Any) -> None:
        now_ms = state.at_ms
        for key, stand in list(state.scan(lane.QUEUE)):
            if not stand.verdict:
                continue
            state.delete(lane.QUEUE, key)
            state.at_ms = stand.at_ms
            if stand.event is None:
                lane._pass_on(state, stand.at_ms)
            elif stand.verdict == 2:
                state.count("duplicates")
            else:
                at = int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")
                state.attempt(lane._Admission(stand, at), stand.event, at)
        state.at_ms = now_ms

    return put((lane, "_release", release))


@bug
def lane_by_message() -> AbstractContextManager[None]:
    """Rule `lane`: events enter by their messageId."""
    return put((lane, "lane_of_call", lambda data, partitions:
                routed.place(data["messageId"], partitions)))


@bug
def keeper_by_lane() -> AbstractContextManager[None]:
    """Each lane has its own keeper of messageIds, so that two lanes let one id in."""

    def receive(handle: Any, state: Any, record: Any) -> None:
        for stage, _, sent in state.catch(handle, record):
            state.out(stage, f"#{state.number}", sent)

    return _handling("intake", Received=receive)


@bug
def duplicates_kept() -> AbstractContextManager[None]:
    """The keeper says keep to everything."""

    def ask(_right: Any, state: Any, question: Any) -> None:
        state.out("intake", str(question.lane), Verdict(question.lane, question.place, True, -1))

    return _handling("dedup", Ask=ask)


@bug
def grant_on_a_foreign_lane() -> AbstractContextManager[None]:
    """A lane keeps grants for visitors whose lane another is: nobody takes them back."""

    def grant(right: Any, state: Any, granted: Granted) -> None:
        with put((lane, "lane_of", lambda _rid, _partitions: state.number)):
            right(state, granted)

    return _handling("intake", Granted=grant)


@bug
def users_counted_by_lane() -> AbstractContextManager[None]:
    """Rule `by-id`: a userId is counted on each lane that sees it."""
    right = usage.note

    def note(state: Any, *call: Any) -> None:
        out = state.out
        with put((state, "out", lambda _stage, _key, seen: out("usage", f"#{state.number}", seen))):
            right(state, *call)

    return put((intake, "note", note))


# ---- time (protocol 8) ---------------------------------------------------------------------------
@bug
def pipeline() -> AbstractContextManager[None]:
    """A tick does not stand behind the events of its lane."""
    return _handling("intake", Tick=lambda _right, state, _tick: lane._pass_on(state, state.at_ms))


@bug
def pipeline_past_identity() -> AbstractContextManager[None]:
    """Time reaches profiles by the lanes alone, not behind the claims."""

    def clock(state: Any) -> int:
        return min((state.get(home.WATERS, str(way).encode()) or 0)
                   for way in range(state.partitions))

    return put((home, "clock", clock))


@bug
def identity_passes_on_the_largest() -> AbstractContextManager[None]:
    """Identity says how late it is by the lane that is ahead."""

    def water(_right: Any, state: Any, mark: Water) -> None:
        for number in range(state.partitions):
            state.out("profile", f"#{number}", Water(-1, mark.at_ms))

    return _handling("identity", Water=water)


@bug
def clock_of_the_fastest() -> AbstractContextManager[None]:
    """A profile partition's clock is that of the lane that is ahead."""

    def clock(state: Any) -> int:
        return max((state.get(home.WATERS, str(way).encode()) or 0)
                   for way in range(-1, state.partitions))

    return put((home, "clock", clock))


@bug
def events_do_not_wait_for_time() -> AbstractContextManager[None]:
    """Rule `wait`: an event is applied at once, though a timer before it is not covered yet."""
    right = home._enter

    def enter(state: Any, id: str, entry: Any) -> None:
        if state.get(home.LINES, id.encode()) is None and (entry.arrive or entry.account):
            home._apply(state, entry)
        else:
            right(state, id, entry)

    return put((home, "_enter", enter))


@bug
def lookahead() -> AbstractContextManager[None]:
    """A timer that is long overdue fires before the exit that waits."""
    return put((person, "OVERDUE_MS", 1 << 60))


@bug
def order_passes_nothing() -> AbstractContextManager[None]:
    """A merge waits behind events that are later than what stands behind the merge."""

    def next(line: Any) -> tuple[int, int]:
        best = 0
        if not line.waiting[0].give and not line.waiting[0].awaits:
            for at, entry in enumerate(line.waiting):
                if entry.give or entry.awaits:
                    break
                if entry.at_ms < line.waiting[best].at_ms:
                    best = at
        return best, home._instant(line, best)

    return put((home, "_next", next))


# ---- the checkpoint (protocol 9) -----------------------------------------------------------------
@bug
def origins() -> AbstractContextManager[None]:
    """Receivers take what was sent twice twice."""

    def take_mail(part: Any, kind: Any, items: list[Item]) -> None:
        floor_ms = part._floor_ms
        for part.index, item in enumerate(items):
            part.at_ms = item.at_ms
            part._run(part._stages[kind.stages[0]], item.record)
            part.put(SEEN, f"{item.origin.stage}\0{item.origin.partition}".encode(),
                     Seen(item.origin.offset, item.origin.seq))
            part._overlay.keep()
        part.at_ms = floor_ms

    return put((Partition, "_take_mail", take_mail))


@bug
def item_origin() -> AbstractContextManager[None]:
    """One origin for all of an envelope."""
    right, take = Partition.prepare, Partition._take_mail

    def prepare(part: Any, route: Any) -> Any:
        checkpoint = right(part, route)
        for sends in checkpoint.phases:
            for _, _, items in sends:
                origin = Origin(part.stage, part.number, checkpoint.applied, 0)
                items[:] = [Item(origin, item.at_ms, item.record) for item in items]
        return checkpoint

    def take_mail(part: Any, kind: Any, items: list[Item]) -> None:
        origin = items[0].origin
        last = part.get(SEEN, f"{origin.stage}\0{origin.partition}".encode())
        if last is None or (origin.offset, origin.seq) > (last.offset, last.seq):
            take(part, kind, [replace(item, origin=replace(origin, seq=seq))
                              for seq, item in enumerate(items)])

    return put((Partition, "prepare", prepare), (Partition, "_take_mail", take_mail),
               (Owner, "envelopes", lambda _owner, items: [items]))


@bug
def phases() -> AbstractContextManager[None]:
    """What is sent becomes visible in any order of the stages."""
    right = Partition.prepare

    def prepare(part: Any, route: Any) -> Any:
        checkpoint = right(part, route)
        checkpoint.phases = [[send for sends in checkpoint.phases for send in sends]]
        return checkpoint

    return put((Partition, "prepare", prepare))


@bug
def phases_answers_first() -> AbstractContextManager[None]:
    """Answers are visible before what they presume."""
    return put((routed, "PHASES", routed.PHASES[::-1]))


@bug
def in_order() -> AbstractContextManager[None]:
    """What was cut in two envelopes arrives in the wrong order: a retry overtakes."""
    right = Owner.envelopes

    def envelopes(owner: Owner, items: list[Item]) -> list[list[Item]]:
        return right(owner, items)[::-1]

    return put((Owner, "envelopes", envelopes))


@bug
def outputs_first() -> AbstractContextManager[None]:
    """The changelog has the batch before what it sends is acknowledged."""
    return put((Owner, "ORDER", ("log", "send", "write")))


@bug
def local_last() -> AbstractContextManager[None]:
    """The local store has the batch before the changelog."""
    return put((Owner, "ORDER", ("send", "write", "log")))


@bug
def fence_none() -> AbstractContextManager[None]:
    """An old owner's batch is taken."""
    return put((World, "append", lambda world, owner, batch:
                world.changelogs[owner.place].append(batch)))


@bug
def fence_check() -> AbstractContextManager[None]:
    """A worker asks whether it is still the owner, then writes."""

    def log(owner: Owner, base: int, checkpoint: Any) -> Iterator[str]:
        if owner.epoch < owner.world.epochs[owner.place]:
            raise worlds.Fenced
        yield "asked"
        owner.world.changelogs[owner.place].append(
            Logged(owner.epoch, base, checkpoint.applied, checkpoint.puts, checkpoint.deletes))
        yield "logged"

    return put((Owner, "log", log))


@bug
def fence_first() -> AbstractContextManager[None]:
    """The changelog is read before the old owner is fenced out."""

    def take_over(owner: Owner) -> Iterator[str]:
        owner.read()
        owner.working = True
        yield "read"
        yield from owner.fence()
        owner.working = False

    return put((Owner, "take_over", take_over))


@bug
def applied_not_in_the_batch() -> AbstractContextManager[None]:
    """The applied offset is not in every batch of the changelog."""
    right = Partition.prepare
    count = [0]

    def prepare(part: Any, route: Any) -> Any:
        checkpoint = right(part, route)
        count[0] += 1
        if count[0] % 2:
            checkpoint.puts = [row for row in checkpoint.puts if not row[0].startswith(b"!p")]
        return checkpoint

    return put((Partition, "prepare", prepare))


@bug
def definitions_at_the_partitions_instant() -> AbstractContextManager[None]:
    """Definitions come in force at another instant in each partition."""

    def floor(part: Any, _kind: Any, batch: Any) -> None:
        part.at_ms = max(part._floor_ms, batch.at_ms)

    return put((Partition, "_floor", floor))


# ---- poison --------------------------------------------------------------------------------------
@bug
def poison_keeps_its_effects() -> AbstractContextManager[None]:
    """What an event sent before it broke its stage is sent."""
    right = Partition.attempt

    def attempt(part: Any, handler: Any, record: Any, place: Any) -> bool:
        sent: list[Any] = []

        def watched(state: Any, one: Any) -> None:
            mark = len(state._effects)
            try:
                handler(state, one)
            except Exception:
                sent.extend(state._effects[mark:])
                raise

        done = right(part, watched, record, place)
        part._effects.extend(sent)
        return done

    return put((Partition, "attempt", attempt))


SEEN_BY: dict[str, int] = {
    "barrier": 2,
    "clock_of_the_fastest": 11,
    "definitions_at_the_partitions_instant": 102,
    "echo": 3,
    "events_do_not_wait_for_time": 11,
    "flush": 2,
    "flush_with_redirect": 381,
    "freeze": 2,
    "grant_on_a_foreign_lane": 20,
    "handed_over_as_it_was": 94,
    "history_left_behind": 2,
    "identity_passes_on_the_largest": 11,
    "jobs_not_awaited": 25,
    "keeper_by_lane": 20,
    "mailbox": 2,
    "one_lane_is_enough": 83,
    "order_passes_nothing": 11,
    "phases": 28,
    "phases_answers_first": 14,
    "pipeline": 11,
    "pipeline_past_identity": 11,
    "poison_is_not_answered": 12,
    "queue_left_behind": 2,
    "recall_without_revoke": 5,
    "users_counted_by_lane": 4,
}
"""A seed that finds the bug, where it is not the first: tried before all others."""
