"""The operators of conditions, for traits and event properties alike: their fields and their sense.

A verdict is one whole number: positive while the condition holds, negative while it does not, and
its size is the instant (ms) up to which that stays so without new input; `NEVER` is for good. So
`and` is min, `or` is max, `not` is minus, and the instant comes out right: an `and` that does not
hold waits for the last of its false parts (audiences 4.3, 4.4, E2).
"""

import operator
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from events.durations import millis

NEVER = 1 << 62
"""The size of a verdict that time alone does not change."""

Verdict = int
Test = Callable[[Any], bool]
Span = tuple[int, int]
"""Instants from, up to but without: when a dated condition holds."""


class Reference(Struct, frozen=True, forbid_unknown_fields=True):
    """A right side that is looked up: not supported yet."""

    trait: Annotated[str | UnsetType, Meta(description="A trait of the profile.")] = UNSET
    parent: Annotated[
        str | UnsetType, Meta(description="A property of the funnel's first event.")
    ] = UNSET
    context: Annotated[str | UnsetType, Meta(description="A path into the journey context.")] = (
        UNSET
    )


Scalar = str | int | float | bool
Operand = Scalar | Reference
Number = int | float | str | Reference
Texts = str | list[str]
Duration = Annotated[str, Meta(examples=["30m", "12h", "7d", "2w"])]


class Operators(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is asked of one value; several operators must all hold."""

    equals: Annotated[
        Operand | UnsetType,
        Meta(
            description='Equal; a number equals its text, true equals "true".', examples=["pro", 3]
        ),
    ] = UNSET
    not_equals: Annotated[
        Operand | UnsetType,
        Meta(description="There is a value, and another one.", examples=["free"]),
    ] = UNSET
    lt: Annotated[Number | UnsetType, Meta(description="A number below.", examples=[10])] = UNSET
    gt: Annotated[Number | UnsetType, Meta(description="A number above.", examples=[10])] = UNSET
    lte: Annotated[Number | UnsetType, Meta(description="A number not above.", examples=[10])] = (
        UNSET
    )
    gte: Annotated[Number | UnsetType, Meta(description="A number not below.", examples=[10])] = (
        UNSET
    )
    one_of: Annotated[
        list[Scalar] | UnsetType,
        Meta(description="Equal to one of these.", examples=[["pro", "team"]]),
    ] = UNSET
    none_of: Annotated[
        list[Scalar] | UnsetType,
        Meta(description="There is a value, and none of these.", examples=[["XX"]]),
    ] = UNSET
    contains: Annotated[
        Texts | UnsetType,
        Meta(
            description="Has one of these within its text; case matters.",
            examples=[["pricing", "plans"]],
        ),
    ] = UNSET
    not_contains: Annotated[
        Texts | UnsetType,
        Meta(
            description="Has none of these within its text, or there is no value.",
            examples=[["blocked"]],
        ),
    ] = UNSET
    starts_with: Annotated[
        Texts | UnsetType, Meta(description="A text that starts with one of these.", examples=["a"])
    ] = UNSET
    ends_with: Annotated[
        Texts | UnsetType,
        Meta(description="A text that ends with one of these.", examples=[".test"]),
    ] = UNSET
    exists: Annotated[
        bool | UnsetType,
        Meta(description="There is a value; null is none, an empty text is one.", examples=[True]),
    ] = UNSET
    not_exists: Annotated[
        bool | UnsetType, Meta(description="There is no value.", examples=[True])
    ] = UNSET
    includes: Annotated[
        Scalar | UnsetType, Meta(description="A list with this member.", examples=["vip"])
    ] = UNSET
    before_date: Annotated[
        str | UnsetType,
        Meta(description="An instant strictly before.", examples=["2025-01-01T00:00:00Z"]),
    ] = UNSET
    after_date: Annotated[
        str | UnsetType,
        Meta(description="An instant strictly after.", examples=["2025-01-01T00:00:00Z"]),
    ] = UNSET
    within_last: Annotated[
        Duration | UnsetType, Meta(description="An instant at most so long ago.", examples=["7d"])
    ] = UNSET
    within_next: Annotated[
        Duration | UnsetType, Meta(description="An instant at most so far ahead.", examples=["14d"])
    ] = UNSET
    before_last: Annotated[
        Duration | UnsetType,
        Meta(description="An instant so long ago or longer.", examples=["30d"]),
    ] = UNSET
    after_next: Annotated[
        Duration | UnsetType,
        Meta(description="An instant so far ahead or farther.", examples=["30d"]),
    ] = UNSET
    has_been: Annotated[
        Any | UnsetType, Meta(description="Held a value for so long: not supported yet.")
    ] = UNSET


TIMED = ("within_last", "within_next", "before_last", "after_next")
"""Operators whose result changes as time passes."""
DATED = ("before_date", "after_date", *TIMED)

# ---- values --------------------------------------------------------------------------------------
_NUMERIC = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,]([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:?[0-9]{2}))?"
)
_encode = msgspec.json.Encoder().encode
_TOO_LARGE = 10**308


def number(value: Any) -> int | float | None:
    """Return a number, or the number a text spells; None for anything else, true and false too."""
    kind = type(value)
    if kind is int:
        return value if -_TOO_LARGE < value < _TOO_LARGE else None
    if kind is float:
        return value if value - value == 0.0 else None
    if kind is str and len(value) <= 40 and _NUMERIC.fullmatch(value):
        try:
            return int(value)
        except ValueError:  # the form is right, so it has a point or an exponent
            spelled = float(value)
            return spelled if spelled - spelled == 0.0 else None
    return None


def text(value: Any) -> str:
    """Return a value as text; lists and objects as their JSON, whole numbers without a point."""
    kind = type(value)
    if isinstance(value, str):
        return value
    if kind is bool:
        return "true" if value else "false"
    if kind is float and value.is_integer():
        return str(int(value))
    if kind is int or kind is float:
        return str(value)
    encoded: bytes = _encode(value)
    return encoded.decode()


def instant(value: Any) -> int | None:
    """Return the milliseconds of an ISO 8601 instant; a date alone is its 00:00 UTC; else None.

    A time without a zone is no instant (audiences 4.4).
    """
    if type(value) is not str or len(value) > 40:
        return None
    match = _INSTANT.fullmatch(value)
    if match is None:
        return None
    date, time, fraction, zone = match.groups()
    try:
        if time is None:
            whole = datetime.fromisoformat(date).replace(tzinfo=UTC)
        else:
            whole = datetime.fromisoformat(f"{date}T{time}{'+00:00' if zone in 'Zz' else zone}")
        seconds = int((whole - _EPOCH).total_seconds())
    except (ValueError, OverflowError):  # a 30th of February: no instant
        return None
    return seconds * 1000 + int(((fraction or "") + "000")[:3])


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# ---- tests of a value that is there --------------------------------------------------------------
def equal(operand: Scalar) -> Test:
    """Return the test for equality with a scalar (audiences 4.4, `equals`)."""
    if type(operand) is bool:
        spelled = "true" if operand else "false"
        return lambda value: value is operand or value == spelled
    if type(operand) is not str:

        def same_number(value: Any) -> bool:
            kind = type(value)
            if kind is int or kind is float:
                return bool(value == operand)
            return kind is str and number(value) == operand

        return same_number
    truth = {"true": True, "false": False}.get(operand)
    figure = number(operand)

    def same(value: Any) -> bool:
        kind = type(value)
        if kind is str:
            return bool(value == operand)
        if kind is bool:
            return value is truth
        if kind is int or kind is float:
            return figure is not None and value == figure
        return text(value) == operand

    return same


def _among(operands: Iterable[Scalar]) -> Test:
    tests = [equal(operand) for operand in operands]
    return lambda value: any(test(value) for test in tests)


def _negated(test: Test) -> Test:
    return lambda value: not test(value)


def _texts(operand: Texts) -> tuple[str, ...]:
    return (operand,) if isinstance(operand, str) else tuple(operand)


def _contains(operand: Texts) -> Test:
    parts = _texts(operand)
    return lambda value: any(part in text(value) for part in parts)


def _starts(operand: Texts) -> Test:
    parts = _texts(operand)
    return lambda value: type(value) is str and value.startswith(parts)


def _ends(operand: Texts) -> Test:
    parts = _texts(operand)
    return lambda value: type(value) is str and value.endswith(parts)


def _includes(operand: Scalar) -> Test:
    test = equal(operand)
    return lambda value: (
        type(value) is list and any(test(item) for item in value if item is not None)
    )


def _number_test(name: str, operand: Any) -> Test:
    bound = number(operand)
    assert bound is not None, "problems() refuses a bound that is no number"

    compare = _COMPARE[name]

    def test(value: Any) -> bool:
        figure = number(value)
        return figure is not None and compare(figure, bound)

    return test


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt, "gt": operator.gt, "lte": operator.le, "gte": operator.ge,
}  # fmt: skip


def _date_test(name: str, operand: str) -> Test:
    bound = instant(operand)
    assert bound is not None, "problems() refuses a bound that is no instant"

    def test(value: Any) -> bool:
        moment = instant(value)
        if moment is None:
            return False
        return moment < bound if name == "before_date" else moment > bound

    return test


_FACTORIES: dict[str, Callable[[Any], Test]] = {
    "equals": equal,
    "not_equals": lambda operand: _negated(equal(operand)),
    "one_of": _among,
    "none_of": lambda operand: _negated(_among(operand)),
    "contains": _contains,
    "starts_with": _starts,
    "ends_with": _ends,
    "includes": _includes,
}


def span(name: str, value: Any, duration_ms: int) -> Span | None:
    """Return when a timed operator holds for a value; None when the value is no instant.

    The ends are inclusive: a span ends 1 ms after its last instant (audiences 5, flip table).
    """
    moment = instant(value)
    if moment is None:
        return None
    if name == "within_last":
        return (moment, moment + duration_ms + 1)
    if name == "within_next":
        return (moment - duration_ms, moment + 1)
    if name == "before_last":
        return (moment + duration_ms, NEVER)
    return (-NEVER, moment - duration_ms + 1)


def verdict(span: Span | None, now_ms: int) -> Verdict:
    """Return the verdict of a span at an instant."""
    if span is None:
        return -NEVER
    start, end = span
    if now_ms < start:
        return -start
    return end if now_ms < end else -NEVER


class Check:
    """Operators made ready for use, on the values that stand at one path.

    With `$` in the path each operator is met when any element meets it, each on its own;
    `not_contains` and `not_exists` are the negations of the whole (audiences 4.4).
    """

    __slots__ = ("_alone", "dated", "static", "timed")

    def __init__(self, operators: Operators) -> None:
        self.static: list[Callable[[list[Any]], bool]] = []
        self._alone: list[Test] = []
        self.timed: list[tuple[str, int]] = []
        self.dated = False
        for name in operators.__struct_fields__:
            operand = getattr(operators, name)
            if operand is UNSET:
                continue
            self.dated |= name in DATED
            if name in TIMED:
                self.timed.append((name, millis(operand)))
            else:
                single, whole = _tests(name, operand)
                self._alone.append(single)
                self.static.append(whole)

    def holds(self, values: list[Any]) -> bool:
        """Return whether all operators that do not depend on time hold."""
        return all(test(values) for test in self.static)

    @property
    def alone(self) -> Test:
        """Return what `holds` is for one value: most paths lead to one, and it runs for each."""
        if len(self._alone) == 1:
            return self._alone[0]
        tests = tuple(self._alone)
        return lambda value: all(test(value) for test in tests)

    def at(self, values: list[Any], now_ms: int) -> Verdict:
        """Return the verdict of all operators at an instant."""
        if not self.holds(values):
            return -NEVER
        result = NEVER
        for name, duration_ms in self.timed:
            met = -NEVER
            for value in values:
                met = max(met, verdict(span(name, value, duration_ms), now_ms))
            result = min(result, met)
        return result

    def edges(self, values: list[Any]) -> list[int]:
        """Return the instants at which a timed operator may change."""
        return [
            edge
            for name, duration_ms in self.timed
            for value in values
            for edge in span(name, value, duration_ms) or ()
            if -NEVER < edge < NEVER
        ]


def _tests(name: str, operand: Any) -> tuple[Test, Callable[[list[Any]], bool]]:
    """Return the test of one value that is there, and that of however many."""
    if name in ("exists", "not_exists"):
        wanted = operand is (name == "exists")
        return lambda _value: wanted, lambda values: bool(values) is wanted
    if name == "not_contains":
        inner = _contains(operand)
        return _negated(inner), lambda values: not any(inner(value) for value in values)
    if name in ("lt", "gt", "lte", "gte"):
        test = _number_test(name, operand)
    elif name in ("before_date", "after_date"):
        test = _date_test(name, operand)
    else:
        test = _FACTORIES[name](operand)
    return test, lambda values: any(test(value) for value in values)


# ---- what the types cannot say -------------------------------------------------------------------
Trouble = tuple[tuple[str | int, ...], str, str]
"""Where (keys from the definition down), what is wrong, how to mend it."""


def problems(operators: Operators, timed: bool = True) -> list[Trouble]:
    """Return what is wrong with operands: durations, dates, numbers, references, empty lists."""
    found: list[Trouble] = []
    given = 0
    for name in operators.__struct_fields__:
        operand = getattr(operators, name)
        if operand is UNSET:
            continue
        given += 1
        at = (name,)
        if name == "has_been":
            found.append((at, "not supported yet", "compare the present value instead"))
        elif isinstance(operand, Reference):
            found.append(_reference(at, operand))
        elif name in TIMED:
            try:
                millis(operand)
            except ValueError as error:
                found.append((at, str(error), "write a whole number and a unit"))
            if not timed:
                found.append((at, "not supported yet here", "compare with a fixed date"))
        elif name in DATED and instant(operand) is None:
            found.append(
                (at, f'"{operand}" is not an instant', 'write it like "2025-01-01T00:00:00Z"')
            )
        elif name in ("lt", "gt", "lte", "gte") and number(operand) is None:
            found.append((at, f'"{operand}" is not a number', "give a number"))
        elif isinstance(operand, list) and not operand:
            found.append((at, "the list is empty", "name at least one value"))
    if not given:
        found.append(((), "no operator", "say what the value must be, for example {exists: true}"))
    return found


def _reference(at: tuple[str, ...], operand: Reference) -> Trouble:
    if operand.parent is not UNSET:
        return ((*at, "parent"), "parent: is only possible inside funnel.then", "give a value")
    return (at, "a right side that is looked up is not supported yet", "give a value")
