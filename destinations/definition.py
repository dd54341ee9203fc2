"""A destination, as a workspace file defines it (workspace 5)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from events.durations import millis

Duration = Annotated[
    str,
    Meta(
        pattern="^[0-9]{1,6}[smhdw]$",
        description="a whole number with a unit: s, m, h, d or w",
        examples=["5s", "4h"],
    ),
]
Call = Literal["identify", "track", "page", "screen", "group", "alias"]
CALLS: tuple[Call, ...] = ("identify", "track", "page", "screen", "group", "alias")


class Events(Struct, frozen=True, forbid_unknown_fields=True):
    """Which of its sources' events a destination gets."""

    types: Annotated[
        tuple[Call, ...],
        Meta(min_length=1, description="the calls it gets", examples=[["track", "identify"]]),
    ] = CALLS
    names: Annotated[
        tuple[str, ...],
        Meta(
            description="when not empty: of the calls that have a name (track; page and screen are "
            "`Page Viewed` and `Screen Viewed`) only these; calls without a name are not affected",
            examples=[["Order Completed"]],
        ),
    ] = ()


class WebhookSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a webhook is called and how. Texts may hold `${NAME}` (references.py fills it in)."""

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
    timeout: Annotated[Duration, Meta(description="how long to wait for an answer")] = "10s"

    @property
    def timeout_ms(self) -> int:
        """Return how long to wait for an answer."""
        return millis(self.timeout)


class Retry(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a message is tried again."""

    window: Annotated[
        Duration,
        Meta(
            description="from the first attempt on; after it the message goes to the dead letters"
        ),
    ] = "4h"

    @property
    def window_ms(self) -> int:
        """Return how long a message is tried again."""
        return millis(self.window)


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
