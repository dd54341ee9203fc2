"""A tiny Faust app on the embedded log, run as a worker by the tests."""

import asyncio
import os
from pathlib import Path

import faust

from transport import embedded

embedded.register()
FOLDER = Path(os.environ["EATER_FOLDER"])
FEED = int(os.environ.get("EATER_FEED", "0"))
MODE = os.environ.get("EATER_MODE", "batches")

app = faust.App(
    "eater", broker=f"embedded://{FOLDER}/log", datadir=str(FOLDER / "faust"), web_enabled=False,
    topic_disable_leader=True, producer_threaded=False, broker_commit_interval=0.3,
)
raw = embedded.topic(app, "raw")
words = app.topic("words", partitions=3, value_serializer="json")
if "EATER_START" in os.environ:
    embedded.start_at("raw", 0, lambda: int(os.environ["EATER_START"]))

seen = (FOLDER / f"seen-{os.getpid()}").open("w")


@app.agent(raw)
async def eat(stream: faust.Stream) -> None:
    if MODE == "plain":
        async for event in stream.events():
            assert event.message.value == b"%d" % event.message.offset
            seen.write(f"{event.message.offset}\n")
            seen.flush()
        return
    async for messages in embedded.batches(stream, max_records=50):
        for message in messages:
            assert message.value == b"%d" % message.offset
            seen.write(f"{message.offset}\n")
        seen.flush()
        if MODE == "crash" and messages[-1].offset >= 500:
            raise RuntimeError("the agent fails")
        await asyncio.sleep(0.001)


@app.agent(words)
async def read(stream: faust.Stream) -> None:
    async for event in stream.events():
        seen.write(f"{event.message.partition}:{event.value['word']}\n")
        seen.flush()


@app.task
async def feed() -> None:
    log = embedded.log_at(FOLDER / "log")
    acked = (FOLDER / "acked").open("a")
    for _ in range(FEED // 10):
        for _ in range(10):
            offset = log.append("raw", 0, b"%d" % log.end("raw", 0))
        await log.flush()
        acked.write(f"{offset}\n")
        acked.flush()
        await asyncio.sleep(0)
    if MODE == "words":
        for number, word in enumerate(["one", "two", "three", "four", "five", "six"]):
            await words.send(key=word.encode(), value={"word": word}, partition=number % 3)
