"""The store on disk, and what it says of a disk that lies."""

from pathlib import Path

import pytest

from tables.store import RocksStore, StateDamaged

ALL = b"", b"\xff" * 8


def filled(folder: Path) -> RocksStore:
    store = RocksStore(folder)
    store.write([(b"k%06d" % n, b"value %d " % n * 10) for n in range(20_000)], [])
    return store


def test_tables_scan_gives_rows_between_bounds_in_order_and_against_it(tmp_path):
    store = filled(tmp_path / "state")
    keys = [key for key, _ in store.scan(b"k000010", b"k000013")]
    assert keys == [b"k000010", b"k000011", b"k000012"]
    assert [key for key, _ in store.scan(b"k000010", b"k000013", reverse=True)] == keys[::-1]
    assert list(store.scan(b"x", b"y")) == list(store.scan(b"x", b"y", reverse=True)) == []
    store.close()


def test_tables_scan_gives_rows_as_they_were_when_it_was_called(tmp_path):
    store = filled(tmp_path / "state")
    rows = store.scan(*ALL)
    store.write([(b"k999999", b"late")], [b"k000000"])
    assert [key for key, _ in rows] == [b"k%06d" % n for n in range(20_000)]
    store.close()


@pytest.mark.parametrize("reverse", [False, True])
def test_tables_a_block_that_cannot_be_read_is_not_the_end_of_a_scan(tmp_path, reverse):
    filled(tmp_path / "state").close()
    table = next((tmp_path / "state").glob("*.sst"))
    data = bytearray(table.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(100)
    table.write_bytes(data)
    store = RocksStore(tmp_path / "state")
    with pytest.raises(StateDamaged, match="checksum mismatch"):
        list(store.scan(*ALL, reverse=reverse))
    store.close()
