"""The log on a disk that loses power, fails and fills up."""

import contextlib
import errno
import random

import pytest

from tests.transport.simdisk import Fault, PowerLoss, SimFiles
from transport.log import Log, LogRefused, NotDurable

PLACES = [("raw", 0), ("raw", 1), ("other", 0)]


class Session:
    """Writes at random and knows what a log may hold after any interruption."""

    def __init__(self, seed: int, disk: type[SimFiles]) -> None:
        self.rng = random.Random(seed)
        self.files = disk(self.rng)
        self.log: Log | None = None
        self.acked: dict[tuple[str, int], list[bytes]] = {place: [] for place in PLACES}
        self.maybe: dict[tuple[str, int], list[list[bytes]]] = {place: [] for place in PLACES}
        self.start = dict.fromkeys(PLACES, 0)
        self.count = 0

    def open(self) -> None:
        self.log = Log.open(
            "/data/log", self.files, segment_bytes=3000, identity=lambda: "ab" * 16
        )
        for place in PLACES:
            self.check(place)

    def check(self, place: tuple[str, int]) -> None:
        """What was acknowledged is there, what else is there was on its way; all in order."""
        log = self.log
        start, end = log.start(*place), log.durable_end(*place)
        found: list[bytes] = []
        at = start
        while at < end:
            for record in log.read(*place, at, 7, 500):
                assert record.offset == at
                found.append(record.value)
                at += 1
        acked = self.acked[place]
        assert start <= self.start[place]
        expected = acked[start:]
        assert found[: len(expected)] == expected, "an acknowledged record is missing or wrong"
        extra = found[len(expected) :]
        assert any(extra == tried[: len(extra)] for tried in [[], *self.maybe[place]]), (
            "a record that nobody wrote"
        )
        self.acked[place] = acked + extra
        self.maybe[place] = []

    def step(self) -> None:
        rng, log = self.rng, self.log
        before = {place: list(self.acked[place]) for place in PLACES}
        for _ in range(rng.choice((1, 1, 2, 5))):
            place = rng.choice(PLACES)
            self.count += 1
            value = b"%d:" % self.count + rng.randbytes(rng.choice((0, 3, 200, 900)))
            key = rng.choice((None, b"", b"key"))
            try:
                offset = log.append(*place, value, key, timestamp_ms=self.count)
            except NotDurable:
                assert not log.healthy
                break
            assert offset == len(before[place])
            before[place].append(value)
        for place in PLACES:
            if before[place] != self.acked[place]:
                self.maybe[place].append(before[place][len(self.acked[place]) :])
        try:
            log.flush_inline()
        except NotDurable:
            for place in PLACES:
                assert log.end(*place) == log.durable_end(*place)
                if log.end(*place) > len(self.acked[place]):  # its own sync succeeded
                    self.acked[place] = before[place][: log.end(*place)]
                    self.maybe[place] = []
            return
        for place in PLACES:
            if log.durable_end(*place) > len(self.acked[place]):
                assert log.durable_end(*place) == len(before[place])
                self.acked[place] = before[place]
                self.maybe[place] = []
        if rng.random() < 0.1:
            place = rng.choice(PLACES)
            if self.acked[place]:
                self.start[place] = rng.randint(self.start[place], len(self.acked[place]))
                log.truncate(*place, self.start[place])


def run(seed: int, faults: bool, disk: type[SimFiles] = SimFiles) -> None:
    session = Session(seed, disk)
    rng, files = session.rng, session.files
    for _ in range(4):
        files.lose_power_at = files.calls + rng.choice((5, 20, 60, 120)) + rng.randrange(10)
        if faults:
            code = rng.choice((errno.EIO, errno.ENOSPC, errno.EMFILE, "short"))
            files.fault = Fault(files.calls + rng.randrange(100), code, forever=rng.random() < 0.3)
        try:
            while True:
                try:
                    session.open()
                    break
                except OSError:
                    files.fault = None
                    files.kill()
            for _ in range(12):
                with contextlib.suppress(OSError):  # retention raises what the disk says
                    session.step()
                if rng.random() < 0.2:
                    files.fault = None
        except PowerLoss:
            files.power_cut()
        else:
            files.lose_power_at = -1
            files.power_cut() if rng.random() < 0.5 else files.kill()
        files.fault = None
    files.lose_power_at = -1
    session.open()
    session.step()
    assert session.log.healthy


@pytest.mark.parametrize("block", range(8))
def test_transport_power_cuts_lose_nothing_that_was_acknowledged(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        try:
            run(seed, faults=False)
        except BaseException as error:
            raise AssertionError(f"run({seed}, faults=False)") from error


@pytest.mark.parametrize("block", range(8))
def test_transport_power_cuts_and_failing_calls_lose_nothing_acknowledged(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        try:
            run(seed, faults=True)
        except BaseException as error:
            raise AssertionError(f"run({seed}, faults=True)") from error


class NoDirectorySync(SimFiles):
    def sync_dir(self, path: str) -> None:
        pass


class AnswersBeforeSync(SimFiles):
    def write_sync(self, handle: int, data: bytes, position: int) -> int:
        return self.write(handle, data, position)


class CutIsNotSynced(SimFiles):
    def sync(self, handle: int) -> None:
        if self.inside:
            super().sync(handle)

    inside = False

    def write_sync(self, handle: int, data: bytes, position: int) -> int:
        self.inside = True
        try:
            return super().write_sync(handle, data, position)
        finally:
            self.inside = False


@pytest.mark.parametrize("disk", [NoDirectorySync, AnswersBeforeSync, CutIsNotSynced])
def test_transport_planted_bugs_are_found(disk: type[SimFiles]) -> None:
    for seed in range(300):
        try:
            run(seed, faults=False, disk=disk)
        except (AssertionError, LogRefused):
            return
    raise AssertionError(f"{disk.__name__} was not found in 300 seeds")
