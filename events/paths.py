"""Paths into an event's properties, its context or a trait: `cart.total`, `items.$.sku`, `a\\.b`.

Dots go down, a backslash makes the next character literal, `$` stands for every element of a
list (audiences 4.1, 4.4). A step into something that is neither object nor list finds nothing.
"""

from collections.abc import Callable
from typing import Any

EACH = "$"

Path = tuple[str, ...]
One = Callable[[Any], Any]
Many = Callable[[Any], list[Any]]


def parse(text: str) -> Path:
    """Return the steps of a path. Raises ValueError when a step is empty."""
    steps: list[str] = []
    step = ""
    literal = False
    for character in text:
        if literal:
            step += character
            literal = False
        elif character == "\\":
            literal = True
        elif character == ".":
            steps.append(step)
            step = ""
        else:
            step += character
    steps.append(step)
    if literal or not all(steps):
        raise ValueError(f'"{text}" is not a path: a step is empty')
    return tuple(steps)


def many(path: Path) -> bool:
    """Return whether the path stands for any number of values."""
    return EACH in path


def one(path: Path) -> One:
    """Return the function that follows a path without `$`; it returns None where nothing stands.

    JSON null counts as nothing (audiences 4.4, `exists`).
    """
    if len(path) == 1:
        key = path[0]
        return lambda root: root.get(key) if type(root) is dict else None

    def follow(root: Any) -> Any:
        for step in path:
            if type(root) is not dict:
                return None
            root = root.get(step)
        return root

    return follow


def each(path: Path) -> Many:
    """Return the function that follows any path; it returns all values found, nulls left out."""

    def follow(root: Any) -> list[Any]:
        found = [root]
        for step in path:
            if step == EACH:
                found = [item for value in found if type(value) is list for item in value]
            else:
                found = [value.get(step) for value in found if type(value) is dict]
        return [value for value in found if value is not None]

    return follow
