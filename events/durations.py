"""Durations as people write them: `30m`, `12h`, `7d`, `2w` (audiences 10)."""

import re

_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_FORM = re.compile(r"([0-9]{1,6})([smhdw])")


def millis(text: str) -> int:
    """Return the duration in milliseconds; days are 24 hours exactly (audiences E1).

    Raises ValueError for anything but a whole number with one of the units s, m, h, d, w.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a duration; write it like "30m", "12h", "7d" or "2w"')
    return int(match[1]) * _UNITS[match[2]]
