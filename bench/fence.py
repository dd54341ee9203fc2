"""What the fence costs on a real Kafka beside it: ``python -m bench.fence``.

One broker on loopback, on the same machine as its clients: figures are for comparing the ways
with each other in one run, not for sizing.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.producer import sender
from aiokafka.producer.sender import AddPartitionsToTxnHandler

from tests.kafka.broker import Kafka
from transport.kafka import (
    MARKER_WAIT_S,
    Changelog,
    Inbox,
    KafkaSettings,
    Outbox,
    Topic,
    ensure_topics,
    parse,
)

Row = tuple[bytes, bytes | None]


class Plain(Changelog):
    """The same rows in the same batches, without a transaction: what the fence is compared to."""

    async def open(self) -> None:
        self._producer = AIOKafkaProducer(**self._settings.options(), enable_idempotence=True,
                                          acks="all", compression_type="lz4",
                                          max_batch_size=1 << 20)
        await self._producer.start()

    async def append(self, rows: list[Row]) -> int:
        return (await asyncio.gather(*await self._send(self._producer, self._topics[0], rows)))[-1]


class Refusals:
    """Counts how often the last transaction's marker was not written yet."""

    def __init__(self) -> None:
        self.count = 0
        original = AddPartitionsToTxnHandler.handle_response

        def handle(handler: AddPartitionsToTxnHandler, response: object) -> float | None:
            wait = original(handler, response)
            self.count += wait is not None
            return wait

        AddPartitionsToTxnHandler.handle_response = handle  # type: ignore[method-assign]


def rows(count: int, seed: int = 0) -> list[Row]:
    """120 bytes each, of which lz4 saves little more than the digits of the keys."""
    filler = bytes((number * 7919) % 251 for number in range(100))
    return [(b"profile:%012d" % (seed + number), filler) for number in range(count)]


def percentiles(took: list[float]) -> str:
    took = sorted(took)
    return (f"p50 {took[len(took) // 2] * 1000:6.2f} ms   "
            f"p99 {took[int(len(took) * 0.99)] * 1000:6.2f} ms")


async def timed(count: int, act: Callable[[int], Awaitable[object]],
                pause_s: float = 0.0) -> list[float]:
    took = []
    for number in range(count):
        if pause_s:
            await asyncio.sleep(pause_s)
        began = time.perf_counter()
        await act(number)
        took.append(time.perf_counter() - began)
    return took[count // 10:]  # the first ones warm the broker up


async def appends(settings: KafkaSettings, count: int) -> None:
    await ensure_topics(settings, [Topic("plain", 16, True), Topic("fenced", 16, True)])
    refusals = Refusals()
    for size in (1, 100, 1000):
        batch = rows(size)
        for pause_s in (0.0, 0.02):
            how = f"{pause_s * 1000:.0f} ms apart" if pause_s else "back to back"
            for kind, topic in ((Plain, "plain"), (Changelog, "fenced")):
                changelog = kind(settings, topic, 0, "bench.fence.0")
                await changelog.open()
                refusals.count = 0
                took = await timed(count, lambda _: changelog.append(batch), pause_s)  # noqa: B023
                met = f"   {refusals.count / count:.1f} waits each" if topic == "fenced" else ""
                print(f"append {size:5} rows, {how:13} {topic:7} {percentiles(took)}{met}",
                      flush=True)
                await changelog.close()


async def together(settings: KafkaSettings, seconds: float) -> None:
    batch = rows(100)
    for partitions in (1, 4, 16):
        for kind, topic in ((Plain, "plain"), (Changelog, "fenced")):
            changelogs = [kind(settings, topic, number, f"bench.fence.{number}")
                          for number in range(partitions)]
            await asyncio.gather(*(each.open() for each in changelogs))
            await asyncio.gather(*(each.append(batch) for each in changelogs))
            until = time.perf_counter() + seconds

            async def work(changelog: Changelog, until: float) -> int:
                done = 0
                while time.perf_counter() < until:
                    await changelog.append(batch)
                    done += 1
                return done

            cpu = time.process_time()
            done = sum(await asyncio.gather(*(work(each, until) for each in changelogs)))
            cpu = (time.process_time() - cpu) / done
            print(f"{partitions:2} partitions of 100 rows {topic:7} {done / seconds:7.0f} batches/s"
                  f"   {cpu * 1e6:5.0f} us of the worker's core each", flush=True)
            for each in changelogs:
                await each.close()


async def stages(settings: KafkaSettings, seconds: float) -> None:
    """A flush of seven stages of a partition: a transaction each, or one for all (as it is)."""
    topics = [f"stage{number}" for number in range(7)]
    await ensure_topics(settings, [Topic(topic, 8, True) for topic in topics])
    batch = rows(100)
    for shared in (False, True):
        lines = []
        for number in range(8):
            one = Changelog(settings, topics, number, f"bench.stages.{number}")
            lines.append([one] * 7 if shared else [
                Changelog(settings, topics, number, f"bench.stages.{number}.{topic}")
                for topic in topics])
        opened = {id(each): each for line in lines for each in line}.values()
        await asyncio.gather(*(each.open() for each in opened))
        until = time.perf_counter() + seconds

        async def work(line: list[Changelog], until: float) -> int:
            done = 0
            while time.perf_counter() < until:
                await asyncio.gather(*(
                    each.append(batch, topic) for each, topic in zip(line, topics, strict=True)))
                done += 1
            return done

        cpu = time.process_time()
        done = sum(await asyncio.gather(*(work(line, until) for line in lines)))
        cpu = (time.process_time() - cpu) / done
        how = "one transaction" if shared else "7 transactions"
        print(f"8 partitions of 7 stages, {how:15} {done / seconds:6.0f} flushes/s"
              f"   {cpu * 1e6:5.0f} us of the worker's core each", flush=True)
        for each in opened:
            await each.close()


async def hop(settings: KafkaSettings, count: int) -> None:
    """Ask and verdict: two topics, two workers' sides, one question on its way at a time."""
    await ensure_topics(settings, [Topic("asks", 1), Topic("verdicts", 1)])
    lane, keeper = Outbox(settings), Outbox(settings)
    asks, verdicts = Inbox(settings), Inbox(settings)
    for each in (lane, keeper, asks, verdicts):
        await each.open()
    asks.assign({("asks", 0): 0})
    verdicts.assign({("verdicts", 0): 0})

    async def answer() -> None:
        while True:
            for *_, value in await asks.read(1 << 20):
                await keeper.send([("verdicts", 0, value)])

    async def ask(number: int) -> None:
        await lane.send([("asks", 0, b"%d" % number)])
        while not await verdicts.read(1 << 20):
            pass

    answering = asyncio.create_task(answer())
    for pause_s in (0.0, 0.01):
        took = await timed(count, ask, pause_s)
        how = "10 ms apart" if pause_s else "back to back"
        print(f"ask and verdict, {how:13} {percentiles(took)}", flush=True)
    answering.cancel()
    for each in (lane, keeper, asks, verdicts):
        await each.close()


async def take_over(settings: KafkaSettings, count: int) -> None:
    await ensure_topics(settings, [Topic("recovered", 1, True)])
    changelog = Changelog(settings, "recovered", 0, "bench.recovered")
    await changelog.open()
    for start in range(0, count, 2000):
        await changelog.append(rows(2000, start))
    began = time.perf_counter()
    found = 0
    async for some, _ in changelog.recover():
        found += len(some)
    took = time.perf_counter() - began
    assert found == count, (found, count)
    print(f"recovery: {count} rows, {count / took:.0f} a second", flush=True)
    await changelog.close()

    async def again(_: int) -> None:
        other = Changelog(settings, "recovered", 0, "bench.recovered")
        await other.open()
        await other.close()

    print(f"open, nothing was left open     {percentiles(await timed(30, again))}", flush=True)
    took_over = []
    for _ in range(15):
        dead = Changelog(settings, "recovered", 0, "bench.recovered")
        await dead.open()
        await dead._producer.begin_transaction()
        await asyncio.gather(*await dead._send(dead._producer, "recovered", rows(100)))
        began = time.perf_counter()
        other = Changelog(settings, "recovered", 0, "bench.recovered")
        await other.open()
        took_over.append(time.perf_counter() - began)
        await dead.close()
        await other.close()
    print(f"open, a transaction was open    {percentiles(took_over)}", flush=True)


async def measure(quick: bool, marker_wait_ms: float) -> None:
    sender.BACKOFF_OVERRIDE = marker_wait_ms / 1000
    with tempfile.TemporaryDirectory() as folder, Kafka(Path(folder) / "kafka", heap_mb=512) as it:
        settings = parse(it.url, {})
        await appends(settings, 50 if quick else 300)
        await together(settings, 0.5 if quick else 4.0)
        await stages(settings, 0.5 if quick else 4.0)
        await hop(settings, 50 if quick else 500)
        await take_over(settings, 20_000 if quick else 400_000)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.fence")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run")
    parser.add_argument("--marker-wait-ms", type=float, default=MARKER_WAIT_S * 1000,
                        help="the client library's own: 20")
    arguments = parser.parse_args()
    uvloop.run(measure(arguments.quick, arguments.marker_wait_ms))
