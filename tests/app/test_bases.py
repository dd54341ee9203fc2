"""Bases: what counts as one after a crash, and what is done with one that is not sound."""

import shutil
from pathlib import Path

import msgspec
import pytest

from agents.records import Received
from app import bases, state
from app.bases import Base, BaseRefused
from app.engine import TOPIC
from events.calls import accept, request_context
from runtime.envelope import pack
from tables.store import RocksStore
from transport.log import Log


def log_of(data: Path) -> Log:
    return Log.open(data / "log", segment_bytes=2_000)


def fill(log: Log, start: int, count: int) -> None:
    """Append so many events of a few people, one a record."""
    for n in range(start, start + count):
        at_ms = 1_767_614_400_000 + n * 1000
        context = request_context(
            type=None, project_id="web", channel="server", client_side=False,
            received_at_ms=at_ms, new_message_id=lambda: "none", sent_at=None, context=None,
            integrations=None, ip=None,
        )
        call = accept({"type": "track", "event": "Seen", "userId": f"u{n % 5}",
                       "messageId": f"m{n}"}, context)
        assert not isinstance(call, str)
        item = Received(call.source, call.message_id, at_ms, call.timestamp_ms, call.body)
        log.append(TOPIC, 0, pack("event", at_ms, [item]), timestamp_ms=at_ms)
    log.flush_inline()


def make(data: Path, log: Log) -> Base:
    store = state.open_state(data, log)
    state.replay(store, log)
    bases.copy(data, store)
    store.close()
    return bases.verify(data, log)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def log(data: Path):
    log = log_of(data)
    log.create(TOPIC, 1)
    fill(log, 0, 50)
    yield log
    log.close()


def test_engine_two_bases_are_kept_and_the_log_is_needed_from_the_older_on(data, log):
    assert bases.floor(data) is None
    for n in range(3):
        made = make(data, log)
        assert made.applied == 49 + 10 * n
        fill(log, 50 + 10 * n, 10)
    assert [base.applied for base, _ in bases.bases(data)] == [59, 69]
    assert bases.floor(data) == 60
    assert make(data, log).applied == 79


def test_engine_a_base_shares_no_file_with_the_state(data, log):
    make(data, log)
    make(data, log)
    for path in (data / "bases").rglob("*"):
        if path.is_file():
            assert path.stat().st_nlink == 1, path


def test_engine_what_a_crash_left_is_no_base_and_is_cleared_away(data, log):
    first = make(data, log)
    folder = data / "bases"
    shutil.copytree(folder / f"{first.applied:020d}", folder / f"{99:020d}")
    (folder / f"{99:020d}" / "base.json").unlink()  # half forgotten
    (folder / "work").mkdir()
    (folder / "work" / "half").touch()
    (folder / "trial").mkdir()
    (data / "state.new").mkdir()
    (data / "state.old").mkdir()
    fill(log, 50, 10)
    assert [base.applied for base, _ in bases.bases(data)] == [49]
    make(data, log)
    assert sorted(path.name for path in folder.iterdir()) == [f"{n:020d}" for n in (49, 59)]
    found = state.rebuild(data, log)
    assert found == state.rebuild(data, log)
    assert not (data / "state.new").exists()
    assert not (data / "state.old").exists()


@pytest.mark.parametrize("spoilt", ["note", "table"])
def test_engine_an_unsound_base_is_passed_over_and_the_next_one_serves(data, log, spoilt, caplog):
    make(data, log)
    fill(log, 50, 10)
    make(data, log)
    found = state.rebuild(data, log)
    log.truncate(TOPIC, 0, 50)
    assert log.start(TOPIC, 0) > 0
    oldest = data / "bases" / f"{49:020d}"
    if spoilt == "note":
        (oldest / "base.json").write_bytes(b'{"applied":')
    else:
        for table in oldest.glob("*.sst"):
            table.write_bytes(table.read_bytes()[:-1] + b"x")
    assert state.rebuild(data, log) == found
    assert "passed over" in caplog.text
    shutil.rmtree(data / "bases")
    with pytest.raises(state.StateRefused, match="no base reaches it"):
        state.rebuild(data, log)


def test_engine_a_state_that_the_log_does_not_give_makes_no_base(data, log):
    store = state.open_state(data, log)
    state.replay(store, log)
    store.write([(b"Pp!", b"\xc0")], [])
    bases.copy(data, store)
    store.close()
    with pytest.raises(BaseRefused, match="a replay of the log gives"):
        bases.verify(data, log)
    assert list(bases.bases(data)) == []
    assert list((data / "bases").iterdir()) == []


def test_engine_a_base_of_another_log_does_not_count(data, log):
    made = make(data, log)
    note = data / "bases" / f"{made.applied:020d}" / "base.json"
    other = msgspec.structs.replace(made, log="ab" * 16)
    note.write_bytes(msgspec.json.encode(other))
    found = state.rebuild(data, log)
    shutil.rmtree(data / "bases")
    assert state.rebuild(data, log) == found


def test_engine_a_distrusted_state_is_set_aside_once(data, log):
    store = state.open_state(data, log)
    state.replay(store, log)
    found = state.digest(store)
    store.close()
    state.distrust(data, "it cannot be read")
    store = state.open_state(data, log)
    state.replay(store, log)
    assert state.digest(store) == found
    store.close()
    assert not (data / "state.unsound").exists()
    state.open_state(data, log).close()
    assert len(list(data.glob("state.damaged-*"))) == 1
    assert isinstance(store, RocksStore)
