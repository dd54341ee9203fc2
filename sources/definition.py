"""A source, as a workspace file defines it (workspace 3)."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

WriteKey = Annotated[
    str,
    Meta(
        pattern="^[A-Za-z0-9_-]{8,255}$",
        description="at least 8 characters of A-Z a-z 0-9 _ -",
        examples=["wk_demo_web_4f1c9a"],
    ),
]


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """Where calls come from; its id is its key. Rule: workspace WS-10 to WS-12."""

    type: Annotated[
        Literal["website", "mobile", "server", "cloud"],
        Meta(
            description="what sends: decides the channel of its calls, and whether the peer's "
            "address is the visitor's",
            examples=["website"],
        ),
    ]
    write_keys: Annotated[
        tuple[WriteKey, ...],
        Meta(
            min_length=1,
            max_length=10,
            description="the keys its calls carry; public by nature, each belongs to one source",
            examples=[["wk_demo_web_4f1c9a"]],
        ),
    ]
    name: Annotated[
        str, Meta(max_length=255, description="how people call it", examples=["Shop website"])
    ] = ""
    environment: Annotated[
        str, Meta(max_length=255, description="free text, shown", examples=["production"])
    ] = "production"
    labels: Annotated[
        dict[str, str], Meta(description="free text by name, shown", examples=[{"team": "growth"}])
    ] = {}
    enabled: Annotated[
        bool,
        Meta(
            description="false: its calls are answered 200, counted, and nothing else happens",
            examples=[True],
        ),
    ] = True
    spaces: Annotated[
        tuple[str, ...],
        Meta(
            description="the spaces in which its events build profiles; [] for none",
            examples=[["default"]],
        ),
    ] = ("default",)

    @property
    def channel(self) -> str:
        """Return the `channel` of its stored events (collect 7)."""
        return _CHANNELS[self.type]


_CHANNELS = {"website": "browser", "mobile": "mobile", "server": "server", "cloud": "server"}
