"""The track call that a journey sends: what is in it, made ready once (journeys 3.4, E5 to E9)."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from events import paths
from journeys import conditions
from journeys.instance import Instance, digest
from journeys.kind import Send, Setting
from journeys.limits import DESTINATION_KEY_LENGTH, PAYLOAD_BYTES
from journeys.view import View

SENT = "sent"
TOO_LARGE = "payload_too_large"

RESERVED = ("journey_context", "journey_metadata")
"""Properties of the call that no trait or mapping may take."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode
_Context = dict[str, dict[str, Any]]
_Value = Callable[[View, _Context], Any]


def iso(ms: int) -> str:
    """Return an instant as Segment writes it: `2025-03-01T12:00:00.000Z`."""
    moment = _EPOCH + timedelta(milliseconds=ms)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def computation_key(space: str, journey: str, step: str, shown: str) -> str:
    """Return the key that names a step at destinations: the same in all versions, at most 31 long.

    Rule: journeys E5, section 6.
    """
    suffix = digest(space, journey, step, size=2)
    plain = re.sub(r"[^a-z0-9_]+", "_", f"{journey}__{shown}".lower())
    return f"{plain[: DESTINATION_KEY_LENGTH - len(suffix) - 1]}_{suffix}"


class Call:
    """A send made ready: to whom, and how its properties come about."""

    __slots__ = ("_context", "_emitters", "_event", "_map", "_personas", "_setting", "_step",
                 "_to", "_traits")  # fmt: skip

    def __init__(
        self,
        setting: Setting,
        step: str,
        event: str,
        to: list[str],
        traits: list[str],
        context: list[str] | None,
        mapping: dict[str, Any],
        shown: str = "",
    ) -> None:
        """Take a checked definition; ``context`` None: all that was collected."""
        key = computation_key(setting.space, setting.journey, step, shown or step)
        self._setting = setting
        self._step = step
        self._event = event
        self._to = to
        self._traits = traits
        self._context = context
        self._map = [
            (name, reference(value, setting.names)) for name, value in sorted(mapping.items())
        ]
        self._personas = {
            "computation_class": "journey_step", "computation_id": key, "computation_key": key,
        }  # fmt: skip
        self._emitters = {
            destination: "event_em_" + digest(setting.space, setting.journey, step, destination,
                                              size=6)
            for destination in to
        }  # fmt: skip

    def made(
        self, instance: Instance, context: _Context, person: View, now_ms: int
    ) -> tuple[tuple[Send, ...], tuple[str, ...]]:
        """Return the messages, one an activation, and what became of each: ``sent`` or
        ``payload_too_large``.

        Traits are read now, the context is as it was collected (E7). Ids are those the person has
        now (G8); message ids follow from the instance, so a repeat has the same (E9).
        """
        setting = self._setting
        properties: dict[str, Any] = {
            "journey_context": context if self._context is None
            else {name: context[name] for name in self._context if name in context},
            "journey_metadata": {"journey_id": setting.journey, "epoch_id": instance.id},
        }  # fmt: skip
        for key in self._traits:
            value = person.trait(key)
            if value is not None:
                properties[key] = value
        for name, find in self._map:
            properties[name] = find(person, context)
        head = {"type": "track", "event": self._event, **_ids(person)}
        externals = [
            {"id": one.value, "type": one.type, "collection": "users", "encoding": "none"}
            for one in person.profile.ids
        ]
        timestamp = iso(now_ms)
        sends: list[Send] = []
        counts: list[str] = []
        for destination in self._to:
            message_id = "personas_" + digest(
                setting.space, setting.journey, instance.id, self._step, str(instance.restarts),
                destination,
            )  # fmt: skip
            personas = {
                **self._personas, "event_emitter_id": self._emitters[destination],
                "namespace": setting.space, "space_id": setting.space,
            }  # fmt: skip
            body = _encode({
                **head, "messageId": message_id, "timestamp": timestamp,
                "context": {"personas": personas, "externalIds": externals},
                "properties": properties,
            })  # fmt: skip
            if len(body) > PAYLOAD_BYTES:
                counts.append(TOO_LARGE)
            else:
                sends.append(Send(destination, message_id, body))
                counts.append(SENT)
        return (tuple(sends), tuple(counts))


def _ids(person: View) -> dict[str, str]:
    user_id = person.external_id("user_id")
    if user_id is not None:
        return {"userId": user_id}
    anonymous_id = person.external_id("anonymous_id")
    return {} if anonymous_id is None else {"anonymousId": anonymous_id}


def reference(value: Any, names: tuple[str, ...]) -> _Value:
    """Return what finds a mapped value: `context.EVENT.path`, `traits.KEY`, or the value itself.

    What is missing is null (E8).
    """
    if isinstance(value, str) and value.startswith("context."):
        name, rest = conditions.in_context(value.removeprefix("context."), names)
        follow = _followed(rest)
        return lambda _person, context: follow(context.get(name))
    if isinstance(value, str) and value.startswith("traits."):
        first, *below = paths.parse(value.removeprefix("traits."))
        under = _followed(tuple(below))
        return lambda person, _context: under(person.trait(first))
    return lambda _person, _context: value


def _followed(path: paths.Path) -> Callable[[Any], Any]:
    if not path:
        return lambda root: root
    return paths.each(path) if paths.many(path) else paths.one(path)
