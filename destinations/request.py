"""What goes out, and who may build it: plain data that `app/outbound.py` sends as it stands."""

import re
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")


class Message(Struct, frozen=True, gc=False):
    """One waiting message: its id, its JSON, and how often it was tried, this time included."""

    message_id: str
    attempt: int
    body: bytes


class Request(Struct, frozen=True):
    """An HTTP request, ready to go."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


class Settings(Struct, frozen=True):
    """A destination's settings with every `${NAME}` filled in. Never stored, logged or shown."""

    url: str
    secret: str | None
    headers: dict[str, str]
    hidden: tuple[str, ...] = ()
    """What the environment gave: it is cut out of every text that is kept."""
    batch: bool = False
    """Several messages go in one request; then also a single one goes as a batch of one."""


class Kind(Struct, frozen=True):
    """A type of destination: its name in `type`, its name for people and in `integrations`."""

    slug: str
    name: str
    largest_batch: int
    request: Callable[[Settings, Sequence[Message]], Request]
    fault: Callable[[Settings], str | None]
    """What is wrong with the settings, once filled in; None: nothing."""


class InvalidSettings(ValueError):
    """The settings cannot be used; the text names the key, never its value."""


def filled(
    url: str,
    secret: str | None,
    headers: Mapping[str, str],
    env: Mapping[str, str],
    batch: bool = False,
) -> Settings:
    """Return the settings with `${NAME}` read from ``env`` and `$${` as a literal `${`.

    Raises InvalidSettings when a variable is missing or empty: a secret that is empty by mistake
    must not turn signing off.
    Rule: workspace WS-04.
    """
    hidden: set[str] = set()

    def fill(key: str, text: str) -> str:
        def value(part: re.Match[str]) -> str:
            if part[0] == "$${":
                return "${"
            name = part[1]
            if name is None:
                raise InvalidSettings(f"settings.{key}: ${{ without a NAME}}")
            found = env.get(name)
            if not found:
                raise InvalidSettings(f"settings.{key}: the environment has no {name}")
            hidden.add(found)
            return found

        return _REFERENCE.sub(value, text) if "${" in text else text

    return Settings(
        fill("url", url),
        fill("secret", secret) if secret else None,
        {name: fill(f"headers.{name}", value) for name, value in headers.items()},
        tuple(sorted(hidden, key=lambda value: (-len(value), value))),
        batch,
    )


def without_secrets(settings: Settings, text: str) -> str:
    """Return ``text`` without what the environment gave: a destination may echo what it got."""
    for value in settings.hidden:
        text = text.replace(value, "***")
    if settings.secret:
        text = text.replace(settings.secret, "***")
    return text
