"""The table: on the terminal, as Markdown, as JSON, as a picture."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.processes import ROOT
from bench.row import Row

COLUMNS = ("name", "value", "unit", "limit", "ratio", "goal", "met")


def machine(folder: Path, quick: bool) -> dict[str, Any]:
    """Return what the figures depend on; ``folder`` is where data was written."""
    processor = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo")
         if line.startswith("model name")), platform.processor(),
    )
    memory_kib = next(
        (int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0
    )
    return {
        "processor": processor, "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib / 2**20, 1), "kernel": platform.release(),
        "python": platform.python_version(), "disk": _file_system(folder),
        "load_before": round(os.getloadavg()[0], 2),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": _commit(),
        "quick": quick,
    }


def as_json(rows: Sequence[Row], about: dict[str, Any]) -> bytes:
    """Return the table for programs."""
    body = {
        "rows": [{key: _rounded(getattr(row, key)) for key in COLUMNS} for row in rows],
        "machine": about,
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"


def as_markdown(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """Return the table for people, with what stands behind each row."""
    lines = [
        "# Measured", "",
        f"{about['at']}, commit {about['commit']}: {about['processor']}, {about['cores']} cores, "
        f"{about['memory_gib']} GiB, {about['disk']}, Python {about['python']}, load before "
        f"{about['load_before']}."
        + (" **Small sizes (`--quick`): a look, no measurement.**" if about["quick"] else ""),
        "", "What each row is and how to repeat it: `docs/benchmarks.md`.", "",
        "| What | Measured | Limit | Ratio | Goal | |", "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {_figure(row.value)} {row.unit} | {_figure(row.limit)} "
        f"| {_figure(row.ratio)} | {row.goal or ''} | {_verdict(row)} |" for row in rows
    ]
    for row in rows:
        if row.notes:
            lines += ["", f"**{row.name}**", "", *(f"- {note}" for note in row.notes)]
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Row], about: dict[str, Any], path: Path) -> None:
    """Draw the rounds of what took turns, and how near each row is to its goal."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    turns = [row for row in rows if row.rounds and row.unit == "events/s" and row.goal is not None]
    judged = [row for row in rows if row.goal is not None and row.ratio]
    figure, axes = pyplot.subplots(
        1, 1 + len(turns), figsize=(9 + 3.4 * len(turns), 1.6 + 0.45 * max(4, len(judged))),
        width_ratios=[1] * len(turns) + [2], squeeze=False, layout="constrained",
    )
    for place, row in zip(axes[0], turns, strict=False):
        for at, (label, values) in enumerate((
            ("limit", [limit for _, limit in row.rounds]),
            ("Watersmeet", [value for value, _ in row.rounds]),
        )):
            place.plot([at] * len(values), values, "o", color=_COLOURS[at], alpha=0.7)
            place.hlines(sorted(values)[len(values) // 2], at - 0.25, at + 0.25, _COLOURS[at])
            place.text(at, 0, label, ha="center", va="bottom")
        place.set_xlim(-0.6, 1.6)
        place.set_ylim(0)
        place.set_xticks([])
        place.set_ylabel(row.unit)
        place.set_title(_wrapped(row.name), fontsize=9)
        place.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    last = axes[0][-1]
    spent = [_spent(row) for row in judged]
    last.barh(
        range(len(judged)), spent, color=[_COLOURS[1] if row.met else "#b2182b" for row in judged]
    )
    last.set_yticks(range(len(judged)), [_wrapped(row.name, 44) for row in judged], fontsize=8)
    last.invert_yaxis()
    last.axvline(1, color="black", linewidth=1)
    last.set_xscale("log")
    last.set_xlabel("part of what the goal allows (left of the line: met)")
    for at, row in enumerate(judged):
        last.text(spent[at], at, f" {_figure(row.ratio)} ({row.goal}) ", va="center", fontsize=8,
                  ha="left", bbox={"color": "white", "pad": 0.5})
    last.set_xlim(min([*spent, 0.1]) / 1.5, max([*spent, 1]) * 4)
    figure.suptitle(f"{about['processor']}, {about['cores']} cores, {about['at'][:10]}"
                    + (", small sizes" if about["quick"] else ""), fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def write(rows: Sequence[Row], about: dict[str, Any], folder: Path, name: str = "latest") -> None:
    """Write all three files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_bytes(as_json(rows, about))
    (folder / f"{name}.md").write_text(as_markdown(rows, about))
    draw(rows, about, folder / f"{name}.png")


_COLOURS = ("#878787", "#2166ac")


def _spent(row: Row) -> float:
    """Return 1 where the goal is just met, less where there is room."""
    assert row.goal is not None
    assert row.ratio
    sign, bound = row.goal.split()
    return float(bound) / row.ratio if sign == ">=" else row.ratio / float(bound)


def _verdict(row: Row) -> str:
    return {True: "met", False: "**missed**", None: ""}[row.met]


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else \
        f"{value:.2f}"


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if type(value) is float and abs(value) < 1000 else \
        round(value) if type(value) is float else value


def _wrapped(text: str, width: int = 28) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:  # not Linux: the figure is left out
        return []


def _file_system(folder: Path) -> str:
    """Return the type of the file system that holds the folder."""
    place = str(folder.resolve())
    found = "", "unknown file system"
    for line in _lines("/proc/mounts"):
        _, mount, kind, *_ = line.split()
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(found[0]):
            found = mount, kind
    return found[1]


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607, whichever git is there
            cwd=ROOT, capture_output=True, text=True, check=True,
        )
    except (OSError, subprocess.CalledProcessError):  # no git, or no clone of one
        return "unknown"
    return done.stdout.strip()


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("What", "Measured", "Limit", "Ratio", "Goal", "")
    for row in rows:
        table.add_row(row.name, f"{_figure(row.value)} {row.unit}", _figure(row.limit),
                      _figure(row.ratio), row.goal or "", _verdict(row).strip("*"))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
