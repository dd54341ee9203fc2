"""A journey, as a workspace file defines it (journeys 11)."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from events.filters import Where
from journeys.conditions import Condition
from journeys.instance import digest
from journeys.steps.delay import Delay
from journeys.steps.hold_until import HoldUntil
from journeys.steps.send import Send
from journeys.steps.split import Split

_Later = Annotated[Any | UnsetType, Meta(description="Not supported yet.")]
_Next = Annotated[
    str | UnsetType, Meta(description="The step that follows, or `end`.", examples=["end"])
]


class Entry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The event that starts an instance, and for whom."""

    event: Annotated[
        str | UnsetType, Meta(description="The event's name.", examples=["Cart Modified"])
    ] = UNSET
    where: Where = {}
    audience: Annotated[
        str | Condition | UnsetType,
        Meta(description="Only people who were in (or not in) audiences before the event.",
             examples=[{"not": {"audience": "internal_staff"}}]),
    ] = UNSET
    re_enter: Annotated[
        Literal["every", "once"],
        Meta(description="`every`: an instance for each value of `key`; `once`: one, for ever."),
    ] = "every"
    key: Annotated[
        str | UnsetType,
        Meta(description="The event's property that tells instances apart.", examples=["cart_id"]),
    ] = UNSET
    max_entry_age: Annotated[
        str, Meta(description="Events that come later than this start nothing.", examples=["1h"])
    ] = "1h"
    use_history: _Later = UNSET


class ExitEvent(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An event that ends instances, wherever they are."""

    event: Annotated[str, Meta(description="The event's name.", examples=["Order Completed"])]
    where: Where = {}
    match_key: Annotated[
        str | UnsetType,
        Meta(description="The event's property that must equal the entry's key; without it all of "
             "the person's instances end.", examples=["cart_id"]),
    ] = UNSET
    any_key: Annotated[
        bool, Meta(description="Says that ending all of the person's instances is meant.")
    ] = False


class ExitSend(Send, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is sent when an instance ends by an exit event."""

    when: Annotated[
        list[str] | UnsetType,
        Meta(description="Only for these exit events; for all when absent.",
             examples=[["Order Completed"]]),
    ] = UNSET


class ExitRules(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What ends an instance before its steps do."""

    events: Annotated[list[ExitEvent], Meta(description="At most 10.")]
    send: Annotated[
        ExitSend | UnsetType, Meta(description="One message for all of these events.")
    ] = UNSET


class Step(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Exactly one kind, and what follows."""

    delay: Delay | UnsetType = UNSET
    hold_until: HoldUntil | UnsetType = UNSET
    split: Split | UnsetType = UNSET
    send: Send | UnsetType = UNSET
    next: _Next = UNSET
    wait_for: _Later = UNSET
    random: _Later = UNSET
    show_ad: _Later = UNSET
    send_list: _Later = UNSET
    rate_limit: _Later = UNSET

    def given(self) -> list[tuple[str, Any]]:
        """Return the kinds that were written, those of which nothing is built yet too."""
        return [
            (name, value)
            for name in self.__struct_fields__
            if name != "next" and (value := getattr(self, name)) is not UNSET
        ]


class Journey(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A path that people take after an event."""

    entry: Entry
    steps: Annotated[
        dict[str, Step], Meta(description="By id; the first is `start`. At most 50.")
    ]
    name: Annotated[
        str, Meta(description="How people call it, at most 73 characters; the key when absent.",
                  examples=["Abandoned cart"])
    ] = ""
    description: Annotated[str, Meta(description="What it is for.")] = ""
    exit_rules: ExitRules | UnsetType = UNSET
    exit_after: _Later = UNSET
    re_entry_after: _Later = UNSET
    holdout: _Later = UNSET
    version_exclusion: Annotated[
        Any, Meta(description="Only `false`; anything else is not supported yet.")
    ] = False


_encode = msgspec.json.Encoder(order="deterministic").encode


def version_of(journey: Journey) -> str:
    """Return the version: a short hash of the normal form without name and description (L2, Y7)."""
    plain = msgspec.structs.replace(journey, name="", description="")
    return digest(_encode(plain).decode(), size=5)
