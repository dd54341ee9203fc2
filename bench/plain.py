"""The plain pipeline: the limit that the engine is measured against.

One process, one event loop, no framework, written to be as fast as it honestly can be: POST
/v1/batch, decode, append to a file with group commit, answer; then deduplicate in RocksDB, find the
person by the same matching rules (user_id 1, others 5, worst-ranked id demoted), apply traits, keep
a history row, evaluate the same 20 audience conditions (bench/workspace), count usage, post the
same webhook batches. State goes out in one WriteBatch per 100 events.

It has no stages, no replay, no timers that survive, no late-event order, no definitions that can
change, no API: what it lacks is what the engine's price pays for.

    python -m bench.plain PORT SINK_URL FOLDER
"""

import asyncio
import heapq
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import uvloop
from aiohttp import web
from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch, WriteOptions

DAY = 86_400_000
LIMIT = {"user_id": 1, "email": 5, "anonymous_id": 5}
RANK = ("user_id", "email", "anonymous_id")
BATCH = 100


def _named(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: event["properties"].get("page_name") == name


# (name, event, at least n, within ms or 0, where): the windows of bench/workspace/audiences.yaml
PERFORMED: dict[str, tuple[str, int, int, Callable[[dict[str, Any]], bool] | None]] = {
    "ordered_7d": ("Order Completed", 1, 7 * DAY, None),
    "ordered_twice_30d": ("Order Completed", 2, 30 * DAY, None),
    "viewed_5_1d": ("Product Viewed", 5, DAY, None),
    "viewed_20_7d": ("Product Viewed", 20, 7 * DAY, None),
    "added_1d": ("Product Added", 1, DAY, None),
    "added_3_7d": ("Product Added", 3, 7 * DAY, None),
    "checkout_1d": ("Checkout Started", 1, DAY, None),
    "shoes_10_1d": ("Page Viewed", 10, DAY, lambda e: e["properties"].get("category") == "shoes"),
    "pricing_3_7d": ("Page Viewed", 3, 7 * DAY,
                     lambda e: e["properties"].get("page_name") == "Pricing"),
    "big_order_30d": ("Order Completed", 1, 30 * DAY,
                      lambda e: e["properties"].get("revenue", 0) > 100),
    "ordered_5": ("Order Completed", 5, 0, None),
    "added": ("Product Added", 1, 0, None),
    "cosmetics": ("Product Viewed", 1, 0, lambda e: e["properties"].get("category") == "cosmetics"),
    "ordered_3": ("Order Completed", 3, 0, None),
    "ordered": ("Order Completed", 1, 0, None),
}
BY_EVENT: dict[str, list[tuple[str, int, int, Callable[[dict[str, Any]], bool] | None]]] = {}
for _name, (_event, _n, _within, _where) in PERFORMED.items():
    BY_EVENT.setdefault(_event, []).append((_name, _n, _within, _where))

Person = dict[str, Any]


def _did(name: str) -> Callable[[Person, int], bool]:
    _event, n, within, _where = PERFORMED[name]
    if within:
        return lambda p, now: len(p["c"].get(name, ())) >= n and p["c"][name][-n] + within > now
    return lambda p, _now: p["c"].get(name, 0) >= n


def _trait(key: str, test: Callable[[Any], bool]) -> Callable[[Person, int], bool]:
    return lambda p, _now: key in p["t"] and test(p["t"][key][0])


AUDIENCES: dict[str, Callable[[Person, int], bool]] = {
    **{name: _did(name) for name in ("ordered_7d", "ordered_twice_30d", "viewed_5_1d",
                                     "viewed_20_7d", "added_1d", "added_3_7d", "checkout_1d",
                                     "shoes_10_1d", "pricing_3_7d", "big_order_30d",
                                     "ordered_5", "cosmetics")},
    "plan_pro": _trait("plan", lambda v: v == "pro"),
    "plan_paid": _trait("plan", lambda v: v in ("pro", "team")),
    "country_de": _trait("country", lambda v: v == "DE"),
    "has_email": _trait("email", lambda v: v is not None),
    "reads_newsletter": _trait("newsletter", lambda v: v is True),
    "name_1": _trait("first_name", lambda v: isinstance(v, str) and v.startswith("Name1")),
    "added_not_ordered": lambda p, _now: p["c"].get("added", 0) >= 1 and not p["c"].get("ordered"),
    "team_or_ordered_3": lambda p, now: _TEAM(p, now) or p["c"].get("ordered_3", 0) >= 3,
}
_TEAM = _trait("plan", lambda v: v == "team")
READS_TRAITS = ("plan_pro", "plan_paid", "country_de", "has_email", "reads_newsletter", "name_1",
                "team_or_ordered_3")
READS_LEAF = {name: [name] for name in AUDIENCES if name in PERFORMED}
READS_LEAF |= {"added": ["added_not_ordered"], "ordered": ["added_not_ordered"],
               "ordered_3": ["team_or_ordered_3"]}


class Plain:
    """The whole pipeline."""

    def __init__(self, folder: Path, sink: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(16 << 20)
        options.set_max_write_buffer_number(6)
        options.set_level_zero_file_num_compaction_trigger(8)
        options.set_allow_concurrent_memtable_write(False)
        blocks = BlockBasedOptions()
        blocks.set_bloom_filter(10, False)
        blocks.set_block_cache(Cache(128 << 20))
        options.set_block_based_table_factory(blocks)
        self.db = Rdict(str(folder / "db"), options)
        self.unlogged = WriteOptions()
        self.unlogged.disable_wal = True
        self.sink = sink
        self.writing: list[bytes] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.flushing = False
        self.work: asyncio.Queue[list[dict[str, Any]]] = asyncio.Queue()
        self.out: asyncio.Queue[bytes] = asyncio.Queue()
        self.people: dict[bytes, Person] = {}
        self.owners: dict[bytes, bytes | None] = {}
        self.visitors: set[str] = set()
        self.users: set[str] = set()
        self.linked: set[str] = set()
        self.timers: list[tuple[int, bytes]] = []
        self.applied = self.delivered = self.made = self.calls = 0
        self.encode = msgspec.msgpack.Encoder().encode
        self.json = msgspec.json.Encoder().encode
        self.decode = msgspec.json.Decoder().decode

    # ---- HTTP, the log -------------------------------------------------------------------------
    async def batch(self, request: web.Request) -> web.Response:
        body = await request.read()
        calls = self.decode(body)["batch"]
        self.writing.append(body)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        if not self.flushing:
            self.flushing = True
            asyncio.get_running_loop().create_task(self.flush())
        await future
        self.work.put_nowait(calls)
        return web.Response(body=b'{"success":true}', content_type="application/json")

    async def flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self.writing:
            data, waiting = b"".join(self.writing), self.waiting
            self.writing, self.waiting = [], []
            await loop.run_in_executor(None, self.sync, data)
            for future in waiting:
                future.set_result(None)
        self.flushing = False

    def sync(self, data: bytes) -> None:
        os.write(self.file, data)
        os.fdatasync(self.file)

    # ---- the events ----------------------------------------------------------------------------
    async def process(self) -> None:
        while True:
            calls = await self.work.get()
            now = time.time_ns() // 1_000_000
            for at in range(0, len(calls), BATCH):
                self.events(calls[at : at + BATCH], now)
            await asyncio.sleep(0)

    def events(self, calls: list[dict[str, Any]], now: int) -> None:
        batch = WriteBatch(raw_mode=True)
        touched: dict[bytes, Person] = {}
        fresh: set[bytes] = set()
        for call in calls:
            self.calls += 1
            key = b"d" + call["messageId"].encode()
            if key in fresh or self.db.get(key) is not None:
                continue
            fresh.add(key)
            batch.put(key, now.to_bytes(8, "big"))
            self.event(call, now, batch, touched)
            self.applied += 1
        for profile, person in touched.items():
            batch.put(b"p" + profile, self.encode(person))
        self.db.write(batch, self.unlogged)
        if len(self.people) > 40_000:
            self.people = dict(touched)
            self.owners = {}

    def event(
        self, call: dict[str, Any], now: int, batch: WriteBatch, touched: dict[bytes, Person]
    ) -> None:
        user, anonymous = call.get("userId"), call.get("anonymousId")
        if anonymous and anonymous not in self.visitors:
            self.visitors.add(anonymous)
            batch.put(b"a" + anonymous.encode(), b"")
        if user:
            if user not in self.users:
                self.users.add(user)
                batch.put(b"u" + user.encode(), b"")
            if anonymous and anonymous not in self.linked:
                self.linked.add(anonymous)
                batch.put(b"l" + anonymous.encode(), b"")
        kind = call["type"]
        traits = call.get("traits") if kind == "identify" else None
        ids = [("user_id", user)] if user else []
        if traits and traits.get("email"):
            ids.append(("email", traits["email"].strip().lower()))
        if anonymous:
            ids.append(("anonymous_id", anonymous))
        profile, person = self.resolve(ids, now, batch, touched)
        touched[profile] = person
        call["receivedAt"] = now
        batch.put(b"h%b\0%b%b" % (profile, now.to_bytes(8, "big"), call["messageId"].encode()),
                  self.json(call))
        reading: list[str] = []
        if traits:
            mine = person["t"]
            for name, value in traits.items():
                if name not in mine or mine[name][1] <= now:
                    mine[name] = (value, now)
            reading.extend(READS_TRAITS)
        name = call["event"] if kind == "track" else "Page Viewed" if kind == "page" else None
        if kind == "page":
            call["properties"]["page_name"] = call.get("name")
        for leaf, n, within, where in BY_EVENT.get(name, ()):  # type: ignore[arg-type]
            if where is not None and not where(call):
                continue
            if within:
                person["c"][leaf] = [*person["c"].get(leaf, ()), now][-n:]
                heapq.heappush(self.timers, (now + within, profile))
            else:
                person["c"][leaf] = person["c"].get(leaf, 0) + 1
            reading.extend(READS_LEAF[leaf])
        if "known" not in person:
            if "user_id" not in person["i"] and "email" not in person["i"]:
                return  # of whom nothing but an anonymous id is known is in no audience
            person["known"] = True
            reading = list(AUDIENCES)
        inside = person["in"]
        for audience in reading:
            if AUDIENCES[audience](person, now) != (audience in inside):
                entered = audience not in inside
                if entered:
                    inside.append(audience)
                else:
                    inside.remove(audience)
                self.tell(profile, person, audience, entered, now)

    def resolve(
        self, ids: list[tuple[str, str]], now: int, batch: WriteBatch,
        touched: dict[bytes, Person],
    ) -> tuple[bytes, Person]:
        """The matching algorithm: the worst-ranked id goes until no limit is exceeded."""
        while True:
            found = [self.owner(id) for id in ids]
            matched = list(dict.fromkeys(owner for owner in found if owner is not None))
            if len(matched) == 1 and None not in found:
                return matched[0], self.person(matched[0], touched)
            people = [self.person(owner, touched) for owner in matched]
            counts = {
                kind: len({v for p in people for v in p["i"].get(kind, ())}
                          | {value for k, value in ids if k == kind})
                for kind in RANK
            }
            if all(
                counts[kind] <= LIMIT[kind]
                or counts[kind] <= max((len(p["i"].get(kind, ())) for p in people), default=0)
                for kind in RANK
            ):
                break
            ids = ids[:-1]
        if not matched:
            profile = b"%b:%b" % (ids[0][0].encode(), ids[0][1].encode())
            person: Person = {"i": {}, "t": {}, "c": {}, "in": [], "b": now}
        else:
            order = sorted(zip((p["b"] for p in people), matched, range(len(people)), strict=True))
            profile, person = order[0][1], people[order[0][2]]
            for _born, loser, at in order[1:]:
                self.merge(profile, person, loser, people[at], batch)
                touched.pop(loser, None)
        self.people[profile] = person
        for kind, value in ids:
            values = person["i"].setdefault(kind, [])
            if value not in values:
                values.append(value)
                self.own(kind, value, profile, batch)
        return profile, person

    def merge(
        self, survivor: bytes, into: Person, loser: bytes, other: Person, batch: WriteBatch
    ) -> None:
        for kind, values in other["i"].items():
            for value in values:
                if value not in into["i"].setdefault(kind, []):
                    into["i"][kind].append(value)
                self.own(kind, value, survivor, batch)
        for name, trait in other["t"].items():
            if name not in into["t"] or into["t"][name][1] < trait[1]:
                into["t"][name] = trait
        for leaf, value in other["c"].items():
            mine = into["c"].get(leaf)
            n = PERFORMED[leaf][1]
            into["c"][leaf] = (value if mine is None
                               else sorted([*mine, *value])[-n:] if PERFORMED[leaf][2]
                               else mine + value)
        for audience in other["in"]:
            if audience not in into["in"]:
                into["in"].append(audience)
        into.setdefault("was", []).append(loser)
        self.people.pop(loser, None)
        batch.delete(b"p" + loser)

    def owner(self, id: tuple[str, str]) -> bytes | None:
        key = b"o%b\0%b" % (id[0].encode(), id[1].encode())
        if key in self.owners:
            return self.owners[key]
        found: bytes | None = self.db.get(key)
        self.owners[key] = found
        return found

    def own(self, kind: str, value: str, profile: bytes, batch: WriteBatch) -> None:
        key = b"o%b\0%b" % (kind.encode(), value.encode())
        self.owners[key] = profile
        batch.put(key, profile)

    def person(self, profile: bytes, touched: dict[bytes, Person]) -> Person:
        person = touched.get(profile) or self.people.get(profile)
        if person is None:
            person = msgspec.msgpack.decode(self.db.get(b"p" + profile))
            self.people[profile] = person
        return person

    # ---- the webhook ---------------------------------------------------------------------------
    def tell(self, profile: bytes, person: Person, audience: str, entered: bool, now: int) -> None:
        self.made += 1
        users = person["i"].get("user_id")
        message = {
            "type": "track", "event": "Audience Entered" if entered else "Audience Exited",
            "messageId": f"{profile.decode()}:{audience}:{self.made}", "timestamp": now,
            "userId": users[-1] if users else None,
            "anonymousId": None if users else person["i"]["anonymous_id"][-1],
            "properties": {"audience_key": audience, audience: entered},
            "context": {
                "traits": {"email": person["t"]["email"][0]} if "email" in person["t"] else {},
                "externalIds": [{"id": v, "type": k, "collection": "users", "encoding": "none"}
                                for k, values in person["i"].items() for v in values],
                "personas": {"computation_class": "audience", "computation_key": audience,
                             "computation_id": audience, "namespace": "default",
                             "space_id": "default"},
            },
            "integrations": {"All": False, "Webhook": True},
        }
        self.out.put_nowait(self.json(message))

    async def deliver(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                bodies = [await self.out.get()]
                while len(bodies) < 100 and not self.out.empty():
                    bodies.append(self.out.get_nowait())
                async with session.post(self.sink, data=b"[" + b",".join(bodies) + b"]",
                                        headers={"Content-Type": "application/json"}) as answer:
                    await answer.read()
                self.delivered += len(bodies)

    async def progress(self, _request: web.Request) -> web.Response:
        return web.json_response({"calls": self.calls, "applied": self.applied,
                                  "made": self.made, "delivered": self.delivered})


async def main(port: int, sink: str, folder: Path) -> None:
    plain = Plain(folder, sink)
    app = web.Application(client_max_size=1 << 20)
    app.router.add_post("/v1/batch", plain.batch)
    app.router.add_get("/progress", plain.progress)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.gather(plain.process(), *(plain.deliver() for _ in range(4)))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
