"""What a split asks, and an entry's audience filter: traits, audiences, the journey's context.

Decided once, at the instant the instance arrives, from what is known then (S1). A context
property that the taken path never collected is missing, so what needs it is false (S2).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, field

from events import operators, paths
from events.operators import Check, Operators, Trouble
from journeys.view import View

Context = Mapping[str, Mapping[str, Any]]
Test = Callable[[View, Context, int], bool]
"""(person, context, now_ms) -> whether the condition holds."""

_Later = Annotated[Any | UnsetType, Meta(description="Not supported yet.")]
LATER = (
    "performed", "last_performed", "funnel", "consent", "subscription", "random_bucket", "manual",
    "message", "broadcast", "everyone", "users",
)  # fmt: skip
NODES = ("all", "any", "not", "trait", "audience", "context")


class Condition(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Exactly one of its keys is given."""

    all: Annotated[
        list["Condition"] | UnsetType, Meta(description="All of these hold.")
    ] = UNSET
    any: Annotated[
        list["Condition"] | UnsetType, Meta(description="One of these holds.")
    ] = UNSET
    not_: Annotated[
        "Condition | UnsetType", Meta(description="This does not hold.")
    ] = field(default=UNSET, name="not")
    trait: Annotated[
        dict[str, Operators] | UnsetType,
        Meta(description="Traits of the person, each with operators.",
             examples=[{"email": {"exists": True}}]),
    ] = UNSET  # fmt: skip
    audience: Annotated[
        str | UnsetType,
        Meta(description="The person is in this audience.", examples=["vip_buyers"]),
    ] = UNSET
    context: Annotated[
        dict[str, Operators] | UnsetType,
        Meta(description="Properties of events that this journey collected, each with operators.",
             examples=[{"Cart Modified.total": {"gte": 100}}]),
    ] = UNSET  # fmt: skip
    performed: _Later = UNSET
    last_performed: _Later = UNSET
    funnel: _Later = UNSET
    consent: _Later = UNSET
    subscription: _Later = UNSET
    random_bucket: _Later = UNSET
    manual: _Later = UNSET
    message: _Later = UNSET
    broadcast: _Later = UNSET
    everyone: _Later = UNSET
    users: _Later = UNSET

    def given(self) -> list[tuple[str, Any]]:
        """Return the keys that were written, `not` under its own name."""
        names = zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True)
        return [
            (shown, value)
            for name, shown in names
            if (value := getattr(self, name)) is not UNSET
        ]


def ready(condition: Condition, names: Iterable[str], *, before: bool = False) -> Test:
    """Return the condition made ready for use; ``names`` are those the context can hold.

    With ``before`` audiences are asked as they stood before the input (V2).
    """
    ((kind, value),) = condition.given()
    if kind in ("all", "any"):
        tests = [ready(one, names, before=before) for one in value]
        if kind == "all":
            return lambda person, context, now_ms: all(t(person, context, now_ms) for t in tests)
        return lambda person, context, now_ms: any(t(person, context, now_ms) for t in tests)
    if kind == "not":
        inner = ready(value, names, before=before)
        return lambda person, context, now_ms: not inner(person, context, now_ms)
    if kind == "audience":
        if before:
            return lambda person, _context, _now_ms: person.inside_before(value)
        return lambda person, _context, _now_ms: person.inside(value)
    asked = []
    for path, wanted in sorted(value.items()):
        values = trait_values(path) if kind == "trait" else context_values(path, names)
        asked.append((values, Check(wanted)))
    return lambda person, context, now_ms: all(
        check.at(values(person, context), now_ms) > 0 for values, check in asked
    )


Values = Callable[[View, Context], list[Any]]


def trait_values(path: str) -> Values:
    """Return what finds a trait's values, below it too (`address.city`, `tags.$`)."""
    first, *rest = paths.parse(path)
    follow = paths.each(tuple(rest))

    def find(person: View, _context: Context) -> list[Any]:
        value = person.trait(first)
        return [] if value is None else follow(value)

    return find


def context_values(path: str, names: Iterable[str]) -> Values:
    """Return what finds the values at a path into the context."""
    name, rest = in_context(path, names)
    follow = paths.each(rest)

    def find(_person: View, context: Context) -> list[Any]:
        properties = context.get(name)
        return [] if properties is None else follow(properties)

    return find


def in_context(path: str, names: Iterable[str]) -> tuple[str, paths.Path]:
    """Return the event's name that a context path begins with, and the rest of the path.

    The longest known name wins, so names with dots need no backslash. Raises ValueError when a
    step is empty.
    """
    for name in sorted(names, key=lambda name: (-len(name), name)):
        if path == name:
            return (name, ())
        if path.startswith(f"{name}."):
            return (name, paths.parse(path[len(name) + 1 :]))
    first, *rest = paths.parse(path)
    return (first, tuple(rest))


def problems(
    condition: Condition, audiences: Iterable[str], names: Iterable[str], *, only_audiences: bool
) -> list[Trouble]:
    """Return what is wrong in a condition but for the availability of context (Y1, S1)."""
    given = condition.given()
    if len(given) != 1:
        kinds = ", ".join(NODES)
        what = "several kinds of condition" if given else "an empty condition"
        return [((), what, f"give exactly one of {kinds}; join several by all or any")]
    ((kind, value),) = given
    if kind in LATER:
        return [((kind,), "not supported yet", "ask an audience that has this condition")]
    if kind in ("all", "any"):
        if not value:
            return [((kind,), "the list is empty", "give at least one condition")]
        found = []
        for place, one in enumerate(value):
            for at, what, mend in problems(one, audiences, names, only_audiences=only_audiences):
                found.append(((kind, place, *at), what, mend))
        return found
    if kind == "not":
        inner = problems(value, audiences, names, only_audiences=only_audiences)
        return [((kind, *at), what, mend) for at, what, mend in inner]
    if kind == "audience":
        if value in audiences:
            return []
        known = ", ".join(sorted(audiences)) or "none"
        return [((kind,), f'there is no audience "{value}"', f"audiences are: {known}")]
    if only_audiences:
        return [((kind,), "only audiences can be asked here", "put it into an audience")]
    return _operator_problems(kind, value, names)


def _operator_problems(
    kind: str, value: Mapping[str, Operators], names: Iterable[str]
) -> list[Trouble]:
    if not value:
        return [((kind,), "an empty condition", "give a path and what must stand there")]
    found: list[Trouble] = []
    for path, wanted in value.items():
        try:
            in_context(path, names) if kind == "context" else paths.parse(path)
        except ValueError as error:
            found.append(((kind, path), str(error), "write names with dots between them"))
        found += [((kind, path, *at), what, mend) for at, what, mend in operators.problems(wanted)]
    return found


def context_paths(condition: Condition) -> list[tuple[tuple[str | int, ...], str]]:
    """Return the context paths that a condition reads, each with the keys that lead to it (Y5)."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    for kind, value in condition.given():
        if kind == "context":
            found += [((kind, path), path) for path in value]
        elif kind == "not":
            found += [((kind, *at), path) for at, path in context_paths(value)]
        elif kind in ("all", "any"):
            for place, one in enumerate(value):
                found += [((kind, place, *at), path) for at, path in context_paths(one)]
    return found
