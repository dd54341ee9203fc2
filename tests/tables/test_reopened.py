"""The store of the worker."""

import re

from tables.store import CACHE_BYTES, RocksStore


def test_a_store_opened_again_has_its_cache_and_its_filters(tmp_path):
    for _ in range(2):
        store = RocksStore(tmp_path / "state")
        store.write([(b"a", b"1")], [])
        store.close()
    said = (tmp_path / "state" / "LOG").read_text()
    assert re.findall(r"capacity : (\d+)", said) == [str(CACHE_BYTES)]
    assert re.findall(r"filter_policy: (\S+)", said) == ["bloomfilter"]


def test_a_store_opened_to_be_read_holds_what_was_written(tmp_path):
    store = RocksStore(tmp_path / "state")
    store.write([(b"a", b"1"), (b"b", b"2")], [])
    store.close()
    store = RocksStore(tmp_path / "state", read_only=True)
    assert store.get(b"a") == b"1"
    assert list(store.scan(b"a", b"c")) == [(b"a", b"1"), (b"b", b"2")]
    store.close()
