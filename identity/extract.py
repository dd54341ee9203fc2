"""Which identifiers a call carries (identity 2), and the gates before resolution (identity 3).

`candidates` runs for every event: plain look-ups at the few places where an identifier may be.
"""

from typing import Any, Final

from msgspec import Struct

from events.event import Id
from identity.settings import Keys, Kind, Settings

MOST_KEYS: Final = 300
LONGEST_GROUP_ID: Final = 500
MOST_KNOWN: Final = 20_000
LONGEST_KNOWN: Final = 100
"""Of each type, so many values of at most so many characters need not be worked out again."""
_ENTRY_KEYS: Final = ("id", "type", "collection", "encoding")
_WITH_PROPERTIES: Final = frozenset(("track", "page", "screen"))


class Trace(Struct):
    """What extraction saw beside the candidates."""

    raw: dict[Id, str] = {}
    """The value as first sent, of candidates that normalisation changed."""
    dropped: list[tuple[str, str, str]] = []
    """(reason, type, value) of what was blocked (`value_blocked`), ignored (`external_id_...`)."""


def candidates(
    data: dict[str, Any], type: str, settings: Settings, trace: Trace | None = None
) -> tuple[Id, ...]:
    """Return the identifiers of a call, normalised, each once, without blocked ones, best first.

    Values of one type stand in the order: canonical location, `context.traits`, `properties`,
    `externalIds`. ``trace``, when given, learns what is not among them.
    Never raises, whatever is in ``data``. Cost: about 1 us for an anonymousId alone.
    Rule: identity X1 to X7, 2.1, 2.2, 4.1.
    """
    found: list[Id] = []
    if "userId" in data:
        _take(found, settings.user_id, data["userId"], trace)
    if "anonymousId" in data:
        _take(found, settings.anonymous_id, data["anonymousId"], trace)
    if settings.cross_domain_id is not None:
        _take(found, settings.cross_domain_id, data.get("cross_domain_id"), trace)
    if type == "identify" and "traits" in data:
        _look(found, data["traits"], settings.traits, trace)
    context = data.get("context")
    if context.__class__ is dict:
        # `in` first: hardly any event has any of these, and it costs half of what `get` does.
        if "traits" in context:
            _look(found, context["traits"], settings.context_traits, trace)
        if "device" in context:
            _device(found, context["device"], settings, trace)
        if "integrations" in context:
            place = context["integrations"]
            if place.__class__ is dict:
                place = place.get("Google Analytics")
                if place.__class__ is dict:
                    _take(found, settings.ga_client_id, place.get("clientId"), trace)
        if settings.braze_id is not None:
            place = context.get("Braze")
            if place.__class__ is dict:
                _take(found, settings.braze_id, place.get("braze_id"), trace)
    if type in _WITH_PROPERTIES and "properties" in data:
        _look(found, data["properties"], settings.properties, trace)
    if context.__class__ is dict and "externalIds" in context:
        _external_ids(found, context["externalIds"], settings, trace)
    if len(found) < 2:
        return tuple(found)
    return settings.ranked(found)


def routing_id(data: dict[str, Any], candidates: tuple[Id, ...]) -> Id | None:  # noqa: ARG001
    """Return the anonymous id, else the user id, else the best other; None: unresolved (G9).

    A blocked anonymousId is none of the candidates, so it routes nothing. Rule: protocol 2.
    """
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    best = None
    for id in candidates:
        if id[0] == "anonymous_id":
            return id
        if best is None and id[0] == "user_id":
            best = id
    return best or candidates[0]


def account_of(data: dict[str, Any], type: str) -> str:
    """Return the group id that a call names: `groupId` of group, `context.groupId` of others.

    Empty: none, or one that G3 does not let pass. Rule: identity 2.1, 2.2, G3.
    """
    if type == "group":
        value = data.get("groupId")
    else:
        context = data.get("context")
        if context.__class__ is not dict:
            return ""
        value = context.get("groupId")
    if value is None:
        return ""
    account = _text(value).strip()
    return account if len(account) <= LONGEST_GROUP_ID else ""


def gate(data: dict[str, Any], type: str, settings: Settings) -> str | None:  # noqa: ARG001
    """Return why a call stays out of the space, None when it does not.

    Rule: identity G1, G3, G5, G6.
    """
    integrations = data.get("integrations")
    if integrations.__class__ is dict and integrations.get("Personas") is False:
        return "kept_out_by_integrations"
    context = data.get("context")
    if type == "group":
        reason = _group_id_fault(data.get("groupId"))
        if reason is not None:
            return reason
    elif context.__class__ is dict:
        value = context.get("groupId")
        if value is not None:
            reason = _group_id_fault(value)
            # Only track is said to be dropped for an empty one; elsewhere it names no account.
            if reason is not None and (type == "track" or reason != "group_id_empty"):
                return reason
    place = data.get("properties")
    if place.__class__ is dict and len(place) > MOST_KEYS:
        return "too_many_properties"
    place = data.get("traits")
    if place.__class__ is dict and len(place) > MOST_KEYS - (type == "identify"):
        return "too_many_traits"
    timestamp = data.get("timestamp")
    # The stored form is ISO 8601 with a year of four digits, whose order is that of the texts.
    if timestamp.__class__ is str and timestamp < "1970":
        return "timestamp_before_1970"
    return None


def trace(data: dict[str, Any], type: str, settings: Settings) -> Trace:
    """Return what `candidates` does not: values as they were sent, and what it leaves out.

    Rule: identity 4.1, X2, X3, X6, A9.
    """
    found = Trace()
    candidates(data, type, settings, found)
    return found


# ---- places -------------------------------------------------------------------------------------
def _look(found: list[Id], place: Any, keys: Keys, trace: Trace | None) -> None:
    if place.__class__ is not dict or (keys.names is not None and keys.names.isdisjoint(place)):
        return
    get = place.get
    for key, kind in keys.pairs:
        value = get(key)
        if value is not None:
            _take(found, kind, value, trace)


def _device(found: list[Id], device: Any, settings: Settings, trace: Trace | None) -> None:
    if device.__class__ is not dict:
        return
    system = device.get("type")
    kinds = settings.devices.get(system.lower()) if system.__class__ is str else None
    if kinds is None:
        return
    _take(found, kinds[0], device.get("id"), trace)
    if device.get("adTrackingEnabled") is True:
        _take(found, kinds[1], device.get("advertisingId"), trace)
    _take(found, kinds[2], device.get("token"), trace)


def _external_ids(
    found: list[Id], entries: Any, settings: Settings, trace: Trace | None
) -> None:
    if entries.__class__ is not list:
        return
    for entry in entries:
        reason = _entry_fault(entry, settings)
        if reason is None:
            name = entry["type"]
            _take(found, settings.kind(name), entry["id"], trace, name)
        elif reason and trace is not None:
            type = entry.get("type") if entry.__class__ is dict else None
            trace.dropped.append((reason, type if type.__class__ is str else "", ""))


def _entry_fault(entry: Any, settings: Settings) -> str | None:
    """Return why an entry is ignored; empty: it is well formed, but no identifier of a person."""
    if entry.__class__ is not dict or any(entry.get(key) is None for key in _ENTRY_KEYS):
        return "external_id_incomplete"
    name = entry["type"]
    if name.__class__ is not str or not name or name != name.lower():
        return "external_id_type"
    if name not in settings.kinds and (
        not settings.auto_add_types or ":" in name or not name.isprintable() or len(name) > 255
    ):
        # A colon or NUL would make `type:value`, as people and keys write it, mean two things.
        return "external_id_type"
    if entry["collection"] != "users":
        return "" if entry["collection"] == "accounts" else "external_id_collection"
    if entry["encoding"] != "none":
        return "external_id_encoding"
    return "external_id_type" if name == "group_id" else None


def _take(
    found: list[Id], kind: Kind, value: Any, trace: Trace | None, name: str = ""
) -> None:
    sent = value if value.__class__ is str else _text(value)
    if trace is None and not name:
        id = kind.known.get(sent)
        if id is not None:
            if id not in found:
                found.append(id)
            return
    value = kind.normalise(sent)
    if not value:
        return
    # Kind.blocks, written out: this runs for each value of each event.
    if (
        (kind.zeroes and not value.strip("0-"))
        or (len(value) <= kind.longest and value.lower() in kind.exact)
        or (kind.patterns and kind.blocks(value))
    ):
        if trace is not None:
            trace.dropped.append(("value_blocked", name or kind.name, value))
        return
    id = (name or kind.name, value)
    if not name:
        if len(kind.known) >= MOST_KNOWN:
            kind.known.clear()
        if len(sent) <= LONGEST_KNOWN:
            kind.known[sent] = id
    if id not in found:
        found.append(id)
        if trace is not None and sent != value:
            trace.raw[id] = sent


def _text(value: Any) -> str:
    """Return a number as JavaScript writes it; empty for what is no identifier. Rule: X7."""
    kind = value.__class__
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return str(value)
    if kind is float:
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    return ""


def _group_id_fault(value: Any) -> str | None:
    text = _text(value).strip()
    if not text:
        return "group_id_empty"
    return "group_id_too_long" if len(text) > LONGEST_GROUP_ID else None
