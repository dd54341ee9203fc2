"""The state is a cache of the log: built anew, spoilt, copied, and the same again every time."""

import re
import shutil
import time
from typing import Any

import pytest

from app.commands import socket_of
from tests.blackbox.conftest import WEB
from tests.blackbox.process import ROOT, Worker
from tests.chaos.shop import WEB as CHAOS_WEB
from tests.chaos.shop import customers, write_config
from tests.chaos.verdict import replayed
from transport import control

BUG = f"{ROOT / 'tests' / 'blackbox' / 'bug'}:{ROOT}"


def fill(worker: Worker, seed: int, calls: int = 400, key: str = WEB) -> None:
    """Send what some customers do."""
    devices = customers(seed, 6)
    for n in range(calls // 20):
        batch = [devices[(n + m) % len(devices)].next() for m in range(20)]
        assert worker.send(key, "/v1/batch", {"batch": batch}) == 200


def ask(worker: Worker, command: str, **args: str) -> Any:
    """Ask as the command line does, without its start."""
    return control.call(socket_of(worker.data), command, args, 60)


def spoil(path) -> None:
    """Turn over a bit in every 50th byte."""
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 50):
        data[at] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def stopped(make) -> Worker:
    """A worker that stopped in order, on a folder with something in it."""
    worker = make().start()
    fill(worker, 1)
    worker.settled()
    assert worker.stop() == 0
    return worker


def test_engine_rebuild_gives_the_same_digest_whatever_the_hash_seed(stopped):
    found = stopped.digest()
    assert re.fullmatch(r"[0-9a-f]{32} at record \d+", found)
    assert stopped.told("rebuild", PYTHONHASHSEED="1").strip() == found
    assert stopped.told("rebuild", PYTHONHASHSEED="2").strip() == found
    assert stopped.digest(PYTHONHASHSEED="3") == found
    assert replayed(stopped) == found


@pytest.mark.parametrize("what", ["table", "MANIFEST-*", "all"])
def test_engine_a_damaged_state_is_set_aside_and_built_anew_by_itself(stopped, what):
    found = stopped.digest()
    state = stopped.data / "state"
    if what == "all":
        shutil.rmtree(state)
    elif what == "table":
        tables = list(state.glob("*.sst"))
        assert tables
        for table in tables:
            spoil(table)
    else:
        for manifest in state.glob(what):
            manifest.write_bytes(manifest.read_bytes()[:40])
    stopped.start()
    own = stopped.person("user_id:u1x0", "traits")["traits"]
    assert own["email"] == "u1x0@example.com"
    stopped.settled()
    assert stopped.stop() == 0
    assert stopped.digest() == found
    aside = list(stopped.data.glob("state.damaged-*"))
    assert len(aside) == (what != "all")
    for folder in aside:
        shutil.rmtree(folder)


def test_engine_a_state_that_turns_out_damaged_while_it_runs_is_built_anew(make):
    worker = make().start()
    fill(worker, 2)
    worker.settled()
    found = worker.digest()
    worker.stop()
    worker.start()
    for table in (worker.data / "state").glob("*.sst"):
        spoil(table)
    process = worker.process.pid
    try:
        worker.history("user_id:u2x0")
        worker.history("user_id:u2x1")
    except (OSError, AssertionError, Exception):  # noqa: BLE001, it went away in mid-answer
        pass
    assert worker.ready(30)
    assert worker.process.pid == process
    assert len(worker.history("user_id:u2x0")) > 20
    assert "starts anew" in worker.printed()
    assert worker.digest().split()[0] == found.split()[0]
    assert worker.stop() == 0


def test_engine_base_beside_a_worker_and_rebuild_from_it(make):
    worker = make().start()
    fill(worker, 3)
    worker.settled()
    said = worker.told("base")
    assert "verified" in said
    for seed in (4, 5):
        fill(worker, seed)
        ask(worker, "base")
    bases = sorted((worker.data / "bases").iterdir())
    assert len(bases) == 2, "two are kept"
    assert worker.stop() == 0
    found = worker.digest()
    for table in bases[0].glob("*.sst"):
        spoil(table)
    done = worker.command("rebuild")
    assert done.stdout.strip() == found
    assert "passed over" in done.stderr + done.stdout
    shutil.rmtree(worker.data / "state")
    shutil.rmtree(bases[1])
    assert worker.told("base").startswith("base at record")
    assert worker.digest() == found


def test_engine_the_log_forgets_what_a_base_stands_for_and_nothing_is_lost(make, tmp_path):
    config = write_config(tmp_path / "config", "http://127.0.0.1:9")
    worker = make(WATERSMEET_CONFIG=str(config), WATERSMEET_LOG_BYTES=str(1 << 20))
    worker.start()
    segments = worker.data / "log" / "topics" / "raw" / "0"
    begin = sorted(segments.iterdir())[0].name
    sent = 8_000
    for seed in range(40, 80):
        fill(worker, seed, 200, CHAOS_WEB)
    worker.settled(delivered=False)
    until = time.monotonic() + 20
    while sorted(segments.iterdir())[0].name == begin:
        assert time.monotonic() < until, f"the log was not cut:\n{worker.printed()}"
        time.sleep(0.1)
    assert worker.metrics()["watersmeet_applied_total"] == sent
    found = worker.digest()
    worker.kill()
    shutil.rmtree(worker.data / "state")
    assert worker.digest().split()[0] == found.split()[0]
    shutil.rmtree(worker.data / "state")
    shutil.rmtree(worker.data / "bases")
    done = worker.command("digest")
    assert done.returncode == 1
    assert "no base reaches it" in done.stderr
    assert "Traceback" not in done.stderr


def test_engine_poison_is_set_aside_listed_and_put_back_after_a_mend(make):
    worker = make().start(PYTHONPATH=BUG)
    assert worker.send(WEB, "/v1/batch", {"batch": [
        {"type": "track", "userId": "pia", "event": event, "messageId": f"p{n}"}
        for n, event in enumerate(("Seen", "Broken", "Seen", "Broken"))
    ]}) == 200
    worker.settled()
    assert [one["message_id"] for one in worker.history("user_id:pia")] == ["p2", "p0"]
    numbers = worker.metrics()
    assert numbers["watersmeet_set_aside"] == 2
    assert numbers["watersmeet_logged_total"] == 4
    listed = worker.told("poison", "list").splitlines()
    assert listed[-1] == "2 set aside"
    ids = [line.split()[0] for line in listed[:-1]]
    assert all("ZeroDivisionError" in line for line in listed[:-1])
    again = worker.command("poison", "retry", ids[0], PYTHONPATH=BUG)
    assert again.returncode == 1
    assert "was set aside again" in again.stderr
    assert worker.stop() == 0

    worker.start()
    assert len(ask(worker, "poison list")) == 2
    assert "is applied" in worker.told("poison", "retry", ids[0])
    with pytest.raises(control.CommandRefused, match="no event is set aside as"):
        ask(worker, "poison retry", id="9.9")
    worker.settled()
    assert len(worker.history("user_id:pia")) == 3
    assert worker.metrics()["watersmeet_set_aside"] == 1
    assert ask(worker, "poison retry", id=ids[1])["applied"]
    assert ask(worker, "poison list") == []
    assert worker.stop() == 0
    assert "verified" in worker.told("base"), "what was put back is put back in a replay"
