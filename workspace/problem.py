"""What is wrong in a workspace file: where, what, and how to mend it."""

from msgspec import Struct

Path = tuple[str | int, ...]
"""Keys and list places from the top of a file to a value."""


class Problem(Struct, frozen=True):
    """One problem at one place; lines and columns count from 1. Rule: workspace WS-08.

    Never holds a secret: values of `destinations.*.settings` and of the environment stay out.
    """

    file: str
    line: int
    column: int
    key: str
    """The path of keys with dots, `audiences.vip.where`; empty: the whole file."""
    what: str
    mend: str
    warning: bool = False

    def __str__(self) -> str:
        """Return the line that `check` prints."""
        key = f"{self.key}: " if self.key else ""
        tail = " (warning)" if self.warning else ""
        return f"{self.file}:{self.line}:{self.column}: {key}{self.what}; {self.mend}{tail}"


def in_order(problems: list[Problem]) -> list[Problem]:
    """Return the problems sorted by place, each once."""
    once = {(p.file, p.line, p.column, p.key, p.what): p for p in problems}
    return [once[place] for place in sorted(once)]


def dotted(path: Path) -> str:
    """Return a path as people read it: `journeys.cart.steps.value.split.branches[0].when`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text
