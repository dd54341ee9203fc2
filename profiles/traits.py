"""Custom traits: the newest update of a key wins, whatever order updates come in (identity 6)."""

from collections.abc import Mapping
from typing import Any

from events.event import Event
from profiles.profile import Trait
from profiles.storable import storable


def merge(traits: Mapping[str, Trait], event: Event) -> dict[str, Trait]:
    """Return the traits that ``event`` changes; empty when it changes none.

    Updates are ordered by ``(timestamp_ms, received_at_ms, message_id)``. An empty string is a
    value; None removes and stays as a tombstone, so that an older update does not come back. An
    object replaces the former one whole. Only identify (of a person) and group (of an account)
    carry traits; ``context.traits`` of other calls change nothing. Cost: a look-up a trait.
    Rule: identity 6 (Traits); events E-03, E-10, E-11.
    """
    if event.type not in ("identify", "group"):
        return {}
    sent: Any = event.data.get("traits")
    if not sent or type(sent) is not dict:
        return {}
    order = (event.timestamp_ms, event.received_at_ms, event.message_id)
    return {
        key: Trait(value if type(value) is str else storable(value), *order, event.source)
        for key, value in sent.items()
        if key not in traits or traits[key].order < order
    }


def unite(one: Mapping[str, Trait], other: Mapping[str, Trait]) -> dict[str, Trait]:
    """Return the traits of two profiles that become one: per key the newest update.

    Sides do not matter. Rule: identity 6 (Traits).
    """
    united = dict(one)
    for key, trait in other.items():
        if key not in united or united[key].order < trait.order:
            united[key] = trait
    return united
