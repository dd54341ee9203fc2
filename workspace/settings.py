"""The settings of a workspace as a whole (workspace 2)."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from destinations.definition import Duration
from events.durations import millis


class Workspace(Struct, frozen=True, forbid_unknown_fields=True):
    """The top key `workspace`; all of it may be left out."""

    name: Annotated[
        str, Meta(max_length=255, description="how people call it", examples=["Demo shop"])
    ] = "Watersmeet"
    slug: Annotated[
        str,
        Meta(
            pattern="^[a-z0-9_]{1,63}$",
            description="letters a-z, digits and _: used in names of files and exports",
            examples=["demo_shop"],
        ),
    ] = "workspace"
    timezone: Annotated[
        Literal["UTC"], Meta(description="of the days and months of usage", examples=["UTC"])
    ] = "UTC"
    dedup_window: Annotated[
        Duration,
        Meta(description="how long a messageId is remembered, at least 24h", examples=["24h"]),
    ] = "24h"
    spaces: Annotated[
        tuple[str, ...], Meta(description="the identity graphs", examples=[["default"]])
    ] = ("default",)

    @property
    def dedup_window_ms(self) -> int:
        """Return how long a messageId is remembered."""
        return millis(self.dedup_window)
