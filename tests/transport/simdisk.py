"""A disk in memory that can lose power, fill up and fail: `transport.files.Files` for simulations.

What was written and not synced is in doubt. At a power cut each file's unsynced bytes are kept,
dropped or torn, independently of other files, in sectors or pages, some of them garbage; each
unsynced change of a folder is kept or lost. After a failed sync what was to be synced is partly on
disk, and no later sync brings the rest, as Linux does it. All chance comes from one generator.
"""

import errno
import random
from dataclasses import dataclass, field

from transport.files import Locked


class PowerLoss(BaseException):
    """The machine stops, in the middle of a call. Only the test catches it."""


@dataclass
class Fault:
    """The ``nth`` call of ``kind`` ("": any) fails; ``code`` an errno, or "short" for a write."""

    nth: int
    code: int | str
    kind: str = ""
    forever: bool = False
    hits: int = 0


@dataclass
class _File:
    data: bytearray = field(default_factory=bytearray)
    disk: bytearray = field(default_factory=bytearray)
    dirty: list[tuple[int, int]] = field(default_factory=list)
    """Byte ranges that were written since the last sync."""


class _Folder:
    pass


_Node = _File | _Folder


class SimFiles:
    """The disk. Use `kill` when the process dies, `power_cut` when the machine does."""

    threaded = False

    def __init__(self, rng: random.Random | None = None) -> None:
        self.rng = rng or random.Random(0)
        self.capacity: int | None = None
        self.fault: Fault | None = None
        self.lose_power_at = -1
        self.calls = 0
        self.counts: dict[str, int] = {}
        self._tree: dict[str, _Node] = {"/": _Folder()}
        self._disk_tree: dict[str, _Node] = dict(self._tree)
        self._unsynced: list[tuple[str, dict[str, _Node | None]]] = []
        self._handles: dict[int, _File] = {}
        self._locks: dict[int, str] = {}
        self._next = 3

    # ---- what happens to it --------------------------------------------------------------------
    def kill(self) -> None:
        """The process is gone; what it wrote stays in the cache."""
        self._handles.clear()
        self._locks.clear()

    def power_cut(self) -> None:
        """The machine is gone; what was not synced is in doubt."""
        self.kill()
        rng = self.rng
        for _, change in self._unsynced:
            if rng.random() < 0.5:
                _apply(self._disk_tree, change)
        self._unsynced = []
        tree = self._disk_tree
        for path in sorted(tree):
            if path != "/" and not isinstance(tree.get(_parent(path)), _Folder):
                del tree[path]
        self._tree = dict(tree)
        for path in sorted(tree):
            node = tree[path]
            if isinstance(node, _File):
                self._settle(node, rng.choice(("keep", "drop", "torn", "torn")))
                node.data = bytearray(node.disk)

    def _settle(self, file: _File, fate: str) -> None:
        """Decide what of the unsynced bytes reached the disk."""
        rng = self.rng
        dirty, file.dirty = file.dirty, []
        if fate == "drop":
            return
        if fate == "keep":
            self._reach(file, dirty, len(file.data))
            return
        low, high = sorted((len(file.disk), len(file.data)))
        unit = rng.choice((512, 4096))
        size = rng.choice((low, high, rng.randint(low, high)))
        kept = []
        for start, end in dirty:
            at = start
            while at < end:
                stop = min(end, at - at % unit + unit)
                luck = rng.random()
                if luck < 0.5:
                    kept.append((at, stop))
                elif luck < 0.7:
                    middle = (at + stop) // 2
                    file.data[middle:stop] = rng.randbytes(stop - middle)
                    kept.append((at, stop))
                at = stop
        self._reach(file, kept, size)

    @staticmethod
    def _reach(file: _File, ranges: list[tuple[int, int]], size: int) -> None:
        disk = file.disk
        if len(disk) < size:
            disk.extend(bytes(size - len(disk)))
        for start, end in ranges:
            end = min(end, size, len(file.data))
            if start < end:
                disk[start:end] = file.data[start:end]
        del disk[size:]

    def flip(self, path: str, position: int, bit: int = 0) -> None:
        """A bit of a file turns over, on disk."""
        file = self._file(path)
        file.data[position] ^= 1 << bit
        file.disk[:] = file.data

    def content(self, path: str) -> bytes:
        """Return a file's bytes."""
        return bytes(self._file(path).data)

    def replace(self, path: str, data: bytes) -> None:
        """Put other bytes in place of a file's, on disk."""
        file = self._file(path)
        file.data[:] = data
        file.disk[:] = data
        file.dirty = []

    def paths(self) -> list[str]:
        """Return the paths of all files."""
        return sorted(p for p, node in self._tree.items() if isinstance(node, _File))

    def _file(self, path: str) -> _File:
        node = self._tree.get(path)
        if not isinstance(node, _File):
            raise FileNotFoundError(errno.ENOENT, path)
        return node

    # ---- faults --------------------------------------------------------------------------------
    def _call(self, kind: str) -> str:
        """Count a call; raise, or return "short", as the fault has it."""
        self.calls += 1
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.calls == self.lose_power_at:
            raise PowerLoss
        fault = self.fault
        if fault is None or (fault.kind and fault.kind != kind):
            return ""
        count = self.counts[kind] if fault.kind else self.calls
        if count != fault.nth and not (fault.forever and count > fault.nth):
            return ""
        if fault.code == "short":
            if kind == "write":
                fault.hits += 1
                return "short"
            return ""
        fault.hits += 1
        raise OSError(fault.code, errno.errorcode[fault.code])

    def _used(self) -> int:
        return sum(len(node.data) for node in self._tree.values() if isinstance(node, _File))

    # ---- the port ------------------------------------------------------------------------------
    def open(self, path: str, *, create: bool = False) -> int:
        self._call("open")
        node = self._tree.get(path)
        if isinstance(node, _Folder):
            raise IsADirectoryError(errno.EISDIR, path)
        if node is None:
            if not create or not isinstance(self._tree.get(_parent(path)), _Folder):
                raise FileNotFoundError(errno.ENOENT, path)
            node = _File()
            self._change(_parent(path), {path: node})
        elif create:
            self._cut(node, 0)
        handle, self._next = self._next, self._next + 1
        self._handles[handle] = node
        return handle

    def close(self, handle: int) -> None:
        self._locks.pop(handle, None)
        if self._handles.pop(handle, None) is None:
            raise OSError(errno.EBADF, "closed")

    def size(self, handle: int) -> int:
        return len(self._open(handle).data)

    def read(self, handle: int, size: int, position: int) -> bytes:
        self._call("read")
        return bytes(self._open(handle).data[position : position + size])

    def write(self, handle: int, data: bytes, position: int) -> int:
        file = self._open(handle)
        try:
            if self._call("write") == "short":
                data = data[: max(1, len(data) // 2)]
        except OSError:
            self._put(file, data[: len(data) // 2], position)
            raise
        grows = max(0, position + len(data) - len(file.data))
        if self.capacity is not None and grows:
            room = max(0, self.capacity - self._used())
            if grows > room:
                data = data[: len(data) - (grows - room)]
                if not data or room == 0:
                    raise OSError(errno.ENOSPC, "no space left on device")
        self._put(file, data, position)
        return len(data)

    @staticmethod
    def _put(file: _File, data: bytes, position: int) -> None:
        if len(file.data) < position:
            file.data.extend(bytes(position - len(file.data)))
        file.data[position : position + len(data)] = data
        file.dirty.append((position, position + len(data)))

    def write_sync(self, handle: int, data: bytes, position: int) -> int:
        written = self.write(handle, data, position)
        self.sync(handle)
        return written

    def sync(self, handle: int) -> None:
        file = self._open(handle)
        try:
            self._call("sync")
        except OSError:
            self._settle(file, "torn")
            raise
        self._settle(file, "keep")

    def truncate(self, handle: int, size: int) -> None:
        self._call("truncate")
        self._cut(self._open(handle), size)

    @staticmethod
    def _cut(file: _File, size: int) -> None:
        file.dirty.append((size, len(file.data)))
        del file.data[size:]

    def mkdir(self, path: str) -> None:
        self._call("mkdir")
        if path not in self._tree:
            self._change(_parent(path), {path: _Folder()})

    def listdir(self, path: str) -> list[str]:
        self._call("listdir")
        if not isinstance(self._tree.get(path), _Folder):
            raise FileNotFoundError(errno.ENOENT, path)
        return sorted(p.rpartition("/")[2] for p in self._tree if p != "/" and _parent(p) == path)

    def exists(self, path: str) -> bool:
        return path in self._tree

    def rename(self, old: str, new: str) -> None:
        self._call("rename")
        self._change(_parent(new), {old: None, new: self._file(old)})

    def unlink(self, path: str) -> None:
        self._call("unlink")
        self._file(path)
        self._change(_parent(path), {path: None})

    def sync_dir(self, path: str) -> None:
        self._call("sync_dir")
        kept = []
        for folder, change in self._unsynced:
            if folder == path:
                _apply(self._disk_tree, change)
            else:
                kept.append((folder, change))
        self._unsynced = kept

    def lock(self, path: str, owner: str) -> int:
        if path in self._locks.values():
            raise Locked(self.content(path).decode().strip())
        handle = self.open(path, create=True)
        self._put(self._open(handle), owner.encode(), 0)
        self._locks[handle] = path
        return handle

    def _open(self, handle: int) -> _File:
        file = self._handles.get(handle)
        if file is None:
            raise OSError(errno.EBADF, "closed")
        return file

    def _change(self, folder: str, change: dict[str, _Node | None]) -> None:
        _apply(self._tree, change)
        self._unsynced.append((folder, change))


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _apply(tree: dict[str, _Node], change: dict[str, _Node | None]) -> None:
    for path, node in change.items():
        if node is None:
            tree.pop(path, None)
        else:
            tree[path] = node
