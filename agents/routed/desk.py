"""Stage `delivery` in partitions: a queue waits for the jobs that a merge hands over to it.

A merged profile's last act is to give its waiting jobs to the survivor's queue, and that queue
holds from the merge on until they are there: else an exit would pass an entry that is still being
tried (protocol 5, Deliveries). An attempt that is under way then is made again at the new place,
under the same messageId.
"""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from agents.delivery import STAGE as DELIVERY
from agents.delivery import admit_job, settle, take, take_away
from agents.records import Define, Job, Result
from agents.routed.records import Expect, Jobs, Moving
from runtime.stage import PartitionState, Stage, Table


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """What waits in a held queue: one of the three."""

    job: Job | None = None
    expect: Expect | None = None
    moving: Moving | None = None


HELD: Table[tuple[Entry, ...]] = Table("held_jobs", b"Qh", tuple[Entry, ...])
"""Queue -> what waits, the first being jobs that are expected. No row: nothing is held."""
GIVEN: Table[Jobs] = Table("given_jobs", b"Qg", Jobs)
"""Merge number in 8 bytes -> jobs that are here and were not expected yet, or not reached."""


def job(state: PartitionState, record: Job) -> None:
    """A job goes to the end of its queue."""
    _enter(state, record.queue, Entry(job=record))


def expect(state: PartitionState, record: Expect) -> None:
    """From here on the queue holds until the loser's jobs are there."""
    _enter(state, record.survivor, Entry(expect=record))


def moving(state: PartitionState, record: Moving) -> None:
    """The queue's profile was merged: its jobs go to the survivor's queue."""
    _enter(state, record.loser, Entry(moving=record))


def jobs(state: PartitionState, record: Jobs) -> None:
    """Jobs of a loser are here."""
    state.put(GIVEN, record.merge.to_bytes(8, "big"), record)
    held = state.get(HELD, record.survivor.encode())
    if held:
        _drain(state, record.survivor, held)


def _enter(state: PartitionState, queue: str, entry: Entry) -> None:
    held = state.get(HELD, queue.encode())
    if held is None and entry.job is not None:
        take(state, entry.job)
    else:
        _drain(state, queue, (*(held or ()), entry))


def _drain(state: PartitionState, queue: str, held: tuple[Entry, ...]) -> None:
    key = queue.encode()
    while held:
        entry = held[0]
        if entry.expect is not None:
            number = entry.expect.merge.to_bytes(8, "big")
            given = state.get(GIVEN, number)
            if given is None:
                break
            state.delete(GIVEN, number)
            for destination, job_number, row in given.jobs:
                admit_job(state, destination, queue, job_number, row)
        elif entry.moving is not None:
            order = entry.moving
            waiting = tuple(
                (destination, job_number, replace(row, moved=False))
                for destination, job_number, row in take_away(state, order.loser)
            )
            state.out("delivery", order.survivor, Jobs(order.merge, order.survivor, waiting))
        elif entry.job is not None:
            take(state, entry.job)
        held = held[1:]
    if held:
        state.put(HELD, key, held)
    elif state.get(HELD, key) is not None:
        state.delete(HELD, key)


_CLEAR: Any = DELIVERY.handlers[Define]

STAGE = Stage(
    "delivery",
    {Job: job, Expect: expect, Moving: moving, Jobs: jobs, Result: settle, Define: _CLEAR},
    (HELD, GIVEN, *DELIVERY.tables),
)

