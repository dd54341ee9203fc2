"""The port through which the log touches the disk: real files here, a simulated disk in the tests.

Paths are strings, files are small integers, all errors are OSError. A write may be short.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Protocol


class Locked(OSError):
    """Another process holds the lock; ``owner`` is what it wrote there."""

    def __init__(self, owner: str) -> None:
        super().__init__(f"locked by {owner}")
        self.owner = owner


class Files(Protocol):
    """What the log needs of a disk."""

    threaded: bool
    """The calls block: `Log.flush` makes them in a thread. False: they are made at once, inline."""

    def open(self, path: str, *, create: bool = False) -> int:
        """Return a handle for reading and writing; ``create`` makes the file, or empties it."""

    def close(self, handle: int) -> None: ...
    def size(self, handle: int) -> int: ...
    def read(self, handle: int, size: int, position: int) -> bytes:
        """Return up to ``size`` bytes, fewer only at the end of the file."""

    def write(self, handle: int, data: bytes, position: int) -> int:
        """Write, not yet durably. Return how much was written."""

    def write_sync(self, handle: int, data: bytes, position: int) -> int:
        """Write durably, the file's length included. Return how much was written."""

    def sync(self, handle: int) -> None:
        """Return when all that was written to the file is durable."""

    def truncate(self, handle: int, size: int) -> None: ...
    def mkdir(self, path: str) -> None:
        """Make a folder; one that is there already is fine."""

    def listdir(self, path: str) -> list[str]:
        """Return the names in a folder, sorted."""

    def exists(self, path: str) -> bool: ...
    def rename(self, old: str, new: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def sync_dir(self, path: str) -> None:
        """Return when the names in a folder are durable."""

    def lock(self, path: str, owner: str) -> int:
        """Own ``path`` until `close`, or until the process dies. Raises Locked."""


class OsFiles:
    """The real disk."""

    threaded = True

    def open(self, path: str, *, create: bool = False) -> int:
        """Open a file; a new one is for this user alone."""
        flags = os.O_RDWR | (os.O_CREAT | os.O_TRUNC if create else 0)
        return os.open(path, flags, 0o600)

    def close(self, handle: int) -> None:
        """Close it."""
        os.close(handle)

    def size(self, handle: int) -> int:
        """Return its length."""
        return os.fstat(handle).st_size

    def read(self, handle: int, size: int, position: int) -> bytes:
        """Read; the kernel may give less than asked for."""
        data = os.pread(handle, size, position)
        while 0 < len(data) < size:
            more = os.pread(handle, size - len(data), position + len(data))
            if not more:
                break
            data += more
        return data

    def write(self, handle: int, data: bytes, position: int) -> int:
        """Write to the kernel's cache."""
        return os.pwrite(handle, data, position)

    if hasattr(os, "RWF_DSYNC"):

        def write_sync(self, handle: int, data: bytes, position: int) -> int:
            """Write and sync in one call, so that a busy interpreter is waited for once only."""
            return os.pwritev(handle, [data], position, os.RWF_DSYNC)

    else:

        def write_sync(self, handle: int, data: bytes, position: int) -> int:
            """Write, then sync."""
            written = os.pwrite(handle, data, position)
            self.sync(handle)
            return written

    def sync(self, handle: int) -> None:
        """Sync data and length; where there is a stronger call than fsync, use it."""
        if hasattr(fcntl, "F_FULLFSYNC"):
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
        else:
            os.fsync(handle)

    def truncate(self, handle: int, size: int) -> None:
        """Cut the file."""
        os.ftruncate(handle, size)

    def mkdir(self, path: str) -> None:
        """Make a folder for this user alone."""
        with contextlib.suppress(FileExistsError):
            Path(path).mkdir(0o700)

    def listdir(self, path: str) -> list[str]:
        """List it."""
        return sorted(entry.name for entry in Path(path).iterdir())

    def exists(self, path: str) -> bool:
        """Return whether there is such a file or folder."""
        return Path(path).exists()

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing what was there."""
        Path(old).replace(new)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        Path(path).unlink()

    def sync_dir(self, path: str) -> None:
        """Sync a folder."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def lock(self, path: str, owner: str) -> int:
        """Lock by flock: the kernel lets go of it when the process dies, however it dies."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told = os.pread(handle, 100, 0).decode(errors="replace").strip()
            os.close(handle)
            raise Locked(told) from None
        except OSError:
            os.close(handle)
            raise
        os.ftruncate(handle, 0)
        os.pwrite(handle, owner.encode(), 0)
        return handle


def write_all(files: Files, handle: int, data: bytes, position: int, *, sync: bool = False) -> None:
    """Write the whole, in as many calls as the disk wants; one that writes nothing is an error."""
    write = files.write_sync if sync else files.write
    written = write(handle, data, position)
    while written < len(data):
        more = write(handle, data[written:], position + written)
        if more <= 0:
            raise OSError(5, "the disk takes no more")
        written += more


def write_file(files: Files, folder: str, name: str, data: bytes) -> None:
    """Put a small file in place, durably and as a whole: after a crash it is the old or the new."""
    fresh = f"{folder}/{name}.new"
    handle = files.open(fresh, create=True)
    try:
        write_all(files, handle, data, 0)
        files.sync(handle)
    finally:
        files.close(handle)
    files.rename(fresh, f"{folder}/{name}")
    files.sync_dir(folder)
