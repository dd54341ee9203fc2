"""Bases: verified copies of the state, from which it can be built again.

    DATA/bases/OFFSET       the state as of that record; with base.json it counts
    DATA/bases/work         one that is being made
    DATA/bases/trial        the replay that verifies it

A base is made in three moves: `copy` (in the worker, while it goes on), `verify` (in a process of
its own: it is a replay), which ends by putting it in its place. A crash at any moment leaves what
was there before, or the new base, and rubbish that the next one clears away. The copy shares no
file with the state or with another base, so that what spoils one of them spoils one of them.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from app.engine import TOPIC, runner_over
from app.replay import Records, digest, replay
from app.steps import step
from events.version import VERSION
from tables.store import RocksStore, StateDamaged

logger = logging.getLogger("watersmeet")

BASES_KEPT = 2
NOTE = "base.json"


class BaseRefused(Exception):
    """The copy is not what the log gives, or there is none; the text says what to do."""


class Base(Struct, frozen=True):
    """What `base.json` says of a copy of the state."""

    applied: int
    digest: str
    program: str
    log: str


def bases(data: Path) -> Iterator[tuple[Base, Path]]:
    """Yield the bases that are whole, the oldest first."""
    folder = data / "bases"
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        note = path / NOTE
        if not path.name.isdigit() or not note.is_file():
            continue
        try:
            found.append((msgspec.json.decode(note.read_bytes(), type=Base), path))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning("%s is damaged (%s): this base is passed over", note, error)
    yield from sorted(found, key=lambda one: one[0].applied)


def floor(data: Path) -> int | None:
    """Return the first record that a rebuild still needs; None: there is no base."""
    first = next(bases(data), None)
    return None if first is None else first[0].applied + 1


# ---- making one ----------------------------------------------------------------------------------
def copy(data: Path, store: RocksStore) -> None:
    """Copy the present state, to be verified. What is in the copy is on disk in the state too."""
    work = data / "bases" / "work"
    work.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in work.parent.iterdir():  # what a crash, or a failure, left
        if not path.name.isdigit() or not (path / NOTE).is_file():
            shutil.rmtree(path)
    store.checkpoint(work)
    step("base.copied")


def verify(data: Path, log: Records) -> Base:
    """Verify the copy, by replaying the log from the base before, and put it in its place.

    Raises BaseRefused when the replay gives another state: nothing is kept then. Cost: the replay.
    """
    folder = data / "bases"
    work = folder / "work"
    _own(work)
    store = RocksStore(work, read_only=True)
    try:
        base = Base(runner_over(store, log.identity).applied, digest(store), VERSION, log.identity)
    finally:
        store.close()
    place = folder / f"{base.applied:020d}"
    if place.exists():
        shutil.rmtree(work)
        return base
    found = _replayed(data, log, base.applied)
    if found != base.digest:
        shutil.rmtree(work)
        raise BaseRefused(
            f"the state at record {base.applied} has digest {base.digest}, a replay of the log "
            f"gives {found}: `faust -A app rebuild` mends the state; please report this"
        )
    step("base.verified")
    (work / NOTE).write_bytes(msgspec.json.encode(base))
    _sync(work / NOTE)
    _sync(work)
    step("base.noted")
    work.rename(place)
    _sync(folder)
    step("base.made")
    for _, old in list(bases(data))[:-BASES_KEPT]:
        (old / NOTE).unlink()  # first, or half a base would count after a crash
        _sync(old)
        step("base.forgotten")
        shutil.rmtree(old)
    return base


def _replayed(data: Path, log: Records, applied: int) -> str:
    """Return the digest that a replay up to a record gives, from the newest base that is sound."""
    trial = data / "bases" / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    earlier = [(base, path) for base, path in bases(data)
               if base.applied < applied and base.log == log.identity]
    for base, path in reversed(earlier):
        if _take(base, path, trial):
            break
    else:
        if log.start(TOPIC, 0) > 0:
            raise BaseRefused(
                f"the log begins at record {log.start(TOPIC, 0)} and no base reaches it: nothing "
                "can be verified; put a copy of the data folder back"
            )
    store = RocksStore(trial)
    try:
        replay(store, log, applied + 1)
        return digest(store)
    finally:
        store.close()
        shutil.rmtree(trial, ignore_errors=True)


# ---- using one -----------------------------------------------------------------------------------
def restore(data: Path, log: Records, folder: Path) -> bool:
    """Put the oldest sound base of this log in place as ``folder``. False: there is none."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    for base, path in bases(data):
        if base.log != log.identity or base.applied + 1 < log.start(TOPIC, 0):
            continue
        if _take(base, path, fresh):
            fresh.rename(folder)
            _sync(folder.parent)
            step("rebuild.copied")
            return True
    return False


def _take(base: Base, path: Path, folder: Path) -> bool:
    """Copy a base to ``folder`` if it still is what its note says."""
    folder.mkdir(parents=True)
    for file in sorted(path.iterdir()):
        if file.name not in (NOTE, "LOCK"):
            shutil.copyfile(file, folder / file.name)
            _sync(folder / file.name)
    _sync(folder)
    try:
        store = RocksStore(folder)
        try:
            found = digest(store)
        finally:
            store.close()
    except Exception as error:  # rocksdict raises plain Exception for everything
        if type(error) not in (Exception, StateDamaged):
            raise
        found = f"none ({error})"
    if found == base.digest:
        return True
    logger.warning("%s is damaged: its digest is %s, not %s; it is passed over",
                   path, found, base.digest)
    shutil.rmtree(folder)
    return False


def _own(folder: Path) -> None:
    """Give the folder files of its own instead of links, durably."""
    for path in sorted(folder.iterdir()):
        if path.stat().st_nlink > 1:
            fresh = path.with_name(path.name + ".own")
            shutil.copyfile(path, fresh)
            fresh.replace(path)
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
