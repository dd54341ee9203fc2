"""What any store of ours can hold: JSON values, whole numbers of 64 bits."""

from typing import Any

LEAST, MOST = -(1 << 63), (1 << 64) - 1
_TOO_LARGE = 10**308


def storable(value: Any) -> Any:
    """Return a JSON value with whole numbers beyond 64 bits as floats, beyond those as None."""
    kind = type(value)
    if kind is int:
        if LEAST <= value <= MOST:
            return value
        return float(value) if -_TOO_LARGE < value < _TOO_LARGE else None
    if kind is list:
        return [storable(item) for item in value]
    if kind is dict:
        return {key: storable(item) for key, item in value.items()}
    return value
