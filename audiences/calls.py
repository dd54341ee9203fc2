"""The calls that tell destinations of audiences and computed traits (audiences 6).

One message per person and destination: with the `userId` last added, else the `anonymousId`
(workspace WS-21). Message ids are derived, so a repeated one is the same message (M9).
"""

from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Protocol

import msgspec
from msgspec import Raw, Struct

from audiences import definition
from audiences.evaluate import Change, Entered, Exited, TraitChanged
from audiences.plan import Computation, Plan
from events.timestamps import iso
from profiles.computed import definition as computed
from profiles.profile import ExternalId, Profile

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


class Message(Struct, frozen=True, gc=False):
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
    person: _Person | None = None
    for change in changes:
        computation = plan.computations[change.key]
        for connection in _connections(computation):
            recipient = destinations.get(connection.to)
            if recipient is None or not recipient.enabled:
                continue
            if only is not None and (change.key, connection.to) not in only:
                continue
            if person is None:
                person = _Person(profile, now_ms)
            for kind in connection.send:
                found.append(
                    _message(space, computation, person, change, connection, recipient, kind))
    return found


class _Person:
    """What all messages of one person at one instant have in common."""

    __slots__ = ("bearer", "email", "external_ids", "profile", "timestamp")

    def __init__(self, profile: Profile, now_ms: int) -> None:
        self.profile = profile
        self.bearer = address(profile.ids)
        self.email = _email(profile)
        self.external_ids = [
            {"id": id.value, "type": id.type, "collection": profile.collection, "encoding": "none"}
            for id in profile.ids
        ]
        self.timestamp = iso(now_ms)


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
    user = anonymous = None
    for id in ids:
        if id.type == "user_id":
            if user is None or user.created_at_ms <= id.created_at_ms:
                user = id
        elif id.type == "anonymous_id" and (
            anonymous is None or anonymous.created_at_ms <= id.created_at_ms
        ):
            anonymous = id
    chosen = user or anonymous
    return (chosen.type, chosen.value) if chosen else ("", "")


_Connection = definition.Connection | computed.Connection


def _connections(computation: Computation) -> tuple[_Connection, ...]:
    if computation.audience is not None:
        return computation.audience.destinations
    assert computation.computed is not None
    return computation.computed.destinations


def _message(
    space: str, computation: Computation, person: _Person, change: Change,
    connection: _Connection, recipient: Recipient, kind: str,
) -> Message:
    profile, bearer = person.profile, person.bearer
    key = change.key
    is_trait = isinstance(change, TraitChanged)
    value = change.value if isinstance(change, TraitChanged) else isinstance(change, Entered)
    name = _name(change, connection) if kind == "track" else ""
    message_id = "personas_" + blake2b(
        f"{space}\0{key}\0{computation.version}\0{profile.id}\0{change.number}\0{bearer[0]}\0"
        f"{bearer[1]}\0{kind}\0{name}".encode(), digest_size=16).hexdigest()
    context: dict[str, Any] = {
        "personas": _personas(space, key, is_trait),
        "externalIds": person.external_ids,
    }
    wanted = recipient.include_traits
    carried = _carried(profile, wanted) if wanted else {}
    email = person.email
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
    call["context"] = context
    call["integrations"] = {"All": False, recipient.name or connection.to: True}
    call["messageId"] = message_id
    call["timestamp"] = person.timestamp
    return Message(connection.to, message_id, _encode(call))


@lru_cache(maxsize=4096)
def _personas(space: str, key: str, is_trait: bool) -> Raw:
    """Return what says where a message comes from, in JSON."""
    return Raw(_encode({
        "computation_class": "trait" if is_trait else "audience",
        "computation_id": f"{'trt' if is_trait else 'aud'}_{key}",
        "computation_key": key,
        "namespace": space,
        "space_id": space,
    }))


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
