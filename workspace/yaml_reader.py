"""YAML text -> plain values, and where each of them stands (workspace WS-05).

PyYAML scans; what it would make of the scalars is not asked, because it speaks YAML 1.1, in which
`no` is false, `012` is ten and a date is an object. Here they are those of the 1.2 core schema.
Values come from events rather than nodes: an alias is refused before it can be followed.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import yaml
from msgspec import Struct

from workspace.problem import Path, Problem, dotted

Place = tuple[int, int]
"""Line and column, from 1."""

LARGEST_BYTES: Final = 4 * 1024 * 1024
DEEPEST: Final = 64

_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN")
_WORDS: Final[Mapping[str, Any]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")


class Document(Struct):
    """A file's plain values and their places.

    ``keys`` holds the place of each key, ``values`` of each value, by path. ``broken`` are paths
    whose value could not be taken: None stands there, and the reason is in ``problems``.
    ``dollars`` are the paths of texts that hold `${`. ``value`` is None when nothing was read.
    """

    file: str
    value: Any
    keys: dict[Path, Place]
    values: dict[Path, Place]
    problems: list[Problem]
    broken: set[Path]
    dollars: list[Path]

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Return where a path's value (or key) stands; its nearest parent when it is absent."""
        first, second = (self.keys, self.values) if key else (self.values, self.keys)
        for end in range(len(path), 0, -1):
            found = first.get(path[:end]) or second.get(path[:end])
            if found is not None:
                return found
            first, second = self.keys, self.values  # of a parent, its key tells more
        return (1, 1)


def read(file: str, data: bytes) -> Document:
    """Return what a file holds; what is wrong with it stands in ``problems``, with places.

    Never raises for bad input. The first syntax error ends the reading of a file, everything
    before it was looked at. Cost: about 5 us a value.
    """
    document = Document(file, None, {}, {}, [], set(), [])
    text = _text(document, data)
    if text is None:
        return document
    reader = _Reader(document, text)
    try:
        document.value = reader.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if any(part in (error.problem or "") for part in _UNCLOSED):
            mark = error.context_mark or mark  # where it began, rather than where it was missed
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what, mend = _explained(error, text, line)
        document.problems.append(Problem(file, line, column, "", what, mend))
    except _GaveUpError:
        pass  # the reason is among the problems
    return document


def _text(document: Document, data: bytes) -> str | None:
    if len(data) > LARGEST_BYTES:
        document.problems.append(
            Problem(
                document.file, 1, 1, "",
                "the file has more than the limit of 4 MiB",
                "split it: definitions may stand in any number of files",
            )
        )  # fmt: skip
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        document.problems.append(
            Problem(
                document.file, *_place_after(before), "",
                f"the byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8",
            )
        )  # fmt: skip
        return None
    text = text.removeprefix("\ufeff")
    odd = _CONTROL.search(text)
    if odd is not None:
        document.problems.append(
            Problem(
                document.file, *_place_after(text[: odd.start()]), "",
                f"the control character U+{ord(odd[0]):04X} is not allowed",
                'remove it, or write it as an escape in double quotes, such as "\\u0007"',
            )
        )  # fmt: skip
        return None
    return text


def _place_after(before: str) -> Place:
    return before.count("\n") + 1, len(before) - before.rfind("\n")


class _GaveUpError(Exception):
    """The rest of a file is not worth reading."""


class _Reader:
    """One pass over a file's events."""

    def __init__(self, document: Document, text: str) -> None:
        self.event: Callable[[], Any] = yaml.CSafeLoader(text).get_event
        self.to = document
        self.keys = document.keys
        self.values = document.values

    def document(self) -> Any:
        self.event()  # stream start
        start = self.event()
        if isinstance(start, yaml.StreamEndEvent):
            return None
        version = start.version
        if version is not None and version != (1, 2):
            self.problem((), start, "files are YAML 1.2", "leave the %YAML line out")
        value = self.value(self.event(), ())
        self.event()  # document end
        more = self.event()
        if not isinstance(more, yaml.StreamEndEvent):
            self.problem(
                (), more, "a file holds one document",
                "remove the line ---, or put what follows it into a file of its own",
            )  # fmt: skip
        return value

    def problem(self, path: Path, event: Any, what: str, mend: str) -> None:
        mark = event.start_mark
        self.to.problems.append(
            Problem(self.to.file, mark.line + 1, mark.column + 1, dotted(path), what, mend)
        )

    def value(self, event: Any, path: Path) -> Any:
        mark = event.start_mark
        self.values[path] = (mark.line + 1, mark.column + 1)
        if isinstance(event, yaml.AliasEvent):
            self.broken(
                path, event, f'the alias "*{event.anchor}" is refused', "write the value out here"
            )
            return None
        if event.anchor is not None:
            self.problem(
                path, event, f'the anchor "&{event.anchor}" is refused',
                "remove it and write the value out where it is needed",
            )  # fmt: skip
        if event.tag is not None and event.tag != "!":
            self.problem(
                path, event, f'the tag "{_tag(event.tag)}" is refused',
                "remove it; a number or a date in quotes is text",
            )  # fmt: skip
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event, path)
        if len(path) >= DEEPEST:
            self.problem(path, event, f"more than {DEEPEST} levels deep", "make it flatter")
            raise _GaveUpError
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(path)
        return self.mapping(path, flow=event.flow_style)

    def sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self.event(), yaml.SequenceEndEvent):
            items.append(self.value(event, (*path, len(items))))
        return items

    def mapping(self, path: Path, *, flow: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := self.event(), yaml.MappingEndEvent):
            key = self.key(event, path)
            if key is None:
                self.aside(self.event(), path)
                continue
            here = (*path, key)
            mark = event.start_mark
            if key in found:
                self.problem(
                    here, event, f"given twice, first on line {self.keys[here][0]}",
                    "keep one of them",
                )  # fmt: skip
                self.aside(self.event(), here)
                continue
            self.keys[here] = (mark.line + 1, mark.column + 1)
            given = self.event()
            if flow and _nothing(given):
                self.values[here] = self.keys[here]
                self.broken(here, event, "has no value", f'write "{key}: ..."')
                found[key] = None
                continue
            found[key] = self.value(given, here)
        return found

    def key(self, event: Any, path: Path) -> str | None:
        """Return the text of a key; None when it is none, which is a problem then."""
        if isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None or (event.tag is not None and event.tag != "!"):
                self.problem(
                    path, event, "an anchor or a tag on a key is refused", "write the key alone"
                )
            key: str = event.value
            if key == "<<" and event.implicit[0]:
                self.problem(
                    path, event, 'the merge key "<<" is refused', "write the values out here"
                )
                return None
            if not key:
                self.problem(path, event, "a key is missing before the colon", "write its name")
                return None
            return key
        if isinstance(event, yaml.AliasEvent):
            self.problem(path, event, f'the alias "*{event.anchor}" is refused', "write the key")
            return None
        self.broken(
            path, event, "a key must be text, not a map or a list",
            'put text that holds braces in quotes: "{{ name }}"',
        )  # fmt: skip
        said = len(self.to.problems)
        self.aside(event, path)
        del self.to.problems[said:]
        return None

    def aside(self, event: Any, path: Path) -> None:
        """Read a value for its problems alone: its places would overwrite those of another."""
        keys, values = self.keys, self.values
        self.keys, self.values = {}, {}
        self.value(event, path)
        self.keys, self.values = keys, values

    def scalar(self, event: Any, path: Path) -> Any:
        text: str = event.value
        if not event.implicit[0] or event.style:  # quoted, or a block of text
            return self.text(text, path)
        if text in _WORDS:
            return _WORDS[text]
        if text[0] not in "+-.0123456789":
            return self.text(text, path)
        if _INT.fullmatch(text):
            number = int(text) if len(text) < 40 else 1 << 64
        elif _OCTAL.fullmatch(text):
            number = int(text[2:], 8)
        elif _HEX.fullmatch(text):
            number = int(text[2:], 16)
        elif _FLOAT.fullmatch(text):
            value = float(text)
            if abs(value) == float("inf"):
                return self.broken(path, event, "the number is too large", "write a smaller one")
            return value
        elif _NOT_FINITE.fullmatch(text):
            return self.broken(
                path, event, f"{text} is not a number that can be stored",
                "write a number, or put it in quotes",
            )  # fmt: skip
        else:
            return self.text(text, path)
        if not -(1 << 63) <= number < 1 << 63:
            return self.broken(
                path, event, "the number does not fit into 64 bits",
                "put it in quotes if it is an identifier",
            )  # fmt: skip
        return number

    def text(self, text: str, path: Path) -> str:
        if "${" in text:
            self.to.dollars.append(path)
        return text

    def broken(self, path: Path, event: Any, what: str, mend: str) -> None:
        self.problem(path, event, what, mend)
        self.to.broken.add(path)


def _nothing(event: Any) -> bool:
    """Tell whether a value is not written at all, as in `{a: 1, b}`."""
    return (
        isinstance(event, yaml.ScalarEvent)
        and event.value == ""
        and not event.style
        and event.anchor is None
        and event.tag is None
    )


def _tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


_UNCLOSED = ("unexpected end of stream", "unexpected document indicator", "',' or")

_EXPLAINED = (
    ("mapping values are not allowed", "a colon is out of place here",
     "check the indentation, or put text that holds a colon in quotes"),
    ("cannot start any token", "the text cannot begin with this character", ""),
    ("could not find expected ':'", "a key without a colon",
     'write "key: value", and line up keys that belong together'),
    ("did not find expected key", "the indentation does not fit what stands above, or a quote or "
     "bracket is not closed", "line up keys that belong together"),
    ("did not find expected ',' or '}'", "a map in braces is not closed, or a comma is missing",
     'write "{a: 1, b: 2}"'),
    ("did not find expected ',' or ']'", "a list in brackets is not closed, or a comma is missing",
     'write "[a, b]"'),
    ("did not find expected '-' indicator", "the indentation does not fit the list above",
     'line up the "-" of entries that belong together'),
    ("block sequence entries are not allowed", "a list cannot begin here",
     'put "-" on a line of its own below the key'),
    ("unexpected end of stream", "a quote is not closed", "close it with the quote it began with"),
    ("unexpected document indicator", "a quote is not closed", "close it with the same quote"),
    ("unknown escape character", "this escape is not known in double quotes",
     "double the backslash, or use single quotes"),
    ("hexdecimal number", "an escape lacks digits", 'write it like "\\u00e9"'),
    ("alphabetic or numeric character", "the text cannot begin with this character",
     "put the text in quotes"),
    ("maximum nesting depth", f"more than {DEEPEST} levels deep", "make it flatter"),
    ("did not find expected <document start>", "the file goes on after its end",
     "check the indentation: top keys begin in the first column"),
    ("did not find expected node content", "a value is missing here", "write a value"),
    ("undefined tag handle", "tags are refused", 'put text that begins with "!" in quotes'),
    ("found undefined alias", "an alias is refused", 'put text that begins with "*" in quotes'),
    ("alias", "an alias is refused", 'put text that begins with "*" in quotes'),
    ("anchor", "an anchor is refused", 'put text that begins with "&" in quotes'),
    ("tag", "tags are refused", 'put text that begins with "!" in quotes'),
    ("block scalar", "the text after | or > is not well indented",
     "indent all its lines by the same number of spaces, more than the key"),
)  # fmt: skip


def _explained(error: yaml.MarkedYAMLError, text: str, line: int) -> tuple[str, str]:
    """Return a scanner's complaint in the reader's words: (what, mend)."""
    said = error.problem or "not YAML"
    lines = text.split("\n")
    if line <= len(lines):
        shown = lines[line - 1]
        indent = shown[: len(shown) - len(shown.lstrip(" \t"))]
        if "\t" in indent:
            return "a tab in the indentation", "indent with spaces"
    for part, what, mend in _EXPLAINED:
        if part in said:
            if mend:
                return what, mend
            return what, "put the text in quotes"
    return f"not YAML: {said}", "see what stands on this line and the one above"
