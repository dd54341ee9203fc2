"""The calls that tell destinations of audiences and computed traits (audiences 6).

One message per person and destination: with the `userId` last added, else the `anonymousId`
(workspace WS-21). Message ids are derived, so a repeated one is the same message (M9).
"""

from collections.abc import Container, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from audiences import definition
from audiences.evaluate import Change, Entered, Exited, TraitChanged
from audiences.plan import Computation, Plan
from profiles.computed import definition as computed
from profiles.profile import ExternalId, Profile

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode


class Recipient(Protocol):
    """What is read of a destination."""

    @property
    def name(self) -> str:
        """How people call it; empty: by its key."""

    @property
    def enabled(self) -> bool:
        """Whether it gets anything."""

    @property
    def include_traits(self) -> tuple[str, ...]:
        """Traits that messages carry beside their own."""


class Message(Struct, frozen=True):
    """A call for one destination: its key, the call's id and its JSON."""

    destination: str
    message_id: str
    body: bytes


def messages(
    space: str,
    plan: Plan,
    profile: Profile,
    changes: Iterable[Change],
    destinations: Mapping[str, Recipient],
    now_ms: int,
    only: Container[tuple[str, str]] | None = None,
) -> list[Message]:
    """Return the messages for these changes of a person, in the order of the changes.

    ``profile`` is the person after them. Destinations that are disabled or gone get nothing.
    ``only`` limits to some (computation, destination), for a first connection (`present`).
    """
    found: list[Message] = []
    for change in changes:
        computation = plan.computations[change.key]
        for connection in _connections(computation):
            recipient = destinations.get(connection.to)
            if recipient is None or not recipient.enabled:
                continue
            if only is not None and (change.key, connection.to) not in only:
                continue
            for kind in connection.send:
                found.append(_message(
                    space, computation, profile, change, connection, recipient, kind, now_ms))
    return found


def present(
    plan: Plan, profile: Profile, connected: Iterable[tuple[str, str]]
) -> tuple[Change, ...]:
    """Return what a person's present standing would be told as to a newly connected destination.

    Rule: audiences M12, workspace WS-22.
    """
    found: list[Change] = []
    for key in dict.fromkeys(key for key, _ in connected):
        if key not in plan.computations:
            continue
        standing = profile.memberships.get(key)
        value = profile.computed.get(key)
        if standing is not None and standing.inside:
            found.append(Entered(key, standing.transitions))
        elif value is not None and value.value is not None:
            found.append(TraitChanged(key, value.value, value.changes))
    return tuple(found)


def address(ids: Iterable[ExternalId]) -> tuple[str, str]:
    """Return the identifier that messages bear: the user id added last, else the anonymous id.

    ("", "") when there is neither.
    """
    found: dict[str, ExternalId] = {}
    for id in ids:
        if id.type not in ("user_id", "anonymous_id"):
            continue
        last = found.get(id.type)
        if last is None or last.created_at_ms <= id.created_at_ms:
            found[id.type] = id
    chosen = found.get("user_id") or found.get("anonymous_id")
    return (chosen.type, chosen.value) if chosen else ("", "")


_Connection = definition.Connection | computed.Connection


def _connections(computation: Computation) -> tuple[_Connection, ...]:
    if computation.audience is not None:
        return computation.audience.destinations
    assert computation.computed is not None
    return computation.computed.destinations


def _message(
    space: str, computation: Computation, profile: Profile, change: Change,
    connection: _Connection, recipient: Recipient, kind: str, now_ms: int,
) -> Message:
    bearer = address(profile.ids)
    key = change.key
    value = change.value if isinstance(change, TraitChanged) else isinstance(change, Entered)
    name = _name(change, connection) if kind == "track" else ""
    message_id = "personas_" + blake2b(
        "\0".join((space, key, computation.version, profile.id, str(change.number), *bearer, kind,
                   name)).encode(), digest_size=16).hexdigest()
    is_trait = isinstance(change, TraitChanged)
    context: dict[str, Any] = {
        "personas": {
            "computation_class": "trait" if is_trait else "audience",
            "computation_id": f"{'trt' if is_trait else 'aud'}_{key}",
            "computation_key": key,
            "namespace": space,
            "space_id": space,
        },
        "externalIds": [
            {"id": id.value, "type": id.type, "collection": profile.collection, "encoding": "none"}
            for id in profile.ids
        ],
    }
    carried = _carried(profile, recipient.include_traits)
    email = _email(profile)
    call: dict[str, Any] = {"type": kind}
    if kind == "track":
        call["event"] = name
        call["properties"] = {
            **carried, "trait_key" if is_trait else "audience_key": key, key: value}
        if email is not None:
            context["traits"] = {"email": email}
    else:
        call["traits"] = {**carried, **({} if email is None else {"email": email}), key: value}
    if bearer[0]:
        call["userId" if bearer[0] == "user_id" else "anonymousId"] = bearer[1]
    call |= {
        "context": context,
        "integrations": {"All": False, recipient.name or connection.to: True},
        "messageId": message_id,
        "timestamp": _iso(now_ms),
    }
    return Message(connection.to, message_id, _encode(call))


def _name(change: Change, connection: _Connection) -> str:
    if isinstance(connection, computed.Connection):
        return connection.event
    return connection.exit_event if isinstance(change, Exited) else connection.enter_event


def _carried(profile: Profile, keys: Iterable[str]) -> dict[str, Any]:
    """Return the traits that the destination wants beside; what is missing is left out (S3, S4)."""
    found: dict[str, Any] = {}
    for key in keys:
        trait = profile.computed.get(key) or profile.traits.get(key)
        if trait is not None and trait.value is not None:
            found[key] = trait.value
        elif key in profile.memberships:
            found[key] = profile.memberships[key].inside
    return found


def _email(profile: Profile) -> Any:
    """Return the email trait, else the email identifier added last, or None (M4)."""
    trait = profile.traits.get("email")
    if trait is not None and trait.value is not None:
        return trait.value
    emails = [id for id in profile.ids if id.type == "email"]
    return max(emails, key=lambda id: id.created_at_ms).value if emails else None


def _iso(now_ms: int) -> str:
    instant = _EPOCH + timedelta(milliseconds=now_ms)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
