"""The log on a real disk: group commit, failing and full disks, owners, retention."""

import asyncio
import errno
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.transport.simdisk import Fault, SimFiles
from transport.files import OsFiles
from transport.log import Log, LogLocked, NotDurable
from transport.mend import mend


class FlakyFiles(OsFiles):
    """The real disk, which fails on demand."""

    def __init__(self) -> None:
        self.code = 0
        self.slow = 0.0

    def write_sync(self, handle: int, data: bytes, position: int) -> int:
        time.sleep(self.slow)
        if self.code:
            if self.code == errno.ENOSPC:
                super().write(handle, data[: len(data) // 2], position)
            raise OSError(self.code, os.strerror(self.code))
        return super().write_sync(handle, data, position)

    def write(self, handle: int, data: bytes, position: int) -> int:
        if self.code:
            raise OSError(self.code, os.strerror(self.code))
        return super().write(handle, data, position)


def values(log: Log, topic: str = "raw") -> list[bytes]:
    found: list[bytes] = []
    while records := log.read(topic, 0, len(found)):
        found += [record.value for record in records]
    return found


async def test_transport_callers_share_a_sync(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "log")
    woken = []
    log.on_durable(lambda: woken.append(log.durable_end("raw", 0)))

    async def one(number: int) -> None:
        offset = log.append("raw", 0, b"%d" % number)
        assert log.durable_end("raw", 0) <= offset
        await log.flush()
        assert log.durable_end("raw", 0) > offset

    await asyncio.gather(*(one(number) for number in range(500)))
    assert log.rounds <= 5
    assert woken[-1] == 500
    assert values(log) == [b"%d" % number for number in range(500)]
    log.close()


async def test_transport_readers_see_nothing_before_it_is_durable(tmp_path: Path) -> None:
    files = FlakyFiles()
    files.slow = 0.05
    log = Log.open(tmp_path / "log", files)
    log.append("raw", 0, b"a")
    flushing = asyncio.ensure_future(log.flush())
    await asyncio.sleep(0.01)
    assert log.end("raw", 0) == 1
    assert log.read("raw", 0, 0) == []
    await flushing
    assert values(log) == [b"a"]
    log.close()


async def test_transport_a_caller_that_goes_away_takes_nobody_along(tmp_path: Path) -> None:
    files = FlakyFiles()
    files.slow = 0.05
    log = Log.open(tmp_path / "log", files)
    log.append("raw", 0, b"a")
    first = asyncio.ensure_future(log.flush())
    await asyncio.sleep(0)
    log.append("raw", 0, b"b")
    second = asyncio.ensure_future(log.flush())
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.wait_for(second, 2)
    assert values(log) == [b"a", b"b"]
    log.close()


async def test_transport_the_decoded_twin_comes_back_while_it_is_in_memory(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "log")
    twin = object()
    log.append("raw", 0, b"a", cached=twin)
    await log.flush()
    assert log.read("raw", 0, 0)[0].cached is twin
    log.release("raw", 0, 1)
    assert log.read("raw", 0, 0)[0].cached is None
    assert values(log) == [b"a"]
    log.close()


async def test_transport_memory_holds_a_bounded_end_of_the_log(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "log")
    log.tail_size = 10_000
    for number in range(100):
        log.append("raw", 0, b"%04d" % number * 100)
        await log.flush()
    part = log._partitions["raw", 0]
    assert sum(len(record.value) for record in part.tail) == part.tail_bytes <= 10_000
    assert values(log) == [b"%04d" % number * 100 for number in range(100)]
    log.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EMFILE])
async def test_transport_a_disk_that_fails_and_recovers_needs_no_restart(
    tmp_path: Path, code: int
) -> None:
    files = FlakyFiles()
    log = Log.open(tmp_path / "log", files)
    log.heal_seconds = 0.05
    wanted = []
    for turn in range(3):
        log.append("raw", 0, b"good %d" % turn)
        await log.flush()
        wanted.append(b"good %d" % turn)
        files.code = code
        began = time.monotonic()
        log.append("raw", 0, b"bad")
        epoch = log.epoch
        with pytest.raises(NotDurable, match=os.strerror(code)):
            await log.flush()
        assert time.monotonic() - began < 5
        assert not log.healthy
        assert os.strerror(code) in (log.trouble or "")
        with pytest.raises(NotDurable):
            log.append("raw", 0, b"refused at once")
        with pytest.raises(NotDurable):
            await log.flush(epoch)
        assert values(log) == wanted
        files.code = 0
        for _ in range(50):
            if log.healthy:
                break
            await asyncio.sleep(0.05)
        assert log.healthy
        with pytest.raises(NotDurable):
            await log.flush(epoch)
    log.append("raw", 0, b"last")
    await log.flush()
    log.close()
    log = Log.open(tmp_path / "log")
    assert values(log) == [*wanted, b"last"]
    log.close()


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EMFILE, "short"])
def test_transport_every_file_call_may_fail(code: int | str, forever: bool) -> None:
    nth = 0
    while True:
        nth += 1
        files = SimFiles()
        files.fault = Fault(nth, code, "write" if code == "short" else "", forever)
        acked: list[bytes] = []
        for life in range(2):
            try:
                log = Log.open("/log", files, segment_bytes=300)
            except OSError:
                log = None
            for number in range(6 if log else 0):
                value = b"%d/%d" % (life, number) * 20
                try:
                    offset = log.append("raw", 0, value)
                    log.flush_inline()
                except NotDurable:
                    continue
                acked = [*acked[:offset], value]
            if log:
                try:
                    log.truncate("raw", 0, 0)
                    log.close()
                except (OSError, KeyError):
                    pass
            files.kill()
        hits = files.fault.hits
        files.fault = None
        log = Log.open("/log", files, segment_bytes=300)
        found: list[bytes] = []
        while records := log.read("raw", 0, len(found)):
            found += [record.value for record in records]
        assert [value for value in found if value in acked] == acked, nth
        assert len(found) <= 12
        log.append("raw", 0, b"works again")
        log.flush_inline()
        if not hits:
            break
    assert nth > 12
    assert found == acked


def test_transport_a_full_disk_refuses_and_then_goes_on() -> None:
    files = SimFiles()
    log = Log.open("/log", files, segment_bytes=20_000)
    wanted = []
    for turn in range(10):
        files.capacity = files._used() + 5000
        while True:
            value = b"%03d" % len(wanted) * 300
            try:
                log.append("raw", 0, value)
                log.flush_inline()
            except NotDurable:
                break
            wanted.append(value)
        assert not log.healthy
        with pytest.raises(NotDurable):
            log.append("raw", 0, b"x")
        files.capacity = None
        assert log.append("raw", 0, b"after %d" % turn) == len(wanted)
        log.flush_inline()
        wanted.append(b"after %d" % turn)
    files.power_cut()
    log = Log.open("/log", files)
    found: list[bytes] = []
    while records := log.read("raw", 0, len(found)):
        found += [record.value for record in records]
    assert found == wanted


HOLDER = """
import sys, time
from transport.log import Log
log = Log.open(sys.argv[1])
log.append("raw", 0, b"mine")
log.flush_inline() if not log.files.threaded else __import__("asyncio").run(log.flush())
print("open", flush=True)
time.sleep(60)
"""


def test_transport_a_second_process_is_refused_and_a_dead_ones_lock_taken_over(
    tmp_path: Path,
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "log"], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(LogLocked, match=rf"in use by process {holder.pid}; stop that process"):
            Log.open(tmp_path / "log")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        log = Log.open(tmp_path / "log")
        assert values(log) == [b"mine"]
        log.close()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


async def test_transport_retention_keeps_what_is_above_the_floor(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "log", segment_bytes=2000)
    for number in range(40):
        log.append("raw", 0, b"x" * 500, timestamp_ms=number * 1000)
        await log.flush()
    whole = log.sizes["raw", 0]
    assert log.retain("raw", 0, floor=10, max_bytes=0) <= 10
    start = log.start("raw", 0)
    assert 6 < start <= 10
    assert log.sizes["raw", 0] < whole
    with pytest.raises(LookupError, match=f"the oldest is {start}"):
        log.read("raw", 0, start - 1)
    assert log.read("raw", 0, start, 1)[0].offset == start
    # By age: records are a second apart.
    start = log.retain("raw", 0, floor=1000, max_age_ms=15_000, now_ms=40_000)
    assert 21 < start <= 25
    # However old and however big, the last durable record stays, and with it the offsets.
    assert log.retain("raw", 0, floor=1000, max_bytes=0) <= 39
    log.retain("raw", 0, floor=1000, max_age_ms=1, now_ms=10**9)
    log.close()
    log = Log.open(tmp_path / "log", segment_bytes=2000)
    assert log.end("raw", 0) == 40
    assert log.read("raw", 0, 39, 1)[0].offset == 39
    log.close()


async def test_transport_a_quiet_log_lets_go_of_its_last_segment_in_time(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "log")
    for number in range(10):
        log.append("raw", 0, b"old", timestamp_ms=number)
    await log.flush()
    assert log.retain("raw", 0, floor=10, max_age_ms=1000, now_ms=5000) == 0
    log.append("raw", 0, b"new", timestamp_ms=5000)
    await log.flush()
    assert log.retain("raw", 0, floor=11, max_age_ms=1000, now_ms=5100) == 10
    log.close()


async def test_transport_mending_gives_up_only_what_cannot_be_read(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "log", segment_bytes=2000)
    for number in range(12):
        log.append("raw", 0, b"%02d" % number * 200, key=b"k", timestamp_ms=number)
        await log.flush()
    log.close()
    assert mend(str(tmp_path / "log")) == []
    first = min((tmp_path / "log/topics/raw/0").glob("*.seg"))
    content = bytearray(first.read_bytes())
    content[600] ^= 4
    first.write_bytes(content)
    told = mend(str(tmp_path / "log"))
    assert len(told) == 1
    assert "1 of 5 records given up: 1 to 1" in told[0]
    assert list((tmp_path / "log/damaged").iterdir())
    log = Log.open(tmp_path / "log")
    wanted = [b"%02d" % number * 200 for number in range(12)]
    wanted[1] = b""
    assert values(log) == wanted
    assert log.read("raw", 0, 2, 1)[0].key == b"k"
    log.append("raw", 0, b"next")
    await log.flush()
    log.close()


async def test_transport_several_topics_and_partitions_are_kept_apart(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "log")
    log.create("a", 3)
    for number in range(9):
        log.append("a", number % 3, b"%d" % number)
        log.append("b", 0, b"b%d" % number)
    await log.flush()
    log.close()
    log = Log.open(tmp_path / "log")
    assert log.topics() == {"a": 3, "b": 1}
    assert [r.value for r in log.read("a", 1, 0)] == [b"1", b"4", b"7"]
    assert len(values(log, "b")) == 9
    with pytest.raises(ValueError, match="cannot be a topic"):
        log.append("../x", 0, b"")
    log.close()


async def test_transport_what_cannot_be_appended_harms_no_neighbour(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "log")
    log.append("raw", 0, b"before")
    with pytest.raises(AssertionError):
        log.append("raw", 0, "text")
    with pytest.raises(struct.error):
        log.append("raw", 0, b"late", timestamp_ms=1 << 70)
    with pytest.raises(TypeError):
        log.append("raw", 0, b"value", key=7)
    assert log.append("raw", 0, b"after") == 1
    await log.flush()
    log.close()
    log = Log.open(tmp_path / "log")
    assert values(log) == [b"before", b"after"]
    log.close()
