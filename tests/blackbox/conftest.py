"""Real workers, on folders of their own."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.blackbox.process import ROOT, Worker
from tests.chaos.sink import Sink

WEB, SERVER, APP = "wk_demo_web_4f1c9a", "wk_demo_server_93d6ff", "wk_demo_app_b27e05"
"""The write keys of the example workspace."""
SECRET = "the webhook's secret"


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """What the example's webhook reaches."""
    with Sink(shaky=False) as listening:
        yield listening


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, sink: Sink) -> Path:
    """The example workspace, whose webhook is the sink."""
    return example(tmp_path_factory.mktemp("workspace") / "config", sink.url)


def example(folder: Path, url: str) -> Path:
    """Copy the example workspace, with another address of the webhook and a secret."""
    shutil.copytree(ROOT / "config", folder)
    file = folder / "destinations" / "webhook.yaml"
    text = file.read_text()
    assert "http://localhost:8099/watersmeet" in text
    assert "# secret: ${WEBHOOK_SECRET}" in text
    assert "rate_limit: {per_second: 50}" in text
    text = text.replace("http://localhost:8099/watersmeet", f"{url}/hook")
    text = text.replace("# secret: ${WEBHOOK_SECRET}", "secret: ${WEBHOOK_SECRET}")
    file.write_text(text.replace("rate_limit: {per_second: 50}", "rate_limit: {per_second: 500}"))
    return folder


@pytest.fixture(scope="module")
def make(
    tmp_path_factory: pytest.TempPathFactory, config: Path
) -> Iterator[Callable[..., Worker]]:
    """Make workers, not started; what still runs at the end is killed."""
    made: list[Worker] = []

    def worker(data: Path | None = None, **env: str) -> Worker:
        folder = data or tmp_path_factory.mktemp("data") / "data"
        one = Worker(folder, config, WEBHOOK_SECRET=SECRET, **env)
        made.append(one)
        return one

    yield worker
    for one in made:
        one.kill()


@pytest.fixture(scope="module")
def worker(make: Callable[..., Worker]) -> Worker:
    """One that runs, for all tests of a file."""
    return make().start()
