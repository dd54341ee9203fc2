"""Structure: is a definition made of the right keys and values, and if not, what was meant?

The rooms' Structs are the one source of truth. Their JSON Schema finds every fault with its path;
what follows turns each into a sentence in the user's words, with a proposal.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

import jsonschema_rs
import msgspec
from msgspec import Struct

from workspace.later import ANY, LATER_KEYS, LATER_VALUES, NOT_YET
from workspace.names import did_you_mean, nearest
from workspace.problem import Path, dotted

Schema = Mapping[str, Any]


class Fault(Struct, frozen=True):
    """What is wrong at a path; ``at_key``: the key itself is, rather than its value."""

    path: Path
    what: str
    mend: str
    at_key: bool = False
    warning: bool = False


class Missing(Fault, frozen=True):
    """A key is missing."""

    name: str = ""


class Misspelt(Fault, frozen=True):
    """A key is unknown, and ``near`` was probably meant."""

    near: str = ""


def faults(kind: type, value: Any, path: Path, *, secret: Path | None = None) -> list[Fault]:
    """Return all that keeps ``value``, which stands at ``path``, from being a ``kind``.

    Below ``secret`` (a path relative to the value) no value is shown. Cost: about 2 us when there
    is no fault.
    """
    validator, schema = _compiled(kind)
    if validator.is_valid(value):
        return []
    writer = _Writer(schema, value, path, secret)
    found = [fault for error in validator.iter_errors(value) for fault in writer.faults(error)]
    # A key that is misspelt is not missing too.
    meant = {(*f.path[:-1], f.near) for f in found if isinstance(f, Misspelt)}
    return [f for f in found if not (isinstance(f, Missing) and (*f.path, f.name) in meant)]


def repaired(value: Any, found: Iterable[Fault], path: Path) -> tuple[Any, list[Path]]:
    """Return a copy of the value at ``path`` without its faults, and the paths that it lost.

    A misspelt key gets its right name, everything else that is faulty is left out. An entry of a
    list takes the list with it: the places of the other entries would shift. None: all is gone.
    """
    rest = deepcopy(value)
    lost: list[Path] = []
    for fault in found:
        steps = fault.path[len(path) :]
        end = len(steps)
        while end and isinstance(steps[end - 1], int):
            end -= 1
        if not end:
            return None, [path]
        parent: Any = rest
        for step in steps[: end - 1]:
            inside = step in parent if isinstance(parent, dict) else isinstance(parent, list)
            parent = parent[step] if inside else {}
        if not isinstance(parent, dict):
            continue
        taken = parent.pop(steps[end - 1], None)
        if isinstance(fault, Misspelt) and fault.near not in parent:
            parent[fault.near] = taken
        else:
            lost.append(path + steps[:end])
    return rest, lost


def shown(value: Any) -> str:
    """Return a value as an error shows it: short, and as it is written."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a map"
    return str(value)


@cache
def _compiled(kind: type) -> tuple[Any, Schema]:
    schema = msgspec.json.schema(kind)

    def no_fetching(uri: str) -> Any:
        raise LookupError(uri)

    return jsonschema_rs.validator_for(schema, retriever=no_fetching), schema


_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a map",
    "null": "nothing",
}


_DURATION = re.compile("[0-9]+[smhdw]")


class _Writer:
    """The wording of one definition's faults."""

    def __init__(self, schema: Schema, value: Any, path: Path, secret: Path | None) -> None:
        self.schema = schema
        self.value = value
        self.path = path
        self.secret = secret

    def faults(self, error: Any) -> Iterator[Fault]:
        """Yield what a person should read of a validator's error."""
        kind = error.kind.name
        detail = error.kind.as_dict()
        at = tuple(error.instance_path)
        node = self.node(error.schema_path[:-1])
        owner = tuple(error.schema_path[-4:-1:2])  # ("Destination", "type")
        if kind == "additionalProperties":
            for name in detail["unexpected"]:
                yield self.unknown(at, name, node)
        elif kind == "required":
            yield self.missing(at, detail["property"], node)
        elif kind == "anyOf":
            yield from self.none_of(at, detail["context"], node)
        elif kind == "propertyNames":
            for name in sorted(error.instance):
                yield from self.name(at, name, node)
        else:
            value = error.instance
            later = LATER_VALUES.get(owner, ())
            if kind == "enum" and isinstance(value, str) and (value in later or ANY in later):
                detail["later"] = True
            word = _WORDING.get(kind, _Writer.of_rest)
            yield Fault(self.path + at, *word(self, at, value, detail, node))

    def node(self, steps: Iterable[str | int]) -> Schema:
        """Return the schema that an error speaks of."""
        node: Any = self.schema
        for step in steps:
            node = node[step]
        return self.followed(node)

    def followed(self, node: Any) -> Schema:
        """Return a schema with its reference followed; notes beside the reference stay."""
        found: Schema = node if isinstance(node, dict) else {}
        while "$ref" in found:
            target = self.schema["$defs"][found["$ref"].rpartition("/")[2]]
            found = {**target, **{key: found[key] for key in found if key != "$ref"}}
        return found

    def hidden(self, at: Path) -> bool:
        return self.secret is not None and at[: len(self.secret)] == self.secret

    def shown(self, at: Path, value: Any) -> str:
        if not self.hidden(at):
            return shown(value)
        return "a text" if isinstance(value, str) else "this value"

    # ---- keys ---------------------------------------------------------------------------------
    def unknown(self, at: Path, name: str, node: Schema) -> Fault:
        path = (*self.path, *at, name)
        if name in LATER_KEYS.get(node.get("title", ""), ()):
            return Fault(path, *NOT_YET, at_key=True)
        known = node.get("properties", {})
        elsewhere = self.belongs(at, name, node)
        if elsewhere is not None:
            return Fault(path, "unknown key", elsewhere, at_key=True)
        near = nearest(name, known)
        if near is not None:
            return Misspelt(
                path, "unknown key", f'did you mean "{near}"?', at_key=True, near=near
            )
        return Fault(path, "unknown key", f"known here: {', '.join(sorted(known))}", at_key=True)

    def belongs(self, at: Path, name: str, node: Schema) -> str | None:
        """Return where else a key that is unknown here would be known: below or above."""
        below = self.below(name, node)
        if below is not None:
            return f'move it under "{below}"'
        for end in range(len(at) - 1, -1, -1):
            if name in self.along(at[:end]).get("properties", {}):
                return f'move it up, under "{dotted(self.path + at[:end])}"'
        return None

    def below(self, name: str, node: Schema) -> str | None:
        """Return the nearest place under a schema where a key is known, breadth first."""
        seen = {node.get("title")}
        level: list[tuple[str, Schema]] = [("", node)]
        for _ in range(3):
            deeper: list[tuple[str, Schema]] = []
            for path, parent in level:
                for key, child in sorted(parent.get("properties", {}).items()):
                    for way, inner in self.objects(child):
                        here = f"{path}.{key}{way}" if path else f"{key}{way}"
                        if name in inner.get("properties", {}):
                            return here
                        if inner.get("title") not in seen:
                            seen.add(inner.get("title"))
                            deeper.append((here, inner))
            level = deeper
        return None

    def objects(self, node: Any) -> list[tuple[str, Schema]]:
        """Return the maps with fixed keys that a value of this schema can be, or hold by name."""
        found = self.followed(node)
        if "anyOf" in found:
            return [one for option in found["anyOf"] for one in self.objects(option)]
        if "properties" in found:
            return [("", found)]
        for part, way in (("additionalProperties", ".NAME"), ("items", "[0]")):
            if isinstance(found.get(part), dict):
                inner = self.followed(found[part])
                return [(way, inner)] if "properties" in inner else []
        return []

    def along(self, at: Path) -> Schema:
        """Return the schema of the value at a path, as far as it can be told."""
        node = self.followed(self.schema)
        for step in at:
            if isinstance(step, int):
                node = self.followed(node.get("items", {}))
                continue
            fixed = [one for way, one in self.objects(node) if not way]
            options = [one["properties"] for one in fixed if step in one["properties"]]
            if options:
                node = self.followed(options[0][step])
            else:
                rest = node.get("additionalProperties")
                node = self.followed(rest) if isinstance(rest, dict) else {}
        return node

    def missing(self, at: Path, name: str, node: Schema) -> Fault:
        inner = self.followed(node.get("properties", {}).get(name, {}))
        example = _example(inner)
        text = f'{name}: {example}' if example else f"{name}: ..."
        meaning = inner.get("description")
        about = f" ({meaning})" if meaning else ""
        what, mend = f'"{name}" is missing', f'add "{text}"{about}'
        return Missing(self.path + at, what, mend, at_key=True, name=name)

    def name(self, at: Path, name: str, node: Schema) -> Iterator[Fault]:
        rule = node.get("propertyNames", node)
        if not jsonschema_rs.is_valid(rule, name):
            meaning = rule.get("description") or f"it must match {rule.get('pattern')}"
            yield Fault((*self.path, *at, name), "this name is not allowed", meaning, at_key=True)

    # ---- values -------------------------------------------------------------------------------
    def none_of(self, at: Path, context: list[list[Any]], node: Schema) -> Iterator[Fault]:
        """Yield the faults of the form that was probably meant: the one whose type fits."""
        fitting = [
            errors
            for errors in context
            if not any(one.kind.name == "type" and tuple(one.instance_path) == at for one in errors)
        ]
        if fitting:
            best = min(fitting, key=_badness)
            for error in best:
                yield from self.faults(error)
            return
        wanted = [word for option in node["anyOf"] for word in self.types(option)]
        value = self.at(at)
        yield Fault(
            self.path + at,
            f"must be {_either(wanted)}, not {self.shown(at, value)}",
            f"for example {_example(node)}" if _example(node) else f"write {_either(wanted)}",
        )

    def types(self, option: Any) -> list[str]:
        node = self.followed(option)
        if "anyOf" in node:
            return [word for inner in node["anyOf"] for word in self.types(inner)]
        if "enum" in node:
            return [shown(one) for one in node["enum"]]
        kind = node.get("type")
        return [_WORDS[one] for one in ([kind] if isinstance(kind, str) else kind or [])]

    def at(self, path: Path) -> Any:
        value = self.value
        for step in path:
            value = value[step]
        return value

    def of_type(self, at: Path, value: Any, detail: Any, node: Schema) -> tuple[str, str]:
        wanted = detail["types"]
        words = _either([_WORDS[one] for one in wanted])
        what = f"must be {words}, not {self.shown(at, value)}"
        example = _example(node)
        if value is None:
            return f"has no value, it must be {words}", (
                f"write {example}" if example else "write a value, or leave the key out"
            )
        if "array" in wanted and not isinstance(value, dict):
            inner = value if not self.hidden(at) else "..."
            return what, f"write it as a list: [{_written(inner)}]"
        if "boolean" in wanted:
            return what, "write true or false"
        if "string" in wanted and not isinstance(value, (list, dict)):
            if example and (node.get("pattern") or _DURATION.fullmatch(example)):
                return what, f"for example {example}"
            if self.hidden(at):
                return what, "put it in quotes"
            return what, f'put it in quotes: "{_written(value)}"'
        if ("integer" in wanted or "number" in wanted) and isinstance(value, str):
            return what, "write a number without quotes"
        if "object" in wanted:
            keys = sorted(node.get("properties", {}))
            if keys:
                return what, f"write a map; its keys are: {', '.join(keys)}"
            return what, f"write a map, for example {example}" if example else "write a map"
        return what, f"for example {example}" if example else f"write {words}"

    def of_enum(self, at: Path, value: Any, detail: Any, node: Schema) -> tuple[str, str]:
        options = [str(one) for one in node["enum"]]
        listed = ", ".join(sorted(options))
        if "later" in detail:
            return f"{self.shown(at, value)} is {NOT_YET[0]}", f"there is: {listed}"
        what = f"{self.shown(at, value)} is not one of: {listed}"
        return what, did_you_mean(str(value), options, "choose one of these")

    def of_pattern(self, at: Path, value: Any, _detail: Any, node: Schema) -> tuple[str, str]:
        meaning = node.get("description")
        example = _example(node)
        mend = f"write it like {example}" if example else f"it must match {node.get('pattern')}"
        what = f"{self.shown(at, value)} does not have the right form"
        return f"{what} ({meaning})" if meaning else what, mend

    def of_bound(self, at: Path, value: Any, _detail: Any, node: Schema) -> tuple[str, str]:
        low = node.get("minimum", node.get("exclusiveMinimum"))
        high = node.get("maximum", node.get("exclusiveMaximum"))
        least = f"more than {low}" if "exclusiveMinimum" in node else f"at least {low}"
        most = f"less than {high}" if "exclusiveMaximum" in node else f"at most {high}"
        limits = " and ".join(
            text for text, bound in ((least, low), (most, high)) if bound is not None
        )
        return f"{self.shown(at, value)} is out of range", f"write a number {limits}"

    def of_size(self, _at: Path, value: Any, detail: Any, node: Schema) -> tuple[str, str]:
        limit = detail["limit"]
        long = isinstance(value, str)
        unit = "character" if long else "entry"
        units = unit if limit == 1 else ("characters" if long else "entries")
        if len(value) < limit:
            example = _example(node)
            what = "is empty" if not value else f"has only {len(value)}"
            mend = f"it needs at least {limit} {units}"
            return what, f"{mend}, for example {example}" if example else mend
        return f"has {len(value):,}, more than the limit", f"it may have {limit:,} {units} at most"

    def of_rest(self, _at: Path, _value: Any, _detail: Any, node: Schema) -> tuple[str, str]:
        meaning = node.get("description")
        return "does not have the right form", meaning or "see the reference"


_WORDING: dict[str, Callable[[_Writer, Path, Any, Any, Schema], tuple[str, str]]] = {
    "type": _Writer.of_type,
    "enum": _Writer.of_enum,
    "pattern": _Writer.of_pattern,
    "minimum": _Writer.of_bound,
    "maximum": _Writer.of_bound,
    "exclusiveMinimum": _Writer.of_bound,
    "exclusiveMaximum": _Writer.of_bound,
    "minLength": _Writer.of_size,
    "maxLength": _Writer.of_size,
    "minItems": _Writer.of_size,
    "maxItems": _Writer.of_size,
    "minProperties": _Writer.of_size,
    "maxProperties": _Writer.of_size,
}


def _badness(errors: list[Any]) -> tuple[bool, int]:
    """Order the forms of a choice: one whose tag does not fit was hardly meant."""
    return any(one.kind.name in ("enum", "const") for one in errors), len(errors)


def _either(words: list[str]) -> str:
    once = list(dict.fromkeys(words))
    if "a number" in once and "a whole number" in once:
        once.remove("a whole number")
    return once[0] if len(once) == 1 else f"{', '.join(once[:-1])} or {once[-1]}"


def _example(node: Schema) -> str:
    examples = node.get("examples")
    return _written(examples[0]) if examples else ""


def _written(value: Any) -> str:
    """Return a value in YAML's short form."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
