"""Identity settings: as a workspace file defines them, and compiled for the hot path (identity 4).

The compiled form knows, for each call, which keys to look at, and for each type its limit, its
place in the order, how a value is normalised and which values are blocked.
"""

from collections.abc import Callable, Collection, Iterable
from hashlib import blake2b
from typing import Annotated, Final, Literal

import msgspec
import phonenumbers
import re2
from msgspec import UNSET, Meta, Struct, UnsetType

from events.event import Id

TypeName = Annotated[
    str,
    Meta(
        pattern="^[a-z0-9_.$-]{1,255}$",
        description="an identifier type: lower case",
        examples=["user_id", "loyalty_id"],
    ),
]
Normalize = Literal["none", "lower", "email", "phone"]
Per = Literal["ever", "annually", "monthly", "weekly", "daily"]


# ---- as people write it --------------------------------------------------------------------------
class IdType(Struct, frozen=True, forbid_unknown_fields=True):
    """A type of identifier. Rule: identity X1, L1, L2, X6."""

    limit: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | UnsetType,
        Meta(
            description="how many values a profile may gain; absent: 1 of user_id, 5 of others",
            examples=[5],
        ),
    ] = UNSET
    per: Annotated[
        Per,
        Meta(description="the time in which the limit counts values, sliding", examples=["weekly"]),
    ] = "ever"
    match: Annotated[
        Annotated[
            tuple[Annotated[str, Meta(min_length=1, max_length=255)], ...],
            Meta(min_length=1, max_length=10),
        ]
        | UnsetType,
        Meta(
            description="of a custom type: the keys of traits and properties that hold it, each "
            "looked up in camelCase and in snake_case; absent: its name",
            examples=[["loyaltyId"]],
        ),
    ] = UNSET
    normalize: Annotated[
        Normalize | UnsetType,
        Meta(
            description="what is done to a value before it is compared, besides trimming; absent: "
            "email for email, phone (E.164) for phone, none for others",
            examples=["lower"],
        ),
    ] = UNSET


class Blocked(Struct, frozen=True, forbid_unknown_fields=True):
    """Values that never identify anybody: one of the two. Rule: identity 4.1."""

    exact: Annotated[
        Annotated[str, Meta(min_length=1)] | UnsetType,
        Meta(description="the value, in any case", examples=["guest"]),
    ] = UNSET
    regex: Annotated[
        Annotated[str, Meta(min_length=1)] | UnsetType,
        Meta(description="RE2, searched for", examples=["^test-"]),
    ] = UNSET


BlockedValues = Annotated[
    tuple[str | Blocked, ...],
    Meta(
        max_length=1000,
        description='a text alone is an exact value, in any case; {regex: "^test-"} a pattern',
        examples=[["guest"]],
    ),
]


class Identity(Struct, frozen=True, forbid_unknown_fields=True):
    """How identifiers make people. Rule: workspace 4, identity 2 to 5."""

    demotion: Annotated[
        Literal["strict", "targeted"],
        Meta(
            description="which identifier of an event gives way to a limit: the worst-ranked one, "
            "or the worst-ranked one that helps",
            examples=["strict"],
        ),
    ] = "strict"
    email_from_properties: Annotated[
        bool, Meta(description="`properties.email` is an email of the person", examples=[True])
    ] = True
    auto_add_types: Annotated[
        bool,
        Meta(
            description="a type first met in `context.externalIds` counts from then on",
            examples=[True],
        ),
    ] = True
    alias_merges: Annotated[
        bool, Meta(description="alias calls merge profiles", examples=[False])
    ] = False
    order: Annotated[
        tuple[TypeName, ...],
        Meta(
            description="types from the best on; the others follow in alphabetical order",
            examples=[["user_id", "email"]],
        ),
    ] = ("user_id", "email")
    types: Annotated[
        dict[TypeName, IdType],
        Meta(
            description="settings of the types, and custom types; cross_domain_id and braze_id "
            "count only when named here",
            examples=[{"email": {"limit": 3}}],
        ),
    ] = {}
    blocked: Annotated[
        dict[TypeName, BlockedValues],
        Meta(
            description="values that identify nobody, by type; `all` for every type",
            examples=[{"user_id": ["guest"]}],
        ),
    ] = {}
    suggested: Annotated[
        bool,
        Meta(
            description="block -1, null, anonymous, and what has only zeroes and dashes",
            examples=[True],
        ),
    ] = True
    suggested_more: Annotated[
        bool,
        Meta(
            description="block undefined, none, nan, [object object] and the zero UUID as well",
            examples=[False],
        ),
    ] = False


def unsupported(identity: Identity) -> list[tuple[tuple[str | int, ...], str]]:
    """Return what is known but not built yet, as (path, reason). Rule: workspace WS-06."""
    if identity.alias_merges:
        return [(("alias_merges",), "true is not supported yet")]
    return []


def faults(identity: Identity) -> list[tuple[tuple[str | int, ...], str, str]]:
    """Return what is wrong beyond the shape, as (path, what, how to mend it)."""
    found: list[tuple[tuple[str | int, ...], str, str]] = []
    for place, name in enumerate(identity.order):
        if name in identity.order[:place]:
            found.append((("order", place), f'"{name}" is given twice', "remove one"))
    for name, type in identity.types.items():
        if name == "group_id":
            what = "group_id names accounts, which have no limits"
            found.append((("types", name), what, "leave it out; blocked.group_id is allowed"))
        elif name == "all":
            found.append((("types", name), '"all" is no type', "give it another name"))
        elif name in BUILT_IN and type.match is not UNSET:
            what = f"where {name} is found is fixed"
            found.append((("types", name, "match"), what, "remove it, or make a custom type"))
    for name, values in identity.blocked.items():
        for place, value in enumerate(values):
            path = ("blocked", name, place)
            if isinstance(value, str):
                if not value:
                    found.append((path, "an empty value never identifies anybody", "remove it"))
            elif (value.exact is UNSET) == (value.regex is UNSET):
                found.append((path, "must have exact or regex", 'write {regex: "^test-"}'))
            elif value.regex is not UNSET:
                try:
                    _compile(value.regex)
                except re2.error as error:
                    what = f'"{value.regex}" is not a pattern of RE2: {_told(error)}'
                    found.append(((*path, "regex"), what, "see the syntax of RE2"))
    return found


# ---- compiled ------------------------------------------------------------------------------------
BUILT_IN: Final = (
    "user_id", "email", "anonymous_id", "android.id", "android.idfa", "android.push_token",
    "ios.id", "ios.idfa", "ios.push_token", "ga_client_id", "group_id", "cross_domain_id",
    "braze_id",
)  # fmt: skip
LEGACY: Final = ("cross_domain_id", "braze_id")
DAY_MS: Final = 86_400_000
PERIODS: Final[dict[str, int]] = {
    "ever": 0,
    "annually": 365 * DAY_MS,
    "monthly": 30 * DAY_MS,
    "weekly": 7 * DAY_MS,
    "daily": DAY_MS,
}
DEFAULT_LIMIT: Final = 5
MOST_MERGES: Final = 100
MOST_MAPPINGS: Final = 1000
SUGGESTED: Final = ("-1", "null", "anonymous")
SUGGESTED_REGEX: Final = "^[0-]*$"
SUGGESTED_MORE: Final = (
    "undefined", "none", "nan", "[object object]", "00000000-0000-0000-0000-000000000000",
)  # fmt: skip


class Kind:
    """A type as extraction needs it."""

    __slots__ = ("exact", "known", "longest", "name", "normalise", "patterns", "zeroes")

    def __init__(
        self, name: str, normalise: Callable[[str], str], blocked: Iterable[str | Blocked]
    ) -> None:
        """Compile the blocked values. Raises re2.error for a regex that `faults` would name."""
        self.name = name
        self.normalise = normalise
        self.known: dict[str, tuple[str, str]] = {}
        """Values as sent, and the ids they are: what was worked out lately (`identity.extract`)."""
        exact: set[str] = set()
        patterns: list[Callable[[str], object]] = []
        self.zeroes = False
        for value in blocked:
            if isinstance(value, str):
                exact.add(value.strip().lower())
            elif value.exact is not UNSET:
                exact.add(value.exact.strip().lower())
            elif value.regex == SUGGESTED_REGEX:
                # Every value is tried against it: strip takes 50 ns where a search takes 1.2 us.
                self.zeroes = True
            elif value.regex is not UNSET:
                patterns.append(_compile(value.regex).search)
        self.exact = frozenset(exact)
        self.longest = max(map(len, exact), default=-1)
        self.patterns = tuple(patterns)

    def blocks(self, value: str) -> bool:
        """Tell whether a normalised value identifies nobody. Rule: identity 4.1."""
        return (
            (self.zeroes and not value.strip("0-"))
            or (len(value) <= self.longest and value.lower() in self.exact)
            or (bool(self.patterns) and any(search(value) for search in self.patterns))
        )


class Keys:
    """The keys to look up in one dict of an event, in order. ``names`` only when they are many."""

    __slots__ = ("names", "pairs")

    def __init__(self, pairs: Iterable[tuple[str, Kind]]) -> None:
        self.pairs = tuple(pairs)
        self.names = frozenset(key for key, _ in self.pairs) if len(self.pairs) > 4 else None


class Settings:
    """Identity settings ready for use. Equal hashes: equal settings."""

    def __init__(self, identity: Identity) -> None:
        """Compile. The definition must have no `faults`."""
        body = msgspec.json.encode(identity, order="deterministic")
        self.hash: str = blake2b(body, digest_size=8).hexdigest()
        self.most_merges = MOST_MERGES
        self.most_mappings = MOST_MAPPINGS
        """The system's own limits, a profile (identity L7)."""
        self.targeted = identity.demotion == "targeted"
        self.auto_add_types = identity.auto_add_types
        self.order: dict[str, str] = {
            name: f"\0{place:06d}" for place, name in enumerate(identity.order)
        }
        """Type -> what it is ordered by, where that is not its name."""
        names = [name for name in BUILT_IN if name not in LEGACY or name in identity.types]
        custom = [name for name in sorted(identity.types) if name not in BUILT_IN]
        self.kinds: dict[str, Kind] = {name: _kind(identity, name) for name in (*names, *custom)}
        """The types configured or known by default."""
        self.configured = tuple(sorted(identity.types))
        self._loose = {"phone": _kind(identity, "phone")}
        for name in identity.blocked:
            if name not in self.kinds:
                self._loose[name] = _kind(identity, name)
        self._other = _kind(identity, "")
        self.limits: dict[str, tuple[int, int]] = {"user_id": (1, 0)}
        """Type -> limit, its period in milliseconds (0: ever); absent: `DEFAULT_LIMIT` ever."""
        for name, type in identity.types.items():
            default = 1 if name == "user_id" else DEFAULT_LIMIT
            limit = default if type.limit is UNSET else type.limit
            self.limits[name] = (limit, PERIODS[type.per])

        kinds = self.kinds
        email = [("email", kinds["email"])]
        keys = [
            (key, kinds[name])
            for name in custom
            for key in _spellings(identity.types[name].match or (name,))
        ]
        legacy = kinds.get("cross_domain_id")
        self.traits = Keys([*email, *keys])
        self.context_traits = Keys(
            [*email, *keys, *([("crossDomainId", legacy)] if legacy else [])]
        )
        self.properties = Keys([*(email if identity.email_from_properties else []), *keys])
        self.user_id = kinds["user_id"]
        self.anonymous_id = kinds["anonymous_id"]
        self.group_id = kinds["group_id"]
        self.ga_client_id = kinds["ga_client_id"]
        self.cross_domain_id = legacy
        self.braze_id = kinds.get("braze_id")
        self.devices: dict[str, tuple[Kind, Kind, Kind]] = {
            system: (kinds[f"{system}.id"], kinds[f"{system}.idfa"], kinds[f"{system}.push_token"])
            for system in ("android", "ios")
        }

    def kind(self, type: str) -> Kind:
        """Return how values of a type are treated, known or not; the name of the latter is ""."""
        return self.kinds.get(type) or self._loose.get(type) or self._other

    def ranked(self, ids: Collection[Id]) -> tuple[Id, ...]:
        """Return the ids from best to worst; of one type in the order given. Rule: identity R1-R4.

        Types without a place of their own follow in the order of their names, so a new type takes
        its place by itself.
        """
        place = self.order.get
        if len(ids) == 2:
            one, two = ids
            ordered = place(one[0], one[0]) <= place(two[0], two[0])
            return (one, two) if ordered else (two, one)
        return tuple(sorted(ids, key=lambda id: place(id[0], id[0])))

    def ranks(self, seen: Iterable[str] = ()) -> dict[str, int]:
        """Return the rank of each type configured or in ``seen``, from 1. Rule: identity R1-R3."""
        names = {*self.configured, *self.order, *seen}
        names.discard("group_id")
        ordered = self.ranked([(name, "") for name in sorted(names)])
        return {name: rank for rank, (name, _) in enumerate(ordered, 1)}

    def normalised(self, type: str, value: str) -> str:
        """Return a value as it is compared, for look-ups. Rule: identity X6."""
        return self.kind(type).normalise(value)


def compile_settings(identity: Identity) -> Settings:
    """Return the settings ready for use."""
    return Settings(identity)


def _kind(identity: Identity, name: str) -> Kind:
    blocked: list[str | Blocked] = []
    if identity.suggested:
        blocked += [*SUGGESTED, Blocked(regex=SUGGESTED_REGEX)]
    if identity.suggested_more:
        blocked += SUGGESTED_MORE
    blocked += identity.blocked.get("all", ())
    blocked += identity.blocked.get(name, ())
    type = identity.types.get(name)
    normalize = UNSET if type is None else type.normalize
    if normalize is UNSET:
        normalize = "email" if name == "email" else "phone" if name == "phone" else "none"
    return Kind(name, _NORMALISERS[normalize], blocked)


def _lower(value: str) -> str:
    return value.strip().lower()


def _phone(value: str) -> str:
    """Return the number in E.164; trimmed only when it is none in the international form."""
    value = value.strip()
    try:
        number = phonenumbers.parse(value, None)
    except phonenumbers.NumberParseException:
        return value
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


_NORMALISERS: Final[dict[str, Callable[[str], str]]] = {
    "none": str.strip,
    "lower": _lower,
    "email": _lower,
    "phone": _phone,
}


def _spellings(keys: Iterable[str]) -> tuple[str, ...]:
    """Return each key in camelCase and in snake_case, as written first, each once."""
    found: dict[str, None] = {}
    for key in keys:
        snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in key).lstrip("_")
        first, *rest = snake.split("_")
        camel = first + "".join(part[:1].upper() + part[1:] for part in rest)
        for spelling in (key, camel, snake):
            found[spelling] = None
    return tuple(found)


def _compile(pattern: str) -> "re2._Regexp":
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def _told(error: Exception) -> str:
    value = error.args[0] if error.args else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
