"""The raw archive: each kept event once, whatever breaks."""

import asyncio
import gzip
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from agents.archive import TABLES, drop, keep
from agents.records import Received, Redrive
from app.archive import Archiver, ArchiveRefused, catch_up
from app.reader import StoreReader
from events.event import Event
from runtime.envelope import pack
from runtime.fused import Kind, Runner
from runtime.stage import Stage, Table
from tables.store import MemoryStore
from transport.files import OsFiles
from transport.log import Record

DAY = 20_000  # 2024-10-04


def lines(folder):
    """Return the lines of each file, as any gzip reader sees them."""
    return {path.name: gzip.decompress(path.read_bytes()).splitlines()
            for path in sorted(folder.glob("*.gz"))}


def every(folder):
    return [line for found in lines(folder).values() for line in found]


async def filled(folder, flushes, log="log-1", **more):
    """Return an archiver that wrote each of ``flushes``: lists of (offset, day, body)."""
    archiver = Archiver(folder, log, **more)
    for flush in flushes:
        for offset, day, body in flush:
            archiver.add(offset, day, body)
        archiver.advance(max(offset for offset, _, _ in flush))
        await archiver.flush()
    return archiver


def unpacked(path):
    return subprocess.run(["gzip", "-dc", path], capture_output=True, check=True).stdout


async def test_archive_holds_lines_by_day_and_any_gzip_reads_them(tmp_path):
    folder = tmp_path / "archive"
    archiver = await filled(folder, [[(0, DAY, b'{"a":1}'), (1, DAY, b'{"b":\n2}')],
                                     [(2, DAY + 1, b"{}"), (3, DAY, b'{"c":3}')]])
    assert archiver.covered == 3
    assert lines(folder) == {"2024-10-04.ndjson.gz": [b'{"a":1}', b'{"b": 2}', b'{"c":3}'],
                             "2024-10-05.ndjson.gz": [b"{}"]}
    text = unpacked(folder / "2024-10-04.ndjson.gz")
    assert text == b'{"a":1}\n{"b": 2}\n{"c":3}\n'
    assert oct(folder.stat().st_mode)[-3:] == "700"


async def test_archive_passes_over_what_the_log_brings_again(tmp_path):
    flushes = [[(0, DAY, b"0"), (1, DAY, b"1")], [(2, DAY, b"2"), (3, DAY + 1, b"3")]]
    await filled(tmp_path / "a", flushes)
    archiver = await filled(tmp_path / "a", [[*flushes[0], *flushes[1], (4, DAY, b"4")]])
    assert archiver.covered == 4
    assert sorted(every(tmp_path / "a")) == [b"0", b"1", b"2", b"3", b"4"]


async def test_archive_cut_at_every_byte_of_its_last_block_loses_and_doubles_nothing(
    tmp_path, caplog
):
    flushes = [[(0, DAY, b"line 0"), (1, DAY, b"line 1")], [(2, DAY, b"line 2")]]
    folder = tmp_path / "a"
    await filled(folder, flushes[:1])
    path = folder / "2024-10-04.ndjson.gz"
    before = path.stat().st_size
    await filled(folder, flushes)
    whole = path.read_bytes()
    for cut in range(before, len(whole) + 1):
        path.write_bytes(whole[:cut])
        caplog.clear()
        archiver = Archiver(folder, "log-1")
        assert archiver.covered == (2 if cut == len(whole) else 1), cut
        assert bool(caplog.records) == (before < cut < len(whole))
        await filled(folder, [[*flushes[0], *flushes[1], (3, DAY, b"line 3")]])
        assert every(folder) == [b"line 0", b"line 1", b"line 2", b"line 3"], cut


async def test_archive_cut_within_its_first_block_begins_anew(tmp_path):
    folder = tmp_path / "a"
    flush = [(0, DAY, b"line 0")]
    await filled(folder, [flush])
    path = folder / "2024-10-04.ndjson.gz"
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        await filled(folder, [[*flush, (1, DAY, b"line 1")]])
        assert every(folder) == [b"line 0", b"line 1"], cut


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
async def test_archive_pages_that_never_reached_the_disk_are_found(tmp_path, fill):
    folder = tmp_path / "a"
    flushes = [[(0, DAY, b"line 0")], [(1, DAY, os.urandom(300).hex().encode())]]
    await filled(folder, flushes[:1])
    path = folder / "2024-10-04.ndjson.gz"
    before = path.stat().st_size
    await filled(folder, flushes)
    whole = path.read_bytes()
    for begin in range(before, len(whole), 16):
        for end in range(begin + 16, len(whole) + 16, 64):
            hole = whole[:begin] + fill * (min(end, len(whole)) - begin) + whole[end:]
            path.write_bytes(hole)
            await filled(folder, [[*flushes[0], *flushes[1]]])
            assert every(folder) == [b"line 0", flushes[1][0][2]], (begin, end)


async def test_archive_a_crash_between_two_days_files_doubles_nothing(tmp_path):
    folder = tmp_path / "a"
    first = [(0, DAY, b"0"), (1, DAY + 1, b"1"), (2, DAY + 2, b"2")]
    second = [(3, DAY, b"3"), (4, DAY + 1, b"4"), (5, DAY + 2, b"5"), (6, DAY, b"6")]
    await filled(folder, [first])
    small = {path: path.read_bytes() for path in folder.glob("*.gz")}
    await filled(folder, [first, second])
    large = {path: path.read_bytes() for path in folder.glob("*.gz")}
    for reached in range(4):  # the files are written in order of days
        for at, path in enumerate(sorted(large)):
            path.write_bytes((large if at < reached else small)[path])
        archiver = Archiver(folder, "log-1")
        assert archiver.covered == (6 if reached == 3 else 2)
        # What comes again comes in two commits, a write between them.
        await filled(folder, [[*first, *second[:2]], [*second[2:], (7, DAY + 1, b"7")]])
        assert sorted(every(folder)) == [b"%d" % at for at in range(8)], reached


async def test_archive_damage_before_its_end_is_refused_with_the_place(tmp_path):
    folder = tmp_path / "a"
    await filled(folder, [[(at, DAY, b"line %d" % at)] for at in range(4)])
    path = folder / "2024-10-04.ndjson.gz"
    whole = path.read_bytes()
    path.write_bytes(b"\0" * 200 + whole[200:-1])  # the end is torn too, so it is walked through
    with pytest.raises(ArchiveRefused, match=r"2024-10-04.ndjson.gz is damaged at byte 0; behind"):
        Archiver(folder, "log-1")
    assert path.read_bytes()[200:] == whole[200:-1]


async def test_archive_of_another_log_or_a_newer_format_is_refused(tmp_path):
    folder = tmp_path / "a"
    await filled(folder, [[(0, DAY, b"0")]])
    with pytest.raises(ArchiveRefused, match="is the archive of log log-1, the log here is log-2"):
        Archiver(folder, "log-2")
    (folder / "covered.json").write_bytes(b'{"format":2,"log":"log-1","covered":1}')
    with pytest.raises(ArchiveRefused, match="format 2"):
        Archiver(folder, "log-1")
    (folder / "covered.json").write_bytes(b'{"form')
    with pytest.raises(ArchiveRefused, match="is damaged"):
        Archiver(folder, "log-1")
    (folder / "covered.json").unlink()
    with pytest.raises(ArchiveRefused, match="is missing"):
        Archiver(folder, "log-1")


async def test_archive_notes_how_far_it_is_before_the_log_lets_go(tmp_path):
    folder = tmp_path / "a"
    archiver = await filled(folder, [[(0, DAY, b"0")]])
    archiver.advance(500)  # ticks and duplicates: no lines
    await archiver.flush()
    assert (archiver.covered, Archiver(folder, "log-1").covered) == (0, 0)
    await archiver.flush(note=True)
    assert (archiver.covered, Archiver(folder, "log-1").covered) == (500, 500)


class Faulty(OsFiles):
    """A disk whose N-th call fails, once or from then on."""

    threaded = False

    def __init__(self, fail_at, forever, short):
        self.left = fail_at
        self.forever = forever
        self.short = short
        self.failed = False

    def _call(self):
        self.left -= 1
        if self.left == 0 or (self.left < 0 and self.forever):
            self.failed = True
            raise OSError(28, "No space left on device")

    def write(self, handle, data, position):
        self.left -= 1
        if self.left == 0 or (self.left < 0 and self.forever):
            self.failed = True
            if self.short:
                super().write(handle, data[: len(data) // 2], position)
            raise OSError(28, "No space left on device")
        return super().write(handle, data, position)

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name in ("open", "sync", "truncate", "sync_dir", "rename", "mkdir"):
            def call(*args, **kwargs):
                self._call()
                return found(*args, **kwargs)
            return call
        return found


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("short", [False, True])
async def test_archive_every_file_call_may_fail(tmp_path, forever, short):
    flushes = [[(0, DAY, b"0"), (1, DAY + 1, b"1")], [(2, DAY, b"2")], [(3, DAY + 1, b"3")]]
    failed = 0
    for at in range(1, 200):
        folder = tmp_path / str(at)
        disk = Faulty(at, forever, short)
        try:
            archiver = await filled(folder, flushes, files=disk)
        except OSError:
            archiver = None
        if archiver is not None and not disk.failed:
            assert at > 20
            break
        failed += 1
        if archiver is not None and not forever:
            await archiver.flush()  # as `run` does
            assert not archiver.problem
            assert archiver.covered == 3
            assert sorted(every(folder)) == [b"0", b"1", b"2", b"3"], at
        elif archiver is not None:
            assert "No space left" in archiver.problem
            assert archiver.covered < 3
        if archiver is None and not folder.exists():
            continue
        # The disk is well again, and the process another one.
        await filled(folder, [[line for flush in flushes for line in flush]])
        assert sorted(every(folder)) == [b"0", b"1", b"2", b"3"], at
    assert failed > 20


async def test_archive_a_cancelled_writer_leaves_nothing_half_done(tmp_path):
    archiver = Archiver(tmp_path / "a", "log-1")
    task = asyncio.create_task(archiver.run())
    await asyncio.sleep(0)
    body = os.urandom(1 << 19).hex().encode()
    archiver.add(0, DAY, body)
    archiver.advance(0)
    await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    archiver.add(1, DAY, b"1")
    archiver.advance(1)
    await archiver.close()
    assert every(tmp_path / "a") == [body, b"1"]
    assert Archiver(tmp_path / "a", "log-1").covered == 1


async def test_archive_makes_the_engine_wait_when_the_disk_is_far_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("app.archive.MOST_BYTES", 10)
    archiver = Archiver(tmp_path / "a", "log-1")
    await asyncio.wait_for(archiver.room(), 1)
    archiver.add(0, DAY, b"x" * 11)
    archiver.advance(0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(archiver.room(), 0.01)
    task = asyncio.create_task(archiver.run())
    await asyncio.wait_for(archiver.room(), 2)
    task.cancel()
    assert archiver.covered == 0


async def test_archive_add_costs_little(tmp_path):
    archiver = Archiver(tmp_path / "a", "log-1")
    archiver._full = asyncio.Event()
    started = time.process_time()
    for at in range(100_000):
        archiver.add(at, DAY, b"x")
    assert (time.process_time() - started) / 100_000 < 1e-5


# ---- killed --------------------------------------------------------------------------------------
WRITER = textwrap.dedent("""
    import asyncio, sys
    from app.archive import Archiver

    async def main():
        archiver = Archiver(sys.argv[1], "log-1")
        task = asyncio.create_task(archiver.run())
        print(archiver.covered, flush=True)
        begin = max(0, archiver.covered - 50)  # the state lags, so the log brings some again
        for offset in range(begin, 10**9):
            for line in range(3):
                day = 20000 + (offset // 40) % 3
                archiver.add(offset, day, (b"%d.%d " % (offset, line)) + bytes(range(65, 91)) * 150)
            archiver.advance(offset)
            if offset % 7 == 0:
                await asyncio.sleep(0)
            if offset % 64 == 0:
                await archiver.flush()
                print(archiver.covered, flush=True)

    asyncio.run(main())
""")


def test_archive_killed_at_any_moment_holds_each_line_once(tmp_path):
    folder = tmp_path / "a"
    told = -1
    for round_ in range(8):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)],
                                   stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        try:
            for _ in range(3 + round_ * 2):
                told = int(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            rest = process.stdout.read().split()
            process.stdout.close()
        told = int(rest[-1]) if rest else told
    covered = Archiver(folder, "log-1").covered
    assert covered >= told > 0
    counts = Counter(line.split(b" ")[0] for line in every(folder))
    wanted = {b"%d.%d" % (offset, line) for offset in range(covered + 1) for line in range(3)}
    assert wanted <= set(counts)
    assert set(counts.values()) == {1}


# ---- what the state has and the archive lacks ----------------------------------------------------
SEEN = Table("seen", b"Ds", int)


def receive(state, item):
    """A stage that keeps, drops and breaks as `intake` does."""
    if state.get(SEEN, item.message_id.encode()) is not None:
        state.count("duplicates")
        drop(state, item.message_id)
        return
    state.put(SEEN, item.message_id.encode(), 1)
    keep(state, Event("web", item.message_id, "track", state.at_ms, item.received_at_ms, 0,
                      item.body, {}))
    if item.source == "broken" and item.message_id not in MENDED:
        raise ValueError("broken")
    state.count("applied")


MENDED = set()
KINDS = {"event": Kind(Received, ("intake",), control=False),
         "redrive": Kind(Redrive, (), redrive=True)}


class FakeLog:
    """A log in a list."""

    def __init__(self):
        self.values = []
        self.first = 0

    def start(self, topic, partition):
        return self.first

    def end(self, topic, partition):
        return len(self.values)

    def read(self, topic, partition, offset):
        if offset < self.first:
            raise LookupError
        return [Record(at, 0, None, self.values[at])
                for at in range(offset, min(offset + 2, len(self.values)))]


def received(message_id, at_ms, source="web", body=None):
    return Received(source, message_id, at_ms, at_ms, body or message_id.encode())


@pytest.mark.parametrize("covered", range(-1, 9))
async def test_archive_catches_up_with_a_state_that_came_further(tmp_path, covered):
    MENDED.clear()
    day = 86_400_000
    envelopes = [
        pack("event", DAY * day, [received("a", DAY * day), received("b", DAY * day)]),
        pack("event", DAY * day, [received("b", DAY * day), received("c", DAY * day),
                                  received("c", DAY * day), received("a", DAY * day)]),
        pack("event", DAY * day, [received("p", DAY * day, "broken"), received("d", DAY * day),
                                  received("p", DAY * day, "broken", b"q"),
                                  received("x", DAY * day, "broken")]),
        pack("redrive", DAY * day, [Redrive("2.0")]),  # breaks again
        pack("event", (DAY + 1) * day, [received("e", (DAY + 1) * day),
                                        received("a", (DAY + 1) * day)]),
        pack("redrive", (DAY + 1) * day, [Redrive("2.0"), Redrive("2.2")]),  # the second: duplicate
        pack("redrive", (DAY + 1) * day, [Redrive("2.0")]),  # nothing left to put back
        pack("event", (DAY + 1) * day, [received("f", (DAY + 1) * day)]),
    ]
    log, store = FakeLog(), MemoryStore()
    runner = Runner(store, "log-1", [Stage("intake", {Received: receive}, (SEEN, *TABLES))], KINDS,
                    lambda *args: None)
    archiver = Archiver(tmp_path / "a", "log-1")
    for offset, value in enumerate(envelopes):
        log.values.append(value)
        if offset == 5:
            MENDED.add("p")
        runner.apply(offset, value)
        written = runner.commit()
        if offset <= covered:
            archiver.take(written)
            await archiver.flush()
    # Killed: what was not flushed is gone, the state is not.
    archiver = Archiver(tmp_path / "a", "log-1")
    catch_up(archiver, log, "raw", runner.codec, StoreReader(store))
    catch_up(archiver, log, "raw", runner.codec, StoreReader(store))  # nothing is left
    await archiver.close()
    assert lines(tmp_path / "a") == {
        "2024-10-04.ndjson.gz": [b"a", b"b", b"c", b"d", b"p"],
        "2024-10-05.ndjson.gz": [b"e", b"f"],
    }


def test_archive_catches_up_in_blocks_however_much_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("app.archive.BLOCK_BYTES", 100)
    log, store = FakeLog(), MemoryStore()
    runner = Runner(store, "log-1", [Stage("intake", {Received: receive}, (SEEN, *TABLES))], KINDS,
                    lambda *args: None)
    for at in range(50):
        log.values.append(pack("event", at, [received(f"{at}.{item}", at, body=b"x" * 30)
                                             for item in range(3)]))
        runner.apply(at, log.values[at])
    runner.commit()
    archiver = Archiver(tmp_path / "a", "log-1")
    catch_up(archiver, log, "raw", runner.codec, StoreReader(store))
    assert archiver.covered > 40
    assert archiver.pending_bytes < 200
    archiver.flush_now()
    assert archiver.covered == 49
    assert every(tmp_path / "a") == [b"x" * 30] * 150


async def test_archive_ahead_of_the_log_is_refused(tmp_path):
    archiver = await filled(tmp_path / "a", [[(5, DAY, b"5")]])
    with pytest.raises(ArchiveRefused, match="put back from an older copy"):
        catch_up(archiver, FakeLog(), "raw", None, StoreReader(MemoryStore()))


async def test_archive_says_when_the_log_no_longer_has_what_it_lacks(tmp_path, caplog):
    log = FakeLog()
    log.values = [pack("redrive", 0, [])] * 5
    log.first = 3
    archiver = Archiver(tmp_path / "a", "log-1")
    store = MemoryStore()
    runner = Runner(store, "log-1", [Stage("intake", {}, TABLES)], KINDS, lambda *args: None)
    for offset, value in enumerate(log.values):
        runner.apply(offset, value)
    runner.commit()
    catch_up(archiver, log, "raw", runner.codec, StoreReader(store))
    assert "lacks what was kept of records 0 to 2" in caplog.text
    await archiver.close()
    assert archiver.covered == 4
