"""The state's folder: opened, rebuilt from the log when it cannot be trusted, hashed, copied.

    DATA/state              RocksDB: a cache of the log
    DATA/bases/OFFSET       a copy of the state as of that record, with base.json: digest, program

A rebuild begins at the oldest base, or at the log's first record while there is none.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct
from xxhash import xxh3_128

from app.engine import TOPIC, runner_over
from app.steps import step
from events.version import VERSION
from runtime.fused import Runner, WrongState
from tables.store import RocksStore, StateDamaged, Store
from transport.log import Log

logger = logging.getLogger("watersmeet")

REPLAY_COMMIT = 2000
BASES_KEPT = 2
_LARGEST = b"\xff" * 8


class StateRefused(Exception):
    """The state cannot be used and cannot be rebuilt; the text says why and how to mend it."""


class Base(Struct, frozen=True):
    """What `base.json` says of a copy of the state."""

    applied: int
    digest: str
    program: str
    log: str


def open_state(data: Path, log: Log) -> RocksStore:
    """Return the state of this log. What cannot be read is set aside, named, and built anew.

    Raises StateRefused when the log no longer holds what a new one would be built from.
    """
    folder = data / "state"
    try:
        store = RocksStore(folder)
        try:
            _check(store, log)
        except BaseException:
            store.close()
            raise
    except (StateDamaged, WrongState) as error:
        aside = _set_aside(folder)
        logger.warning("%s; it is kept as %s and built anew from the log", error, aside)
        return _anew(data, log)
    return store


def _check(store: Store, log: Log) -> None:
    runner = runner_over(store, log.identity)
    end = log.durable_end(TOPIC, 0)
    if runner.applied >= end:
        raise WrongState(
            f"the state has applied record {runner.applied}, the log ends before {end}: "
            "one of the two is an older copy"
        )
    if runner.applied + 1 < log.start(TOPIC, 0):
        raise WrongState(
            f"the state ends at record {runner.applied}, the log begins at {log.start(TOPIC, 0)}"
        )


def _set_aside(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.damaged-{number}")).exists():
        number += 1
    if folder.exists():
        folder.rename(aside)
        step("state.aside")
    return aside


def _anew(data: Path, log: Log) -> RocksStore:
    """Return a state at the oldest base, or an empty one at the log's beginning."""
    folder = data / "state"
    for base, path in bases(data):
        if base.log == log.identity and base.applied + 1 >= log.start(TOPIC, 0):
            _copy(path, folder)
            return RocksStore(folder)
    if log.start(TOPIC, 0) > 0:
        raise StateRefused(
            f"{log.path}: the log begins at record {log.start(TOPIC, 0)} and no base reaches it: "
            "put a copy of the data folder back"
        )
    return RocksStore(folder)


def replay(store: Store, log: Log, upto: int | None = None,
           progress: Callable[[int], None] | None = None) -> Runner:
    """Apply what the log holds beyond the state, up to a record; nothing goes out."""
    runner = runner_over(store, log.identity)
    end = log.durable_end(TOPIC, 0) if upto is None else upto
    held = 0
    while runner.applied + 1 < end:
        for record in log.read(TOPIC, 0, runner.applied + 1, 1000, 4 << 20):
            if record.offset >= end:
                break
            held += runner.apply(record.offset, record.value)
            if held >= REPLAY_COMMIT:
                runner.commit()
                held = 0
                if progress is not None:
                    progress(runner.applied)
    runner.commit()
    return runner


def digest(store: Store) -> str:
    """Return a hash over all logical state: every row, in order."""
    hashed = xxh3_128()
    for key, value in store.scan(b"", _LARGEST):
        hashed.update(len(key).to_bytes(4, "big") + key + len(value).to_bytes(4, "big") + value)
    return str(hashed.hexdigest())


# ---- bases ---------------------------------------------------------------------------------------
def bases(data: Path) -> Iterator[tuple[Base, Path]]:
    """Yield the bases that are whole, the oldest first."""
    folder = data / "bases"
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        note = path / "base.json"
        if path.name.isdigit() and note.is_file():
            found.append((msgspec.json.decode(note.read_bytes(), type=Base), path))
    yield from sorted(found, key=lambda one: one[0].applied)


def floor(data: Path) -> int | None:
    """Return the first record that a rebuild still needs; None: there is no base."""
    first = next(bases(data), None)
    return None if first is None else first[0].applied + 1


def make_base(data: Path, log: Log, store: RocksStore) -> Base:
    """Copy the present state, and verify it: a replay from the base before gives the same hash.

    Raises StateRefused when it does not; nothing is kept then. Cost: the replay.
    """
    runner = runner_over(store, log.identity)
    base = Base(runner.applied, digest(store), VERSION, log.identity)
    folder = data / "bases" / f"{base.applied:020d}"
    if folder.exists():
        return base
    work = data / "bases" / "work"
    shutil.rmtree(work, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    store.checkpoint(work)
    found = _replayed_digest(data, log, base.applied)
    if found != base.digest:
        shutil.rmtree(work)
        raise StateRefused(
            f"the state at record {base.applied} has digest {base.digest}, a replay of the log "
            f"gives {found}: `faust -A app rebuild` mends the state; please report this"
        )
    (work / "base.json").write_bytes(msgspec.json.encode(base))
    _sync(work / "base.json")
    _sync(work)
    work.rename(folder)
    _sync(folder.parent)
    for _, old in list(bases(data))[:-BASES_KEPT]:
        shutil.rmtree(old)
    return base


def _replayed_digest(data: Path, log: Log, applied: int) -> str:
    trial = data / "bases" / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    earlier = [path for base, path in bases(data) if base.applied < applied]
    if earlier:
        _copy(earlier[-1], trial)
    store = RocksStore(trial)
    try:
        replay(store, log, applied + 1)
        return digest(store)
    finally:
        store.close()
        shutil.rmtree(trial, ignore_errors=True)


def rebuild(data: Path, log: Log, progress: Callable[[int], None] | None = None) -> str:
    """Throw the state away and replay it from the oldest base. Return its digest."""
    folder = data / "state"
    old = data / "state.old"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    store = _anew(data, log)
    try:
        replay(store, log, progress=progress)
        return digest(store)
    finally:
        store.close()
        shutil.rmtree(old, ignore_errors=True)


def _copy(base: Path, folder: Path) -> None:
    """Copy a base; its immutable files by link."""
    folder.mkdir(parents=True)
    for path in sorted(base.iterdir()):
        if path.suffix == ".sst":
            os.link(path, folder / path.name)
        elif path.name != "base.json":
            shutil.copy2(path, folder / path.name)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
