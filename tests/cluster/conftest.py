"""Real workers on a real Kafka, each test with topics of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.conftest import SECRET, example
from tests.blackbox.process import Worker
from tests.chaos.sink import Sink
from tests.kafka.broker import Kafka
from tests.kafka.conftest import broker, name

__all__ = ["broker", "name"]

PARTITIONS = 4


@pytest.fixture
def sink() -> Iterator[Sink]:
    """What the example's webhook reaches."""
    with Sink(shaky=False) as listening:
        yield listening


@pytest.fixture
def make(
    tmp_path: Path, broker: Kafka, name: str, sink: Sink
) -> Iterator[Callable[[str], Worker]]:
    """Make workers of one workspace, not started; what still runs at the end is killed."""
    config = example(tmp_path / "config", sink.url)
    made: list[Worker] = []

    def worker(folder: str = "one") -> Worker:
        one = Worker(
            tmp_path / folder, config, WEBHOOK_SECRET=SECRET,
            WATERSMEET_BROKER=f"{broker.url}/{name[-50:]}", WATERSMEET_PARTITIONS=str(PARTITIONS),
            WATERSMEET_SESSION_SECONDS="6",
        )
        made.append(one)
        return one

    yield worker
    for one in made:
        one.kill()
