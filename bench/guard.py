"""Runs a command that cannot outlive who started it: ``python -m bench.guard COMMAND ...``.

Even ``kill -9`` of the benchmark leaves nothing behind (on Linux; elsewhere it is the command).
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606, the command is the benchmark's own
