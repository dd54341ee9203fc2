"""`python -m app.proving DATA LOG OWNER`: verify a copy of the state beside a worker that goes on.

A worker starts it, for a replay takes long. It prints the base as JSON, or why there is none with
exit code 1. It ends with whoever started it: its standard input is that process's life line.
"""

import os
import sys
import threading
from pathlib import Path

import msgspec

from app import bases, steps
from app.engine import TOPIC, runner_over
from tables.store import RocksStore
from transport.log import LogRefused
from transport.reading import ReadOnlyLog
from transport.recovery import LogCorrupt


def main(data: Path, folder: Path, owner: int) -> int:
    """Verify for the process ``owner``, and say what came of it."""
    steps.victims.insert(0, owner)
    threading.Thread(target=_die_along, daemon=True).start()
    os.nice(10)
    try:
        base = bases.verify(data, ReadOnlyLog(folder, TOPIC, 0, _applied(data, folder) + 1))
    except (bases.BaseRefused, LogRefused, LogCorrupt, LookupError) as error:
        print(error, flush=True)
        return 1
    print(msgspec.json.encode(base).decode(), flush=True)
    return 0


def _applied(data: Path, folder: Path) -> int:
    """Return the record up to which the copy has applied: all up to there is durable."""
    log = ReadOnlyLog(folder, TOPIC, 0, 0)
    store = RocksStore(data / "bases" / "work", read_only=True)
    try:
        return runner_over(store, log.identity).applied
    finally:
        store.close()


def _die_along() -> None:
    while os.read(0, 1):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
