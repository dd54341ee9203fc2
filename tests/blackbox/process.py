"""A real worker, `faust -A app worker`, in a process of its own: started, asked, stopped."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FAUST = [str(Path(sys.executable).with_name("faust")), "-A", "app"]
TOKEN = "token-of-the-tests"
START_SECONDS = 60


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Time(threading.Thread):
    """A scripted clock, kept in a file: it stands still, or runs so many times as fast as ours."""

    def __init__(self, path: Path, start_ms: int = 1_767_614_400_000, speed: float = 0) -> None:
        super().__init__(daemon=True)
        self.path = path
        self._at_ms = float(start_ms)
        self._speed = speed
        self._since = time.monotonic()
        self._moving = threading.Lock()
        self._ended = threading.Event()
        self.forward(0)
        if speed:
            self.start()

    def run(self) -> None:
        while not self._ended.wait(0.02):
            self.forward(0)

    def forward(self, millis: float) -> int:
        """Put the clock forward; return what it shows."""
        with self._moving:
            now = time.monotonic()
            self._at_ms += millis + (now - self._since) * 1000 * self._speed
            self._since = now
            fresh = self.path.with_suffix(".new")
            fresh.write_text(str(int(self._at_ms)))
            fresh.replace(self.path)
            return int(self._at_ms)

    def end(self) -> None:
        self._ended.set()
        if self.is_alive():
            self.join()


class Worker:
    """One data folder and the process on it, if one runs."""

    def __init__(self, data: Path, config: Path, **env: str) -> None:
        self.data = data
        self.port = free_port()
        self.env = {
            **{name: value for name, value in os.environ.items()
               if not name.startswith("WATERSMEET_")},
            "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1",
            "WATERSMEET_DATA": str(data), "WATERSMEET_CONFIG": str(config),
            "WATERSMEET_PORT": str(self.port), "WATERSMEET_TOKEN": TOKEN,
            "WATERSMEET_OUTBOUND_ALLOW": "127.0.0.0/8", **env,
        }
        self.output = data.with_name(data.name + ".out")
        self.process: subprocess.Popen[bytes] | None = None

    # ---- its life --------------------------------------------------------------------------------
    def launch(self, **env: str) -> None:
        """Start the process and do not wait for it."""
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                [*FAUST, "worker"], cwd=ROOT, env={**self.env, **env},
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )

    def start(self, **env: str) -> "Worker":
        """Start it, and return when it serves."""
        self.launch(**env)
        assert self.ready(START_SECONDS), (
            f"the worker did not start: exit code {self.process and self.process.poll()}, "
            f"health {self.health()}:\n{self.printed()[-3000:]}"
        )
        return self

    def ready(self, seconds: float) -> bool:
        """Wait until it serves; False when it died, or time is up."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.alive:
            if self.health()[0] == 200:
                return True
            time.sleep(0.05)
        return False

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def died(self, seconds: float) -> bool:
        """Wait until it is gone; False when it still lives."""
        assert self.process is not None
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, seconds: float = 20) -> int:
        """Ctrl-C; return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it does not stop:\n{self.printed()}") from None

    def printed(self) -> str:
        """Return all that it printed so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    # ---- the command line ------------------------------------------------------------------------
    def command(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `faust -A app WORDS` on the folder."""
        return subprocess.run(
            [*FAUST, *words], cwd=ROOT, env={**self.env, **env}, capture_output=True, text=True,
            check=False, timeout=600,
        )

    def told(self, *words: str, **env: str) -> str:
        """Run a command that succeeds; return what it prints."""
        done = self.command(*words, **env)
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def digest(self, **env: str) -> str:
        """Return `digest`'s line."""
        return self.told("digest", **env).strip()

    # ---- HTTP ------------------------------------------------------------------------------------
    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, user: str | None = TOKEN,
        seconds: float = 20,
    ) -> tuple[int, dict[str, str], bytes]:
        """Return (status, headers, body) of an answer. Raises OSError, HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        headers = {"Content-Type": "application/json"}
        if user is not None:
            headers["Authorization"] = basic(user)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, fields, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """Return the JSON at a path that the token opens."""
        while True:
            status, _, body = self.ask("GET", path)
            if status != 429:
                break
            time.sleep(0.1)
        assert status == 200, f"{path}: {status} {body!r}"
        return json.loads(body)

    def send(self, write_key: str, path: str, body: Any) -> int:
        """Send to the tracking API; return the status."""
        return self.ask("POST", path, body, write_key + ":")[0]

    def health(self) -> tuple[int, Any]:
        """Return `/health`'s status and JSON; (0, None) when nobody listens."""
        try:
            status, _, body = self.ask("GET", "/health", user=None, seconds=5)
        except (OSError, http.client.HTTPException):
            return 0, None
        return status, json.loads(body)

    def metrics(self) -> dict[str, float]:
        """Return `/metrics`, without families' comments."""
        _, _, body = self.ask("GET", "/metrics")
        lines = [line for line in body.decode().splitlines() if line and line[0] != "#"]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def person(self, id: str, resource: str, query: str = "") -> Any:
        """Return what the Profile API tells of a person."""
        return self.get(f"/v1/spaces/default/collections/users/profiles/{id}/{resource}{query}")

    def history(self, id: str) -> list[dict[str, Any]]:
        """Return a person's events, all pages of them."""
        events: list[dict[str, Any]] = []
        query = "?limit=100"
        while query:
            page = self.person(id, "events", query)
            events += page["data"]
            following = page["cursor"]["next"]
            query = f"?limit=100&next={following}" if page["cursor"]["has_more"] else ""
        return events

    def settled(self, seconds: float = 30, *, delivered: bool = True) -> None:
        """Return when all that is logged is applied, and with ``delivered`` nothing waits to be
        delivered."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            numbers = self.metrics()
            if numbers["watersmeet_in_flight"] == 0 and not (delivered and waiting(numbers)):
                return
            time.sleep(0.1)
        raise AssertionError(f"not settled after {seconds} s: {numbers}")


def waiting(numbers: dict[str, float]) -> float:
    """Return how many messages are neither delivered nor given up."""
    left = 0.0
    for name, value in numbers.items():
        if not name.startswith("watersmeet_counted{"):
            continue
        if 'name="jobs_received"' in name:
            left += value
        elif any(f'name="jobs_{how}"' in name for how in
                 ("delivered", "discarded", "expired", "removed")):
            left -= value
    return left


def basic(user: str) -> str:
    """Return the Authorization header of a user without a password."""
    name = user if user.endswith(":") else user + ":"
    return "Basic " + base64.b64encode(name.encode()).decode()
