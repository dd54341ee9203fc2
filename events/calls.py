"""A call as it came in, checked and made into the stored event (collect 5 to 7).

What is refused here was never accepted: it burns no messageId and is only counted.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import Struct

from events.event import Received
from events.timestamps import MAX_MS, MIN_MS, corrected, iso, met, parse, stored, within

KINDS: Final = {kind: kind for kind in ("identify", "track", "page", "screen", "group", "alias")}
CHANNELS: Final = frozenset(("server", "browser", "mobile"))
VERSION: Final = 2
MAX_MESSAGE_ID: Final = 100
MAX_PROPERTIES: Final = 10_000
CONSENT_EVENT: Final = "Segment Consent Preference Updated"

_encode = msgspec.json.Encoder().encode


class RequestContext(Struct, frozen=True):
    """What all calls of one request share. Make it with `request_context`."""

    type: str | None
    """The call that the path names; None: each says it by itself (batch)."""
    project_id: str
    """The key of the source."""
    channel: str
    client_side: bool
    received_at_ms: int
    received_at: str
    sent_at_ms: int | None
    sent_at: str
    context: dict[str, Any]
    integrations: dict[str, Any]
    ip: str | None
    """The peer's IPv4 address; None when it has another kind."""
    new_message_id: Callable[[], str]
    refused: "Refused | None"
    """Set when what the batch carries for all of them makes all of them bad."""


class Refused(Struct, frozen=True):
    """Why a call was not taken: a code of collect 5, and a sentence for people."""

    code: str
    detail: str


def request_context(
    *,
    type: str | None,
    project_id: str,
    channel: str,
    client_side: bool,
    received_at_ms: int,
    new_message_id: Callable[[], str],
    sent_at: object = None,
    context: object = None,
    integrations: object = None,
    ip: str | None = None,
) -> RequestContext:
    """Return what all calls of one request share, from the request and the batch's own fields."""
    refused = None
    if context is not None and not isinstance(context, dict):
        refused = Refused("bad_request", "context of the batch is not an object")
    elif integrations is not None and not isinstance(integrations, dict):
        refused = Refused("bad_request", "integrations of the batch is not an object")
    sent_at_ms = parse(sent_at)
    return RequestContext(
        type=type,
        project_id=project_id,
        channel=channel,
        client_side=client_side,
        received_at_ms=received_at_ms,
        received_at=iso(received_at_ms),
        sent_at_ms=sent_at_ms,
        sent_at="" if sent_at_ms is None else iso(within(sent_at_ms)),
        context=context if isinstance(context, dict) else {},
        integrations=integrations if isinstance(integrations, dict) else {},
        ip=ip,
        new_message_id=new_message_id,
        refused=refused,
    )


_UNKNOWN_TYPE = Refused(
    "bad_request", "type must be one of identify, track, page, screen, group, alias"
)
_CONTEXT = Refused("bad_request", "context is not an object")
_INTEGRATIONS = Refused("bad_request", "integrations is not an object")
_NO_ID = Refused("no_user_anon_id", "give userId or anonymousId")
_USER_ID = Refused("id_not_string", "userId must be a string and not empty")
_ANONYMOUS_ID = Refused("id_not_string", "anonymousId must be a string and not empty")
_GROUP_ID = Refused("id_not_string", "groupId must be a string and not empty")
_PREVIOUS_ID = Refused("id_not_string", "previousId must be a string and not empty")
_GROUP_NEEDS = Refused("id_required", "group needs groupId")
_ALIAS_NEEDS = Refused("id_required", "alias needs userId and previousId")
_NO_EVENT = Refused("event_not_defined", "track needs event")
_EVENT = Refused("event_not_string", "event must be a string")
_PROPERTIES = Refused("properties_not_object", "properties must be an object")
_TRAITS = Refused("traits_not_object", "traits must be an object")
_NAME = Refused("name_not_string", "name must be a string and not empty")
_CATEGORY = Refused("category_not_string", "category must be a string and not empty")
_MESSAGE_ID = Refused(
    "message_id_too_long", f"messageId may have at most {MAX_MESSAGE_ID} characters"
)


def accept(call: dict[str, Any], request: RequestContext) -> Received | Refused:
    """Return the stored event that the call becomes, or why it is refused.

    ``call`` is taken over: it is changed in place. A null field of
    the calls equals an absent one and is not stored. The later rule never hides an earlier one:
    type, objects, ids, own fields, messageId.
    Rule: collect C-17, C-18, C-25 to C-32; events E-01, E-02, E-10, E-11.
    """
    # a string of straight tests: this runs once an event (bench: tests/events/cost.py)
    if request.refused is not None:
        return request.refused
    get = call.get
    kind = request.type
    if kind is None:
        kind = get("type")
        if kind is None:
            kind = call.pop("action", None)
        if type(kind) is not str:
            return _UNKNOWN_TYPE
        kind = KINDS.get(kind) or KINDS.get(kind.lower())
        if kind is None:
            return _UNKNOWN_TYPE

    for value in call.values():  # `None in` takes twice as long: it asks each whether it is equal
        if value is None:
            _drop_nulls(call)
            break
    context = get("context")
    if context is None:
        context = dict(request.context)
    elif type(context) is not dict:
        return _CONTEXT
    elif request.context:
        context = _merged(request.context, context)
    integrations = get("integrations")
    if integrations is None:
        integrations = request.integrations
    elif type(integrations) is not dict:
        return _INTEGRATIONS
    elif request.integrations:
        integrations = {**request.integrations, **integrations}

    user_id = get("userId")
    anonymous_id = get("anonymousId")
    if user_id is None and anonymous_id is None:
        return _NO_ID
    if user_id is not None and (type(user_id) is not str or not user_id):
        return _USER_ID
    if anonymous_id is not None and (type(anonymous_id) is not str or not anonymous_id):
        return _ANONYMOUS_ID
    own = get("properties")
    if not (
        kind == "track" and type(own) is dict and len(own) <= MAX_PROPERTIES
        and type(get("event")) is str and call["event"] != CONSENT_EVENT
    ):  # the usual track is as it must be
        refused = _OWN_FIELDS[kind](call, context)
        if refused is not None:
            return refused

    message_id = get("messageId")
    if type(message_id) is not str or not message_id:
        message_id = call["messageId"] = request.new_message_id()
    elif len(message_id) > MAX_MESSAGE_ID:
        return _MESSAGE_ID

    timestamp_ms = _times(call, request)
    if (
        request.ip is not None
        and (request.client_side or context.get("direct") is True)
        and "ip" not in context
    ):
        context["ip"] = request.ip
    channel = get("channel")
    if type(channel) is not str or channel not in CHANNELS:
        call["channel"] = request.channel
    call["type"] = kind
    call["context"] = context
    call["integrations"] = integrations
    call["projectId"] = request.project_id
    call["version"] = VERSION
    pop = call.pop
    pop("writeKey", None)
    pop("batch", None)
    pop("options", None)
    return Received(
        request.project_id, message_id, request.received_at_ms, timestamp_ms, _encode(call)
    )


_NULL_IS_ABSENT = (
    "userId", "anonymousId", "groupId", "previousId", "name", "category", "properties", "traits",
    "context", "integrations", "timestamp", "sentAt",
)  # fmt: skip


def _drop_nulls(call: dict[str, Any]) -> None:
    for key in _NULL_IS_ABSENT:
        if key in call and call[key] is None:
            del call[key]


def _times(call: dict[str, Any], request: RequestContext) -> int:
    """Write the four instants of the stored event, return its timestamp (C-29, C-31, C-32)."""
    received_at_ms = request.received_at_ms
    sent_at = call.get("sentAt")
    written = call.get("timestamp")
    if sent_at is None and request.sent_at_ms is None and type(written) is str:
        timestamp_ms = met(written)
        if timestamp_ms is not None:  # the usual one is as it is stored, and stays
            call["originalTimestamp"] = written
            call["receivedAt"] = request.received_at
            return timestamp_ms
    sent_at_ms = None if sent_at is None else parse(sent_at)
    if sent_at_ms is not None:
        call["sentAt"] = sent_at = stored(sent_at, sent_at_ms)  # type: ignore[arg-type]
    elif request.sent_at_ms is not None:
        sent_at_ms = request.sent_at_ms
        call["sentAt"] = sent_at = request.sent_at
    else:
        call.pop("sentAt", None)
    original_ms = None if written is None else parse(written)
    if original_ms is not None:
        call["originalTimestamp"] = stored(written, original_ms)  # type: ignore[arg-type]
    elif sent_at_ms is not None:
        original_ms = sent_at_ms
        call["originalTimestamp"] = sent_at
    else:
        original_ms = received_at_ms
        call["originalTimestamp"] = request.received_at
    timestamp_ms = original_ms
    if sent_at_ms is not None:
        timestamp_ms = corrected(received_at_ms, sent_at_ms, original_ms)
    if not MIN_MS <= timestamp_ms <= MAX_MS:
        timestamp_ms = within(timestamp_ms)
    call["timestamp"] = iso(timestamp_ms)
    call["receivedAt"] = request.received_at
    return timestamp_ms


def _track(call: dict[str, Any], context: dict[str, Any]) -> Refused | None:
    event = call.get("event")
    if type(event) is not str:
        return _NO_EVENT if event is None else _EVENT
    if event == CONSENT_EVENT:
        return _object(call, "properties", _PROPERTIES) or _consent(context)
    return _object(call, "properties", _PROPERTIES)


def _page(call: dict[str, Any], _context: dict[str, Any]) -> Refused | None:
    properties, name, category = call.get("properties"), call.get("name"), call.get("category")
    if type(properties) is not dict or len(properties) > MAX_PROPERTIES:
        refused = _object(call, "properties", _PROPERTIES)
        if refused is not None:
            return refused
    if name is not None and (type(name) is not str or not name):
        return _NAME
    if category is not None and (type(category) is not str or not category):
        return _CATEGORY
    return None


def _identify(call: dict[str, Any], _context: dict[str, Any]) -> Refused | None:
    return _object(call, "traits", _TRAITS)


def _group(call: dict[str, Any], _context: dict[str, Any]) -> Refused | None:
    if "groupId" not in call:
        return _GROUP_NEEDS
    return _text(call, "groupId", _GROUP_ID) or _object(call, "traits", _TRAITS)


def _alias(call: dict[str, Any], _context: dict[str, Any]) -> Refused | None:
    if "userId" not in call or "previousId" not in call:
        return _ALIAS_NEEDS
    return _text(call, "previousId", _PREVIOUS_ID)


_OWN_FIELDS = {
    "track": _track, "page": _page, "screen": _page, "identify": _identify, "group": _group,
    "alias": _alias,
}  # fmt: skip


def _object(call: dict[str, Any], key: str, refused: Refused) -> Refused | None:
    """Refuse what is there and no object; cut one that has too many keys (C-18)."""
    value = call.get(key)
    if type(value) is dict:
        if len(value) > MAX_PROPERTIES:
            call[key] = dict(islice(value.items(), MAX_PROPERTIES))
        return None
    return None if value is None else refused


def _text(call: dict[str, Any], key: str, refused: Refused) -> Refused | None:
    """Refuse what is there and no string, or empty."""
    value = call.get(key)
    return None if value is None or (type(value) is str and value) else refused


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return both, objects within objects merged too; ``over`` wins."""
    result = {**under, **over}
    for key, value in over.items():
        if type(value) is dict and type(under.get(key)) is dict:
            result[key] = _merged(under[key], value)
    return result


def _consent(context: dict[str, Any]) -> Refused | None:
    """Return what is wrong with the consent that a consent event must carry (collect 5)."""
    consent = context.get("consent")
    if not isinstance(consent, dict) or consent.get("categoryPreferences") is None:
        return Refused(
            "consent_categorypreferences_should_exist",
            f"{CONSENT_EVENT} needs context.consent.categoryPreferences",
        )
    preferences = consent["categoryPreferences"]
    if not isinstance(preferences, dict):
        return Refused(
            "consent_categorypreferences_fields_should_be_object",
            "context.consent.categoryPreferences must be an object",
        )
    if not all(isinstance(value, bool) for value in preferences.values()):
        return Refused(
            "consent_categorypreferences_fields_should_be_bool",
            "every value of context.consent.categoryPreferences must be true or false",
        )
    version = consent.get("version")
    if version is not None and (isinstance(version, bool) or not isinstance(version, int | float)):
        return Refused(
            "consent_version_should_be_number", "context.consent.version must be a number"
        )
    device = context.get("device")
    advertising_id = device.get("advertisingId") if isinstance(device, dict) else None
    if advertising_id is not None and not isinstance(advertising_id, str):
        return Refused(
            "device_advertisingid_should_be_string",
            "context.device.advertisingId must be a string",
        )
    return None
