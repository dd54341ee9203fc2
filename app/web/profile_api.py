"""The Profile API: a person's traits, external ids, events, metadata and links, by any id.

Each answer is built from committed state in one go, so it never mixes two moments.
"""

import heapq
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Raw, Struct, UnsetType

from agents.profile_tables import HISTORY, PROFILES
from app.reader import Reader
from app.web import asking
from app.web.access import REQUEST_ID, Access, Fault, Rate, log_read, missing, refuse, reply, unfit
from app.web.asking import iso
from profiles.profile import ExternalId, Occurrence, Profile

WINDOW_MS = 14 * 24 * 60 * 60 * 1000
ROWS_A_REQUEST = 2000
"""History rows looked at for one answer; a page cut short by it says that there is more."""
COLLECTIONS = ("users", "accounts")
_BARE = re.compile(r"(?:use|acc)_[A-Za-z0-9_-]{1,100}")


class Ports(Struct, frozen=True):
    """What the Profile API stands on."""

    access: Access
    rate: Rate
    space: str
    reader: Reader
    resolve: Callable[[Reader, str, str], str | None]
    """(reader, type, normalised value) -> the id of the profile that has it."""
    normalise: Callable[[str, str], str | None]
    """(type, value) -> the value as it is matched; None: no such type, or no id of that type."""
    kinds: Callable[[], Mapping[str, str]]
    """Key -> ``audience`` or ``computed_trait``, of all that are defined now."""
    now_ms: Callable[[], int]
    run: asking.Run = asking.at_once


class Asked(Struct, frozen=True):
    """A request whose profile was found."""

    request: web.Request
    ports: Ports
    collection: str
    profile: Profile
    resource: str

    @property
    def url(self) -> str:
        """Return the canonical path of the resource."""
        return (f"/v1/spaces/{self.ports.space}/collections/{self.collection}/profiles/"
                f"{self.profile.id}/{self.resource}")

    def limit(self, default: int, most: int) -> int:
        """Return the page's size (P1)."""
        return asking.limit(self.request, default, most)

    def after(self, kind: Any) -> Any:
        """Return the sort key that the page begins after; None at the start (P4)."""
        return asking.after_cursor(self.request, self._made_for, self.ports.space, kind)

    def cursor(self, limit: int, last: Any, more: bool) -> dict[str, Any]:
        """Return the answer's cursor; ``last`` is the sort key of the last element."""
        following = asking.cursor(self._made_for, self.ports.space, last) if more else ""
        return {"url": self.url, "has_more": more, "next": following, "limit": limit}

    @property
    def _made_for(self) -> str:
        return f"{self.collection}/{self.resource}"


def add_routes(app: web.Application, ports: Ports) -> None:
    """Serve the Profile API.

    Rule: profile-api C1, C2; section 2.
    """
    async def serve(request: web.Request) -> web.Response:
        response: web.Response = await ports.run(_answer, request, ports)
        return response

    for root in ("spaces", "namespaces"):
        app.router.add_get(
            f"/v1/{root}/{{space:[^/]+}}/collections/{{collection:[^/]+}}/profiles/{{id:[^/]+}}"
            "/{resource:[^/]+}",
            serve,
        )


def add_last_routes(app: web.Application, access: Access) -> None:
    """Answer what no route of the spaces answers: first the token, then 404 (section 6).

    To be added after all others.
    """
    async def nothing(request: web.Request) -> web.Response:
        access.check(request)
        raise missing("there is no such resource")

    for root in ("spaces", "namespaces"):
        app.router.add_route("*", f"/v1/{root}/{{rest:.*}}", nothing)


def in_space(request: web.Request, space: str) -> None:
    """Refuse another space than the token's."""
    if asking.segment(request, 3, "space") != space:
        raise Fault(403, "forbidden", "the token is not of this space")


def _answer(request: web.Request, ports: Ports) -> web.Response:
    """Answer a read; the log line names the person by a hash only (I5)."""
    started = time.monotonic()
    told = "?"
    try:
        # Section 6: authentication, rate limit, validation, lookup, in this order.
        ports.access.check(request)
        ports.rate.take()
        in_space(request, ports.space)
        collection = asking.segment(request, 5, "collection")
        if collection not in COLLECTIONS:
            raise unfit(f'there is no such collection; there are "{COLLECTIONS[0]}" and '
                        f'"{COLLECTIONS[1]}"')
        identifier = asking.segment(request, 7, "identifier")
        told = f"{collection} {ports.access.hidden(identifier)}"
        resource = asking.segment(request, 8, "resource")
        read = _RESOURCES.get(resource)
        if read is None:
            raise missing("there is no such resource")
        told = f"{told} {resource}"
        profile = find(ports, collection, identifier)
        response = reply(read(Asked(request, ports, collection, profile, resource)))
    except Fault as fault:
        response = refuse(fault)
    log_read(told, response.status, started, request.get(REQUEST_ID, ""))
    return response


# ---- whose ---------------------------------------------------------------------------------------
def find(ports: Ports, collection: str, identifier: str) -> Profile:
    """Return the profile that ``type:value``, or a profile id, names; raise Fault if none.

    The value goes through its type's normaliser. The id of a merged-away profile gives the
    survivor.
    Rule: profile-api I1, I2, I4, I6.
    """
    kind, colon, value = identifier.partition(":")
    nobody = missing("there is no such profile")
    if colon:
        if not kind or not value:
            raise unfit("the identifier must be TYPE:VALUE")
        if (kind == "group_id") != (collection == "accounts"):
            raise nobody
        normal = ports.normalise(kind, value)
        profile_id = None if normal is None else ports.resolve(ports.reader, kind, normal)
    else:
        profile_id = identifier if _BARE.fullmatch(identifier) else None
    profile = canonical(ports.reader, profile_id) if profile_id else None
    if profile is None or profile.collection != collection:
        raise nobody
    return profile


def canonical(reader: Reader, profile_id: str) -> Profile | None:
    """Return the profile, or the one that it was merged into."""
    profile = reader.get(PROFILES, profile_id.encode())
    while profile is not None and profile.survivor:
        profile = reader.get(PROFILES, profile.survivor.encode())
    return profile


# ---- traits --------------------------------------------------------------------------------------
class Shown(Struct, frozen=True, gc=False):
    """A trait as it is answered, and which kind it is of (empty: custom)."""

    value: Any
    source: str
    updated_at_ms: int
    kind: str


def traits_of(profile: Profile, kinds: Mapping[str, str]) -> dict[str, Shown]:
    """Return all traits that have a value: custom, computed, memberships.

    A key that a definition computes is the computation's. ``kind`` is empty for a computation that
    is not defined any more.
    Rule: profile-api S1, S3, S4.
    """
    shown = {
        key: Shown(trait.value, trait.source, trait.timestamp_ms, "")
        for key, trait in profile.traits.items()
        if trait.value is not None
    }
    for key, computed in profile.computed.items():
        if computed.value is not None:
            kind = kinds.get(key, "")
            shown[key] = Shown(computed.value, f"computed_trait:{key}", computed.updated_at_ms,
                               kind if kind == "computed_trait" else "")
    for key, standing in profile.memberships.items():
        kind = kinds.get(key, "")
        shown[key] = Shown(standing.inside, f"audience:{key}",
                           max(standing.entered_at_ms, standing.exited_at_ms),
                           kind if kind == "audience" else "")
    return shown


def _traits(asked: Asked) -> dict[str, Any]:
    request = asked.request
    limit = asked.limit(10, 200)
    wanted = asking.one_of(request, "class", "audience", "computed_trait")
    verbose = asking.yes(request, "verbose")
    include = asking.listed(request, "include")
    after = asked.after(str)
    shown = traits_of(asked.profile, asked.ports.kinds())
    keys: Iterable[str] = shown if include is None else include.among(shown)
    if wanted:
        keys = [key for key in keys if shown[key].kind == wanted]
    page = sorted(key for key in keys if after is None or key > after)
    more = len(page) > limit
    page = page[:limit]
    traits = {
        key: {"value": shown[key].value, "source_id": shown[key].source,
              "updated_at": iso(shown[key].updated_at_ms)} if verbose else shown[key].value
        for key in page
    }
    return {"traits": traits, "cursor": asked.cursor(limit, page[-1] if page else "", more)}


# ---- external ids --------------------------------------------------------------------------------
def _mapping(id: ExternalId, collection: str) -> dict[str, Any]:
    return {"collection": collection, "type": id.type, "id": id.value, "encoding": "none",
            "source_id": id.source, "created_at": iso(id.created_at_ms)}


def _external_ids(asked: Asked) -> dict[str, Any]:
    limit = asked.limit(10, 100)
    verbose = asking.yes(asked.request, "verbose")
    include = asking.listed(asked.request, "include")
    after = asked.after(tuple[int, str, str])
    found = sorted(
        ((id.created_at_ms, id.type, id.value), id)
        for id in asked.profile.ids
        if include is None or id.type in include
    )
    page = [row for row in found if after is None or row[0] > after]
    more = len(page) > limit
    page = page[:limit]
    data = []
    for _, id in page:
        mapping = _mapping(id, asked.collection)
        mapping["first_message_id"] = id.message_id
        if verbose:
            mapping["segment_id"] = asked.profile.id
        data.append(mapping)
    return {"data": data, "cursor": asked.cursor(limit, page[-1][0] if page else None, more)}


# ---- events --------------------------------------------------------------------------------------
class _Body(Struct, rename="camel", gc=False):
    """What an answer takes of a stored event."""

    type: str
    message_id: str = ""
    event: Any = None
    name: Any = None
    properties: Raw | UnsetType = UNSET
    traits: Raw | UnsetType = UNSET
    context: Raw | UnsetType = UNSET
    group_id: Any = None
    previous_id: Any = None


_body = msgspec.json.Decoder(_Body).decode
_object = msgspec.json.Decoder(dict[str, Any] | None).decode
_EMPTY = Raw(b"{}")
_CALLS = {"page": "Page Viewed", "screen": "Screen Viewed"}
When = tuple[int, str]
"""What events are ordered by: (timestamp in milliseconds, messageId)."""


def history(
    reader: Reader, profile: Profile, after: When | None, before: When | None, descending: bool
) -> Iterator[tuple[When, Occurrence]]:
    """Yield the events of a profile and of all that were merged into it, in order.

    Strictly between ``after`` and ``before``; None: no bound. An event is yielded once.
    """
    def rows(profile_id: str) -> Iterator[tuple[bytes, Occurrence]]:
        owner = profile_id.encode() + b"\0"
        start = owner + _suffix(after) + b"\0" if after else b""
        stop = owner + _suffix(before) if before else b""
        cut = len(owner)
        for key, row in reader.scan(HISTORY, owner, start, stop, reverse=descending):
            yield key[cut:], row

    every = [rows(profile_id) for profile_id in (profile.id, *profile.absorbed)]
    lines = every[0] if len(every) == 1 else heapq.merge(
        *every, key=lambda line: line[0], reverse=descending
    )
    seen = b""
    for key, row in lines:
        if key != seen:
            seen = key
            yield (int.from_bytes(key[:8], "big"), key[8:].decode()), row


def _suffix(when: When) -> bytes:
    return min(max(0, when[0]), 2**63).to_bytes(8, "big") + when[1].encode()


def _events(asked: Asked) -> dict[str, Any]:
    request = asked.request
    limit = asked.limit(10, 100)
    verbose = asking.yes(request, "verbose")
    include = asking.listed(request, "include")
    exclude = asking.listed(request, "exclude")
    descending = asking.one_of(request, "sort", "desc", "asc") != "asc"
    start = asking.instant(request, "start")
    end = asking.instant(request, "end")
    last = asked.after(tuple[int, str])
    # Both ends are exclusive: what lies after an instant begins a millisecond later.
    oldest = asked.ports.now_ms() - WINDOW_MS
    after: When | None = (max(oldest, start + 1 if start is not None else oldest), "")
    before: When | None = None if end is None else (max(end, 0), "")
    if last is not None and descending:
        before = last if before is None else min(before, last)
    elif last is not None:
        after = max(after, last) if after else last
    data: list[dict[str, Any]] = []
    looked = 0
    more = False
    reached: When | None = last
    for when, row in history(asked.ports.reader, asked.profile, after, before, descending):
        looked += 1
        if len(data) == limit or looked > ROWS_A_REQUEST:
            more = True
            break
        body = _body(row.body)
        name = _CALLS.get(body.type, body.event)
        if include is not None and (name is None or name not in include):
            reached = when
            continue
        if exclude is not None and name is not None and name in exclude:
            reached = when
            continue
        data.append(_event(asked, when, row, body, name, verbose))
        reached = when
    return {"data": data, "cursor": asked.cursor(limit, reached, more)}


def _event(
    asked: Asked, when: When, row: Occurrence, body: _Body, name: Any, verbose: bool
) -> dict[str, Any]:
    """Return an event as it is answered: pages and screens as the track calls they count as.

    Rule: profile-api section 5 (Events); events E-12.
    """
    collection = asked.collection
    kind = "track" if body.type in _CALLS else body.type
    told: dict[str, Any] = {
        "type": kind, "message_id": body.message_id or when[1], "source_id": row.source,
        "timestamp": iso(when[0]), "external_ids": _promoted(row.used),
    }
    if verbose:
        told["external_ids_demoted"] = _promoted(row.demoted)
    if kind == "track":
        told["event"] = name
        properties: Any = _EMPTY if body.properties is UNSET else body.properties
        if body.type != "track" and body.name is not None:
            properties = {**(_object(bytes(properties)) or {}), f"{body.type}_name": body.name}
        told["properties"] = properties
    else:
        if kind != "alias":
            told["traits"] = _EMPTY if body.traits is UNSET else body.traits
        if body.group_id is not None:
            told["group_id"] = body.group_id
        if body.previous_id is not None:
            told["previous_id"] = body.previous_id
    told["context"] = _EMPTY if body.context is UNSET else body.context
    told["related"] = {collection: asked.profile.id}
    return told


def _promoted(ids: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [
        {"collection": "accounts" if kind == "group_id" else "users", "type": kind, "id": value,
         "encoding": "none"}
        for kind, value in ids
    ]


# ---- metadata ------------------------------------------------------------------------------------
def _metadata(asked: Asked) -> dict[str, Any]:
    """Return when the profile began and last changed.

    Rule: profile-api S8.
    """
    profile = asked.profile
    told: dict[str, Any] = {
        "created_at": iso(profile.created_at_ms),
        "updated_at": iso(profile.updated_at_ms),
        "expires_at": None,
        "first_message_id": profile.first_message_id,
        "first_source_id": profile.first_source,
        "last_message_id": profile.last_message_id,
        "last_source_id": profile.last_source,
    }
    if asking.yes(asked.request, "verbose"):
        told["segment_id"] = profile.id
        told["merged_segment_ids"] = list(profile.absorbed)
    return {"metadata": told}


# ---- links ---------------------------------------------------------------------------------------
def _links(asked: Asked) -> dict[str, Any]:
    limit = asked.limit(20, 20)
    last = asked.after(str)
    to = "users" if asked.collection == "accounts" else "accounts"
    linked = asked.profile.links
    begin = 0 if last is None else bisect_left(linked, last + "\0")
    page: list[tuple[str, Profile]] = list(islice(_resolved(asked, linked, begin), limit + 1))
    more = len(page) > limit
    page = page[:limit]
    data = [
        {"to_collection": to,
         "external_ids": [_mapping(id, to) for id in sorted(
             other.ids, key=lambda id: (id.created_at_ms, id.type, id.value))]}
        for _, other in page
    ]
    return {"data": data, "cursor": asked.cursor(limit, page[-1][0] if page else "", more)}


def _resolved(asked: Asked, linked: tuple[str, ...], begin: int) -> Iterator[tuple[str, Profile]]:
    """Yield the linked profiles; one that was merged into another of them is that one's affair."""
    for profile_id in linked[begin:]:
        other = canonical(asked.ports.reader, profile_id)
        if other is None:
            continue
        at = bisect_left(linked, other.id)
        if other.id == profile_id or at == len(linked) or linked[at] != other.id:
            yield profile_id, other


_RESOURCES: dict[str, Callable[[Asked], dict[str, Any]]] = {
    "traits": _traits,
    "external_ids": _external_ids,
    "events": _events,
    "metadata": _metadata,
    "links": _links,
}
