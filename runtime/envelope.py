"""The envelope: what stands in the raw log. One envelope is one HTTP request, or one group of
results, or one tick; its items share kind and instant.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

VERSION = 1


class UnknownEnvelope(Exception):
    """The envelope was written by a newer program, or is none."""


class _Envelope(Struct, array_like=True):
    version: int
    kind: str
    at_ms: int
    items: Raw


class Batch(Struct, gc=False):
    """An envelope, decoded: the items of one kind and the instant at which they were received."""

    kind: str
    at_ms: int
    items: list[Any]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Envelope).decode


def pack(kind: str, at_ms: int, items: Sequence[Any]) -> bytes:
    """Return the envelope's bytes."""
    return _encode((VERSION, kind, at_ms, items))


class Codec:
    """Decodes envelopes, by the type of item that each kind carries."""

    def __init__(self, kinds: Mapping[str, type]) -> None:
        """Build the decoders once."""
        self._decoders = {
            kind: msgspec.msgpack.Decoder(list[item]).decode  # type: ignore[valid-type]
            for kind, item in kinds.items()
        }

    def unpack(self, value: bytes, items: list[Any] | None) -> Batch:
        """Return the envelope, with ``items`` if the caller has them decoded already.

        Raises UnknownEnvelope for another version or kind.
        """
        try:
            envelope = _decode(value)
        except msgspec.DecodeError as error:
            raise UnknownEnvelope(f"a record of the raw log is no envelope: {error}") from error
        decode = self._decoders.get(envelope.kind)
        if envelope.version > VERSION or decode is None:
            raise UnknownEnvelope(
                f'an envelope of version {envelope.version} and kind "{envelope.kind}" was written '
                f"by a newer program; this one reads up to version {VERSION}: start the newer one"
            )
        if items is None:
            items = decode(envelope.items)
        return Batch(envelope.kind, envelope.at_ms, items)
