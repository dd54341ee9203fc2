"""A disk that fails, for workers with this folder on their PYTHONPATH: while the file that
DISK_FAILS names exists, each write of log and archive fails with the error number in it."""

import errno
import os
from pathlib import Path
from typing import Any

from transport.files import OsFiles

_fails = Path(os.environ["DISK_FAILS"])


def _failing(plain: Any) -> Any:
    def call(*args: Any, **options: Any) -> Any:
        if _fails.exists():
            code = int(_fails.read_text() or errno.EIO)
            raise OSError(code, os.strerror(code))
        return plain(*args, **options)

    return call


for _name in ("write", "write_sync", "sync"):
    setattr(OsFiles, _name, _failing(getattr(OsFiles, _name)))
