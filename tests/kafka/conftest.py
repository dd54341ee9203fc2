"""The brokers of these tests. Where none can be had they skip, loudly; in CI they fail."""

import contextlib
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.broker import Kafka, Missing, shared


class NoKafka(UserWarning):
    """The tests on a real Kafka did not run."""


@contextlib.contextmanager
def _or_skip() -> Iterator[None]:
    try:
        yield
    except Missing as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has no Kafka: {reason}", pytrace=False)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"NOTHING OF KAFKA IS TESTED: {reason}", NoKafka, stacklevel=1)
        pytest.skip(f"no Kafka here: {reason}")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A running Kafka, one for all processes of the run. Do not stop it: others use it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with _or_skip():
        kafka = shared(folder / "kafka")
    yield kafka
    kafka.leave()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Kafka]:
    """A running Kafka of this test alone, to be killed and started again."""
    kafka = Kafka(tmp_path / "kafka")
    with _or_skip(), contextlib.ExitStack() as on_failure:
        on_failure.callback(kafka.close)
        kafka.start()
        on_failure.pop_all()
    yield kafka
    kafka.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name for this test's topics and ids, of nobody else."""
    return re.sub(r"\W+", "-", request.node.name)[-80:]
