"""Sums that do not depend on the order of their parts: exact decimals, kept as text."""

from decimal import Context, Decimal
from typing import Any

from events.operators import number

# A sum reaches from 1e308 down to 5e-324 and may carry: with this many digits no addition rounds.
_EXACT = Context(prec=700, Emin=-9999, Emax=9999)
_SHORT = Context(prec=40, Emin=-9999, Emax=9999)


def amount(value: Any) -> str | None:
    """Return a number, or what a text spells, as a decimal text; None for anything else."""
    figure = number(value)
    return None if figure is None else str(figure)


def plus(one: str, other: str) -> str:
    """Return the exact sum."""
    return str(_EXACT.add(Decimal(one), Decimal(other)))


def figure(total: str) -> int | float:
    """Return a decimal text as the number that JSON shows."""
    value = Decimal(total)
    if value == value.to_integral_value(context=_EXACT) and abs(value) < 1 << 63:
        return int(value)
    return float(value)


def mean(total: str, parts: int) -> int | float:
    """Return the average, rounded once."""
    return figure(str(_SHORT.divide(Decimal(total), Decimal(parts))))
