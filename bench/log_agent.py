"""How fast a Faust agent takes records from the log: ``faust -A bench.log_agent worker -l warn``.

Prints records a second, from the log to the agent, and stops.
"""

import os
import signal
import tempfile
import time

import faust

from transport import embedded

COUNT = 300_000
embedded.register()
_folder = tempfile.TemporaryDirectory()
app = faust.App(
    "bench-log", broker=f"embedded://{_folder.name}/log", datadir=f"{_folder.name}/faust",
    web_enabled=False, topic_disable_leader=True, producer_threaded=False,
)
batched, plain = embedded.topic(app, "batched"), embedded.topic(app, "plain")


def _feed(topic: str) -> None:
    log = embedded.log_at(f"{_folder.name}/log")
    for number in range(COUNT):
        log.append(topic, 0, b"x" * 100, timestamp_ms=number)


@app.agent(batched)
async def take(stream: faust.Stream) -> None:
    """Take what waits, as the worker does."""
    count, began = 0, 0.0
    async for messages in embedded.batches(stream):
        began = began or time.perf_counter()
        count += len(messages)
        if count == COUNT:
            print(f"{COUNT / (time.perf_counter() - began):12,.0f}  records/s, batches(stream)")
            _feed("plain")
            await embedded.log_at(f"{_folder.name}/log").flush()


@app.agent(plain)
async def each(stream: faust.Stream) -> None:
    """Take one by one, as stock Faust does."""
    count, began = 0, 0.0
    async for _ in stream:
        began = began or time.perf_counter()
        count += 1
        if count == COUNT:
            print(f"{COUNT / (time.perf_counter() - began):12,.0f}  records/s, one by one")
            os.kill(os.getpid(), signal.SIGINT)


@app.task
async def feed() -> None:
    """Fill the first topic."""
    _feed("batched")
    await embedded.log_at(f"{_folder.name}/log").flush()
