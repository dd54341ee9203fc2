"""The waiting jobs of one destination, as much of them as memory may hold.

The table holds all of them; here stand the ones whose turn is near. A queue is either wholly
known here, or `more` of it lies in the table; a queue that waits for its next attempt is a stub
without rows. Queues not met yet are found by going through the table from `begin` to `cursor`:
what lies between the two is known, and nothing outside is, so that no job is sent before an
earlier one of its queue.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from msgspec import Struct

from agents.delivery import JOBS, JobRow
from runtime.stage import Table

WAITING, FLYING, ANSWERED, FINISHED, GONE = range(5)


class Reader(Protocol):
    """What is committed: never what a batch under way has put."""

    def get(self, table: Table[Any], key: bytes) -> Any:
        """Return the row, or None."""

    def scan(
        self, table: Table[Any], prefix: bytes = b"", start: bytes = b""
    ) -> Iterator[tuple[bytes, Any]]:
        """Yield (key, row) in key order."""


class Limits(Struct, frozen=True):
    """What memory holds of one destination."""

    jobs: int = 5_000
    bytes: int = 8 << 20
    queues: int = 100_000
    of_a_queue: int = 256
    slice: int = 256
    """Rows read from the table in one go, so that the event loop is not held up."""


class Entry:
    """A job in memory. ``attempt`` is the one under way."""

    __slots__ = ("attempt", "key", "number", "queue", "row", "stage")

    def __init__(self, key: bytes, row: JobRow, queue: "Queue") -> None:
        self.key = key
        self.number = key[-8:]
        self.row = row
        self.queue = queue
        self.attempt = 0
        self.stage = WAITING


class Queue:
    """One person's jobs: those not under way stand in ``rows``, by number.

    ``busy`` counts those under way, or answered with an attempt to come that is not committed.
    """

    __slots__ = ("busy", "due_ms", "head", "listed", "more", "name", "rows")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.rows: list[Entry] = []
        self.busy = 0
        self.more = False
        self.listed = False
        self.due_ms = 0
        """Of a stub: when its first job is due; 0: it is none."""
        self.head = b""


class Waiting:
    """Takes in what was committed, and gives out what may be sent now."""

    def __init__(
        self,
        destination: str,
        reader: Reader,
        now_ms: Callable[[], int],
        limits: Limits = Limits(),  # noqa: B008, frozen
    ) -> None:
        self._limits = limits
        self._reader = reader
        self._now_ms = now_ms
        self._prefix = destination.encode() + b"\0"
        self._queues: dict[bytes, Queue] = {}
        self._entries: dict[bytes, Entry] = {}
        self._bytes = 0
        self._ready: deque[Queue] = deque()
        self._stubs: list[tuple[int, bytes]] = []
        self._begin: bytes = self._prefix
        self._cursor: bytes | None = self._prefix
        """Where the walk through the table stands; None: every queue is known."""
        self._wrapped = False

    @property
    def in_memory(self) -> int:
        """Return how many jobs are held."""
        return len(self._entries)

    @property
    def ready(self) -> int:
        """Return how many queues have a job that may go out."""
        return len(self._ready)

    def next_is_full(self, most: int) -> bool:
        """Return whether a request of ``most`` messages would be full, as far as that is known."""
        ready = self._ready
        return most == 1 or len(ready) >= most or sum(len(q.rows) for q in ready) >= most

    @property
    def empty(self) -> bool:
        """Return whether nothing waits, here or in the table."""
        return self._cursor is None and not self._queues and not self._entries

    @property
    def next_ms(self) -> int | None:
        """Return when the next stub falls due."""
        return self._stubs[0][0] if self._stubs else None

    # ---- what was committed
    def put(self, key: bytes, row: JobRow) -> None:
        """A job was written: a new one, one to be tried again, or one that a merge moved."""
        entry = self._entries.get(key[-8:])
        if entry is None:
            self._new(key, row)
            return
        if entry.key != key:
            self._move(entry, key, row)
            entry = self._entries.get(key[-8:])
            if entry is None:
                return
        if row.attempts > entry.row.attempts and entry.stage in (ANSWERED, FINISHED):
            self._forget(entry)
            if entry.stage == ANSWERED:
                entry.queue.busy -= 1
                self._new(key, row, entry.queue)
            else:
                self._new(key, row)
        else:
            entry.row = row

    def delete(self, key: bytes) -> None:
        """A job is done with, or has another key by now."""
        entry = self._entries.get(key[-8:])
        if entry is None or entry.key != key:
            return
        self._forget(entry)
        if entry.stage == WAITING:
            entry.queue.rows.remove(entry)
            self._list(entry.queue)
        elif entry.stage == ANSWERED:
            entry.queue.busy -= 1
            self._list(entry.queue)
        elif entry.stage == FLYING:
            entry.stage = GONE

    def _known(self, key: bytes) -> bool:
        if self._cursor is None:
            return True
        if self._wrapped:
            return key >= self._begin or key < self._cursor
        return self._begin <= key < self._cursor

    def _room(self) -> bool:
        return len(self._entries) < self._limits.jobs and self._bytes < self._limits.bytes

    def _new(self, key: bytes, row: JobRow, queue: Queue | None = None) -> None:
        name = key[:-9]
        if queue is None:
            queue = self._queues.get(name)
        if queue is None:
            if not self._known(key):
                return  # the walk will come by it
            if not self._room() or len(self._queues) >= self._limits.queues:
                # From here on it is not known what lies in the table: begin the walk anew, at
                # the first job of some queue, so that none is entered in its middle.
                self._begin = self._cursor = name + b"\0"
                self._wrapped = False
                return
            queue = self._queues[name] = Queue(name)
        number = key[-8:]
        rows = queue.rows
        if queue.more and (not rows or number > rows[-1].number):
            if queue.due_ms and number < queue.head:
                self._stub(queue, number, row.next_ms)
            elif not rows:
                self._list(queue)
            return
        if not rows or number > rows[-1].number:
            if len(rows) >= self._limits.of_a_queue or not self._room():
                queue.more = True
                self._list(queue)
                return
            rows.append(self._add(key, row, queue))
        else:
            rows.append(self._add(key, row, queue))
            rows.sort(key=lambda entry: entry.number)
            while len(rows) > 1 and (len(rows) > self._limits.of_a_queue or not self._room()):
                self._forget(rows.pop())
                queue.more = True
        self._list(queue)

    def _add(self, key: bytes, row: JobRow, queue: Queue) -> Entry:
        entry = Entry(key, row, queue)
        self._entries[entry.number] = entry
        self._bytes += len(row.body)
        return entry

    def _forget(self, entry: Entry) -> None:
        del self._entries[entry.number]
        self._bytes -= len(entry.row.body)

    def _move(self, entry: Entry, key: bytes, row: JobRow) -> None:
        """A merge gave the job another queue."""
        old = entry.queue
        if entry.stage == WAITING:
            old.rows.remove(entry)
            self._forget(entry)
            self._new(key, row)
        else:
            entry.key = key
            if entry.stage != FINISHED:
                name = key[:-9]
                queue = self._queues.get(name)
                if queue is None:
                    queue = self._queues[name] = Queue(name)
                    queue.more = not self._known(key)
                old.busy -= 1
                queue.busy += 1
                entry.queue = queue
        self._list(old)

    # ---- whose turn it is
    def _list(self, queue: Queue) -> None:
        """Put the queue where it belongs: ready, a stub, or away."""
        if queue.busy or queue.listed or queue.due_ms:
            return
        rows = queue.rows
        if not rows:
            if queue.more:
                queue.listed = True
                self._ready.append(queue)
            elif self._queues.get(queue.name) is queue:
                del self._queues[queue.name]
            return
        head = rows[0]
        if head.row.next_ms <= self._now_ms():
            queue.listed = True
            self._ready.append(queue)
            return
        for entry in rows:
            self._forget(entry)
        rows.clear()
        queue.more = True
        self._stub(queue, head.number, head.row.next_ms)

    def _stub(self, queue: Queue, head: bytes, due_ms: int) -> None:
        queue.head = head
        queue.due_ms = max(due_ms, 1)
        heapq.heappush(self._stubs, (queue.due_ms, queue.name))

    def wake(self) -> None:
        """Let the stubs that are due take their turn."""
        stubs, now_ms = self._stubs, self._now_ms()
        while stubs and stubs[0][0] <= now_ms:
            due_ms, name = heapq.heappop(stubs)
            queue = self._queues.get(name)
            if queue is not None and queue.due_ms == due_ms:
                queue.due_ms = 0
                self._list(queue)

    def take(self, most: int, most_bytes: int) -> list[Entry]:
        """Return the jobs of one request, in order within each queue; they are under way now."""
        taken: list[Entry] = []
        size = 0
        ready, now_ms = self._ready, self._now_ms()
        while ready and len(taken) < most:
            queue = ready[0]
            if not queue.rows and queue.more and not queue.busy:
                self._reload(queue)
            rows = queue.rows
            if not queue.busy:
                while rows and len(taken) < most:
                    entry = rows[0]
                    row = entry.row
                    if row.next_ms > now_ms:
                        break
                    size += len(row.body) + 1
                    if taken and size > most_bytes:
                        return taken
                    rows.pop(0)
                    entry.stage = FLYING
                    entry.attempt = row.attempts + 1
                    queue.busy += 1
                    taken.append(entry)
            ready.popleft()
            queue.listed = False
            self._list(queue)
        return taken

    def finish(self, entry: Entry, final: bool) -> bool:
        """The job was answered. Return whether that is to be logged.

        A final answer lets the queue go on at once: whatever comes of it, the next job is due.
        After another, the queue waits until the instant of the next attempt is committed.
        """
        queue = entry.queue
        if entry.stage == GONE:
            queue.busy -= 1
            self._list(queue)
            return False
        if entry.row.attempts >= entry.attempt:
            # Another result of this attempt came round, from before a crash: that one counts.
            queue.busy -= 1
            row = entry.row
            self._forget(entry)
            self._new(entry.key, row, queue)
            return False
        if final:
            entry.stage = FINISHED
            queue.busy -= 1
            self._list(queue)
        else:
            entry.stage = ANSWERED
        return True

    # ---- what lies in the table
    def _reload(self, queue: Queue) -> None:
        prefix = queue.name + b"\0"
        length = len(prefix) + 8
        entries, rows = self._entries, queue.rows
        queue.more = False
        for key, row in self._reader.scan(JOBS, prefix):
            if len(key) != length or key[-8:] in entries:
                continue
            if rows and (len(rows) >= self._limits.of_a_queue or not self._room()):
                queue.more = True
                return
            rows.append(self._add(key, row, queue))

    def load(self) -> bool:
        """Go on with the walk if there is room. Return whether it should be called again soon."""
        if self._cursor is None or len(self._entries) > self._limits.jobs // 2:
            return False
        if self._bytes > self._limits.bytes // 2 or len(self._queues) >= self._limits.queues:
            return False
        stop = self._begin if self._wrapped else None
        for read, (key, row) in enumerate(self._reader.scan(JOBS, self._prefix, self._cursor)):
            if stop is not None and key >= stop:
                break
            if read >= self._limits.slice or not self._room():
                self._cursor = key
                queue = self._queues.get(key[:-9])
                if queue is not None:
                    queue.more = True
                return self._room()
            self._met(key, row)
        if self._wrapped or self._begin == self._prefix:
            self._cursor = None
            return False
        self._wrapped = True
        self._cursor = self._prefix
        return True

    def _met(self, key: bytes, row: JobRow) -> None:
        """The walk came by a job."""
        if key[-8:] in self._entries:
            return
        name = key[:-9]
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = Queue(name)
        self._new(key, row, queue)
