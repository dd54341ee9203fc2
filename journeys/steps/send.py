"""Step `send`: a track call to up to five destinations, then go on (journeys E5 to E9, E11)."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from events import paths
from events.operators import Trouble
from journeys import conditions
from journeys.calls import RESERVED, Call
from journeys.instance import Instance
from journeys.kind import Emit, Move, Read, References, Setting, Step, StepKind
from journeys.limits import ACTIVATIONS_LIMIT, MAPPINGS_LIMIT, count_problems, name_problems
from journeys.view import View


class Send(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Sends a track call about the person. A failed delivery does not hold the journey up."""

    to: Annotated[
        list[str], Meta(description="Destinations, at most 5.", examples=[["webhook"]])
    ]
    event: Annotated[
        str | UnsetType,
        Meta(description="The call's event; the step's id when absent.", examples=["Cart nudge"]),
    ] = UNSET
    traits: Annotated[
        list[str],
        Meta(description="Traits that stand flat in the properties, as they are when it is sent.",
             examples=[["first_name", "plan"]]),
    ] = []
    context: Annotated[
        list[str] | UnsetType,
        Meta(description="Which collected events go along; all when absent.",
             examples=[["Cart Modified", "Cart Modified - updated"]]),
    ] = UNSET
    map: Annotated[
        dict[str, Any],
        Meta(description="Further properties: a fixed value, `context.EVENT.path` or `traits.KEY`.",
             examples=[{"template": "plain", "cart": "context.Cart Modified.items"}]),
    ] = {}


class ReadySend(Step):
    """A call and where to go on."""

    __slots__ = ("_call", "_next")

    def __init__(self, call: Call, next: str) -> None:
        self._call = call
        self._next = next

    def arrive(self, instance: Instance, person: View, now_ms: int) -> Move:
        """Send and go on."""
        sends, counts = self._call.made(instance, instance.context, person, now_ms)
        return Emit(self._next, sends, counts)


def call(setting: Setting, id: str, send: Send, event: str, shown: str = "") -> Call:
    """Return the call of a send, also of an exit's."""
    return Call(
        setting, id, event, send.to, send.traits, None if send.context is UNSET else send.context,
        send.map, shown,
    )  # fmt: skip


def _ready(setting: Setting, id: str, send: Send, next: str) -> Step:
    return ReadySend(call(setting, id, send, send.event or id), next)


def reads(send: Send) -> list[Read]:
    """Return the context paths that a send reads."""
    found = []
    if send.context is not UNSET:
        found = [Read(("context", at), name, True) for at, name in enumerate(send.context)]
    for name, value in send.map.items():
        if isinstance(value, str) and value.startswith("context."):
            found.append(Read(("map", name), value.removeprefix("context.")))
    return found


def problems(
    send: Send, references: References, *, limit: int = ACTIVATIONS_LIMIT
) -> list[Trouble]:
    """Return what is wrong in a send, also in an exit's (Y1, E6)."""
    found = count_problems(("to",), "destinations", len(send.to), limit)
    if not send.to:
        found.append((("to",), "no destination", "name at least one"))
    for place, destination in enumerate(send.to):
        if destination not in references.destinations:
            known = ", ".join(sorted(references.destinations)) or "none"
            what = f'there is no destination "{destination}"'
            found.append((("to", place), what, f"destinations are: {known}"))
        elif destination in send.to[:place]:
            found.append((("to", place), f'"{destination}" stands twice', "remove it"))
    if send.event is not UNSET:
        found += name_problems(("event",), "event", send.event)
    mappings = len(send.map) + len(send.traits)
    found += count_problems(("map",), "mappings and traits", mappings, MAPPINGS_LIMIT)
    for at, names in (("traits", send.traits), ("map", list(send.map))):
        found += [
            ((at, name) if at == "map" else (at, place), f'"{name}" is taken by the call itself',
             "choose another name")
            for place, name in enumerate(names)
            if name in RESERVED
        ]  # fmt: skip
    for name, value in send.map.items():
        found += _path_problems(name, value, references)
    return found


def _path_problems(name: str, value: Any, references: References) -> list[Trouble]:
    try:
        if isinstance(value, str) and value.startswith("context."):
            conditions.in_context(value.removeprefix("context."), references.names)
        if isinstance(value, str) and value.startswith("traits."):
            paths.parse(value.removeprefix("traits."))
    except ValueError as error:
        return [(("map", name), str(error), "write names with dots between them")]
    return []


KIND = StepKind("send", Send, ready=_ready, problems=problems, reads=reads)
