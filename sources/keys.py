"""Whose calls these are: from a write key to its source (collect 2)."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from sources.definition import Source


class KnownSource(Struct, frozen=True):
    """A source with what each of its requests asks of it."""

    key: str
    source: Source
    channel: str
    client_side: bool
    """Every message of it is client-side, by whatever route (C-01)."""


class SourceIndex:
    """All sources by write key; built once for each version of the definitions."""

    __slots__ = ("by_write_key",)

    def __init__(self, sources: Mapping[str, Source]) -> None:
        """Index the sources; a write key belongs to one source (checked in the workspace)."""
        self.by_write_key: Final[dict[str, KnownSource]] = {}
        for key in sorted(sources):
            source = sources[key]
            known = KnownSource(
                key=key,
                source=source,
                channel=source.channel,
                client_side=source.type in ("website", "mobile"),
            )
            for write_key in source.write_keys:
                self.by_write_key.setdefault(write_key, known)
