"""Bugs put into the product while the simulator runs: each has to be found, or it proves nothing.

A bug is a context in which some part of the product is another. What it does to people stands in
its docstring.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from msgspec.structs import replace

from agents import delivery, identity, intake, merging, profile
from agents.delivery import JOBS
from agents.records import Answer, Received, Result, Revoke
from app import engine
from app.waiting import Waiting
from audiences.leaves import Newest
from journeys import moves
from journeys.kind import Setting
from profiles import traits
from profiles.profile import Trait
from runtime import fused
from runtime.overlay import Overlay
from runtime.stage import Stage
from tests.sim.ports import SimLog
from tests.sim.stages import put
from tests.transport.simdisk import SimFiles

Bug = Callable[[], AbstractContextManager[None]]
BUGS: dict[str, Bug] = {}


def bug(make: Bug) -> Bug:
    """List a bug under the name of its function."""
    BUGS[make.__name__] = make
    return make


def _handling(name: str, record: type, handle: Callable[[Any, Any, Any], None]) -> Any:
    """Put another handler in place of a stage's; it gets the right one too."""
    stages = []
    for stage in engine.STAGES:
        if stage.name == name:
            right = stage.handlers[record]

            def wrong(state: Any, sent: Any, right: Any = right) -> None:
                handle(right, state, sent)

            stage = Stage(name, {**stage.handlers, record: wrong}, stage.tables)
        stages.append(stage)
    return put((engine, "STAGES", tuple(stages)))


# ---- durability ---------------------------------------------------------------------------------
@bug
def answers_before_sync() -> AbstractContextManager[None]:
    """200 is said when the call is only in memory."""

    async def flush(_log: Any, _epoch: Any = None) -> None:
        return

    return put((SimLog, "flush", flush))


@bug
def state_without_offset() -> AbstractContextManager[None]:
    """The applied offset is not in every batch, so after a crash records are applied again."""
    right = fused.Runner._changes
    count = [0]

    def changes(runner: Any) -> Any:
        puts, deletes = right(runner)
        count[0] += 1
        if count[0] % 2:
            return puts, deletes
        return [row for row in puts if not row[0].startswith(fused.PROGRESS.prefix)], deletes

    return put((fused.Runner, "_changes", changes))


@bug
def state_before_log() -> AbstractContextManager[None]:
    """A record is applied and its state written before the log has synced it."""
    right = SimLog.append

    def append(log: Any, topic: str, partition: int, value: bytes, *rest: Any) -> int:
        offset = right(log, topic, partition, value, *rest)
        worker = log.world.engine
        if offset == worker.runner.applied + 1:
            worker.apply(offset, value, None)
            worker.commit()
        return offset

    return put((SimLog, "append", append))


@bug
def no_directory_sync() -> AbstractContextManager[None]:
    """A new segment's name is not synced: a power cut takes the file."""
    return put((SimFiles, "sync_dir", lambda _files, _path: None))


@bug
def sync_forgets_the_length() -> AbstractContextManager[None]:
    """Data is written, and called durable, without a sync."""
    return put((SimFiles, "write_sync", lambda files, *rest: files.write(*rest)))


@bug
def delete_dropped_in_batch() -> AbstractContextManager[None]:
    """A row put and deleted within one batch is not deleted, though it stood in the store."""
    right = Overlay.put

    def wrong(overlay: Any, table: Any, key: bytes, value: Any) -> None:
        shelf = overlay._shelves[table.prefix]
        if value is None and shelf.pending.get(key) is not None:
            right(overlay, table, key, value)
            del shelf.pending[key]
            return
        right(overlay, table, key, value)

    return put((Overlay, "put", wrong))


@bug
def poison_leaves_half_an_event() -> AbstractContextManager[None]:
    """What an event did before it broke its stage stays."""
    return put((Overlay, "undo", lambda overlay: overlay._undo.clear()))


# ---- who and what -------------------------------------------------------------------------------
@bug
def dedup_window_off_by_one() -> AbstractContextManager[None]:
    """An event that comes again when the window ends, to the millisecond, is taken for a repeat."""

    def receive(right: Any, state: Any, record: Received) -> None:
        sight = state.get(intake.SIGHTS, record.message_id.encode())
        window_ms = state.definitions.dedup_window_ms
        if sight is not None and state.at_ms == sight.at_ms + window_ms:
            state.count("duplicates")
            return
        right(state, record)

    return _handling("intake", Received, receive)


@bug
def grant_not_revoked() -> AbstractContextManager[None]:
    """After a merge a visitor's fast path still leads to the lost profile."""
    return _handling("intake", Revoke, lambda _right, _state, _order: None)


@bug
def grant_in_spite_of_demotion() -> AbstractContextManager[None]:
    """A visitor whose ids were not all used gets the fast path all the same."""
    right = identity.claim

    def claim(handle: Any, state: Any, record: Any) -> None:
        sent: list[Any] = []
        out = state.out
        with put((state, "out", lambda stage, key, one: (sent.append(one), out(stage, key, one)))):
            right(state, record)
        answer = next(one for one in sent if isinstance(one, Answer))
        if not answer.profile_id:
            arrived = next(one for one in sent if hasattr(one, "demoted"))
            ids = (*arrived.used, *arrived.demoted)
            out("intake", "", Answer(answer.routing_id, arrived.profile_id, ids, record.account))

    return _handling("identity", identity.Claim, claim)


@bug
def older_trait_wins_when_late() -> AbstractContextManager[None]:
    """Traits are ordered by their arrival."""

    def merge(_held: Any, event: Any) -> dict[str, Trait]:
        sent = event.data.get("traits")
        if not isinstance(sent, dict):
            return {}
        order = (event.timestamp_ms, event.received_at_ms, event.message_id)
        return {key: Trait(value, *order, event.source) for key, value in sent.items()}

    return put((traits, "merge", merge))


@bug
def usage_not_counted() -> AbstractContextManager[None]:
    """No call counts for usage: a canary, which any seed has to see."""
    return put((intake, "note", lambda *_call: None))


# ---- audiences and journeys ---------------------------------------------------------------------
@bug
def conditions_lost_at_a_merge() -> AbstractContextManager[None]:
    """The lost profile's events count no more."""
    right = merging.Hand

    def hand(survivor: str, profile: Any, _conditions: Any, *rest: Any) -> Any:
        return right(survivor, replace(profile, leaves={}), (), *rest)

    return put((merging, "Hand", hand))


@bug
def timer_not_set_again() -> AbstractContextManager[None]:
    """After a timer rang, the next one of the person is not set."""
    right = profile.store

    def store(state: Any, stored: Any, present: Any, *, rung: bool = False) -> None:
        right(state, stored, present, rung=rung)
        if rung:
            row = state.get(profile.PROFILES, present.id.encode())
            if row.armed_ms:
                state.delete(profile.TIMERS, row.armed_ms.to_bytes(8, "big") + row.id.encode())

    return put((profile, "store", store))


@bug
def input_overtakes_a_timer() -> AbstractContextManager[None]:
    """A timer that was due before an event fires behind it."""
    right = profile.fire

    def fire(state: Any, one: Any, before_ms: int, *, ticking: bool = False) -> Any:
        return right(state, one, before_ms, ticking=True) if ticking else one

    return put((profile, "fire", fire), (merging, "fire", fire))


@bug
def window_ends_late() -> AbstractContextManager[None]:
    """An event leaves its window a millisecond late."""
    right = Newest.verdict

    def verdict(leaf: Any, states: Any, now_ms: int) -> int:
        return right(leaf, states, now_ms - 1)

    return put((Newest, "verdict", verdict))


@bug
def journey_context_lost() -> AbstractContextManager[None]:
    """What a hold's event said does not enter the context."""
    return put((Setting, "alias", lambda _setting, _event, _branch: ""))


@bug
def journeys_lost_at_a_merge() -> AbstractContextManager[None]:
    """The lost profile's journeys end."""
    right = moves.unite

    def unite(plan: Any, mine: Any, _theirs: Any, *rest: Any) -> Any:
        return right(plan, mine, None, *rest)

    return put((moves, "unite", unite))


@bug
def no_catch_up_at_a_merge() -> AbstractContextManager[None]:
    """What the other profile did is not offered to the journeys of this one."""
    return put((moves._Turn, "catch_up", lambda _turn, _event, _ids: None))


# ---- delivery -----------------------------------------------------------------------------------
@bug
def result_handled_twice() -> AbstractContextManager[None]:
    """A result that comes round again counts as another attempt."""

    def settle(right: Any, state: Any, result: Result) -> None:
        row = state.get(JOBS, result.job)
        if row is not None:
            result = replace(result, attempt=row.attempts + 1)
        right(state, result)

    return _handling("delivery", Result, settle)


@bug
def queue_goes_on_after_a_failure() -> AbstractContextManager[None]:
    """The next message does not wait for one that is to be tried again."""
    right = Waiting.finish

    def finish(waiting: Any, entry: Any, _final: bool) -> bool:
        return right(waiting, entry, True)

    return put((Waiting, "finish", finish))


@bug
def jobs_stay_behind_at_a_merge() -> AbstractContextManager[None]:
    """The lost profile's messages keep a queue of their own, and are overtaken."""
    return _handling("delivery", delivery.Moved, lambda _right, _state, _moved: None)
