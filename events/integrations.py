"""The `integrations` object of a call: which destinations may have the event (collect 9)."""

from collections.abc import Mapping
from typing import Any


def enabled(
    integrations: Mapping[str, Any] | None, name: str, default: bool = True
) -> bool | dict[str, Any]:
    """Return whether the destination called ``name`` may have the event; its options if it has any.

    ``name`` is the catalogue's, case and all; every instance of a destination shares the answer.
    ``default`` False is for destinations that want to be named: neither absence nor `All` turns
    them on. None equals an absent object or key. `Segment.io` is no destination: never ask.
    Rule: collect C-38 to C-41.
    """
    if not integrations:
        return default
    own = integrations.get(name)
    if own is not None:
        return own or True if isinstance(own, dict) else bool(own)
    everything = integrations.get("All")
    return default and (everything is None or bool(everything))
