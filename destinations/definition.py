"""A destination, as a workspace file defines it (workspace 5)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Duration = Annotated[
    str,
    Meta(
        pattern="^[0-9]{1,6}[smhdw]$",
        description="a whole number with a unit: s, m, h, d or w",
        examples=["5s", "4h"],
    ),
]
Call = Literal["identify", "track", "page", "screen", "group", "alias"]


class Events(Struct, frozen=True, forbid_unknown_fields=True):
    """Which of its sources' events a destination gets."""

    types: Annotated[
        tuple[Call, ...] | UnsetType,
        Meta(description="the calls it gets; all when absent", examples=[["track", "identify"]]),
    ] = UNSET
    names: Annotated[
        tuple[str, ...] | UnsetType,
        Meta(
            description="of track calls only those with these names; without `types` nothing "
            "else but pages and screens that are named here as `Page Viewed`, `Screen Viewed`",
            examples=[["Order Completed"]],
        ),
    ] = UNSET


class WebhookSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a webhook is called and how. Texts may hold `${NAME}`."""

    url: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=2048,
            description="where to POST: http or https",
            examples=["https://hooks.example.com/watersmeet"],
        ),
    ]
    secret: Annotated[
        str,
        Meta(
            description="when not empty: signs each body (X-Signature, X-Signature-256)",
            examples=["${WEBHOOK_SECRET}"],
        ),
    ] = ""
    headers: Annotated[
        dict[str, str],
        Meta(
            max_length=50, description="further headers, ASCII", examples=[{"X-Team": "growth"}]
        ),
    ] = {}
    timeout: Annotated[Duration, Meta(description="how long to wait for an answer")] = "5s"
    batch_size: Annotated[
        int,
        Meta(ge=1, le=4000, description="messages a request at most; from 2 on a body is an array"),
    ] = 1


class Retry(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a message is tried again."""

    window: Annotated[
        Duration,
        Meta(
            description="from the first attempt on; after it the message goes to the dead letters"
        ),
    ] = "4h"


class RateLimit(Struct, frozen=True, forbid_unknown_fields=True):
    """How fast a destination is called."""

    per_second: Annotated[
        float,
        Meta(gt=0, le=100_000, description="requests a second at most", examples=[50]),
    ]


class Destination(Struct, frozen=True, forbid_unknown_fields=True):
    """Where events, audience changes and journey messages go. Rule: workspace WS-20 to WS-24."""

    type: Annotated[Literal["webhook"], Meta(description="what it is", examples=["webhook"])]
    settings: Annotated[WebhookSettings, Meta(description="what its type needs")]
    name: Annotated[
        str, Meta(max_length=255, description="how people call it", examples=["Example webhook"])
    ] = ""
    enabled: Annotated[
        bool,
        Meta(description="false: it gets nothing and what waits for it is parked", examples=[True]),
    ] = True
    sources: Annotated[
        tuple[str, ...],
        Meta(
            description="whose events it gets; none: only audiences and journeys that name it",
            examples=[["web", "app"]],
        ),
    ] = ()
    events: Annotated[Events, Meta(description="which of these events; all when absent")] = Events()
    retry: Annotated[Retry, Meta(description="how long to try again")] = Retry()
    rate_limit: Annotated[
        RateLimit | UnsetType, Meta(description="how fast to call it; no limit when absent")
    ] = UNSET
    include_traits: Annotated[
        tuple[str, ...],
        Meta(
            description="traits of the person that audience and trait messages carry beside their "
            "own",
            examples=[["first_name", "plan"]],
        ),
    ] = ()
