"""Stage `delivery`: jobs wait in order, are tried again, and end delivered or as dead letters.

A queue is one person at one destination (source events: one visitor). `app/outbound.py` sends
the first job of each queue and logs what came back as a `Result`; what that means is decided
here, when the result comes round. A job's number rises over the whole workspace: it orders
queues, also those that a merge unites.
"""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from agents.records import Define, Job, Moved, Result
from destinations.catalogue import Destinations, Ready, counters
from destinations.retry import next_attempt_ms
from destinations.verdict import ASKS, judge, reason
from runtime.stage import Stage, State, Table

REMOVED = "destination_removed"
ANSWER_LENGTH = 1024
DEAD_LETTERS_KEPT_MS = 30 * 86_400_000


class JobRow(Struct, frozen=True, array_like=True, gc=False):
    """A waiting job. ``attempts`` are those that were answered; 0 instants mean never, and now."""

    message_id: str
    body: bytes
    attempts: int = 0
    first_attempt_ms: int = 0
    next_ms: int = 0
    status: int = 0
    code: str = ""
    moved: bool = False
    """A merge gave it another key: `FORWARDS` leads there from the number."""


class DeadLetter(Struct, frozen=True, array_like=True, gc=False):
    """A job that was given up: what it was, what came back last, and why."""

    destination: str
    queue: str
    message_id: str
    body: bytes
    reason: str
    """`discarded`, `expired` or `destination_removed`."""
    code: str
    status: int = 0
    answer: str = ""
    attempts: int = 0
    first_attempt_ms: int = 0
    at_ms: int = 0


JOBS: Table[JobRow] = Table("jobs", b"QJ", JobRow)
DEAD: Table[DeadLetter] = Table("dead_letters", b"QX", DeadLetter, cached=False)
"""Keyed (instant in 8 bytes, job number in 8 bytes): the oldest first."""
NUMBERS: Table[int] = Table("job_numbers", b"QN", int)
"""The last job number given; and when dead letters were last let go."""
WAITING: Table[int] = Table("jobs_of_profiles", b"QP", int)
"""By (destination, NUL, profile id): how many jobs wait, so that a merge of persons for whom
nothing waits costs no scan. Visitors' queues are never moved and not counted."""
HOLDS: Table[int] = Table("holds", b"QH", int)
"""By destination: the instant before which it asked not to be called at all (429, 503)."""
FORWARDS: Table[bytes] = Table("moved_jobs", b"QF", bytes)
"""By job number: the present key of a job that a merge moved while it was under way."""

_LAST = b"last"
_LET_GO = b"let_go"
_LET_GO_EVERY_MS = 3_600_000


def job_key(destination: str, queue: str, number: int) -> bytes:
    """Return the key of a job: jobs of one queue lie in order of their numbers."""
    return b"%b\0%b\0%b" % (destination.encode(), queue.encode(), number.to_bytes(8, "big"))


def job_number(key: bytes) -> int:
    """Return the number of the job with this key."""
    return int.from_bytes(key[-8:], "big")


def destination_of(key: bytes) -> str:
    """Return the destination of the job with this key."""
    return key[: key.index(0)].decode()


def queue_of(key: bytes) -> str:
    """Return the queue of the job with this key; a queue's name may itself hold NULs."""
    return key[key.index(0) + 1 : -9].decode()


def take(state: State, job: Job) -> None:
    """Put the job at the end of its queue.

    A disabled destination gets nothing; jobs for one that is gone are dead letters at once.
    Rule: workspace WS-23.
    """
    destination = _destinations(state).get(job.destination)
    if destination is None:
        removed = counters(job.destination)
        state.count(removed.received)
        state.count(removed.removed)
        _bury(
            state,
            _number(state),
            DeadLetter(
                job.destination,
                job.queue,
                job.message_id,
                job.body,
                REMOVED,
                REMOVED,
                at_ms=state.at_ms,
            ),
        )
        return
    if not destination.enabled:
        state.count(destination.counters.filtered)
        return
    queue = job.queue
    key = b"%b\0%b\0%b" % (
        job.destination.encode(),
        queue.encode(),
        _number(state).to_bytes(8, "big"),
    )
    state.put(JOBS, key, JobRow(job.message_id, job.body))
    if ":" not in queue:
        _waits(state, key[:-9], 1)
    state.count(destination.counters.received)


def settle(state: State, result: Result) -> None:
    """Act on what a destination answered: delivered, tried again later, or a dead letter.

    A result for a job that is gone, or for another attempt than the one under way, is a repeat
    after a crash: it is counted and changes nothing.
    Rule: delivery 1, delivery 2, protocol 10.
    """
    key = result.job
    row = state.get(JOBS, key)
    if row is None:
        forward = state.get(FORWARDS, key[-8:])
        if forward is not None:
            key = forward
            row = state.get(JOBS, key)
    if row is None or row.attempts + 1 != result.attempt:
        state.count("job_results_ignored")
        return
    destination = _destinations(state)[destination_of(key)]  # others: `settled_definitions`
    verdict = judge(result.status, result.code)
    if verdict == "delivered":
        _finish(state, destination, key, row)
        state.count(destination.counters.delivered)
        return
    now_ms = state.at_ms
    asked_ms = result.retry_after_ms if result.status in ASKS else -1
    if asked_ms > now_ms:
        held = state.get(HOLDS, destination.key.encode())
        if held is None or held < asked_ms:
            state.put(HOLDS, destination.key.encode(), asked_ms)
    code = reason(result.status, result.code)
    if verdict == "retry":
        first_ms = row.first_attempt_ms or now_ms
        next_ms = next_attempt_ms(
            job_number(key),
            result.attempt,
            first_ms,
            now_ms,
            destination.window_ms,
            asked_ms,
        )
        if next_ms is not None:
            waits = JobRow(
                row.message_id,
                row.body,
                result.attempt,
                first_ms,
                next_ms,
                result.status,
                code,
                row.moved,
            )
            state.put(JOBS, key, waits)
            if row.attempts == 0:
                state.count(destination.counters.retrying)
            return
        state.count(destination.counters.expired)
        ended = "expired"
    else:
        state.count(destination.counters.discarded)
        ended = "discarded"
    _finish(state, destination, key, row)
    _bury(
        state,
        job_number(key),
        DeadLetter(
            destination.key,
            queue_of(key),
            row.message_id,
            row.body,
            ended,
            code,
            result.status,
            result.body[:ANSWER_LENGTH],
            result.attempt,
            row.first_attempt_ms or now_ms,
            now_ms,
        ),
    )


def move(state: State, moved: Moved) -> None:
    """Give the jobs of a merged profile to the survivor, ordered by job number.

    A job that is under way keeps its attempt: its result finds it by number.
    Cost: a look-up a destination where nothing waits.
    Rule: protocol 5 (Deliveries).
    """
    for destination in _destinations(state):
        queue = b"%b\0%b" % (destination.encode(), moved.loser.encode())
        count = state.get(WAITING, queue)
        if not count:
            continue
        state.delete(WAITING, queue)
        survivor = b"%b\0%b" % (destination.encode(), moved.survivor.encode())
        _waits(state, survivor, count)
        for key, row in _queue(state, queue + b"\0"):
            number = key[-8:]
            new = b"%b\0%b" % (survivor, number)
            state.delete(JOBS, key)
            state.put(JOBS, new, replace(row, moved=True))
            state.put(FORWARDS, number, new)


def take_away(state: State, queue: str) -> list[tuple[str, int, JobRow]]:
    """Remove the jobs that wait for a merged profile, and return them: destination, number and
    job, in order. An attempt under way is forgotten; its result will find nothing."""
    gone: list[tuple[str, int, JobRow]] = []
    for destination in _destinations(state):
        place = b"%b\0%b" % (destination.encode(), queue.encode())
        if not state.get(WAITING, place):
            continue
        state.delete(WAITING, place)
        for key, row in _queue(state, place + b"\0"):
            state.delete(JOBS, key)
            gone.append((destination, job_number(key), row))
    return gone


def admit_job(state: State, destination: str, queue: str, number: int, row: JobRow) -> None:
    """Put a job, as it stood elsewhere, in its place of the queue; those that follow come after."""
    # Its number may be of a partition whose instants are ahead of those here.
    state.put(NUMBERS, _LAST, max(state.get(NUMBERS, _LAST) or 0, number))
    place = b"%b\0%b" % (destination.encode(), queue.encode())
    state.put(JOBS, place + b"\0" + number.to_bytes(8, "big"), row)
    _waits(state, place, 1)


def clear(state: State, _record: Define) -> None:
    """Take in other definitions."""
    settled_definitions(state)


def settled_definitions(state: State) -> int:
    """Turn the jobs of destinations that are no longer defined into dead letters; return how many.

    Called when a `Define` was applied, ``state.definitions`` being the new ones.
    Rule: workspace WS-23.
    """
    destinations = _destinations(state)
    buried = 0
    for key in list(_waiting_destinations(state)):
        if key in destinations:
            continue
        names = counters(key)
        state.delete(HOLDS, key.encode())
        for job, row in list(state.scan(JOBS, key.encode() + b"\0")):
            state.delete(JOBS, job)
            if row.moved:
                state.delete(FORWARDS, job[-8:])
            if row.attempts:
                state.add(names.retrying, -1)
            if b":" not in job[:-9]:
                state.delete(WAITING, job[:-9])
            _bury(
                state,
                job_number(job),
                DeadLetter(
                    key,
                    queue_of(job),
                    row.message_id,
                    row.body,
                    REMOVED,
                    row.code or REMOVED,
                    row.status,
                    "",
                    row.attempts,
                    row.first_attempt_ms,
                    state.at_ms,
                ),
            )
            buried += 1
            state.count(names.removed)
    return buried


def _destinations(state: State) -> Destinations:
    destinations: Destinations = state.definitions.destinations
    return destinations


def _number(state: State) -> int:
    number = (state.get(NUMBERS, _LAST) or 0) + 1
    if state.routed:
        # A merge may unite queues of two partitions: numbers rise with time, and none is given
        # twice. The low byte is the partition's.
        number = max(number + 255, state.at_ms << 20) >> 8 << 8 | state.number
    state.put(NUMBERS, _LAST, number)
    return number


def _waits(state: State, queue: bytes, more: int) -> None:
    count = (state.get(WAITING, queue) or 0) + more
    if count:
        state.put(WAITING, queue, count)
    else:
        state.delete(WAITING, queue)


def _finish(state: State, destination: Ready, key: bytes, row: JobRow) -> None:
    state.delete(JOBS, key)
    if row.moved:
        state.delete(FORWARDS, key[-8:])
    if row.attempts:
        state.add(destination.counters.retrying, -1)
    if b":" not in key[:-9]:
        _waits(state, key[:-9], -1)


def _bury(state: State, number: int, letter: DeadLetter) -> None:
    now_ms = letter.at_ms
    state.put(DEAD, now_ms.to_bytes(8, "big") + number.to_bytes(8, "big"), letter)
    if now_ms < (state.get(NUMBERS, _LET_GO) or 0) + _LET_GO_EVERY_MS:
        return
    state.put(NUMBERS, _LET_GO, now_ms)
    gone = []
    for key, _ in state.scan(DEAD):
        if int.from_bytes(key[:8], "big") + DEAD_LETTERS_KEPT_MS > now_ms:
            break
        gone.append(key)
    for key in gone:
        state.delete(DEAD, key)


def _queue(state: State, prefix: bytes) -> list[tuple[bytes, JobRow]]:
    length = len(prefix) + 8
    return [(key, row) for key, row in state.scan(JOBS, prefix) if len(key) == length]


def _waiting_destinations(state: State) -> Iterator[str]:
    start = b""
    while True:
        found = next(iter(state.scan(JOBS, b"", start)), None)
        if found is None:
            return
        name = found[0][: found[0].index(0)]
        yield name.decode()
        start = name + b"\1"


STAGE = Stage(
    "delivery",
    {Job: take, Result: settle, Define: clear, Moved: move},
    (JOBS, DEAD, NUMBERS, WAITING, HOLDS, FORWARDS),
)
