"""How a worker starts, and what it refuses to start with."""

import signal
import socket
import stat
import time

import pytest

from app.settings import WrongSetting, from_environment
from tests.blackbox.conftest import WEB, example


def refused(worker, **env) -> str:
    """Start it; return the lines in which it refuses to."""
    worker.launch(**env)
    assert worker.died(20), worker.printed()
    assert worker.process.returncode in (1, 2)
    printed = worker.printed()
    assert "Traceback" not in printed
    return printed[printed.index("watersmeet: "):]


@pytest.mark.parametrize(("name", "value", "said"), [
    ("WATERSMEET_PORT", "http", '"http" is not a port'),
    ("WATERSMEET_PORT", "70000", '"70000" is not a port'),
    ("WATERSMEET_BROKER", "amqp://localhost", "is no broker"),
    ("WATERSMEET_PARTITIONS", "0", "0 is not possible"),
    ("WATERSMEET_OUTBOUND_ALLOW", "10.0.0.1/8", "is not a network"),
    ("WATERSMEET_LOG_BYTES", "8G", '"8G" is not a whole number'),
    ("WATERSMEET_LOG_DAYS", "-1", '"-1" is not a whole number'),
])
def test_engine_wrong_settings_are_refused_by_name(name, value, said):
    with pytest.raises(WrongSetting) as caught:
        from_environment({name: value})
    assert str(caught.value).startswith(f"{name}: ")
    assert said in str(caught.value)


def test_engine_a_worker_with_a_wrong_setting_says_so_and_ends(make):
    assert 'WATERSMEET_PORT: "http"' in refused(make(), WATERSMEET_PORT="http")


def test_engine_a_broken_workspace_is_refused_with_file_and_line(make, tmp_path):
    folder = example(tmp_path / "config", "http://127.0.0.1:9")
    (folder / "audiences" / "new.yaml").write_text(
        "version: 1\naudiences:\n  new:\n    were: {trait: {plan: {equals: pro}}}\n"
    )
    text = refused(make(), WATERSMEET_CONFIG=str(folder))
    assert f"{folder}/audiences/new.yaml:4:5: " in text
    assert "faust -A app check" in text


def test_engine_a_missing_workspace_is_refused(make, tmp_path):
    assert "none" in refused(make(), WATERSMEET_CONFIG=str(tmp_path / "none"))


def test_engine_a_port_in_use_is_refused_and_named(make):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        text = refused(make(), WATERSMEET_PORT=port)
    assert f"port {port}" in text
    assert "WATERSMEET_PORT" in text


def test_engine_health_is_503_with_the_reason_until_it_serves(make):
    worker = make()
    worker.launch()
    seen = set()
    while worker.alive:
        status, body = worker.health()
        seen.add(status)
        if status == 503:
            assert body["reasons"]
        if status == 200:
            break
    assert seen <= {0, 503, 200}
    assert 200 in seen
    worker.kill()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_engine_one_that_is_stopped_while_it_starts_ends_in_order(make, sign):
    worker = make()
    worker.launch()
    while worker.alive and worker.health()[0] == 0:
        time.sleep(0.001)
    worker.process.send_signal(sign)
    assert worker.died(10)
    assert "Traceback" not in worker.printed()
    worker.start()
    worker.kill()


def test_engine_the_token_is_made_kept_and_not_told(make):
    worker = make(WATERSMEET_TOKEN="").start()
    place = worker.data / "token"
    token = place.read_text().strip()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(worker.data.stat().st_mode) == 0o700
    assert len(token) >= 22
    assert token not in worker.printed()
    assert str(place) in worker.printed()
    assert worker.ask("GET", "/metrics", user=token)[0] == 200
    assert worker.ask("GET", "/metrics", user="another")[0] == 401
    worker.kill()
    worker.start(WATERSMEET_TOKEN="")
    assert worker.ask("GET", "/metrics", user=token)[0] == 200
    worker.kill()


def test_engine_changed_definitions_are_in_force_at_the_next_start(make, tmp_path):
    folder = example(tmp_path / "config", "http://127.0.0.1:9")
    worker = make(WATERSMEET_CONFIG=str(folder)).start()
    assert worker.send(WEB, "/v1/track", {"userId": "zoe", "event": "Seen"}) == 200
    worker.kill()
    (folder / "audiences" / "seen.yaml").write_text(
        "version: 1\naudiences:\n  seen:\n"
        "    where: {performed: {event: Seen, at_least: 1}}\n"
    )
    worker.start()
    keys = [one["key"] for one in worker.get("/v1/spaces/default/audiences")["data"]]
    assert "seen" in keys
    worker.settled(delivered=False)
    for _ in range(100):
        if worker.person("user_id:zoe", "traits")["traits"].get("seen"):
            break
    assert worker.person("user_id:zoe", "traits")["traits"]["seen"] is True
    worker.kill()
