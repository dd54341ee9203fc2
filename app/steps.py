"""Named moments in the life of a worker, at which a test has it killed.

`WATERSMEET_KILL_AT=committed:3` kills the process, as `kill -9` does, when it comes to the third
`committed`; several names are separated by commas. Unset, which is always but in tests, a step does
nothing. The calls that the log and the archive make to the disk are steps too, see `files`.
"""

import os
import signal
import threading
from collections.abc import Callable

from transport.files import OsFiles

STEPS = (
    "log.appended",      # in memory, nothing of it on disk
    "log.synced",        # durable, not answered
    "answer",            # as good as answered
    "applied",           # in memory, not in the state
    "committed",         # in the state, nobody was told
    "told",              # archive and outbound know
    "sent",              # a destination answered, nothing of it is in the log
    "result.logged",
    "define.logged",
    "tick.logged",
    "archive.block",     # lines are in the archive
    "state.aside",       # what could not be read is renamed
    "base.copied",       # a copy of the state, not verified
    "base.verified",
    "base.noted",        # with its note, under a name that does not count
    "base.made",
    "base.forgotten",    # an old one has lost its note
    "retention.covered", # all that is to be cut is in a base and in the archive
    "retention.cut",
    "lot.applied",       # on Kafka: in memory, nothing sent
    "lot.sent",          # one phase of what it sends
    "lot.logged",        # in the changelog, not in the store
    "lot.written",
    "rebuild.removed",   # the state is thrown away
    "rebuild.copied",    # a base stands in its place
    "rebuild.replayed",  # some of the log is applied again
    "stop.listening",    # nothing is taken any more
    "stop.archived",
    "stop.closed",
)
"""All of them; beside these, `FILE.CALL` of `FILES` and `CALLS`."""

FILES = ("segment", "header", "archive", "covered")
CALLS = ("create", "write", "torn", "sync", "truncate", "rename", "unlink", "sync_dir")
"""Each is the moment after the call; `torn` the moment when half of a write is done."""


def _parse(text: str) -> dict[str, int]:
    """Return how often each step is still passed. Raises ValueError for a name that is none."""
    left = {}
    for one in filter(None, text.split(",")):
        name, _, count = one.strip().partition(":")
        if name not in STEPS and (
            name.partition(".")[0] not in FILES or name.partition(".")[2] not in CALLS
        ):
            raise ValueError(f"WATERSMEET_KILL_AT: there is no step {name}")
        left[name] = int(count or 1)
    return left


_left = _parse(os.environ.get("WATERSMEET_KILL_AT", ""))
_sleeps = _parse(os.environ.get("WATERSMEET_STOP_AT", ""))
"""The same with `SIGSTOP`: the process sleeps until somebody wakes it, and goes on then."""
_counting = threading.Lock()
victims = [os.getpid()]
"""Who is killed: this process, after the one that it works for."""


def _nothing(_name: str) -> None:
    """Go on."""


def _step(name: str) -> None:
    with _counting:
        sleeps = _sleeps.get(name)
        if sleeps is not None:
            _sleeps[name] = sleeps - 1
            if sleeps == 1:
                os.kill(os.getpid(), signal.SIGSTOP)
        count = _left.get(name)
        if count is None:
            return
        if count > 1:
            _left[name] = count - 1
            return
        for victim in victims:
            if victim in (os.getpid(), os.getppid()):  # another may have its number by now
                os.kill(victim, signal.SIGKILL)


step: Callable[[str], None] = _step if _left or _sleeps else _nothing
"""Come to a step."""


class SteppingFiles(OsFiles):
    """The real disk, each of whose calls is a step."""

    def __init__(self) -> None:
        """Know no file yet."""
        self._names: dict[int, str] = {}

    def open(self, path: str, *, create: bool = False) -> int:
        """Open a file."""
        handle = super().open(path, create=create)
        self._names[handle] = _kind(path)
        if create:
            step(f"{_kind(path)}.create")
        return handle

    def write(self, handle: int, data: bytes, position: int) -> int:
        """Write."""
        self._tear(handle, data, position)
        written = super().write(handle, data, position)
        step(f"{self._names[handle]}.write")
        return written

    def write_sync(self, handle: int, data: bytes, position: int) -> int:
        """Write durably."""
        self._tear(handle, data, position)
        written = super().write(handle, data, position)
        step(f"{self._names[handle]}.write")
        self.sync(handle)
        return written

    def _tear(self, handle: int, data: bytes, position: int) -> None:
        name = f"{self._names[handle]}.torn"
        if name in _left:
            super().write(handle, data[: len(data) // 2], position)
            step(name)

    def sync(self, handle: int) -> None:
        """Sync."""
        super().sync(handle)
        step(f"{self._names[handle]}.sync")

    def truncate(self, handle: int, size: int) -> None:
        """Cut."""
        super().truncate(handle, size)
        step(f"{self._names[handle]}.truncate")

    def rename(self, old: str, new: str) -> None:
        """Rename."""
        super().rename(old, new)
        step(f"{_kind(new)}.rename")

    def unlink(self, path: str) -> None:
        """Remove."""
        super().unlink(path)
        step(f"{_kind(path)}.unlink")

    def sync_dir(self, path: str) -> None:
        """Sync a folder."""
        super().sync_dir(path)
        step(f"{_kind(path)}.sync_dir")


def _kind(path: str) -> str:
    """Return which of `FILES` a path, or what lies in a folder, is."""
    name = path.removesuffix(".new")
    if name.endswith(".json"):
        return "covered" if name.endswith("covered.json") else "header"
    return "archive" if name.endswith((".gz", "/archive")) else "segment"


def files() -> OsFiles:
    """Return the disk for log and archive."""
    return SteppingFiles() if _left else OsFiles()
