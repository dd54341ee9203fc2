"""Conditions on one event: `where` of audiences, computed traits and journeys.

A map from path to operators, all of which must hold; `all` and `any` take lists of such maps and
`not` takes one, to any depth (audiences 4.1, 4.3). A path that begins with `context.` looks into
the event's context. A property that is itself called `any` is written `\\any`.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from events import operators, paths
from events.operators import NEVER, Check, Operators, Span, Trouble

Where = Annotated[
    dict[str, Any],
    Meta(
        description="Paths of the event and what must stand there; `all`, `any` and `not` combine.",
        examples=[{"category": {"equals": "cosmetics"}}],
    ),
]

_GROUPS = ("all", "any", "not")
_Properties = dict[str, Any]
_Test = Callable[[_Properties, _Properties, int], bool]


class Filter:
    """A `where` made ready for use.

    ``timed`` tells whether its result can change after the event; ``pinned`` names a property and
    the texts of which it must have one, when the whole cannot hold otherwise: an index key.
    ``only_pinned``: nothing else is asked.
    """

    __slots__ = ("_edges", "only_pinned", "pinned", "test", "timed")

    def __init__(self, where: Mapping[str, Any]) -> None:
        """Take a `where` in which `problems` found nothing."""
        self._edges: list[Callable[[_Properties, _Properties], list[int]]] = []
        self.test: _Test = self._every(where)
        self.timed = bool(self._edges)
        self.pinned = _pin(where)
        self.only_pinned = self.pinned is not None and all(
            len(where) == len(value) == 1 for value in where.values()
        )

    def spans(self, properties: _Properties, context: _Properties) -> list[Span]:
        """Return when the event meets the condition: spans in order, none touching the next."""
        if not self._edges:
            return [(-NEVER, NEVER)] if self.test(properties, context, 0) else []
        edges = sorted({edge for find in self._edges for edge in find(properties, context)})
        found: list[Span] = []
        start = -NEVER
        for end in (*edges, NEVER):
            if self.test(properties, context, start):
                if found and found[-1][1] == start:
                    found[-1] = (found[-1][0], end)
                else:
                    found.append((start, end))
            start = end
        return found

    def _every(self, where: Mapping[str, Any]) -> _Test:
        tests = [self._one(key, value) for key, value in sorted(where.items())]
        if not tests:
            return lambda _properties, _context, _now_ms: True
        if len(tests) == 1:
            return tests[0]
        return lambda properties, context, now_ms: all(
            test(properties, context, now_ms) for test in tests
        )

    def _one(self, key: str, value: Any) -> _Test:
        if key in ("all", "any"):
            tests = [self._every(item) for item in value]
            combine = all if key == "all" else any
            return lambda properties, context, now_ms: combine(
                test(properties, context, now_ms) for test in tests
            )
        if key == "not":
            inner = self._every(value)
            return lambda properties, context, now_ms: not inner(properties, context, now_ms)
        return self._check(key, value)

    def _check(self, key: str, value: Any) -> _Test:
        check = Check(msgspec.convert(value, Operators))
        path = paths.parse(key)
        in_context = path[0] == "context" and len(path) > 1
        if in_context:
            path = path[1:]
        follow = paths.each(path)
        if check.timed:
            self._edges.append(
                lambda properties, context: check.edges(
                    follow(context if in_context else properties)
                )
            )
            return lambda properties, context, now_ms: (
                check.at(follow(context if in_context else properties), now_ms) > 0
            )
        if in_context or len(path) > 1 or paths.many(path):
            return lambda properties, context, _now_ms: check.holds(
                follow(context if in_context else properties)
            )
        name = path[0]
        alone, absent = check.alone, check.holds([])

        def test(properties: _Properties, _context: _Properties, _now_ms: int) -> bool:
            found = properties.get(name)
            return absent if found is None else alone(found)

        return test


def _pin(where: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """Return a property that must equal one of a few texts, if the condition names one."""
    for key, value in sorted(where.items()):
        if key in _GROUPS or not isinstance(value, dict):
            continue
        texts = [value["equals"]] if "equals" in value else value.get("one_of", ())
        if texts and all(map(_plain, texts)) and len(path := paths.parse(key)) == 1:
            return (path[0], tuple(texts))
    return None


def _plain(value: Any) -> bool:
    """Return whether only the very same text equals this one."""
    return (
        isinstance(value, str)
        and operators.number(value) is None
        and value not in ("true", "false")
        and not value.startswith(("[", "{"))
    )


def problems(where: Mapping[str, Any], timed: bool = True) -> list[Trouble]:
    """Return what is wrong in a `where`, each with the keys that lead to it.

    With ``timed`` False operators that count from now are refused.
    """
    found: list[Trouble] = []
    for key, value in where.items():
        if key in ("all", "any"):
            found += _group_problems(key, value, timed)
        elif key == "not":
            if isinstance(value, dict):
                found += _below((key,), problems(value, timed))
            else:
                found.append(((key,), "not a map", "write {path: {operator: value}}"))
        else:
            found += _below((key,), _path_problems(key) + _operator_problems(value, timed))
    return found


def _group_problems(key: str, value: Any, timed: bool) -> list[Trouble]:
    if not isinstance(value, list) or not value:
        return [((key,), "not a list of conditions", "write [{path: {operator: value}}, ...]")]
    found: list[Trouble] = []
    for position, item in enumerate(value):
        if isinstance(item, dict):
            found += _below((key, position), problems(item, timed))
        else:
            found.append(((key, position), "not a condition", "write {path: {operator: value}}"))
    return found


def _path_problems(key: str) -> list[Trouble]:
    try:
        path = paths.parse(key)
    except ValueError as error:
        return [((), str(error), "write names with dots between them")]
    if path[:2] == ("context", "traits"):
        return [((), "context.traits is not for conditions", "ask the profile's trait instead")]
    return []


def _operator_problems(value: Any, timed: bool) -> list[Trouble]:
    if not isinstance(value, dict):
        return [
            (
                (),
                "not a map of operators",
                f"write {{equals: {value}}}"
                if isinstance(value, str | int | float | bool)
                else "write {operator: value}",
            )
        ]
    found: list[Trouble] = []
    for name in value:
        if name not in Operators.__struct_fields__:
            near = get_close_matches(str(name), Operators.__struct_fields__, 1)
            found.append(
                (
                    (name,),
                    "unknown operator",
                    f'did you mean "{near[0]}"?'
                    if near
                    else "operators are: " + ", ".join(Operators.__struct_fields__),
                )
            )
    if found:
        return found
    for name, operand in value.items():
        try:
            one = msgspec.convert({name: operand}, Operators)
        except msgspec.ValidationError as error:
            found.append(((name,), str(error).split(" - at")[0].lower(), "give another value"))
        else:
            found += operators.problems(one, timed)
    return found or ([] if value else operators.problems(Operators(), timed))


def _below(keys: tuple[str | int, ...], found: list[Trouble]) -> list[Trouble]:
    return [((*keys, *at), what, mend) for at, what, mend in found]
