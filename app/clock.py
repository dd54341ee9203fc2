"""The worker's clock: the machine's, or in tests one that a file holds."""

import time
from pathlib import Path


class Clock:
    """Gives the instant in milliseconds; only edges of the system ask it."""

    def __init__(self, script: Path | None = None) -> None:
        """``script`` is a file with the instant in milliseconds, read at every call."""
        self._script = script

    @property
    def scripted(self) -> bool:
        """Return whether a test sets the time."""
        return self._script is not None

    def now_ms(self) -> int:
        """Return the present instant."""
        if self._script is None:
            return time.time_ns() // 1_000_000
        return int(self._script.read_text())
