"""JSON as it arrives: decoded once, by one parser, with limits of our own.

The codec's limits are not ours: its depth depends on the stack, it reads integers that nothing
downstream can keep. Each limit has a filter on the raw bytes, so the usual event pays about 1 us.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from events.calls import Refused

MAX_DEPTH: Final = 64
"""Objects and arrays within each other, the call itself counted."""
_MAX_INT: Final = 2**64 - 1
_MIN_INT: Final = -(2**63)

_DIGITS = bytes(48 if 48 <= byte <= 57 else 32 for byte in range(256))
_LONG = b"0" * 19
_decode = msgspec.json.Decoder().decode

NOT_AN_OBJECT = Refused("bad_request", "the call is not an object")
_TOO_DEEP = Refused("bad_request", f"more than {MAX_DEPTH} objects and arrays within each other")
_TOO_BIG = Refused("bad_request", "an integer does not fit into 64 bits")
_NUMBER = Refused("bad_request", "a number is out of range")
_SURROGATE = Refused("bad_request", "a string holds half of a surrogate pair")


class Malformed(Exception):
    """The body is no JSON; the text says where, and never quotes it."""


_NULL = Raw(b"null")


class _Shared(Struct, gc=False, rename="camel"):
    write_key: Raw = _NULL
    sent_at: Raw = _NULL
    context: Raw = _NULL
    integrations: Raw = _NULL


class Batch(_Shared):
    """The body of a batch route. Everything else at its top is ignored."""

    batch: list[Raw] | None = None


class _NoList(_Shared):
    batch: Raw = _NULL


_decode_list = msgspec.json.Decoder(Batch).decode
_decode_no_list = msgspec.json.Decoder(_NoList).decode


def long_numbers(body: bytes) -> bool:
    """Return whether a run of 19 digits stands anywhere: only then can an integer be too large."""
    return _LONG in body.translate(_DIGITS)


def decode_batch(body: bytes) -> tuple[Batch | None, bool]:
    """Return the batch with its items still raw, and whether half surrogates were marked in it.

    None: what `batch` holds is no list. Raises Malformed, also for a root that is no object.
    """
    try:
        return _batch(body), False
    except msgspec.DecodeError as error:
        # the codec refuses the whole body for one half of an emoji, which browsers do send
        marked = mark_surrogates(body)
        if marked == body:
            raise Malformed(_reason(error)) from error
    except (RecursionError, UnicodeDecodeError) as error:
        raise Malformed(_reason(error)) from error
    try:
        return _batch(marked), True
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(_reason(error)) from error


def _batch(body: bytes) -> Batch | None:
    try:
        return _decode_list(body)
    except msgspec.ValidationError:
        _decode_no_list(body)
        return None


def decode_value(raw: Raw) -> Any:
    """Return what a field of the batch holds; a Refused when it holds what cannot be kept.

    Raises Malformed.
    """
    if raw is _NULL:
        return None
    wrapped = decode_call(b'{"_":' + bytes(raw) + b"}")
    return wrapped if isinstance(wrapped, Refused) else wrapped["_"]


def decode_calls(
    raws: list[bytes], *, numbers: bool | None, marked: bool
) -> Iterator[dict[str, Any] | Refused]:
    """Yield what `decode_call` makes of each."""
    if numbers is not False or marked:
        for raw in raws:
            yield decode_call(raw, numbers=numbers, marked=marked)
        return
    for raw in raws:
        try:
            call = _decode(raw)
        except Exception:  # noqa: BLE001, `decode_call` meets it again, and tells what it is
            call = None
        # As there, written out: this runs for each event.
        if (
            type(call) is not dict
            or len(raw) - len(raw.replace(b"{", b"").replace(b"[", b"")) > MAX_DEPTH
        ):
            call = decode_call(raw, numbers=False)
        yield call


def decode_call(
    raw: bytes, *, numbers: bool | None = None, marked: bool = False
) -> dict[str, Any] | Refused:
    """Return the call, decoded; Refused when it holds what cannot be kept.

    ``numbers``: False when `long_numbers` was False of the whole. ``marked``: half surrogates were
    marked. Raises Malformed for what is no JSON.
    """
    try:
        call = _decode(raw)
    except msgspec.ValidationError:
        return _NUMBER
    except RecursionError:
        return _TOO_DEEP
    except msgspec.DecodeError as error:
        sound = mark_surrogates(raw)
        if sound == raw or marked:
            raise Malformed(_reason(error)) from error
        return decode_call(sound, numbers=numbers, marked=True)
    except UnicodeDecodeError as error:
        raise Malformed(_reason(error)) from error
    if type(call) is not dict:
        return NOT_AN_OBJECT
    if marked and _MARK in raw:
        return _SURROGATE
    # Deleting finds each bracket by the processor's own search; `count` looks at every byte.
    if len(raw) - len(raw.replace(b"{", b"").replace(b"[", b"")) > MAX_DEPTH or (
        long_numbers(raw) if numbers is None else numbers
    ):
        return _unkeepable(call) or call
    return call


def _unkeepable(call: dict[str, Any]) -> Refused | None:
    level: list[Any] = [call]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            for item in value.values() if type(value) is dict else value:
                kind = type(item)
                if kind is dict or kind is list:
                    below.append(item)
                elif kind is int and not _MIN_INT <= item <= _MAX_INT:
                    return _TOO_BIG
        if not below:
            return None
        level = below
    return _TOO_DEEP


_MARK = b"\\ufdd0"
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def mark_surrogates(body: bytes) -> bytes:
    """Return the body with each half surrogate replaced by a noncharacter, so that it parses."""
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    return _ESCAPE.sub(lambda match: _MARK if match[1] else match[0], body)


def _reason(error: Exception) -> str:
    """Return a sentence about the fault that quotes nothing of the body."""
    if isinstance(error, RecursionError):
        return "too many objects and arrays within each other"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, msgspec.ValidationError):
        return "the body must be an object"
    text = str(error)
    return text if text.startswith("JSON is malformed: ") else "JSON ends too early"
