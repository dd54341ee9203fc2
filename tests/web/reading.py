"""A Profile API over a store in memory, with rows as the stages leave them."""

import json

import msgspec
from aiohttp import web
from msgspec.structs import replace
from yarl import URL

from agents.profile_tables import HISTORY, MEMBERS, PROFILES
from app.reader import StoreReader
from app.web import operations, profile_api
from app.web.access import Access, Rate, digest, dress
from profiles.profile import ExternalId, Membership, Occurrence, Profile, Trait, history_key
from runtime.fused import COUNTERS
from tables.store import MemoryStore

NOW_MS = 1_772_366_400_000  # 2026-03-01T12:00:00.000Z
DAY_MS = 24 * 60 * 60 * 1000
TOKEN = "token-of-the-space"
TYPES = {"user_id", "email", "anonymous_id", "phone", "group_id"}
encode = msgspec.msgpack.Encoder().encode


def trait(value, at_ms=NOW_MS, source="web", message_id="m1"):
    return Trait(value, at_ms, at_ms, message_id, source)


def membership(inside, entered_at_ms=NOW_MS, exited_at_ms=0):
    return Membership(inside, entered_at_ms, exited_at_ms, 1)


def normalise(kind, value):
    if kind not in TYPES or not value.strip():
        return None
    return value.strip().lower() if kind == "email" else value.strip()


class Platform:
    """The read side, served, and what the tests put under it."""

    def __init__(self):
        self.store = MemoryStore()
        self.owners = {}
        self.kinds = {}
        self.audiences = {}
        self.journeys = {}
        self.refused = {}
        self.gauges = {}
        self.in_flight = 0
        self.reasons = []
        self.seconds = 0.0
        self.lookups = 0

    def put(self, table, key, value):
        self.store.write([(table.prefix + key, encode(value))], ())

    def profile(self, profile_id="use_1", collection="users", ids=(), **fields):
        """Put a profile with ``ids`` as (type, value), created a minute apart."""
        mapped = tuple(
            id if isinstance(id, ExternalId)
            else ExternalId(*id, NOW_MS - DAY_MS + at * 60_000, "web", f"m{at}")
            for at, id in enumerate(ids)
        )
        made = Profile(profile_id, collection, NOW_MS - DAY_MS, NOW_MS, "m-first", "web", "m-last",
                       "app", ids=mapped)
        made = replace(made, **fields)
        self.put(PROFILES, profile_id.encode(), made)
        for id in mapped:
            self.owners[id.type, id.value] = profile_id
        return made

    def event(self, message_id, at_ms=NOW_MS, profile_id="use_1", type="track", source="web",
              used=(("user_id", "u1"),), demoted=(), **body):
        """Put an event into a profile's history."""
        stored = {"type": type, "messageId": message_id, **body}
        row = Occurrence(source, type, at_ms, at_ms, profile_id, used, demoted,
                         json.dumps(stored).encode())
        self.put(HISTORY, history_key(profile_id, at_ms, message_id), row)

    def member(self, audience, profile_id, at_ms=NOW_MS):
        self.put(MEMBERS, audience.encode() + b"\0" + profile_id.encode(), at_ms)

    def counted(self, name, value):
        self.put(COUNTERS, name.encode(), value)

    def resolve(self, reader, kind, value):
        self.lookups += 1
        return self.owners.get((kind, value))

    def application(self):
        clock = lambda: self.seconds  # noqa: E731
        access = Access(digest(TOKEN), clock)
        reader = StoreReader(self.store)
        app = web.Application(middlewares=[dress])
        profile_api.add_routes(app, profile_api.Ports(
            access, Rate(100, clock), "default", reader, self.resolve, normalise,
            lambda: self.kinds, lambda: NOW_MS))
        operations.add_routes(app, operations.Ports(
            access, "default", reader, lambda: self.reasons, lambda: self.audiences,
            lambda: self.journeys, lambda: self.refused, lambda: self.in_flight,
            lambda: self.gauges, lambda: NOW_MS))
        profile_api.add_last_routes(app, access)
        return app


class Caller:
    """Calls the served platform; an answer is (status, headers, JSON)."""

    def __init__(self, session, base):
        self.session = session
        self.base = base
        self.headers = {"Authorization": f"Bearer {TOKEN}"}

    async def __call__(self, path, method="GET", headers=None):
        async with self.session.request(
            method, URL(f"{self.base}{path}", encoded=True),
            headers=self.headers if headers is None else headers,
        ) as response:
            text = await response.text()
            told = json.loads(text) if text.startswith(("{", "[")) else text
            return response.status, response.headers, told

    async def user(self, path):
        """Return the JSON of a user's resource; it must be there."""
        status, _, told = await self(f"/v1/spaces/default/collections/users/profiles/{path}")
        assert status == 200, told
        return told
