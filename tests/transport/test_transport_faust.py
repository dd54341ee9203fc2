"""Faust workers on the embedded log."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from transport.embedded import path_of
from transport.log import Log

COMMAND = [sys.executable, "-m", "faust", "-A", "tests.transport.eater", "worker", "-l", "info"]


class Worker:
    """A worker in a process of its own."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        self.output = folder / f"output-{time.monotonic_ns()}"
        names = {f"EATER_{name.upper()}": value for name, value in env.items()}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "--without-web"],
                env={**os.environ, "EATER_FOLDER": str(folder), **names},
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )

    def seen(self) -> list[str]:
        path = self.folder / f"seen-{self.process.pid}"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def wait(self, until: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, self.output.read_text()
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.02)

    def stop(self, sign: int = signal.SIGINT, seconds: float = 30) -> str:
        self.process.send_signal(sign)
        self.process.wait(seconds)
        return self.output.read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def run(**env: str) -> Worker:
        workers.append(Worker(tmp_path, **env))
        return workers[-1]

    yield run
    for worker in workers:
        worker.process.kill()
        worker.process.wait()


def test_transport_a_killed_worker_loses_nothing_and_takes_up_where_it_committed(
    start: Callable[..., Worker], tmp_path: Path
) -> None:
    first = start(feed="20000")
    first.wait(lambda: len(first.seen()) > 2000)
    time.sleep(0.5)  # for a commit or two
    first.process.kill()
    first.process.wait()
    acked = int((tmp_path / "acked").read_text().split("\n")[-2])
    eaten = [int(line) for line in first.seen()]
    assert eaten == list(range(len(eaten)))
    committed = json.loads((tmp_path / "log/committed.json").read_text())
    assert 0 < committed["groups"]["eater"]["raw/0"] <= len(eaten)

    second = start()
    second.wait(lambda: second.seen()[-1:] >= [""] and int(second.seen()[-1]) >= acked)
    again = [int(line) for line in second.seen()]
    assert again[0] == committed["groups"]["eater"]["raw/0"]
    assert again == list(range(again[0], again[-1] + 1))
    output = second.stop()
    assert second.process.returncode == 0
    assert "Traceback" not in output
    committed = json.loads((tmp_path / "log/committed.json").read_text())
    assert committed["groups"]["eater"]["raw/0"] == again[-1] + 1
    with Log.open(tmp_path / "log") as log:
        assert log.end("raw", 0) == again[-1] + 1


def test_transport_the_app_says_where_to_begin(
    start: Callable[..., Worker], tmp_path: Path
) -> None:
    with Log.open(tmp_path / "log") as log:
        for number in range(1000):
            log.append("raw", 0, b"%d" % number)
    worker = start(start="990", mode="plain")
    worker.wait(lambda: worker.seen() == [str(n) for n in range(990, 1000)])
    assert "Traceback" not in worker.stop()
    worker = start(start="1001")
    assert worker.process.wait(20) != 0
    assert "is to be taken up at record 1001, but the log keeps 0 to 999" in (
        worker.output.read_text()
    )


def test_transport_stock_streams_read_several_partitions(
    start: Callable[..., Worker], tmp_path: Path
) -> None:
    worker = start(mode="words")
    worker.wait(lambda: len(worker.seen()) == 6)
    assert sorted(worker.seen()) == ["0:four", "0:one", "1:five", "1:two", "2:six", "2:three"]
    time.sleep(0.5)
    assert "Traceback" not in worker.stop(signal.SIGTERM)
    assert worker.process.returncode == 0
    sent = subprocess.run(
        [*COMMAND[:5], "send", "words", '{"word": "seven"}', "--partition", "1"],
        env={**os.environ, "EATER_FOLDER": str(tmp_path)}, capture_output=True, text=True,
    )
    assert sent.returncode == 0, sent.stderr
    worker = start()
    worker.wait(lambda: worker.seen() == ["1:seven"])
    worker.stop()


def test_transport_what_an_agent_fails_on_is_not_committed_and_a_stop_does_not_hang(
    start: Callable[..., Worker], tmp_path: Path
) -> None:
    worker = start(feed="2000", mode="crash")
    worker.wait(lambda: "the agent fails" in worker.output.read_text())
    time.sleep(1)
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < 20
    committed = json.loads((tmp_path / "log/committed.json").read_text())
    assert committed["groups"]["eater"]["raw/0"] <= 500


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("embedded:///var/x y/log", "/var/x y/log"),
        ("embedded://./Data/log", str(Path.cwd() / "Data/log")),
        ("embedded://Data/log", None),
        ("embedded://", None),
        ("kafka://x", None),
    ],
)
def test_transport_the_url_names_a_folder(url: str, path: str | None) -> None:
    if path is None:
        with pytest.raises(ValueError, match="write embedded:///ABSOLUTE/PATH"):
            path_of(url)
    else:
        assert path_of(url) == path
