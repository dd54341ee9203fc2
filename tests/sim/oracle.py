"""What must come of a log, worked out the slow way: one record after the other, everything looked
at again each time. Reads the log's bytes and shares no code with the product.

`Oracle.record` takes the records in order; afterwards `people`, `accounts`, `messages`, `counts`
and `usage()` are what state and messages have to be. Rules: identity 2 to 7, audiences 2 to 6,
governance 7; journeys are in `oracle_journeys`.
"""

import json
from base64 import b64encode
from collections import Counter
from datetime import UTC, datetime
from fractions import Fraction
from hashlib import blake2b
from typing import Any

import msgspec

from tests.sim.oracle_journeys import Journeys

UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
THREE_YEARS = 3 * 365 * UNITS["d"]
ABSENT: Any = object()


def millis(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1]]


class Event:
    """An event of a person."""

    def __init__(self, item: list[Any], data: dict[str, Any], at: int) -> None:
        self.source, self.mid, self.received, self.stamp = item[:4]
        self.data = data
        self.at = at
        self.type = data["type"]
        self.ts = self.received if self.stamp > self.received + 5 * UNITS["m"] else self.stamp
        self.properties = data.get("properties") or {}
        self.name = {"track": data.get("event"), "page": "Page Viewed",
                     "screen": "Screen Viewed"}.get(self.type)  # fmt: skip
        if self.type in ("page", "screen") and data.get("name") is not None:
            self.properties = {**self.properties, f"{self.type}_name": data["name"]}


class Person:
    """A person, or what is left of one: ``survivor`` set."""

    def __init__(self, id: str, at: int) -> None:
        self.id = id
        self.created = at
        self.survivor = ""
        self.merges = 0
        self.mapped: dict[tuple[str, str], int] = {}
        """Ids in the identity graph, and since when."""
        self.ids: list[tuple[str, str, int]] = []
        self.events: list[Event] = []
        self.traits: dict[str, tuple[tuple[int, int, str], Any]] = {}
        self.links: set[str] = set()
        self.computed: dict[str, Any] = {}
        self.inside: dict[str, bool] = {}
        self.instances: list[Any] = []
        self.once: set[str] = set()
        self.recent: list[int] = []
        self.clock = at - 1
        """All that time alone changes has happened up to here."""
        self.tied = False
        """Time and an input met in one instant: in what order things were told is not known."""


class Oracle:
    """See the module."""

    def __init__(self) -> None:
        self.at = 0
        self.floor = 0
        self.defined = 0
        self.plain: dict[str, Any] = {}
        self.created: dict[str, int] = {}
        self.changed: set[str] = set()
        """Computations that were edited while people were there: their messages are not told."""
        self.births: set[tuple[str, int]] = set()
        self.twins: set[str] = set()
        """Computations taken away and brought back in one instant: not told apart."""
        self.order: list[str] = []
        self.seen: dict[str, tuple[int, int]] = {}
        self.poison: dict[str, list[Any]] = {}
        self.counts: Counter[str] = Counter()
        self.people: dict[str, Person] = {}
        self.accounts: dict[str, dict[str, Any]] = {}
        self.owner: dict[tuple[str, str], str] = {}
        self.messages: list[tuple[str, str, Any]] = []
        """(destination, queue, what is told), in order."""
        self.calls: list[tuple[int, str, str, str]] = []
        """(instant, source, userId, anonymousId) of all that counts for usage."""
        self.journeys = Journeys(self.tell, self.bearer)

    # ---- the log -------------------------------------------------------------------------------
    def record(self, offset: int, value: bytes) -> None:
        """Take in the next record."""
        version, kind, at, items = msgspec.msgpack.decode(value)
        assert version == 1
        self.at = max(self.floor, at)
        for index, item in enumerate(items):
            if kind == "event":
                self.counts["logged"] += 1
                self.event(item, f"{offset}.{index}")
            elif kind == "redrive" and item[0] in self.poison:
                self.counts["set_aside"] -= 1
                self.event(self.poison.pop(item[0]), item[0], again=True)
            elif kind == "define":
                self.define(json.loads(item[0]))
            elif kind == "tick":
                for person in self.living():
                    self.advance(person, self.at + 1, ticking=True)
        self.floor = self.at + 1 if kind == "tick" else self.at

    def living(self) -> list[Person]:
        return [person for person in self.people.values() if not person.survivor]

    def define(self, plain: dict[str, Any]) -> None:
        self.defined += 1
        before, self.plain = self.plain, plain
        computations = {**plain["computed_traits"], **plain["audiences"]}
        old = {**before.get("computed_traits", {}), **before.get("audiences", {})}
        again = {key for key in computations if key not in self.created}
        self.twins |= {key for key in again if (key, self.at) in self.births}
        self.births |= {(key, self.at) for key in again}
        self.created = {key: self.created.get(key, self.at) for key in computations}
        if before:
            self.changed |= {k for k in {*old, *computations} if old.get(k) != computations.get(k)}
        depth: dict[str, int] = {}
        while len(depth) < len(plain["audiences"]):
            for key, audience in plain["audiences"].items():
                needs = [one for one in self.references(audience["where"])
                         if one in plain["audiences"]]  # fmt: skip
                if all(need in depth for need in needs):
                    depth[key] = 1 + max((depth[need] for need in needs), default=0)
        for key in sorted(depth, key=lambda key: depth[key]):
            if self.references(plain["audiences"][key]["where"]) & self.changed:
                self.changed.add(key)
        audiences = sorted(depth, key=lambda key: (depth[key], key))
        self.order = [*sorted(plain["computed_traits"]), *audiences]
        self.journeys.define(plain["journeys"])
        self.offsets = sorted({
            millis(one)
            for windowed in self.windows(computations)
            for one in ([windowed["within"]] if "within" in windowed else windowed["between"])
        })  # fmt: skip

    def windows(self, node: Any) -> list[dict[str, Any]]:
        if isinstance(node, list):
            return [found for item in node for found in self.windows(item)]
        if not isinstance(node, dict):
            return []
        mine = [node] if "within" in node or "between" in node else []
        return mine + [found for item in node.values() for found in self.windows(item)]

    def references(self, where: dict[str, Any]) -> set[str]:
        found = set(where.get("trait", ()))
        if "audience" in where:
            found.add(where["audience"])
        for part in (*where.get("all", ()), *where.get("any", ())):
            found |= self.references(part)
        return found | self.references(where["not"]) if "not" in where else found

    # ---- an event ------------------------------------------------------------------------------
    def event(self, item: list[Any], place: str, again: bool = False) -> None:
        source, mid, _, stamp, body = item[:5]
        data = json.loads(body)
        window = millis(self.plain["workspace"]["dedup_window"])
        first = self.seen.get(mid)
        if first is not None and self.at < first[0] + window:
            self.counts["duplicates"] += 1
            return
        event = Event(item, data, self.at)
        ids = self.candidates(data, event.type)
        reason = self.gate(data, event.type)
        poisonous = event.name in ("Poison", "Poison Row") and not again
        if poisonous and not reason and ids:
            self.counts["set_aside"] += 1
            self.poison[place] = item
            return
        self.seen[mid] = (self.at, stamp if first is None else first[1])
        user, anonymous = data.get("userId") or "", data.get("anonymousId") or ""
        self.calls.append((self.at, source, user, anonymous))
        routing = next(
            (id for type in ("anonymous_id", "user_id") for id in ids if id[0] == type),
            ids[0] if ids else None,
        )
        for key, destination in sorted(self.plain["destinations"].items()):
            if source in destination["sources"] and destination["enabled"] and allowed(data):
                queue = f"{routing[0]}:{routing[1]}" if routing else f"message:{mid}"
                self.tell(key, queue, ("event", mid))
        if reason:
            self.counts["filtered"] += 1
        elif not ids:
            self.counts["unresolved"] += 1
        else:
            self.counts["applied"] += 1
            self.resolve(event, ids, None if first is None else first[1])

    def gate(self, data: dict[str, Any], type: str) -> bool:
        if (data.get("integrations") or {}).get("Personas") is False:
            return True
        group = (data.get("context") or {}).get("groupId")
        if type == "group":
            group = data["groupId"]
        if type == "group" or (type == "track" and group is not None):
            size = len(scalar(group).strip())
            if size == 0 or size > 500:
                return True
        return data["timestamp"] < "1970"  # type: ignore[no-any-return]

    def candidates(self, data: dict[str, Any], type: str) -> list[tuple[str, str]]:
        """The identifiers of an event, best first (identity 2, 4.3)."""
        found: list[tuple[str, str]] = []

        def take(type: str, value: Any) -> None:
            text = scalar(value).strip()
            text = text.lower() if type == "email" else text
            blocked = not text.strip("0-") or text.lower() in ("-1", "null", "anonymous")
            if not blocked and (type, text) not in found:
                found.append((type, text))

        take("user_id", data.get("userId"))
        take("anonymous_id", data.get("anonymousId"))
        context = data["context"]
        if type == "identify" and isinstance(data.get("traits"), dict):
            take("email", data["traits"].get("email"))
        if isinstance(context.get("traits"), dict):
            take("email", context["traits"].get("email"))
        device = context.get("device")
        if isinstance(device, dict) and isinstance(device.get("type"), str):
            system = device["type"].lower()
            if system in ("ios", "android"):
                take(f"{system}.id", device.get("id"))
                if device.get("adTrackingEnabled") is True:
                    take(f"{system}.idfa", device.get("advertisingId"))
                take(f"{system}.push_token", device.get("token"))
        google = (context.get("integrations") or {}).get("Google Analytics") or {}
        take("ga_client_id", google.get("clientId"))
        if type in ("track", "page", "screen") and self.plain["identity"]["email_from_properties"]:
            take("email", (data.get("properties") or {}).get("email"))
        entries = context.get("externalIds")
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and entry.keys() >= {"id", "type", "collection", "encoding"}:
                take(entry["type"], entry["id"])
        first = {"user_id": "\0", "email": "\1"}
        return sorted(found, key=lambda id: first.get(id[0], id[0]))

    # ---- identity (section 5) ------------------------------------------------------------------
    def limit(self, type: str) -> tuple[int, int]:
        """How many values, of how long (0: ever)."""
        given = self.plain["identity"]["types"].get(type, {})
        periods = {"ever": 0, "daily": UNITS["d"]}
        limit = given.get("limit") or (1 if type == "user_id" else 5)
        return limit, periods[given.get("per", "ever")]

    def resolve(self, event: Event, ids: list[tuple[str, str]], repeat_of: int | None) -> None:
        ids = list(ids)
        while True:
            matched = self.matched(ids)
            wrong = self.violated(ids)
            if not wrong:
                break
            gone = len(ids) - 1
            if self.plain["identity"]["demotion"] == "targeted":
                for place in reversed(range(len(ids))):
                    if wrong - self.violated(ids[:place] + ids[place + 1 :]):
                        gone = place
                        break
            del ids[gone]
        matched.sort(key=lambda one: (self.people[one].created, one))
        new = [id for id in ids if id not in self.owner]
        if matched:
            person = self.people[matched[0]]
        else:
            id = self.new_id("use_", event.mid, ids[0])
            person = self.people[id] = Person(id, self.at)
        for id in matched[1:]:
            self.merge(person, self.people[id])
        for one in new:
            self.owner[one] = person.id
            person.mapped[one] = self.at
        group = event.data.get("groupId") if event.type == "group" else (
            (event.data.get("context") or {}).get("groupId"))  # fmt: skip
        group = scalar(group).strip()
        known = bool(group) and len(group) <= 500 and bool(group.strip("0-"))
        known = known and group.lower() not in ("-1", "null", "anonymous")
        if known and group not in self.accounts:
            self.accounts[group] = {
                "id": self.new_id("acc_", event.mid, ("group_id", group)),
                "traits": {}, "people": set(), "events": [], "called": False,
            }  # fmt: skip
        self.arrive(person, event, new, group if known else "", repeat_of)
        if known and event.type == "group":
            account = self.accounts[group]
            account["called"] = True
            if not kept(account["events"], event, repeat_of):
                account["events"].append(event)
                account["people"].add(person.id)
                newest(account["traits"], event)

    def matched(self, ids: list[tuple[str, str]]) -> list[str]:
        return list(dict.fromkeys(self.owner[id] for id in ids if id in self.owner))

    def violated(self, ids: list[tuple[str, str]]) -> set[str]:
        """What the person that would result breaks: types, and the system's own limits."""
        matched = [self.people[one] for one in self.matched(ids)]
        would = dict.fromkeys(ids, self.at)
        for person in matched:
            would.update(person.mapped)
        found = set()
        for type in {type for type, _ in would}:
            limit, period = self.limit(type)

            def count(mapped: dict[tuple[str, str], int], type: str = type, p: int = period) -> int:
                return sum(id[0] == type and (not p or at > self.at - p)
                           for id, at in mapped.items())  # fmt: skip

            today = max((count(person.mapped) for person in matched), default=0)
            if count(would) > max(limit, today):
                found.add(type)
        if len(matched) > 1 and sum(one.merges for one in matched) + len(matched) - 1 > 100:
            found.add("merges")
        if len(would) > max(1000, *(len(one.mapped) for one in matched), 0):
            found.add("mappings")
        return found

    @staticmethod
    def new_id(prefix: str, mid: str, id: tuple[str, str]) -> str:
        text = f"default\0{mid}\0{id[0]}\0{id[1]}".encode()
        letters = b64encode(blake2b(text, digest_size=18).digest()).decode()
        return prefix + letters.replace("+", "x").replace("/", "z")

    # ---- a person ------------------------------------------------------------------------------
    def arrive(
        self, person: Person, event: Event, new: list[tuple[str, str]], group: str,
        repeat_of: int | None,
    ) -> None:  # fmt: skip
        self.advance(person, self.at)
        if kept(person.events, event, repeat_of):
            person.ids += [(*id, self.at) for id in new]
            if new:
                self.look(person, self.at)
            return
        pro_before = person.inside.get("pro", False)
        person.tied |= self.at in self.instants(person)
        person.events.append(event)
        if event.type == "identify":
            newest(person.traits, event)
        if group:
            person.links.add(self.accounts[group]["id"])
        person.ids += [(*id, self.at) for id in new]
        self.look(person, self.at)
        person.clock = self.at - 1
        if event.name is not None:
            self.journeys.offer(person, event, self.at, pro_before)

    def merge(self, survivor: Person, loser: Person) -> None:
        self.advance(loser, self.at)
        self.advance(survivor, self.at)
        events = (list(survivor.events), list(loser.events))
        loser.survivor = survivor.id
        survivor.merges += loser.merges + 1
        for id in loser.mapped:
            self.owner[id] = survivor.id
        survivor.mapped |= loser.mapped
        all_ids = sorted({*survivor.ids, *loser.ids}, key=lambda id: (id[2], id[0], id[1]))
        bearer, other = survivor, loser
        if bearing(all_ids) in {id[:2] for id in loser.ids}:
            bearer, other = loser, survivor
        announce = {
            key for key in {*survivor.inside, *loser.inside}
            if (survivor.inside.get(key) or loser.inside.get(key)) and not bearer.inside.get(key)
        }  # fmt: skip
        computed = {**dict.fromkeys(other.computed), **bearer.computed}
        survivor.inside = {
            key: bool(survivor.inside.get(key) or loser.inside.get(key))
            for key in {*survivor.inside, *loser.inside}
        }
        survivor.computed = computed
        survivor.ids = all_ids
        survivor.events += loser.events
        survivor.links |= loser.links
        survivor.tied |= loser.tied
        for key, update in loser.traits.items():
            if key not in survivor.traits or survivor.traits[key][0] < update[0]:
                survivor.traits[key] = update
        survivor.tied |= self.at in self.instants(survivor)
        self.look(survivor, self.at, announce)
        survivor.clock = self.at - 1
        self.journeys.unite(survivor, loser, *events, self.at)

    def advance(self, person: Person, before: int, ticking: bool = False) -> None:
        """Let happen what time alone does, up to but without ``before``."""
        now = before - 1 if ticking else before
        while True:
            flip = min(
                (one for one in self.instants(person) if person.clock < one < before), default=None
            )
            due = min((one["due"] for one in person.instances), default=None)
            if due is not None and (due >= before or (not ticking and now - due > 60_000)):
                due = None
            if flip is not None and (due is None or flip <= due):
                self.look(person, flip)
                person.clock = flip
            elif due is not None:
                self.journeys.fire(person, due, now)
            else:
                return

    def instants(self, person: Person) -> list[int]:
        """All instants at which time alone may change something."""
        found = [one.ts + offset for one in person.events for offset in self.offsets]
        for _, value in person.traits.values():
            at = instant(value)
            if at is not None:
                found += [at, at + 3 * UNITS["d"] + 1]
        return found

    def look(self, person: Person, now: int, announce: Any = ()) -> None:
        """Evaluate everything at an instant, and tell what changed."""
        for key in self.order:
            if key in self.plain["computed_traits"]:
                self.look_at_trait(person, key, now)
            else:
                self.look_at_audience(person, key, now, announce)

    def look_at_trait(self, person: Person, key: str, now: int) -> None:
        definition = self.plain["computed_traits"][key]
        value = self.value(person, key, definition, now)
        before = person.computed.get(key, ABSENT)
        if before is ABSENT:
            if value is None or (definition["type"] == "count" and value == 0):
                return
        elif before == value and (type(before) is bool) == (type(value) is bool):
            return
        person.computed[key] = value
        for connection in definition["destinations"]:
            self.tell(connection["to"], person.id, ("trait", key, value, self.bearer(person)))

    def look_at_audience(self, person: Person, key: str, now: int, announce: Any) -> None:
        definition = self.plain["audiences"][key]
        allowed = {"user_id", "email", "android.idfa", "ios.idfa"}
        if definition["include_anonymous"]:
            allowed.add("anonymous_id")
        inside = any(id[0] in allowed for id in person.ids) and self.holds(
            person, key, definition["where"], now
        )
        was = person.inside.get(key, False)
        if inside == was and not (inside and key in announce):
            return
        person.inside[key] = inside
        for connection in definition["destinations"]:
            what = "enter" if inside else "exit"
            self.tell(connection["to"], person.id, ("audience", key, what, self.bearer(person)))

    def holds(self, person: Person, key: str, where: dict[str, Any], now: int) -> bool:
        if "all" in where:
            return all(self.holds(person, key, part, now) for part in where["all"])
        if "any" in where:
            return any(self.holds(person, key, part, now) for part in where["any"])
        if "not" in where:
            return not self.holds(person, key, where["not"], now)
        if "audience" in where:
            return person.inside.get(where["audience"], False)
        if "trait" in where:
            return all(self.trait(person, *one, now) for one in where["trait"].items())
        asked = where["performed"]
        times = len(self.counting(person, key, asked, asked, now))
        if "exactly" in asked:
            return times == asked["exactly"]  # type: ignore[no-any-return]
        if "at_most" in asked:
            return times <= asked["at_most"]  # type: ignore[no-any-return]
        return times >= asked.get("at_least", 1)  # type: ignore[no-any-return]

    def trait(self, person: Person, key: str, asked: dict[str, Any], now: int) -> bool:
        if key in self.plain["computed_traits"]:
            value = person.computed.get(key)
        else:
            value = person.traits.get(key, (None, None))[1]
        if "one_of" in asked:
            return isinstance(value, str) and value in asked["one_of"]
        if "within_last" in asked:
            at = instant(value)
            return at is not None and now - millis(asked["within_last"]) <= at <= now
        figure = number(value)
        return figure is not None and figure >= asked["gte"]

    def counting(
        self, person: Person, key: str, asked: dict[str, Any], window: dict[str, Any], now: int
    ) -> list[Event]:
        """The events that a question is about, at an instant."""
        low, high = None, None
        if "within" in window:
            high = millis(window["within"])
        elif "between" in window:
            low, high = map(millis, window["between"])
        history = self.plain["audiences"].get(key, {}).get("history", True)
        lookback = millis(history) if isinstance(history, str) else THREE_YEARS
        floor = 0
        if history is not False and (high is None or high > lookback):
            floor = max(self.created[key] - lookback, 0)
        since = self.created[key] if history is False else 0
        where = asked.get("where", {})
        return [
            one for one in person.events
            if one.name == asked["event"] and one.ts >= floor and one.at >= since
            and one.source not in asked.get("exclude_sources", ())
            and all(one.properties.get(name) == wanted["equals"] for name, wanted in where.items())
            and (low is None or now >= one.ts + low) and (high is None or now < one.ts + high)
        ]  # fmt: skip

    def value(self, person: Person, key: str, definition: dict[str, Any], now: int) -> Any:
        events = self.counting(person, key, definition, definition.get("window") or {}, now)
        kind = definition["type"]
        if kind == "count":
            return len(events)
        events.sort(key=lambda one: (one.ts, one.mid))
        values = [
            value for one in events
            if (value := one.properties.get(definition["property"])) is not None
        ]  # fmt: skip
        if kind == "sum":
            figures = [figure for one in values if (figure := number(one)) is not None]
            return shown(sum(figures, Fraction(0))) if figures else None
        if not values:
            return None
        if kind == "unique_list":
            return sorted({repr(one): one for one in map(whole, values)}.values(), key=place)
        return values[0] if kind == "first" else values[-1]

    # ---- messages ------------------------------------------------------------------------------
    def tell(self, destination: str, queue: str, what: Any) -> None:
        if self.plain["destinations"][destination]["enabled"]:
            self.messages.append((destination, queue, what))

    def bearer(self, person: Person) -> tuple[str, str]:
        return bearing(person.ids)

    # ---- usage (governance 7) ------------------------------------------------------------------
    def usage(self) -> dict[str, Any]:
        """Month -> counts, of all sources and of each."""
        found: dict[str, Any] = {}
        for month in sorted({month_of(at) for at, *_ in self.calls}):
            calls = [call for call in self.calls if month_of(call[0]) == month]
            found[month] = {
                "all": tracked(calls),
                **{source: tracked([call for call in calls if call[1] == source])
                   for source in sorted({call[1] for call in calls})},
            }  # fmt: skip
        return found


def kept(events: list[Event], event: Event, repeat_of: int | None) -> bool:
    """Whether a history holds an event that is sent again, after the window, already."""
    return repeat_of is not None and any(
        one.mid == event.mid and one.stamp in (event.stamp, repeat_of) for one in events
    )


def tracked(calls: list[tuple[int, str, str, str]]) -> dict[str, int]:
    users = {user for _, _, user, _ in calls if user}
    anonymous = {one for _, _, _, one in calls if one}
    linked = {one for _, _, user, one in calls if one and user}
    never = len(anonymous - linked)
    return {"mtu": len(users) + never, "identified": len(users), "anonymous": len(anonymous),
            "anonymous_identified": len(linked), "never_identified": never,
            "api_calls": len(calls)}  # fmt: skip


def month_of(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m")


def newest(traits: dict[str, Any], event: Event) -> None:
    order = (event.stamp, event.received, event.mid)
    sent = event.data.get("traits")
    for key, value in sent.items() if isinstance(sent, dict) else ():
        if key not in traits or traits[key][0] < order:
            traits[key] = (order, value)


def bearing(ids: Any) -> tuple[str, str]:
    """The id that messages bear: the user id added last, else the anonymous id added last."""
    for type in ("user_id", "anonymous_id"):
        found = [id for id in ids if id[0] == type]
        if found:
            latest = max(id[2] for id in found)
            return [id[:2] for id in found if id[2] == latest][-1]
    return ("", "")


def allowed(data: dict[str, Any]) -> bool:
    wanted = data.get("integrations") or {}
    own = wanted.get("Webhook")
    if isinstance(own, dict):
        return True
    return own if isinstance(own, bool) else wanted.get("All") is not False


def scalar(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def number(value: Any) -> Fraction | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (len(value) > 40 or value != value.strip() or "/" in value):
        return None
    try:
        return Fraction(value if isinstance(value, str) else repr(value))
    except ValueError:
        return None


def instant(value: Any) -> int | None:
    """A date is its 00:00 UTC; a time without a zone is nothing."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    if len(value) == 10:
        at = at.replace(tzinfo=UTC)
    return None if at.tzinfo is None else int(at.timestamp() * 1000)


def shown(figure: Fraction) -> int | float:
    if figure.denominator == 1 and abs(figure) < 1 << 63:
        return int(figure)
    try:
        return float(figure)
    except OverflowError:
        return float("inf")


def whole(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def place(value: Any) -> tuple[str, str]:
    text = value if isinstance(value, str) else json.dumps(value)
    return (text, type(value).__name__)
