"""The broker of these tests: one for the whole run, however many processes share the work."""

import os
import re
import warnings
from collections.abc import Iterator

import pytest

from tests.kafka.broker import Kafka, Missing, shared


class NoKafka(UserWarning):
    """The tests on a real Kafka did not run."""


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A running Kafka. Do not stop it: others use it; `Kafka(tmp_path)` is one of your own."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    try:
        kafka = shared(folder / "kafka")
    except Missing as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has no Kafka: {reason}", pytrace=False)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"NOTHING OF KAFKA IS TESTED: {reason}", NoKafka, stacklevel=1)
        pytest.skip(f"no Kafka here: {reason}")
    yield kafka
    kafka.leave()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name for this test's topics and ids, of nobody else."""
    return re.sub(r"\W+", "-", request.node.name)[-80:]
