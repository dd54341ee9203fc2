"""Damage of the log's files: refused, or cut where only an interrupted write can have been."""

import logging
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.simdisk import SimFiles
from transport import segment
from transport.log import Log, LogCorrupt, LogRefused

FOLDER = "/data/log/topics/raw/0"


def open_log(files: SimFiles, **options: object) -> Log:
    return Log.open("/data/log", files, identity=lambda: "cd" * 16, **options)


def read_all(log: Log, topic: str = "raw", partition: int = 0, **limits: int) -> list[bytes]:
    found: list[bytes] = []
    at = log.start(topic, partition)
    while records := log.read(topic, partition, at, **limits):
        assert [record.offset for record in records] == list(range(at, at + len(records)))
        at += len(records)
        found += [record.value for record in records]
    assert at == log.durable_end(topic, partition)
    return found


def filled(groups: list[list[bytes]], **options: object) -> tuple[SimFiles, list[bytes]]:
    files = SimFiles(random.Random(1))
    log = open_log(files, **options)
    for group in groups:
        for value in group:
            log.append("raw", 0, value, key=value[:3] or None, timestamp_ms=5)
        log.flush_inline()
    log.close()
    files.kill()
    return files, [value for group in groups for value in group]


GROUPS = [[b"a" * 30, b"b" * 50], [b"c"], [b"", b"e" * 300], [b"f" * 20], [b"g", b"h" * 40]]


def test_transport_a_flipped_bit_anywhere_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    files, values = filled(GROUPS, segment_bytes=400)
    rng = random.Random(3)
    paths = [path for path in files.paths() if not path.endswith(("lock", "committed.json"))]
    assert sum(path.endswith(".seg") for path in paths) >= 2
    for path in paths:
        content = files.content(path)
        last_seal = len(content) - segment.SEAL_SIZE
        rolled = path.endswith(".seg") and path != max(p for p in paths if p.endswith(".seg"))
        for position in range(len(content)):
            files.flip(path, position, rng.randrange(8))
            try:
                log = open_log(files)
            except LogRefused as error:
                assert path in str(error)
            else:
                # Nothing but what says "all before is durable" may go unnoticed.
                assert read_all(log) == values
                if path.endswith(".seg"):
                    assert position >= last_seal, (path, position)
                else:
                    assert position == len(content) - 1  # the line's end
                log.close()
            files.kill()
            files.replace(path, content)
        assert rolled or read_all(open_log(files)) == values
        files.kill()


def test_transport_a_cut_in_the_last_three_records_opens_at_the_last_whole_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    groups = [[b"a" * 10], [b"b" * 20, b"c" * 30], [b"d" * 40]]
    files, values = filled(groups)
    path = f"{FOLDER}/{0:020}.seg"
    content = files.content(path)
    ends = [unit.end for unit in whole(content) if unit.value is not None]
    for cut in range(ends[0], len(content)):
        files, _ = filled(groups)
        files.replace(path, content[:cut])
        caplog.clear()
        with caplog.at_level(logging.INFO):
            log = open_log(files)
        kept = sum(end <= cut for end in ends)
        assert read_all(log) == values[:kept]
        lines = [r.getMessage() for r in caplog.records]
        whole_units = [unit.end for unit in whole(content) if unit.end <= cut]
        if cut == whole_units[-1]:
            assert lines == []
        else:
            assert len(lines) == 1
            assert path in lines[0]
            assert f"byte {whole_units[-1]}:" in lines[0]
            assert f"cut {cut - whole_units[-1]} bytes" in lines[0]
        assert log.append("raw", 0, b"next") == kept
        log.flush_inline()
        assert read_all(log) == [*values[:kept], b"next"]
        files.kill()
        log = open_log(files)
        assert read_all(log) == [*values[:kept], b"next"]
        files.kill()


def whole(content: bytes) -> list[segment.Unit]:
    start = segment.seed("cd" * 16, "raw", 0)
    return list(
        segment.units(
            lambda size, at: content[at : at + size], len(content), start, segment.HEADER_SIZE, 0
        )
    )


@pytest.mark.parametrize("damage", ["zeroed", "swapped", "old", "length", "shorter", "missing"])
def test_transport_damage_away_from_the_end_is_refused(damage: str) -> None:
    files, _ = filled([[bytes([n]) * 700] for n in range(8)], segment_bytes=4000)
    first, last = (f"{FOLDER}/{n:020}.seg" for n in (0, 6))
    assert files.paths()[-2:] == [first, last]
    content = bytearray(files.content(first))
    if damage == "zeroed":
        content[512:1024] = bytes(512)
    elif damage == "swapped":
        content[512:1024], content[1536:2048] = content[1536:2048], content[512:1024]
    elif damage == "old":
        content[1024:1536] = content[0:512]
    elif damage == "length":
        at = segment.HEADER_SIZE + 4
        content[at : at + 4] = (1 << 31).to_bytes(4, "little")
    elif damage == "shorter":
        del content[-800:]
    files.replace(first, bytes(content))
    if damage == "missing":
        middle = f"{FOLDER}/{6:020}.seg"
        files.rename(middle, f"{FOLDER}/{7:020}.seg")
    with pytest.raises(LogCorrupt) as refused:
        open_log(files)
    assert FOLDER in str(refused.value)
    assert "`python -m transport.mend /data/log`" in str(refused.value)


def test_transport_damage_in_the_last_file_is_refused_when_a_seal_says_it_was_durable() -> None:
    files, _ = filled([[b"a" * 2000], [b"b" * 2000], [b"c" * 2000]])
    path = f"{FOLDER}/{0:020}.seg"
    content = files.content(path)
    for start in range(512, len(content) - 512, 512):
        files.replace(path, content[:start] + bytes(512) + content[start + 512 :])
        with pytest.raises(LogCorrupt):
            open_log(files)
        files.kill()


def test_transport_damage_found_while_reading_is_refused() -> None:
    files, values = filled([[bytes([n]) * 700] for n in range(8)], segment_bytes=4000)
    path = f"{FOLDER}/{0:020}.seg"
    files.flip(path, 1000)
    log = open_log(files, verify=False)
    assert log.read("raw", 0, 0)[0].value == values[0]
    with pytest.raises(LogCorrupt, match="byte 819: record 1"):
        log.read("raw", 0, 1)


def test_transport_a_value_that_looks_like_a_record_is_only_a_value() -> None:
    files, _ = filled(GROUPS)
    content = files.content(f"{FOLDER}/{0:020}.seg")
    files, values = filled([[content], [content[56:]]])
    assert read_all(open_log(files)) == values


def test_transport_a_newer_format_is_refused() -> None:
    files, _ = filled(GROUPS)
    files.replace("/data/log/log.json", b'{"format":2,"log":"x","more":1}')
    with pytest.raises(LogRefused, match=r"format 2.*start the newer program"):
        open_log(files)


def test_transport_a_file_of_another_log_is_refused() -> None:
    mine, _ = filled(GROUPS)
    other = SimFiles()
    log = Log.open("/data/log", other, identity=lambda: "ef" * 16)
    log.append("raw", 0, b"x")
    log.close()
    path = f"{FOLDER}/{0:020}.seg"
    mine.replace(path, other.content(path))
    with pytest.raises(LogCorrupt):
        open_log(mine)


_VALUES = st.binary(max_size=50) | st.integers(0, 3000).map(lambda n: b"v" * n)
_RECORDS = st.tuples(st.none() | st.binary(max_size=20), _VALUES, st.integers(-(2**62), 2**62))


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.lists(_RECORDS, min_size=1, max_size=6), max_size=8),
    segment_bytes=st.integers(100, 5000),
    max_records=st.integers(1, 5),
    max_bytes=st.integers(1, 4000),
)
def test_transport_what_was_appended_is_read_back(
    groups: list, segment_bytes: int, max_records: int, max_bytes: int
) -> None:
    files = SimFiles()
    log = open_log(files, segment_bytes=segment_bytes)
    log.create("raw")
    wanted = []
    for group in groups:
        for key, value, at_ms in group:
            wanted.append((log.append("raw", 0, value, key, at_ms), at_ms, key, value))
        log.flush_inline()
    for _ in range(2):
        found = []
        while records := log.read("raw", 0, len(found), max_records, max_bytes):
            assert len(records) <= max_records
            assert len(records) == 1 or sum(len(r.value) for r in records) <= max_bytes
            found += [(r.offset, r.timestamp_ms, r.key, r.value) for r in records]
        assert found == wanted
        for offset in range(len(wanted)):
            assert log.read("raw", 0, offset, 1)[0].value == wanted[offset][3]
        log.close()
        files.kill()
        log = open_log(files, segment_bytes=segment_bytes)
