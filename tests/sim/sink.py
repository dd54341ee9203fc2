"""Outbound without a network: the production queues, and destinations that behave as they please.

A flight carries the first jobs of one or more queues. It may get lost on the way, arrive and be
answered, or arrive and never be answered; what came back is logged as a result, sometimes twice.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agents.delivery import HOLDS, job_number
from agents.records import Result
from app.reader import StoreReader
from app.waiting import Entry, Waiting
from destinations.verdict import ASKS, judge

BATCH_BYTES = 1_000_000
FLIGHTS = 4

Behaviour = tuple[str, int, str, bool]
"""What is shown in the trace, status, code, whether the message arrived."""
FINE: Behaviour = ("200", 200, "", True)
MOODS: dict[str, list[tuple[Behaviour, int]]] = {
    "fine": [(FINE, 1)],
    "shaky": [(FINE, 6), (("500", 500, "", True), 2), (("lost", 0, "ETIMEDOUT", False), 1),
              (("hangs", 0, "ETIMEDOUT", True), 1), (("429", 429, "", True), 1)],
    "strict": [(FINE, 5), (("400", 400, "", True), 1)],
    "dead": [(("refused", 0, "ECONNREFUSED", False), 8), (FINE, 1)],
}  # fmt: skip


@dataclass
class Received:
    """A message as the destination got it."""

    destination: str
    number: int
    message_id: str
    body: bytes
    final: bool
    """The answer was one that ends the job: the next of its queue may come."""


@dataclass
class Sink:
    """What all destinations ever got. It outlives the worker."""

    received: list[Received] = field(default_factory=list)
    attempts: Counter[int] = field(default_factory=Counter)
    """Job number -> how often it was on its way, whether it arrived or not."""


class SimOutbound:
    """The worker's door out; dies with it."""

    def __init__(
        self, reader: StoreReader, definitions: Callable[[], Any], now_ms: Callable[[], int],
        sink: Sink, rng: random.Random, mood: str,
    ) -> None:
        self._reader = reader
        self._definitions = definitions
        self._now_ms = now_ms
        self._sink = sink
        self._rng = rng
        self.mood = mood
        self._lines: dict[str, Waiting] = {}
        self._held: dict[str, int] = {}
        self.flights: list[tuple[str, list[Entry], bool]] = []
        self.results: list[Result] = []
        self.repeats = 0.0

    def start(self) -> None:
        for key in self._definitions().destinations:
            self._line(key)

    def _line(self, key: str) -> Waiting:
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Waiting(key, self._reader, self._now_ms)
            self._held[key] = self._reader.get(HOLDS, key.encode()) or 0
        return line

    def committed(self, rows: dict[bytes, Any]) -> None:
        """Take in the job rows of a commit, as `app.outbound` does: puts before deletes."""
        for key, row in rows.items():
            if row is not None:
                self._line(key[: key.index(0)].decode()).put(key, row)
        for key, row in rows.items():
            if row is None:
                self._line(key[: key.index(0)].decode()).delete(key)

    def launch(self) -> str:
        """Start one request, if a destination may be called. Return to whom; empty: to none."""
        destinations = self._definitions().destinations
        for key in sorted(destinations):
            ready = destinations[key]
            if not ready.enabled or len(self.flights) >= FLIGHTS:
                continue
            line = self._line(key)
            line.wake()
            while line.load():
                pass
            if self._held[key] > self._now_ms() or not line.ready:
                continue
            entries = line.take(ready.batch_size, BATCH_BYTES)
            if entries:
                self.flights.append((key, entries, True))
                return f"{key}*{len(entries)}"
        return ""

    def land(self) -> str:
        """End one flight, whichever: what the destination makes of it is drawn now."""
        place = self._rng.randrange(len(self.flights))
        key, entries, _ = self.flights.pop(place)
        moods, weights = zip(*MOODS[self.mood], strict=True)
        shown, status, code, arrived = self._rng.choices(moods, weights)[0]
        final = judge(status, code) != "retry"
        asked_ms = self._now_ms() + 60_000 if status in ASKS else -1
        self._held[key] = max(self._held[key], asked_ms)
        line = self._lines[key]
        for entry in entries:
            self._sink.attempts[job_number(entry.key)] += 1
            if arrived:
                self._sink.received.append(Received(
                    key, job_number(entry.key), entry.row.message_id, entry.row.body, final
                ))
            result = Result(entry.key, entry.attempt, status, code, "", asked_ms)
            if line.finish(entry, final):
                self.results.append(result)
                if self._rng.random() < self.repeats:
                    self.results.append(result)
        return f"{key} {shown} {entries[0].row.message_id}"

    def next_ms(self) -> int | None:
        """Return when a destination may be called again for what waits; None: nothing waits."""
        found = []
        destinations = self._definitions().destinations
        for key, line in self._lines.items():
            if key in destinations and destinations[key].enabled and not line.empty:
                due = 0 if line.ready or line.next_ms is None else line.next_ms
                found.append(max(self._held[key], due))
        return min(found, default=None)
