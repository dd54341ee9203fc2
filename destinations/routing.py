"""Which destinations get a source's event (workspace 5, collect C-38 to C-43)."""

from collections.abc import Mapping
from typing import Any

from destinations.catalogue import Destinations, Ready
from events.event import Event

BY_INTEGRATIONS = "FILTERED_BY_INTEGRATIONS_OBJECT"


def receivers(destinations: Destinations, event: Event) -> list[str]:
    """Return the keys of the destinations that get the event, sorted.

    Cost: one look-up when no destination takes events of this source.
    Rule: workspace 5 (sources, events, enabled), collect C-38, C-39, C-40.
    """
    takers = destinations.by_source.get(event.source)
    if takers is None:
        return []
    integrations = event.data.get("integrations")
    if not integrations:
        return [one.key for one in takers if takes(one, event)]
    return [one.key for one in takers if takes(one, event) and allows(integrations, one.kind.name)]


def filtered(destinations: Destinations, event: Event) -> list[tuple[str, str]]:
    """Return (key, reason) of the destinations kept from an event by its own `integrations`.

    Rule: collect C-43.
    """
    integrations = event.data.get("integrations")
    if not integrations:
        return []
    return [
        (one.key, BY_INTEGRATIONS)
        for one in destinations.by_source.get(event.source, ())
        if takes(one, event) and not allows(integrations, one.kind.name)
    ]


def takes(destination: Ready, event: Event) -> bool:
    """Return whether the destination asked for such events.

    ``names`` says which `track` calls. Calls of other types pass when ``types`` lists theirs;
    without ``types``, only pages and screens that ``names`` calls `Page Viewed`, `Screen Viewed`.
    """
    types, names = destination.types, destination.names
    if types is not None and event.type not in types:
        return False
    if names is None or (types is not None and event.type != "track"):
        return True
    return event.name in names


def allows(integrations: Mapping[str, Any], name: str) -> bool:
    """Return whether the event's `integrations` let it go to destinations of the type ``name``.

    The type's own key decides before `All`; an object means yes, with options. Names are
    case-sensitive. What is neither a boolean nor an object (null, text) says nothing.
    Rule: collect C-38, C-39, C-40.
    """
    own = integrations.get(name)
    if isinstance(own, bool):
        return own
    if isinstance(own, dict):
        return True
    return integrations.get("All") is not False
