"""Is a worker that slept through a take-over kept from its partition's changelog?

    python -m tests.kafka.fence [--rounds 50] [--together 4]

A round: two processes write for one partition. The first stops itself (SIGSTOP) at a named step
of its second batch; the other takes over, recovers and writes on; the first is woken (SIGCONT)
and goes on where it was. Then compaction is forced, both end, and the changelog alone is read.
What it holds must be what the second one had. A control does the same without the transactional
id, and must be wrong, or the test proves nothing.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient

from tests.kafka.broker import ROOT, Kafka
from transport.kafka import Changelog, Fenced, Topic, Unknown, ensure_topics, parse

STEPS = ("before add", "before produce", "before end", "end sent", "after")
"""Where the first one stops: around the requests of one transaction."""
REQUESTS = {"add": "AddPartitionsToTxnRequest", "produce": "ProduceRequest", "end": "EndTxnRequest"}
KEYS = [b"k%d" % number for number in range(8)]
HARSH = {"segment.ms": "50", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "0",
         "min.compaction.lag.ms": "0", "max.compaction.lag.ms": "100"}
"""Compact as soon and as much as a broker can."""


# ---- a writer, in a process of its own -----------------------------------------------------------
class Plain(Changelog):
    """The control: the same without a transactional id."""

    async def open(self) -> None:
        self._producer = AIOKafkaProducer(**self._settings.options(), enable_idempotence=True,
                                          acks="all")
        await self._producer.start()

    async def append(self, rows: Any) -> int:
        sent = await self._send(self._producer, self._topics[0], rows)
        return (await asyncio.gather(*sent))[-1]


class Writer:
    """What a worker does with a changelog: recover, then batches of rows and the applied offset."""

    def __init__(self, servers: str, topic: str, plain: bool, who: str) -> None:
        kind = Plain if plain else Changelog
        self.changelog = kind(parse(f"kafka://{servers}", {}), topic, 0, f"fence.{topic}")
        self.who = who
        self.state: dict[bytes, bytes | None] = {}

    async def take_over(self) -> None:
        await self.changelog.open()
        async for rows, _ in self.changelog.recover():
            self.state.update(rows)

    async def batch(self, keys: list[bytes]) -> None:
        applied = int(self.state.get(b"applied") or b"0") + 1
        value = f"{self.who} {applied}".encode()
        rows = [*((key, value) for key in keys), (b"applied", b"%d" % applied)]
        await self.changelog.append(rows)
        self.state.update(rows)


def say(**told: object) -> None:
    print(json.dumps(told), flush=True)


def sleep() -> None:
    say(asleep=True)
    os.kill(os.getpid(), signal.SIGSTOP)


def stop_at(step: str) -> None:
    """From now on: stop at ``step`` of a transaction, once."""
    when, _, request = step.partition(" ")
    if step == "end sent":
        when, request = "sent", "end"
    original, done = AIOKafkaClient.send, False

    async def send(self: AIOKafkaClient, node: int, wanted: Any, **options: Any) -> Any:
        nonlocal done
        if done or type(wanted).__name__ != REQUESTS[request]:
            return await original(self, node, wanted, **options)
        done = True
        if when == "before":
            sleep()
            return await original(self, node, wanted, **options)
        answer = asyncio.ensure_future(original(self, node, wanted, **options))
        for _ in range(3):
            await asyncio.sleep(0)  # it is written, and not yet answered
        sleep()
        return await answer

    AIOKafkaClient.send = send  # type: ignore[method-assign]


async def first(writer: Writer, step: str) -> None:
    await writer.take_over()
    await writer.batch(KEYS)
    outcome = "went on"
    try:
        if step != "after":
            stop_at(step)
        await writer.batch(KEYS)
        if step == "after":
            sleep()
        for _ in range(2):
            await writer.batch(KEYS)
    except (Fenced, Unknown) as error:
        outcome = type(error).__name__
    await writer.changelog.close()
    say(outcome=outcome)


async def second(writer: Writer) -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    say(ready=True)
    while order := (await orders.readline()).decode().strip():
        if order == "take over":
            await writer.take_over()
            for _ in range(3):
                await writer.batch(KEYS)
        elif order == "write on":
            await writer.batch([b"filler"])
        say(state={key.decode(): value.decode() for key, value in writer.state.items()})
    await writer.changelog.close()


# ---- a round -------------------------------------------------------------------------------------
class Outcome(NamedTuple):
    step: str
    plain: bool
    first: str
    """How it ended: Fenced, Unknown, went on."""
    right: bool
    """The changelog alone gives the state of the second."""
    detail: str


class Process:
    """A writer, and what it says."""

    @classmethod
    async def start(cls, *arguments: object) -> "Process":
        self = cls()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.kafka.fence", "writer", *map(str, arguments), cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)})
        return self

    async def hear(self, what: str) -> Any:
        async with asyncio.timeout(60):
            line = await self.process.stdout.readline()
        told = json.loads(line or b"{}")
        assert what in told, f"{told}, not {what}"
        return told[what]

    async def order(self, text: str) -> dict[str, str]:
        self.process.stdin.write(f"{text}\n".encode())
        return await self.hear("state")

    async def stopped(self) -> None:
        def state() -> str:
            return subprocess.run(["ps", "-o", "state=", "-p", str(self.process.pid)],
                                  capture_output=True, text=True, check=True).stdout

        while not (await asyncio.to_thread(state)).startswith("T"):
            pass

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


async def play(servers: str, topic: str, step: str, plain: bool = False) -> Outcome:
    """Play one round on a topic of its own."""
    settings = parse(f"kafka://{servers}", {})
    await ensure_topics(settings, [Topic(topic, 1, changelog=True)], extra=HARSH)
    one, two = await asyncio.gather(
        Process.start(servers, topic, int(plain), "first", step),
        Process.start(servers, topic, int(plain), "second"))
    try:
        await two.hear("ready")
        await one.hear("asleep")
        await one.stopped()
        await two.order("take over")
        one.process.send_signal(signal.SIGCONT)
        outcome = await one.hear("outcome")
        wanted = await compact(servers, topic, two)
    finally:
        await asyncio.gather(one.end(), two.end())
    reader = Writer(servers, topic, plain, "reader")
    await reader.take_over()
    await reader.changelog.close()
    found = {key.decode(): value.decode() for key, value in reader.state.items()}
    wrong = {key: (found.get(key), value) for key, value in wanted.items()
             if found.get(key) != value}
    return Outcome(step, plain, outcome, found == wanted, str(wrong))


async def compact(servers: str, topic: str, two: Process) -> dict[str, str]:
    """Let the second write on until each key of the changelog lies there once; its last state."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    at = TopicPartition(topic, 0)
    consumer.assign([at])
    try:
        async with asyncio.timeout(60):
            while True:
                state = await two.order("write on")
                await asyncio.sleep(0.1)
                end = (await consumer.end_offsets([at]))[at]
                consumer.seek(at, 0)
                there: Counter[bytes] = Counter()
                while await consumer.position(at) < end:
                    fetched = await consumer.getmany(timeout_ms=20)
                    there.update(each.key for each in fetched.get(at, ()))
                if all(there[key] == 1 for key in KEYS):
                    return state
    finally:
        await consumer.stop()


async def rounds(count: int, together: int) -> list[Outcome]:
    """Play ``count`` rounds, the steps in turn, and one control to each five."""
    plan = [(STEPS[number % len(STEPS)], False) for number in range(count)]
    plan += [("before produce", True)] * max(1, count // 5)
    random.shuffle(plan)
    gate = asyncio.Semaphore(together)
    with tempfile.TemporaryDirectory() as folder, Kafka(Path(folder) / "kafka") as kafka:
        async def one(number: int, step: str, plain: bool) -> Outcome:
            async with gate:
                return await play(kafka.servers, f"round-{number}", step, plain)

        return await asyncio.gather(*(one(number, *each) for number, each in enumerate(plan)))


def main() -> int:
    if sys.argv[1:2] == ["writer"]:
        servers, topic, plain, who, *step = sys.argv[2:]
        writer = Writer(servers, topic, plain == "1", who)
        asyncio.run(first(writer, step[0]) if step else second(writer))
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.kafka.fence")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--together", type=int, default=4)
    arguments = parser.parse_args()
    began = time.monotonic()
    outcomes = asyncio.run(rounds(arguments.rounds, arguments.together))
    wrong = False
    for plain, step in [*((False, step) for step in STEPS), (True, "before produce")]:
        mine = [each for each in outcomes if (each.plain, each.step) == (plain, step)]
        right = sum(each.right for each in mine)
        ends = ", ".join(f"{end} {count}" for end, count in
                         sorted(Counter(each.first for each in mine).items()))
        print(f"{'no transactional id' if plain else 'fenced':20} {step:15} rounds {len(mine):3} "
              f"right {right:3}  the first: {ends}")
        wrong |= right > 0 if plain else right < len(mine)
        wrong |= not plain and any(each.first != "Fenced" for each in mine)
    for each in outcomes:
        if each.right == each.plain:
            print(f"{each.step}: {each.first}: found, wanted: {each.detail}")
    print(f"{len(outcomes)} rounds in {time.monotonic() - began:.0f} s:",
          "NOT as it must be" if wrong else "as it must be")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
