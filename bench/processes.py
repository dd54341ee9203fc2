"""The processes under test: started on free ports, looked at from outside, and always ended."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "bench"  # noqa: S105, of a worker on loopback that lives for a minute
AUTHORISED = {"Authorization": f"Bearer {TOKEN}"}
STUCK_S = 30
_TICK = os.sysconf("SC_CLK_TCK")


class Died(Exception):
    """A process under test ended by itself; the text is what it said."""


def free_port() -> int:
    """Return a port of loopback that nobody uses now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def as_the_worker() -> None:
    """Set Python's collector as `app/worker.py` does once it serves."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


class Child:
    """A process; leaving the ``with`` ends it."""

    def __init__(
        self, command: Sequence[str], said: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Start it in the clone's folder; what it prints goes to the file ``said``."""
        self.said = said
        with said.open("wb") as out:
            self._process = subprocess.Popen(  # noqa: S603, the benchmark's own commands
                [sys.executable, "-m", "bench.guard", *command], cwd=ROOT, stdout=out, stderr=out,
                stdin=subprocess.DEVNULL, start_new_session=True, env={**os.environ, **(env or {})},
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """End it."""
        self.stop()

    def check(self) -> None:
        """Raise Died when it no longer runs."""
        if self._process.poll() is not None:
            text = self.said.read_text(errors="replace")[-2000:]
            raise Died(f"the process under test ended with {self._process.returncode}: {text}")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """Ask it to end, and kill it when it does not."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @property
    def cpu_seconds(self) -> float:
        """Return the processor time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def memory(self) -> tuple[float, float]:
        """Return resident memory now and at its highest, in MiB."""
        lines = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines()
        )
        now, most = (int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
        return now, most


class Served(Child):
    """A process that serves HTTP on a port of its own."""

    def __init__(self, command: Sequence[str], said: Path, port: int,
                 env: Mapping[str, str] | None = None) -> None:
        """Start it; it is told the port by its command or environment."""
        super().__init__(command, said, env)
        self.address = f"http://127.0.0.1:{port}"

    async def get(self, path: str) -> bytes:
        """Return the answer's body. Raises aiohttp.ClientError."""
        async with (
            aiohttp.ClientSession(headers=AUTHORISED, raise_for_status=True) as session,
            session.get(self.address + path) as answer,
        ):
            return await answer.read()

    async def ready(self, path: str, seconds: float = 120) -> Self:
        """Return when the path answers 200. Raises Died, TimeoutError."""
        deadline = time.perf_counter() + seconds
        while True:
            self.check()
            try:
                await self.get(path)
            except aiohttp.ClientError:
                if time.perf_counter() > deadline:
                    raise TimeoutError(f"{self.said}: no answer in {seconds:.0f} s") from None
                await asyncio.sleep(0.02)
            else:
                return self


class Worker(Served):
    """``faust -A app worker``, as ``make run`` starts it, on a folder and a workspace."""

    def __init__(self, data: Path, config: Path, command: Sequence[str] = (
        sys.executable, "-m", "faust", "-A", "app", "worker"
    )) -> None:
        """Start it."""
        port = free_port()
        surroundings = {
            "WATERSMEET_DATA": str(data), "WATERSMEET_CONFIG": str(config), "WATERSMEET_BROKER": "",
            "WATERSMEET_HOST": "127.0.0.1", "WATERSMEET_PORT": str(port), "WATERSMEET_CLOCK": "",
            "WATERSMEET_TOKEN": TOKEN, "WATERSMEET_OUTBOUND_ALLOW": "127.0.0.0/8",
        }
        data.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(command, data.with_suffix(".out"), port, surroundings)
        self.sent = 0
        """Calls posted to this process; who posts adds to it."""
        self._logged_before = 0.0

    async def up(self) -> Self:
        """Return when it serves."""
        await self.ready("/health")
        self._logged_before = (await self.numbers())["watersmeet_logged_total"]
        return self

    async def numbers(self) -> dict[str, float]:
        """Return what /metrics tells, by the metric's name with its labels."""
        lines = (await self.get("/metrics")).decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    async def settled(self, every_s: float = 0.03) -> int:
        """Return the webhook messages made so far, when every call that was posted is applied,
        every message has arrived, and each answer is logged.

        Raises Died, and TimeoutError when nothing moves any more.
        """
        before: dict[str, float] = {}
        moved = time.perf_counter()
        while True:
            numbers = await self.numbers()
            if numbers != before:
                before, moved = numbers, time.perf_counter()
            elif time.perf_counter() > moved + STUCK_S:
                raise TimeoutError(f"nothing moves; {self.sent} calls were sent: {numbers}")
            logged = numbers["watersmeet_logged_total"] - self._logged_before
            refused = sum(
                value for name, value in numbers.items() if name.startswith("watersmeet_refused_")
            )
            made = _counted(numbers, "jobs_received")
            if (logged + refused >= self.sent and numbers["watersmeet_in_flight"] == 0
                    and made == _counted(numbers, "jobs_delivered")):
                assert logged + refused == self.sent, numbers
                assert numbers["watersmeet_set_aside"] == 0, "an event broke a stage"
                return int(made)
            failed = [name for name in ("jobs_retrying", "jobs_discarded", "jobs_expired")
                      if _counted(numbers, name)]
            assert not failed, f"the sink was not reached: {failed}"
            self.check()
            await asyncio.sleep(every_s)


def _counted(numbers: Mapping[str, Any], name: str) -> float:
    found = numbers.get(f'watersmeet_counted{{detail="sink",name="{name}"}}', 0.0)
    return float(found)
