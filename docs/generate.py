"""Writes docs/reference/ from the types of the definitions: `make docs`.

Each page is one top key of a workspace file: the example workspace's own file, then a table a type.
`tests/test_house.py` sees to it that what is kept there is what this writes.
"""

import importlib
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import Struct

from app.cli.registry import COMMANDS
from destinations.catalogue import CATALOGUE
from events.operators import Operators
from journeys.catalogue import KINDS as STEPS
from profiles.computed.catalogue import KINDS as COMPUTED
from workspace.definitions import LONGEST_KEY, MAPS, MOST, SINGLES
from workspace.later import LATER_TOP

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
LATER = "not supported yet"
Schema = Mapping[str, Any]


class Page(Struct, frozen=True):
    """One page: a top key, what it is, and the files of the example workspace that show it."""

    top: str
    about: str
    examples: tuple[str, ...]


PAGES = (
    Page("workspace", "The settings of the workspace as a whole.", ("workspace.yaml",)),
    Page("identity", "Which identifiers make one person.", ("identity.yaml",)),
    Page("sources", "Where calls come from.", ("sources/web.yaml",)),
    Page("computed_traits", "Traits that follow from a person's events.",
         ("computed_traits.yaml",)),
    Page("audiences", "Groups of people, kept up to date by their events and by time.",
         ("audiences/recent_buyers.yaml", "audiences/lapsing_customers.yaml")),
    Page("journeys", "Paths that people take after an event.", ("journeys/abandoned_cart.yaml",)),
    Page("destinations", "Where events, audience changes and journey messages go.",
         ("destinations/webhook.yaml",)),
)
KINDS = {**SINGLES, **MAPS}


def pages() -> dict[str, str]:
    """Return every page of the reference by file name."""
    written = {f"{page.top}.md": _page(page) for page in PAGES}
    written["conditions.md"] = _conditions()
    written["commands.md"] = _commands()
    written["README.md"] = _index()
    return {name: "\n".join(lines).rstrip() + "\n" for name, lines in written.items()}


# ---- pages ---------------------------------------------------------------------------------------
def _index() -> Iterator[str]:
    yield from _head("Reference")
    yield "A workspace is a folder of YAML files. Every `*.yaml` and `*.yml` in it is read; which"
    yield "file holds what is free. `faust -A app check` says what is wrong, and where."
    yield ""
    yield "| Top key | What it is |"
    yield "|---|---|"
    yield "| `version` | Always `1`; every file says it |"
    yield "| `space` | `default`, which may be left out |"
    for page in PAGES:
        many = "" if page.top in SINGLES else "; a map from key to definition"
        yield f"| [`{page.top}`]({page.top}.md) | {page.about.rstrip('.')}{many} |"
    yield ""
    yield f"- Keys of definitions have `a-z`, `0-9` and `_`, at most {LONGEST_KEY} characters; a"
    yield f"  workspace has at most {MOST:,} definitions."
    yield "- Durations are a whole number and a unit: `s`, `m`, `h`, `d` or `w`, as in `30m`."
    yield f"- Known and {LATER}: {_listed(sorted(LATER_TOP))}."
    yield "- [Conditions](conditions.md): what can be asked of traits and properties."
    yield "- [Commands](commands.md) of `faust -A app`."


def _page(page: Page) -> Iterator[str]:
    yield from _head(f"`{page.top}`")
    yield f"{page.about} How it behaves, rule by rule: [docs/rules](../rules)."
    yield ""
    for name in page.examples:
        yield f"`config/{name}`:"
        yield ""
        yield "```yaml"
        yield (ROOT / "config" / name).read_text(encoding="utf-8").rstrip()
        yield "```"
        yield ""
    if page.top == "computed_traits":
        yield "## Types"
        yield ""
        yield from _told("profiles.computed", COMPUTED)
    if page.top == "journeys":
        yield "## Kinds of steps"
        yield ""
        yield from _told("journeys.steps", STEPS)
    if page.top == "destinations":
        yield "## Types"
        yield ""
        yield from _told("destinations", CATALOGUE)
    yield from _types(msgspec.json.schema(KINDS[page.top]))


def _conditions() -> Iterator[str]:
    yield from _head("Conditions")
    yield "What is asked of a value: of a trait, in `trait:`, or of an event's property, in"
    yield "`where:`. Both are maps from a path to operators, all of which must hold:"
    yield ""
    yield "```"
    yield "where: {category: {equals: cosmetics}, products.$.price: {gte: 20}}"
    yield "trait: {plan: {one_of: [pro, team]}}"
    yield "```"
    yield ""
    yield "In a `where`, `all` and `any` take lists of such maps and `not` takes one. A path has"
    yield "names with dots between them; `$` stands for any element of a list; a path that begins"
    yield "with `context.` looks into the event's context. A property that is itself called `any`"
    yield "is written `\\any`. Their sense, case by case: [docs/rules](../rules/audiences.md)."
    yield ""
    yield from _types(msgspec.json.schema(Operators), shared=False)


def _commands() -> Iterator[str]:
    yield from _head("Commands")
    yield "All of them are `.venv/bin/faust -A app COMMAND`, with the environment of the worker;"
    yield "`worker` runs it. Those that ask for the state ask the running worker through its"
    yield "socket; without one they open the data folder themselves."
    yield ""
    for command in COMMANDS:
        yield from _command(command, command.name or "")


def _command(command: click.Command, name: str) -> Iterator[str]:
    arguments = [one.make_metavar(click.Context(command)) for one in command.params
                 if isinstance(one, click.Argument)]
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from _command(inner, f"{name} {inner.name}")
        return
    yield f"## `{' '.join([name, *arguments])}`"
    yield ""
    yield from inspect.cleandoc(command.help or "").splitlines()
    yield ""
    options = [one for one in command.params if isinstance(one, click.Option)]
    for option in options:
        value = f" {option.type.name.upper()}" if not option.is_flag else ""
        yield f"- `{'`, `'.join(option.opts)}{value}`: {option.help}"
    if options:
        yield ""


def _head(title: str) -> Iterator[str]:
    yield f"# {title}"
    yield ""
    yield "<!-- written by `make docs` from the types in the code: change those -->"
    yield ""


def _told(package: str, names: Iterable[str]) -> Iterator[str]:
    """Yield a line for each kind of a catalogue: what its file says of itself."""
    for name in names:
        text = (importlib.import_module(f"{package}.{name}").__doc__ or "").split("\n\n")[0]
        _, _, about = " ".join(text.split()).partition(": ")
        yield f"- `{name}`: {about.rstrip('.')}."
    yield ""


# ---- types ---------------------------------------------------------------------------------------
def _types(schema: Schema, *, shared: bool = True) -> Iterator[str]:
    """Yield a section for each type, the first one first, the others as they are met."""
    known: Mapping[str, Schema] = schema["$defs"]
    order = [_name(schema)]
    for name in order:
        for inner in _references(known[name]):
            later = known[inner].get("description", "").endswith(f"{LATER}.")
            if inner not in order and not later and not (shared and inner == "Operators"):
                order.append(inner)
    for name in order:
        yield from _section(name, known, order)


def _section(name: str, known: Mapping[str, Schema], order: list[str]) -> Iterator[str]:
    schema = known[name]
    yield f"## {_title(name)}"
    yield ""
    yield schema.get("description", "")
    yield ""
    later = []
    yield "| Key | Value | When absent | Meaning |"
    yield "|---|---|---|---|"
    for key, node in schema["properties"].items():
        about = node.get("description", "")
        if not about and "$ref" in node:
            about = known[_name(node)].get("description", "")
        if about.lower().rstrip(".").endswith(LATER) and "default" not in node:
            later.append(key)
            continue
        absent = "**must be given**" if key in schema["required"] else _default(node)
        value = "[where](conditions.md)" if key == "where" and "$ref" not in node else ""
        cells = (f"`{key}`", value or _value(node, order), absent, _sentence(about) + _shown(node))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
    if later:
        yield f"Known and {LATER}: {_listed(later)}."
        yield ""


def _title(name: str) -> str:
    """Return a type's name; of two with one name, with the file that it stands in."""
    *path, title = name.split(".")
    return f"{title} ({path[-1]})" if path else title


def _shown(node: Schema) -> str:
    """Return the examples, where they tell more than the other columns do."""
    shown = [f"`{_plain(one)}`" for one in node.get("examples", ())[:2]
             if not isinstance(one, bool) and one != node.get("default")]
    return f" E.g. {', '.join(shown)}." if shown and "enum" not in node else ""


def _value(node: Schema, order: list[str]) -> str:
    """Return in words what a value may be."""
    if "$ref" in node:
        name = _name(node)
        if name in order:
            title = _title(name)
            anchor = re.sub(r"[^\w-]", "", title.lower().replace(" ", "-"))
            return f"[{title}](#{anchor})"
        return "[operators](conditions.md)" if name == "Operators" else ""
    if "anyOf" in node:
        ways = [_value(one, order) for one in node["anyOf"]]
        if "number" in ways:
            ways = [way for way in ways if way != "whole number"]
        return " or ".join(dict.fromkeys(way for way in ways if way))
    if "enum" in node:
        return " or ".join(f"`{_plain(one)}`" for one in node["enum"])
    kind = node.get("type")
    if kind == "array":
        inner = node.get("items") or node["prefixItems"][0]
        return f"list of {_value(inner, order)}{_bounds(node, 'Items')}"
    if kind == "object":
        inner = node.get("additionalProperties")
        return f"map to {_value(inner, order)}" if isinstance(inner, dict) and inner else "map"
    words = {"string": "text", "integer": "whole number", "number": "number",
             "boolean": "`true` or `false`"}
    word = words.get(kind or "", "anything")
    if kind == "string":
        return word + _bounds(node, "Length")
    low = node.get("minimum", node.get("exclusiveMinimum"))
    high = node.get("maximum", node.get("exclusiveMaximum"))
    if low is None and high is None:
        return word
    if high is None:
        return f"{word} from {low:,}"
    return f"{word}, {low:,} to {high:,}"


def _bounds(node: Schema, what: str) -> str:
    low, high = node.get(f"min{what}", 0), node.get(f"max{what}")
    unit = " characters" if what == "Length" else ""
    if low and low == high:
        return f", {low}"
    if high:
        return f", {low} to {high:,}{unit}" if low > 1 else f", at most {high:,}{unit}"
    return ", at least one" if low == 1 and what == "Items" else ""


def _default(node: Schema) -> str:
    default = node.get("default")
    if default is None or isinstance(default, dict) or default in ("", [], ()):
        return ""
    return f"`{_plain(default)}`"


def _references(node: Any) -> Iterator[str]:
    """Yield the names of the types that a schema names, in its order."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield _name(node)
        for key, inner in node.items():
            if key not in ("default", "examples"):
                yield from _references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _references(inner)


def _name(node: Schema) -> str:
    return str(node["$ref"]).rpartition("/")[2]


def _plain(value: Any) -> str:
    """Return a value as YAML people would write it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_plain(one) for one in value) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _sentence(text: str) -> str:
    text = re.sub("^(true|false|account|most_frequent):", r"`\1`:", text.strip().rstrip("."))
    return text[:1].upper() + text[1:] + "." if text else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main() -> None:
    """Write the pages, and take away those that are no longer."""
    REFERENCE.mkdir(exist_ok=True)
    written = pages()
    for path in REFERENCE.glob("*.md"):
        if path.name not in written:
            path.unlink()
    for name, text in written.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
