"""The folder of definitions, read from disk (workspace WS-01)."""

import os
from pathlib import Path

from workspace.problem import Problem
from workspace.yaml_reader import LARGEST_BYTES

ENDINGS = (".yaml", ".yml")


def files(folder: Path) -> tuple[list[tuple[str, bytes]], list[Problem]]:
    """Return (path, content) of every YAML file under a folder, in path order, and what failed.

    Paths are shown from the working directory when they lie below it. Files and folders that
    begin with `.` or `_` are passed over. Of a file beyond the limit only so much is read that
    it is refused.
    """
    found: list[tuple[str, bytes]] = []
    problems: list[Problem] = []
    if not folder.is_dir():
        mend = "make it, or name another with WATERSMEET_CONFIG"
        return [], [Problem(_shown(folder), 1, 1, "", "there is no such folder", mend)]
    for path in _paths(folder):
        name = _shown(path)
        try:
            with path.open("rb") as file:
                found.append((name, file.read(LARGEST_BYTES + 1)))
        except OSError as error:  # said with its file, like any other problem
            why = (error.strerror or "unknown error").lower()
            problems.append(Problem(name, 1, 1, "", f"cannot be read: {why}", "mend its rights"))
    return sorted(found), problems


def _paths(folder: Path) -> list[Path]:
    paths: list[Path] = []
    visited: set[str] = set()
    for top, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(top)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        paths += [
            Path(top, name)
            for name in sorted(names)
            if name.endswith(ENDINGS) and name[0] not in "._"
        ]
    return paths


def _shown(path: Path) -> str:
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
