"""A log read from outside while its owner appends to it."""

import random
from pathlib import Path

import pytest

from transport.log import Log
from transport.reading import ReadOnlyLog
from transport.recovery import LogCorrupt, LogRefused


def filled(path: Path, records: int) -> Log:
    log = Log.open(path, segment_bytes=5_000)
    rng = random.Random(1)
    for n in range(records):
        log.append("raw", 0, rng.randbytes(rng.choice((0, 10, 700))), timestamp_ms=n)
        if n % 3 == 0:
            log.flush_inline()
    log.flush_inline()
    return log


def everything(log: Log | ReadOnlyLog, start: int, **limits: int) -> list[tuple[int, int, bytes]]:
    found: list[tuple[int, int, bytes]] = []
    while start < log.durable_end("raw", 0):
        for record in log.read("raw", 0, start, **limits):
            assert record.offset == start
            found.append((record.offset, record.timestamp_ms, record.value))
            start += 1
    return found


@pytest.mark.parametrize("limits", [{}, {"max_records": 1}, {"max_records": 7, "max_bytes": 500}])
def test_transport_a_reader_from_outside_sees_what_the_owner_sees(tmp_path, limits):
    log = filled(tmp_path, 200)
    reader = ReadOnlyLog(tmp_path, "raw", 0, 150)
    assert reader.identity == log.identity
    for start in (0, 1, 77, 149):
        assert everything(reader, start, **limits) == everything(log, start)[: 150 - start]
    assert reader.read("raw", 0, 150) == []
    log.close()


def test_transport_a_reader_from_outside_is_not_disturbed_by_what_is_written_meanwhile(tmp_path):
    log = filled(tmp_path, 100)
    reader = ReadOnlyLog(tmp_path, "raw", 0, 100)
    last = max(tmp_path.rglob("*.seg"))
    with last.open("ab") as file:
        file.write(b"half a rec")
    assert len(everything(reader, 0)) == 100
    log.truncate("raw", 0, 60)
    with pytest.raises(LookupError, match="no longer kept"):
        ReadOnlyLog(tmp_path, "raw", 0, 100).read("raw", 0, 0)
    log.close()


def test_transport_a_reader_from_outside_tells_damage_and_a_missing_log(tmp_path):
    filled(tmp_path / "log", 100).close()
    first = min((tmp_path / "log").rglob("*.seg"))
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    with pytest.raises(LogCorrupt, match="cannot be trusted"):
        everything(ReadOnlyLog(tmp_path / "log", "raw", 0, 100), 0)
    with pytest.raises(LogRefused, match="there is no log here"):
        ReadOnlyLog(tmp_path / "none", "raw", 0, 1)
