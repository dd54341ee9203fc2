"""What definitions say beyond their own shape: limits of the rooms, and the names of each other.

Rule: workspace 2 to 5, audiences Y1 to Y4, journeys Y1 to Y6.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from audiences import definition as audiences
from audiences.definition import Audience, Condition
from destinations.definition import Destination
from destinations.references import references
from destinations.request import InvalidSettings, filled
from events.durations import millis
from events.operators import Trouble
from identity import settings as identity
from journeys import checks
from journeys.kind import References
from profiles.computed import definition as computed
from profiles.computed.definition import ComputedTrait
from workspace import environment
from workspace.later import NOT_YET
from workspace.names import Names
from workspace.problem import Path
from workspace.structure import Fault, shown

if TYPE_CHECKING:
    from workspace.definitions import Definitions

Known = Mapping[str, Names]
"""Top key -> the keys defined under it, those of faulty definitions too."""

DAY_MS: Final = 86_400_000
LONGEST_MEMORY_MS: Final = 365 * DAY_MS
SPACES: Final = ("default",)

_MISSING: Final = re.compile(r'there is no (audience|destination|source) "(.*)"', re.DOTALL)
_ANYBODY: Final = Audience(where=Condition(everyone=True))
_ANYTHING: Final = ComputedTrait(type="count", event="-")


def faults(definitions: "Definitions", known: Known) -> Iterator[Fault]:
    """Yield what is wrong with and between the definitions that are well formed by themselves.

    A name that stands in ``known`` exists, though its definition may be faulty: it is reported
    once, where it stands.
    """
    yield from _workspace(definitions)
    yield from _identity(definitions)
    yield from _sources(definitions)
    for key, destination in definitions.destinations.items():
        path: Path = ("destinations", key)
        yield from _named(destination.sources, "sources", known, (*path, "sources"))
        yield from _destination(path, destination)
    yield from _computed(definitions, known)
    yield from _audiences(definitions, known)
    yield from _journeys(definitions, known)


# ---- workspace, sources, destinations -----------------------------------------------------------
def _workspace(definitions: "Definitions") -> Iterator[Fault]:
    settings = definitions.workspace
    path: Path = ("workspace", "dedup_window")
    if settings.dedup_window_ms < DAY_MS:
        what = f"{shown(settings.dedup_window)} is too short"
        yield Fault(path, what, "write at least 24h: SDKs repeat a call for that long")
    elif settings.dedup_window_ms > LONGEST_MEMORY_MS:
        yield Fault(path, f"{shown(settings.dedup_window)} is too long", "write 365d at most")
    if settings.spaces != SPACES:
        what = f"another space than default is {NOT_YET[0]}"
        yield Fault(("workspace", "spaces"), what, "write [default]")


def _identity(definitions: "Definitions") -> Iterator[Fault]:
    for at, what, mend in identity.faults(definitions.identity):
        yield Fault(("identity", *at), what, mend)
    for at, what in identity.unsupported(definitions.identity):
        yield Fault(("identity", *at), what, NOT_YET[1])


def _sources(definitions: "Definitions") -> Iterator[Fault]:
    owners: dict[str, str] = {}
    for key, source in definitions.sources.items():
        path: Path = ("sources", key)
        for place, write_key in enumerate(source.write_keys):
            owner = owners.setdefault(write_key, key)
            if owner != key:
                yield Fault(
                    (*path, "write_keys", place), f'this write key belongs to the source "{owner}"',
                    "give each source its own",
                )  # fmt: skip
            elif source.write_keys.index(write_key) != place:
                yield Fault((*path, "write_keys", place), "given twice", "keep one of them")
        for place, space in enumerate(source.spaces):
            if space not in SPACES:
                mend = "there is: default; [] for none"
                yield Fault((*path, "spaces", place), f'there is no space "{space}"', mend)


def _destination(path: Path, destination: Destination) -> Iterator[Fault]:
    if not millis(destination.settings.timeout):
        yield Fault((*path, "settings", "timeout"), "the time is zero", "write at least 1s")
    elif millis(destination.settings.timeout) > 60_000:
        yield Fault((*path, "settings", "timeout"), "the time is too long", "write 60s at most")
    given = destination.settings
    at: Path = (*path, "settings")
    texts: list[tuple[Path, str]] = [((*at, "url"), given.url), ((*at, "secret"), given.secret)]
    texts += [((*at, "headers", name), text) for name, text in given.headers.items()]
    refers = [(place, references(text)) for place, text in texts]
    for place, found in refers:
        if found.malformed:
            what = "a ${ names no variable"
            mend = "write ${NAME} with letters, digits and _, or $${ for the characters themselves"
            yield Fault(place, what, mend)
    if not any(found.names or found.malformed for _, found in refers):
        try:
            settings = filled(given.url, given.secret, given.headers, {})
        except InvalidSettings as error:
            yield Fault(at, str(error), "change it")
        else:
            yield from environment.fault(at, destination, settings)


# ---- computed traits, audiences -----------------------------------------------------------------
def _computed(definitions: "Definitions", known: Known) -> Iterator[Fault]:
    places = known["destinations"].all
    for key, trait in definitions.computed_traits.items():
        path: Path = ("computed_traits", key)
        yield from _troubles(path, computed.problems(trait, places), known)
        yield from _named(trait.exclude_sources, "sources", known, (*path, "exclude_sources"))


def _audiences(definitions: "Definitions", known: Known) -> Iterator[Fault]:
    places = known["destinations"].all
    everyone = dict.fromkeys(known["audiences"].all, _ANYBODY) | definitions.audiences
    traits = dict.fromkeys(known["computed_traits"].all, _ANYTHING) | definitions.computed_traits
    for key, audience in definitions.audiences.items():
        path: Path = ("audiences", key)
        found = audiences.problems(key, everyone, traits, places)
        yield from _troubles(path, found, known)
        yield from conditions(audience.where, (*path, "where"), known)


def _journeys(definitions: "Definitions", known: Known) -> Iterator[Fault]:
    around = References(known["audiences"].all, known["destinations"].all)
    for key, journey in definitions.journeys.items():
        path: Path = ("journeys", key)
        yield from _troubles(path, checks.problems(key, journey, around), known)
        for fault in _troubles(path, checks.warnings(journey), known):
            yield replace(fault, warning=True)
    for key, trouble in checks.same_names(definitions.journeys):
        yield from _troubles(("journeys", key), [trouble], known)


def conditions(where: Condition, path: Path, known: Known) -> Iterator[Fault]:
    """Yield what a condition's names are missing: its sources, and traits that are nearly known."""
    for at, condition in audiences.walk(where):
        if isinstance(condition.performed, audiences.Performed):
            here: Path = (*path, *at, "performed", "exclude_sources")
            yield from _named(condition.performed.exclude_sources, "sources", known, here)
        if isinstance(condition.trait, dict):
            for name in condition.trait:
                yield from _trait((*path, *at, "trait", name), name, known)


def _trait(path: Path, name: str, known: Known) -> Iterator[Fault]:
    """Warn of a trait that nobody defines and whose name is nearly that of one that is defined.

    Any other name is that of a custom trait, which exists as soon as somebody sends it.
    """
    if len(name) < 5:
        return
    for top in ("computed_traits", "audiences"):
        if name in known[top].all:
            return
    near = known["computed_traits"].slip(name) or known["audiences"].slip(name)
    if near is not None:
        what = f'no computed trait is called "{name}", so this is a custom trait'
        yield Fault(path, what, f'did you mean "{near}"?', at_key=True, warning=True)


# ---- names --------------------------------------------------------------------------------------
def _named(names: Iterable[str], top: str, known: Known, path: Path) -> Iterator[Fault]:
    for place, name in enumerate(names):
        if name not in known[top].all:
            what = f'there is no {top[:-1]} "{name}"'
            yield Fault((*path, place), what, known[top].mend(name, top))


def _troubles(path: Path, troubles: Iterable[Trouble], known: Known) -> Iterator[Fault]:
    """Yield a room's troubles as faults: at the key where the key itself is the trouble."""
    for at, what, mend in troubles:
        missing = _MISSING.fullmatch(what)
        if missing is not None:
            top = f"{missing[1]}s"
            mend = known[top].mend(missing[2], top)
        yield Fault((*path, *at), what, mend, at_key=NOT_YET[0] in what or "unknown" in what)
