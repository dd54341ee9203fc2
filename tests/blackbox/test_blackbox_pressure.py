"""More than it can do, and worse than it expects: a real worker under a flood, and fuzzed."""

import errno
import http.client
import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.blackbox.conftest import APP, SERVER, WEB
from tests.blackbox.process import ROOT, TOKEN, Worker, basic


def test_engine_a_flood_is_refused_with_429_and_what_was_taken_is_applied(make):
    worker = make().start()
    accepted = [0] * 8
    answers: list[tuple[int, str | None]] = []
    ended = threading.Event()

    def flood(which: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=30)
        headers = {"Content-Type": "application/json", "Authorization": basic(WEB)}
        n = 0
        while not ended.is_set():
            n += 1
            body = json.dumps({"batch": [
                {"type": "track", "userId": f"f{which}", "event": "Seen",
                 "messageId": f"{which}-{n}-{m}"} for m in range(2000)
            ]})
            connection.request("POST", "/v1/batch", body, headers)
            answer = connection.getresponse()
            answer.read()
            answers.append((answer.status, answer.getheader("Retry-After")))
            accepted[which] += 2000 * (answer.status == 200)
        connection.close()

    threads = [threading.Thread(target=flood, args=(which,)) for which in range(8)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 20
    while time.monotonic() < until and not any(status == 429 for status, _ in answers):
        time.sleep(0.1)
    assert worker.health()[0] in (200, 503)
    ended.set()
    for thread in threads:
        thread.join(60)
    assert {status for status, _ in answers} == {200, 429}
    assert all(after and int(after) >= 1 for status, after in answers if status == 429)
    assert memory_bytes(worker) < 1 << 30
    worker.settled(120, delivered=False)
    assert worker.metrics()["watersmeet_applied_total"] == sum(accepted)
    worker.kill()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_engine_a_disk_that_fails_refuses_loses_nothing_and_heals_without_a_restart(
    make, tmp_path, code
):
    flag = tmp_path / "fails"
    disk = ROOT / "tests" / "blackbox" / "disk"
    worker = make(DISK_FAILS=str(flag), PYTHONPATH=f"{disk}:{ROOT}").start()
    process = worker.process.pid
    sent = 0
    for _ in range(2):
        call = {"userId": "dan", "event": "Seen"}
        assert worker.send(WEB, "/v1/track", call) == 200
        sent += 1
        worker.settled(delivered=False)
        flag.write_text(str(code))
        began = time.monotonic()
        status, headers, body = worker.ask("POST", "/v1/track", call, WEB)
        assert (status, time.monotonic() - began < 2) == (503, True), body
        assert int(headers["retry-after"]) >= 1
        status, told = worker.health()
        assert status == 503
        assert any("the log cannot be written" in reason for reason in told["reasons"])
        assert len(worker.history("user_id:dan")) == sent
        time.sleep(3)  # for Faust's own commit
        assert worker.alive
        flag.unlink()
        until = time.monotonic() + 5
        while worker.send(WEB, "/v1/track", call) != 200:
            assert time.monotonic() < until, "it does not heal"
            time.sleep(0.1)
        sent += 1
        worker.settled(delivered=False)
        assert len(worker.history("user_id:dan")) == sent
    assert worker.process.pid == process
    assert "Traceback" not in worker.printed()
    assert worker.stop() == 0
    assert worker.digest() == worker.told("rebuild").strip()


def memory_bytes(worker: Worker) -> int:
    """Return how much the process has in memory."""
    assert worker.process is not None
    status = Path(f"/proc/{worker.process.pid}/statm").read_text().split()
    return int(status[1]) * os.sysconf("SC_PAGE_SIZE")


# ---- fuzz ----------------------------------------------------------------------------------------
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20),
        st.sampled_from(["user_id", "2026-01-05T12:00:00Z", "null", "a\0b", "é" * 200]),
    ),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("type", "userId", "anonymousId", "messageId", "event", "name", "traits", "properties",
          "context", "integrations", "timestamp", "sentAt", "originalTimestamp", "groupId",
          "previousId", "category", "version", "channel", "writeKey", "batch")
CALLS = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8).flatmap(
    lambda call: st.sampled_from(["track", "identify", "page", "screen", "group", "alias", ""]).map(
        lambda kind: {**call, "type": kind} if kind else call
    )
)
BODIES = st.one_of(
    CALLS.map(json.dumps).map(str.encode),
    st.lists(CALLS, max_size=5).map(lambda batch: json.dumps({"batch": batch}).encode()),
    JSON.map(json.dumps).map(str.encode),
    st.binary(max_size=200),
    st.sampled_from([b"", b"{", b"[" * 5000, b'{"a":' * 2000, b"\xff\xfe{}", b"\x1f\x8b\x08broken",
                     b'{"userId":"u","userId":"v"}', b"1e999", b"NaN", b'"\\ud800"', b"{}" * 10]),
)
PATHS = st.one_of(
    st.sampled_from([f"/v1/{kind}" for kind in (
        "identify", "track", "page", "screen", "group", "alias", "batch", "import", "i", "t", "p",
        "s", "g", "a", "b", "m", "usage", "nothing")]),
    st.sampled_from(["/", "/health", "/metrics", "//", "/v1", "/v1/spaces/default/audiences",
                     "/v1/spaces/default/journeys/abandoned_cart", "/v1/usage?month=2026-13",
                     "/v1/spaces/default/collections/users/profiles/user_id:u/events?limit=x"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"),
            max_size=30).map(lambda text: "/" + text),
)
HEADERS = st.fixed_dictionaries({}, optional={
    "Content-Type": st.sampled_from(["application/json", "text/plain", "text/html", "", "a/b;c=d"]),
    "Content-Encoding": st.sampled_from(["gzip", "deflate", "identity", "br", ""]),
    "Authorization": st.sampled_from(
        [basic(WEB), basic(SERVER), basic(APP), basic(TOKEN), f"Bearer {TOKEN}", "Basic !!", "x"]),
    "X-Forwarded-For": st.sampled_from(["1.2.3.4", "::1", "nonsense, 1"]),
    "X-Retry-Count": st.sampled_from(["1", "-1", "²"]),
    "Origin": st.sampled_from(["https://shop.example", "null"]),
    "Expect": st.just("100-continue"),
})
METHODS = st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "OPTIONS", "PUT", "DELETE",
                           "PATCH"])


def test_collect_fuzz_nothing_that_is_sent_gets_a_5xx(worker: Worker):
    seen: dict[int, int] = {}

    @settings(max_examples=400, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))
    @given(METHODS, PATHS, HEADERS, BODIES)
    def fuzz(method, path, headers, body):
        connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=20)
        try:
            connection.request(method, path, body, {
                name: value.encode("utf-8", "replace").decode("latin-1")
                for name, value in headers.items()
            })
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        seen[answer.status] = seen.get(answer.status, 0) + 1
        assert answer.status < 500, (method, path, headers, body)

    fuzz()
    assert seen.get(200), seen
    assert seen.get(400), seen
    worker.settled(delivered=False)
    numbers = worker.metrics()
    assert numbers["watersmeet_set_aside"] == 0
    call = {"userId": "after all that", "event": "Seen"}
    assert worker.send(WEB, "/v1/track", call) == 200
    worker.settled(delivered=False)
    assert len(worker.history("user_id:after%20all%20that")) == 1
    assert "Traceback" not in worker.printed()
