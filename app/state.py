"""The state's folder: opened, rebuilt from the log when it cannot be trusted.

    DATA/state              RocksDB: a cache of the log
    DATA/state.unsound      why the state must not be used any more
    DATA/state.damaged-N    what could not be used, for whoever wants to know why

A rebuild begins at the oldest base (`app/bases.py`), or at the log's first record while there is
none.
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from app.bases import restore
from app.engine import TOPIC, runner_over
from app.replay import Records, digest, replay
from app.steps import step
from runtime.fused import WrongState
from tables.store import RocksStore, StateDamaged, Store

__all__ = ["StateRefused", "digest", "distrust", "open_state", "rebuild", "replay", "unreadable"]

logger = logging.getLogger("watersmeet")

UNSOUND = "state.unsound"


class StateRefused(Exception):
    """The state cannot be used and cannot be rebuilt; the text says why and how to mend it."""


def open_state(data: Path, log: Records) -> RocksStore:
    """Return the state of this log. What cannot be read is set aside, named, and built anew.

    Raises StateRefused when the log no longer holds what a new one would be built from.
    """
    folder = data / "state"
    shutil.rmtree(data / "state.old", ignore_errors=True)  # a rebuild was interrupted
    mark = data / UNSOUND
    if mark.exists():
        if folder.exists():
            _aside(folder, mark.read_text(encoding="utf-8"))
        mark.unlink()
    if not folder.exists():
        return _anew(data, log)
    try:
        store = RocksStore(folder)
        try:
            _check(store, log)
        except BaseException:
            store.close()
            raise
    except (StateDamaged, WrongState) as error:
        _aside(folder, str(error))
        return _anew(data, log)
    return store


def unreadable(error: BaseException) -> bool:
    """Return whether this says that the state's files are damaged, and not that a disk is full."""
    return isinstance(error, StateDamaged) or (
        type(error) is Exception and str(error).startswith("Corruption")
    )


def distrust(data: Path, why: str) -> None:
    """Have the state set aside and built anew when it is opened next: it cannot be read."""
    (data / UNSOUND).write_text(why, encoding="utf-8")


def _check(store: Store, log: Records) -> None:
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


def _aside(folder: Path, why: str) -> None:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.damaged-{number}")).exists():
        number += 1
    folder.rename(aside)
    step("state.aside")
    logger.warning("%s; it is kept as %s and built anew from the log", why, aside)


def _anew(data: Path, log: Records) -> RocksStore:
    """Return a state at the oldest base, or an empty one at the log's beginning."""
    folder = data / "state"
    if not restore(data, log, folder) and log.start(TOPIC, 0) > 0:
        raise StateRefused(
            f"{log.path}: the log begins at record {log.start(TOPIC, 0)} and no base reaches it: "
            "put a copy of the data folder back"
        )
    return RocksStore(folder)


def rebuild(data: Path, log: Records, progress: Callable[[int], None] | None = None) -> str:
    """Throw the state away and replay it from the oldest base. Return its digest."""
    folder = data / "state"
    old = data / "state.old"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    step("rebuild.removed")
    store = _anew(data, log)
    try:
        replay(store, log, progress=progress)
        found = digest(store)
    finally:
        store.close()
    shutil.rmtree(old, ignore_errors=True)
    return found
