"""Kills of a real worker, while it is sent to and while its webhook listens."""

import contextlib
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from app.commands import socket_of
from tests.blackbox.process import Time, Worker
from tests.chaos.sender import SdkSender, Sender
from tests.chaos.shop import SDK, SERVER, WEB, customers, write_config
from tests.chaos.sink import Sink
from tests.chaos.verdict import Verdict, folder_of, judge_running, judge_stopped
from transport import control

SPEED = 60
"""The platform's clock runs so many times as fast as ours: windows and retries end in seconds."""

BUSY = (
    "log.appended", "log.synced", "answer", "applied", "committed", "told", "sent",
    "result.logged", "tick.logged", "segment.torn", "segment.write", "segment.sync",
)
"""Steps that a worker comes to all the time; it is killed at one of the first times."""
SELDOM = ("archive.torn", "archive.write", "archive.sync", "archive.block")
BASES = ("base.copied", "base.verified", "base.noted", "base.made", "base.forgotten")
STOPS = ("stop.listening", "stop.archived", "covered.rename", "stop.closed")
REBUILDS = ("rebuild.removed", "rebuild.copied", "rebuild.replayed")
FIRST = ("header.write", "header.sync", "header.rename", "segment.create", "covered.write")
"""Where the first start on a new folder is cut off."""
CUTS = ("retention.covered", "retention.cut", "segment.unlink", "segment.sync_dir")
"""Where a log that forgets is cut off."""
OTHERS = ("define.logged", "state.aside", "start", "random")

Plan = Sequence[str]


def plan(seed: int, rounds: int, *, forgets: bool = False) -> Plan:
    """Return where so many kills strike: every kind of place in turn, a third at random moments.

    ``forgets``: on a log that forgets what bases stand for.
    """
    rng = random.Random(seed)
    named = [*BUSY, *SELDOM, *BASES, *STOPS, *REBUILDS, *OTHERS]
    if forgets:
        named = [*CUTS, *CUTS, *BASES, "state.aside", "rebuild.copied", "random", "applied"]
    places = [rng.choice(FIRST), "random"]
    while len(places) < rounds:
        rng.shuffle(named)
        for name in named:
            places += [name] if rng.random() < 0.7 else [name, "random"]
    return places[:rounds]


class Kills:
    """One data folder, on which a worker is killed again and again."""

    def __init__(
        self, folder: Path, seed: int, *, size: int = 8, forgets: bool = False,
        sdk: bool = True, say: Callable[[str], None],
    ) -> None:
        self.folder = folder_of(folder)
        self.rng = random.Random(seed)
        self.seed = seed
        self.size = size
        self.forgets = forgets
        self.sdk = sdk
        """Whether an unmodified SDK sends too; it may rest for a minute after failures."""
        self.say = say
        self.killed: Counter[str] = Counter()
        self.place = ""
        """Where it was to be killed last."""
        self.verdict = Verdict()
        self.sent = self.repeats = self.refused = 0

    def run(self, places: Plan) -> Verdict:
        """Kill it at each of the places, then let it come to rest and judge."""
        with Sink(self.seed) as sink:
            clock = Time(self.folder / "clock", speed=SPEED)
            try:
                self._run(places, sink)
            finally:
                clock.end()
        return self.verdict

    def _run(self, places: Plan, sink: Sink) -> None:
        config = write_config(self.folder / "config", sink.url)
        self.worker = worker = Worker(
            self.folder / "data", config, WATERSMEET_CLOCK=str(self.folder / "clock"),
            WATERSMEET_LOG_BYTES="500000" if self.forgets else "0",
        )
        senders = [
            Sender(worker.port, key, customers(self.seed * 10 + n, self.size), self.seed * 10 + n)
            for n, key in enumerate((WEB, SERVER))
        ]
        sdk = SdkSender(
            worker.url, SDK, customers(self.seed, self.size // 2, "sdk-"), self.seed
        ) if self.sdk else None
        try:
            for sender in (*senders, *([sdk] if sdk else [])):
                sender.start()
            for number, place in enumerate(places):
                self.say(f"kill {number + 1} of {len(places)}: {place}")
                self._strike(place)
            worker.start()
            self._judge(senders, sdk, sink)
        finally:
            worker.kill()

    # ---- one kill --------------------------------------------------------------------------------
    def _strike(self, place: str) -> None:
        """Start a worker and kill it at a place."""
        self.place = place
        if place in BUSY:
            self._at(place, self.rng.choice((1, 2, 3, 10, 30)), 8)
        elif place in (*SELDOM, *FIRST):
            self._at(place, 1, 12)
        elif place in CUTS:
            self._at(place, 1, 20)
        elif place in BASES:
            self._at(place, 1, 30, self._bases if place == "base.forgotten" else self._base)
        elif place in STOPS:
            self._at(place, 1, 20, self._stop)
        elif place in REBUILDS:
            self._rebuild(place)
        elif place == "define.logged":
            self._define()
        elif place == "state.aside":
            self._damage()
        elif place == "start":
            self.worker.launch()
            time.sleep(self.rng.uniform(0.2, 2.5))
            self._dead(place)
        else:
            self.worker.start()
            time.sleep(self.rng.uniform(0.05, 1.5))
            self._dead(place)

    def _dead(self, place: str) -> None:
        self.worker.kill()
        self.killed[place] += 1

    def _at(
        self, place: str, count: int, seconds: float, do: Callable[[], None] | None = None
    ) -> None:
        """Start it with a trap at a place; what never gets there is killed all the same."""
        self.worker.launch(WATERSMEET_KILL_AT=f"{place}:{count}")
        if do is not None and self.worker.ready(60):
            time.sleep(self.rng.uniform(0, 0.5))
            do()
        if self.worker.died(seconds):
            assert self.worker.process is not None
            code = self.worker.process.returncode
            assert code == -9, f"at {place} it ended with {code}:\n{self.worker.printed()[-3000:]}"
            self.killed[place] += 1
        else:
            self._dead(f"random, not at {place}")

    def _base(self) -> None:
        with contextlib.suppress(control.NoWorker, OSError):
            control.call(socket_of(self.worker.data), "base", {}, 60)

    def _bases(self) -> None:
        """Make one more than are kept."""
        for _ in range(3):
            self._base()
            time.sleep(0.2)

    def _stop(self) -> None:
        assert self.worker.process is not None
        self.worker.process.send_signal(2)

    def _rebuild(self, place: str) -> None:
        done = self.worker.command("rebuild", WATERSMEET_KILL_AT=place)
        if done.returncode == -9:
            self.killed[place] += 1
        else:
            assert done.returncode == 0, f"rebuild: {done.stdout}\n{done.stderr}"

    def _define(self) -> None:
        """Change the definitions, without changing what they do."""
        path = self.worker.env["WATERSMEET_CONFIG"]
        file = Path(path) / "workspace.yaml"
        name = f"name: Chaos {self.rng.randrange(10**6)},"
        file.write_text(file.read_text().replace("name: Chaos,", name, 1))
        self._at("define.logged", 1, 20)
        file.write_text(file.read_text().replace(name, "name: Chaos,", 1))

    def _damage(self) -> None:
        """Spoil the state while it is down, and kill what finds it."""
        state = self.worker.data / "state"
        tables = sorted(state.glob("*.sst"))
        if tables and self.rng.random() < 0.6:
            victim = self.rng.choice(tables)
            data = bytearray(victim.read_bytes())
            for at in range(0, len(data), 50):
                data[at] ^= 0xFF
            victim.unlink()
            victim.write_bytes(data)
        else:
            (state / "CURRENT").unlink(missing_ok=True)
        self._at("state.aside", 1, 20)
        for aside in self.worker.data.glob("state.damaged-*"):
            shutil.rmtree(aside)

    # ---- the end ---------------------------------------------------------------------------------
    def _judge(self, senders: list[Sender], sdk: SdkSender | None, sink: Sink) -> None:
        worker, verdict = self.worker, self.verdict
        self.say("coming to rest")
        given_up: list[str] = []
        accepted: list[str] = []
        devices = strict = [device for sender in senders for device in sender.devices]
        for sender in senders:
            sender.end()
            verdict.demand(not sender.wrong, f"refused: {sender.wrong[:2]}")
            accepted += sender.accepted
            self.sent += sender.sent
            self.repeats += sender.repeats
            self.refused += sender.refused
        if sdk is not None:
            sdk.end()
            accepted += sdk.accepted
            given_up = sdk.given_up
            devices = [*devices, *sdk.devices]
            self.sent += len(sdk.called)
        for _ in _waits(40):
            if not _unfinished(worker.metrics()):
                break
        worker.settled(60)
        self.say("judging")
        judge_running(verdict, worker, sink, devices, accepted, given_up, strict)
        code = worker.stop()
        verdict.demand(code == 0, f"it stopped with {code}")
        printed = worker.printed()
        verdict.demand("Traceback" not in printed, f"it printed a traceback, see {worker.output}")
        judge_stopped(verdict, worker, accepted, given_up, forgets=self.forgets)


def _waits(seconds: float) -> Iterator[None]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield
        time.sleep(0.3)


def _unfinished(numbers: dict[str, float]) -> bool:
    """Return whether a window or a delay has still to end."""
    return numbers["watersmeet_audience_size{audience=\"recent\"}"] > 0 or any(
        value > 0 for name, value in _present(numbers).items()
    )


def _present(numbers: dict[str, float]) -> dict[str, float]:
    """Return how many wait at each step of a journey."""
    found: dict[str, float] = {}
    for name, value in numbers.items():
        if name.startswith("watersmeet_journey_step{") and 'step=""' not in name:
            place = name.partition(',what="')[0]
            if 'what="arrived"' in name:
                found[place] = found.get(place, 0) + value
            elif 'what="left"' in name:
                found[place] = found.get(place, 0) - value
    return found
