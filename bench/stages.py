"""The stages alone: one side is a store with the fused runner over it, as the worker has it.

No HTTP, no log, no network: events go in decoded, as the worker hands them on; commits are as
large as the worker's; every webhook message is answered at once, and the answer goes through the
stage `delivery`, too. Rows that compare two sides let them take the same chunks in turn.

    python -m bench.stages profiles LARGE SMALL FOLDER PEOPLE EVENTS
    python -m bench.stages audiences FOLDER EVENTS

Prints JSON: per side the name and, for each chunk, microseconds an event by the clock and of
processor time.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bench.make_workspace import WRITE_KEY, write
from bench.people import GAP_MS, events
from bench.processes import ROOT, as_the_worker

CHUNK = 5_000
ENVELOPE = 100


class Told(Struct):
    """What a side's chunks took: microseconds an event."""

    name: str
    wall: list[float] = []
    cpu: list[float] = []
    messages: int = 0


async def measured(*arguments: object) -> list[Told]:
    """Return what this module prints when run with these arguments, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.guard", sys.executable, "-m", "bench.stages",
        *map(str, arguments), cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(f"bench.stages ended with {process.returncode}")
    return msgspec.json.decode(out, type=list[Told])


class Side:
    """A state and its runner."""

    def __init__(self, name: str, state: Path, workspace: Path | None = None) -> None:
        """Take up the state, with the definitions it has, or begin one with a workspace."""
        from agents.records import Define
        from app.engine import runner_over
        from app.folder import files
        from events.version import VERSION
        from runtime.envelope import pack
        from runtime.fused import PROGRESS
        from tables.store import RocksStore
        from workspace.definitions import digest, load, normal_form

        self.told = Told(name)
        self.store = RocksStore(state)
        row = self.store.get(PROGRESS.prefix)
        log = "bench" if row is None else msgspec.msgpack.decode(row, type=PROGRESS.type).log
        self.runner = runner_over(self.store, log)
        if workspace is not None:
            definitions, problems = load(files(workspace)[0], {})
            assert definitions is not None, problems
            body = normal_form(definitions)
            define = Define(body, digest(body), VERSION)
            self._apply(pack("define", now_ms(), [define]), [define])
            self.runner.commit()

    def take(self, calls: Sequence[dict[str, Any]], measure: bool,
             watch: Callable[[bool], None] = lambda _on: None) -> None:
        """Run the calls through all stages, what they cause included.

        ``watch`` is told when the stages begin, and when they have ended.
        """
        from app.engine import COMMIT_EVENTS
        from runtime.envelope import pack

        envelopes = list(self._envelopes(calls))
        runner = self.runner
        watch(True)
        wall, cpu = time.perf_counter(), time.thread_time()
        waiting = 0
        for value, items in envelopes:
            waiting += self._apply(value, items)
            if waiting >= COMMIT_EVENTS:
                results = self._answered(runner.commit())
                waiting = 0
                if results:
                    waiting += self._apply(pack("result", now_ms(), results), results)
        while results := self._answered(runner.commit()):
            self._apply(pack("result", now_ms(), results), results)
        wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
        watch(False)
        if measure:
            self.told.wall.append(wall / len(calls) * 1e6)
            self.told.cpu.append(cpu / len(calls) * 1e6)

    def _apply(self, value: bytes, items: list[Any]) -> int:
        return self.runner.apply(self.runner.applied + 1, value, items)

    def _answered(self, written: Any) -> list[Any]:
        """Return the results of all jobs that this commit put, as a good webhook gives them."""
        from agents.delivery import JOBS
        from agents.records import Result

        rows = written.rows.get(JOBS.prefix, {})
        results = [Result(key, 1, 200, "", "") for key, row in rows.items() if row is not None]
        self.told.messages += len(results)
        return results

    def _envelopes(self, calls: Sequence[dict[str, Any]]) -> Iterator[tuple[bytes, list[Any]]]:
        """Yield what ingest would append, with the items decoded."""
        from events.calls import accept, request_context
        from events.event import Received
        from runtime.envelope import pack

        sources = self.runner.definitions.sources
        known = sources.by_write_key[WRITE_KEY]
        at_ms = now_ms()
        context = request_context(
            type=None, project_id=known.key, channel=known.channel, client_side=known.client_side,
            received_at_ms=at_ms, new_message_id=lambda: "", ip="127.0.0.1",
        )
        left = iter(calls)
        while group := list(islice(left, ENVELOPE)):
            # decoded anew, since what is accepted is changed in place
            copies = msgspec.json.decode(msgspec.json.encode(group))
            items = []
            for call in copies:
                one = accept(call, context)
                assert isinstance(one, Received), one
                items.append(one)
            yield pack("event", at_ms, items), items


def now_ms() -> int:
    """Return the present instant."""
    return time.time_ns() // 1_000_000


def taking_turns(sides: Sequence[Side], calls: Iterable[dict[str, Any]], warm: int) -> None:
    """Let the sides take the same chunks in turn; the first ``warm`` calls are not measured."""
    left = iter(calls)
    seen = 0
    while chunk := list(islice(left, CHUNK)):
        for side in sides if seen // CHUNK % 2 else reversed(sides):
            side.take(chunk, measure=seen >= warm)
        seen += len(chunk)


def profiles(large: Path, small: Path, folder: Path, people: int, count: int) -> list[Side]:
    """Run the same traffic over copies of a state of many people and of one of few."""
    from bench import profiles as row

    sides = [
        Side("large", _copy(large / "state", folder / "large")),
        Side("small", _copy(small / "state", folder / "small")),
    ]
    as_the_worker()
    for side, known in zip(sides, row.warmed(people, count), strict=True):
        side.take([row.page(person) for person in known], measure=False)
    taking_turns(sides, row.traffic(people, count), warm=0)
    return sides


def audiences(folder: Path, count: int) -> list[Side]:
    """Run the same traffic over two new states, under 10 and under 1,000 audiences."""
    sides = []
    for number in (1000, 10):
        write(folder / f"{number}-workspace", "http://127.0.0.1:9/", number)
        sides.append(Side(str(number), folder / str(number), folder / f"{number}-workspace"))
    as_the_worker()
    warm = count // 3
    start_ms = now_ms() - (count + warm) * GAP_MS
    taking_turns(sides, events(301, 100_000, count + warm, start_ms), warm)
    return sides


def _copy(state: Path, to: Path) -> Path:
    from tables.store import RocksStore

    to.parent.mkdir(exist_ok=True)
    store = RocksStore(state)
    store.checkpoint(to)
    store.close()
    return to


def main(arguments: list[str]) -> None:
    """Run what the arguments name and print what was measured."""
    if arguments[0] == "profiles":
        large, small, folder = map(Path, arguments[1:4])
        sides = profiles(large, small, folder, int(arguments[4]), int(arguments[5]))
    else:
        sides = audiences(Path(arguments[1]), int(arguments[2]))
    print(msgspec.json.encode([side.told for side in sides]).decode())
    for side in sides:
        side.store.close()


if __name__ == "__main__":
    main(sys.argv[1:])
