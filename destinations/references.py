"""`${NAME}` in a destination's settings: a value from the worker's environment (workspace WS-04).

Definitions, logs and pages hold the reference. Only the door for HTTP out fills it in, when it
sends (`request.filled`), and what it gets never goes back into any of them.
"""

import re

from msgspec import Struct

_PARTS = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")


class References(Struct, frozen=True):
    """What a text refers to: the names in order, and whether some `${` names none."""

    names: tuple[str, ...]
    malformed: bool


def references(text: str) -> References:
    """Return the variables that a text names; `$${` is a literal `${`."""
    found = list(_PARTS.finditer(text))
    return References(
        tuple(part[1] for part in found if part[1]),
        any(part[0] == "${" for part in found),
    )
