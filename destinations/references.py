"""`${NAME}` in a destination's settings: a value from the worker's environment (workspace WS-04).

Definitions, logs and pages hold the reference. Only the door for HTTP out fills it in, when it
sends, and what it gets never goes back into any of them.
"""

import re
from collections.abc import Mapping

from msgspec import Struct

from destinations.definition import Destination, WebhookSettings

_PARTS = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")


class Unfilled(Exception):
    """A text names variables that are not set, or holds a `${` that names none."""


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


def fill(text: str, env: Mapping[str, str]) -> str:
    """Return the text with its variables filled in.

    Raises Unfilled, which names the variables and no value. An empty variable counts as not
    set: a secret that is empty by mistake must not turn signing off.
    """
    if "${" not in text:
        return text
    refers = references(text)
    missing = sorted({name for name in refers.names if not env.get(name)})
    if missing:
        raise Unfilled(f"not set in the environment: {', '.join(missing)}")
    if refers.malformed:
        raise Unfilled("${ without a NAME}; write $${ for the characters themselves")
    return _PARTS.sub(lambda part: env[part[1]] if part[1] else "${", text)


def resolve_settings(destination: Destination, env: Mapping[str, str]) -> WebhookSettings:
    """Return the settings with every variable filled in: to send with, never to keep or show.

    Raises Unfilled.
    """
    settings = destination.settings
    return WebhookSettings(
        url=fill(settings.url, env),
        secret=fill(settings.secret, env),
        headers={name: fill(value, env) for name, value in settings.headers.items()},
        timeout=settings.timeout,
    )
