"""A workspace: the union of its files, checked, with one normal form (workspace 1 to 5).

Pure: files come in as bytes, the environment as a mapping. What is wrong comes out as Problems,
all of them, sorted by place.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from audiences.definition import Audience
from destinations.definition import Destination
from identity.settings import Identity
from journeys.definition import Journey
from profiles.computed.definition import ComputedTrait
from sources.definition import Source
from workspace import environment, references
from workspace.later import LATER_TOP, NOT_YET
from workspace.names import Names, did_you_mean
from workspace.problem import Path, Problem, dotted, in_order
from workspace.settings import Workspace
from workspace.structure import Fault, faults, repaired, shown
from workspace.yaml_reader import Document, read

MOST: Final = 100_000
LONGEST_KEY: Final = 255
_KEY_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


class Definitions(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a workspace's files define, by key, keys sorted."""

    workspace: Workspace = Workspace()
    identity: Identity = Identity()
    sources: dict[str, Source] = {}
    computed_traits: dict[str, ComputedTrait] = {}
    audiences: dict[str, Audience] = {}
    journeys: dict[str, Journey] = {}
    destinations: dict[str, Destination] = {}


MAPS: Final[dict[str, type]] = {
    "sources": Source,
    "computed_traits": ComputedTrait,
    "audiences": Audience,
    "journeys": Journey,
    "destinations": Destination,
}
"""Top keys under which stands a map from key to definition."""
SINGLES: Final[dict[str, type]] = {"workspace": Workspace, "identity": Identity}
"""Top keys that are one definition themselves."""


def load(
    files: Iterable[tuple[str, bytes]], env: Mapping[str, str] | None = None
) -> tuple[Definitions | None, list[Problem]]:
    """Return the definitions that (path, content) pairs make together, and all their problems.

    The definitions are None exactly when they themselves are wrong. Problems of the environment,
    a missing variable or an address that the operator does not allow, leave them whole: they are
    problems of this machine, found at delivery too. ``env`` None: the environment is not looked
    at. Warnings leave them whole too.
    Never raises for bad input. Cost: about 0.2 ms a definition.
    Rule: workspace WS-01 to WS-08, WS-24.
    """
    loading = _Loading()
    for file, data in sorted(files):
        loading.add(read(file, data))
    definitions = loading.finish()
    if definitions is not None and env is not None:
        for fault in environment.faults(definitions.destinations, env):
            loading.report(fault)
    return definitions, in_order(loading.problems)


def normal_form(definitions: Definitions) -> bytes:
    """Return the definitions as JSON with defaults filled in and keys sorted.

    Equal definitions give equal bytes, in whatever order they were written. `${NAME}` stays.
    Rule: workspace WS-04, WS-07.
    """
    return msgspec.json.encode(_filled_in(definitions), order="sorted")


def from_normal(body: bytes) -> Definitions:
    """Return the definitions of a normal form. Raises msgspec.ValidationError for anything else."""
    return _DECODER.decode(body)


def digest(body: bytes) -> str:
    """Return the hash of a normal form: equal hashes mean that nothing changed (WS-07)."""
    return sha256(body).hexdigest()[:32]


def _filled_in(value: Any) -> Any:
    """Return plain values with every field that has one, those that Structs leave out too."""
    if isinstance(value, Struct):
        fields = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        named = ((name, getattr(value, field)) for name, field in fields)
        return {name: _filled_in(one) for name, one in named if one is not UNSET}
    if isinstance(value, dict):
        return {key: _filled_in(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled_in(one) for one in value]
    return value


_DECODER = msgspec.json.Decoder(Definitions)


class _Loading:
    """The union of the files while it grows."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.wrong = False
        self.places: dict[Path, Document] = {}
        """(top key,) or (top key, key) -> the file that defines it."""
        self.values: dict[str, Any] = {key: {} for key in MAPS}
        self.count = 0
        self.torn: set[Path] = set()
        """The paths to what was taken out of faulty definitions."""

    # ---- a file -------------------------------------------------------------------------------
    def add(self, document: Document) -> None:
        """Take in a file: its definitions, and what is wrong with its own shape."""
        self.problems += document.problems
        self.wrong |= bool(document.problems)
        value = document.value
        if value is None and document.problems:
            return
        if not isinstance(value, dict):
            what = "is empty" if value is None else f"must be a map, not {shown(value)}"
            self.put(document, Fault((), f"the file {what}", 'begin it with "version: 1"'))
            return
        for fault in _version(value):
            self.put(document, fault)
        for path in document.dollars:
            if path[0] != "destinations" or path[2:3] != ("settings",):
                self.put(document, _not_read(path))
        for top, inner in value.items():
            if top in ("version", "space"):
                continue
            if (top,) in document.broken:
                continue
            wrong = _top_fault(top, inner)
            if wrong is not None:
                self.put(document, wrong)
            elif top in SINGLES:
                self.single(document, top, inner)
            else:
                for key, definition in (inner or {}).items():
                    self.definition(document, top, key, definition)

    def single(self, document: Document, top: str, value: Any) -> None:
        if value is None:
            return
        before = self.places.get((top,))
        if before is not None:
            self.put(document, _twice((top,), before))
            return
        self.places[(top,)] = document
        self.values[top] = value

    def definition(self, document: Document, top: str, key: str, value: Any) -> None:
        path = (top, key)
        self.count += 1
        if self.count == MOST + 1:
            what = f"more than {MOST:,} definitions in the workspace"
            self.put(document, Fault(path, what, "remove some", at_key=True))
        if len(key) > LONGEST_KEY or not _KEY_LETTERS.issuperset(key):
            self.put(document, _key_fault(path, key))
            return
        before = self.places.get(path)
        if before is not None:
            self.put(document, _twice(path, before))
            return
        self.places[path] = document
        if path not in document.broken:
            self.values[top][key] = value

    # ---- all files ----------------------------------------------------------------------------
    def finish(self) -> Definitions | None:
        """Return the definitions; None when something is wrong, which is reported."""
        made: dict[str, Any] = {}
        for top, kind in SINGLES.items():
            if top in self.values:
                one = self.converted(kind, self.values[top], (top,))
                if one is not None:
                    made[top] = one
        for top, kind in MAPS.items():
            found = {}
            for key in sorted(self.values[top]):
                one = self.converted(kind, self.values[top][key], (top, key))
                if one is not None:
                    found[key] = one
            made[top] = found
        definitions = Definitions(**made)
        known: dict[str, set[str]] = {top: set() for top in MAPS}
        for path in self.places:
            if len(path) > 1:
                known[str(path[0])].add(str(path[1]))
        names = {top: Names(found) for top, found in known.items()}
        for fault in references.faults(definitions, names):
            if not self.touches_torn(fault):
                self.report(fault)
        if self.wrong:
            return None
        # Through the normal form, so that a workspace runs alike from its files and from the log.
        return from_normal(normal_form(definitions))

    def converted(self, kind: type, value: Any, path: Path) -> Any:
        """Return a definition as its Struct; what is wrong with its structure is reported.

        Of a faulty one a repaired copy is returned, so that its names are still looked up in the
        same run; None when too little is left.
        """
        secret = ("settings",) if path[0] == "destinations" else None
        document = self.places[path[: 1 if path[0] in SINGLES else 2]]
        found = faults(kind, value, path, secret=secret)
        for fault in found:
            if fault.path not in document.broken:
                self.report(fault)
        while found:
            self.wrong = True
            value, lost = repaired(value, found, path)
            for gone in lost:
                self.torn.update(gone[:end] for end in range(len(gone) + 1))
            if value is None:
                return None
            found = faults(kind, value, path)
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            # The schema cannot say everything that a type can; what is left is said at the top.
            self.report(Fault(path, str(error).partition(" - at ")[0], "see the reference"))
            return None

    def touches_torn(self, fault: Fault) -> bool:
        """Tell whether a fault may only follow from what was taken out of its definition."""
        return fault.path in self.torn

    def report(self, fault: Fault) -> None:
        """Report a fault of a definition, wherever it stands."""
        path = fault.path
        document = self.places.get(path[:2]) or self.places[path[:1]]
        self.put(document, fault)

    def put(self, document: Document, fault: Fault) -> None:
        line, column = document.place(fault.path, key=fault.at_key)
        self.problems.append(
            Problem(document.file, line, column, dotted(fault.path), fault.what, fault.mend,
                    fault.warning)
        )  # fmt: skip
        self.wrong |= not fault.warning


def _version(value: Mapping[str, Any]) -> Iterator[Fault]:
    if "version" not in value:
        yield Fault((), '"version" is missing', 'begin the file with "version: 1"')
    elif value["version"] != 1 or isinstance(value["version"], bool):
        found = shown(value["version"])
        yield Fault(("version",), f"{found} is no version that is known", 'write "version: 1"')
    space = value.get("space", "default")
    if space != "default":
        yield Fault(
            ("space",), f"another space than default is {NOT_YET[0]}", 'write "space: default"'
        )


def _top_fault(top: str, inner: Any) -> Fault | None:
    if top in LATER_TOP:
        return Fault((top,), *NOT_YET, at_key=True)
    known = (*SINGLES, *MAPS)
    if top not in known:
        mend = did_you_mean(top, (*known, "version", "space"), f"known here: {', '.join(known)}")
        return Fault((top,), "unknown key", mend, at_key=True)
    if top in MAPS and inner is not None and not isinstance(inner, dict):
        what = f"must be a map from key to definition, not {shown(inner)}"
        return Fault((top,), what, f'write the key of each below it: "{top}: {{some_key: ...}}"')
    return None


def _key_fault(path: Path, key: str) -> Fault:
    if len(key) > LONGEST_KEY:
        what = f"the key has {len(key)} characters, more than the limit"
        return Fault(path, what, f"it may have {LONGEST_KEY} at most", at_key=True)
    proposal = "".join(c if c in _KEY_LETTERS else "_" for c in key.lower()).strip("_")
    what = f"the key {shown(key)} may have only a-z, 0-9 and _"
    return Fault(path, what, f'write "{proposal or "some_key"}"', at_key=True)


def _twice(path: Path, before: Document) -> Fault:
    line, column = before.place(path, key=True)
    what = f"given twice, first at {before.file}:{line}:{column}"
    mend = "keep one of them" if len(path) == 1 else "remove one, or give it another key"
    return Fault(path, what, mend, at_key=True)


def _not_read(path: Path) -> Fault:
    what = "the text ${ is taken as it stands: variables are read only in destinations.*.settings"
    return Fault(path, what, "write the value itself", warning=True)
