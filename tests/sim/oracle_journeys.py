"""The oracle's part for journeys: those of the simulator's workspace, each step in plain words.

An instance is a dict. Kinds of steps: hold_until, delay, send, split on a number in the context.
Rules: journeys V1 to V8, H2 to H8, D1, S1, X1 to X7, T3 to T7, G1 to G8.
"""

from typing import Any

MINUTE, DAY = 60_000, 86_400_000
UNITS = {"m": MINUTE, "h": 60 * MINUTE, "d": DAY}


def millis(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1]]


class Journeys:
    def __init__(self, tell: Any, bearer: Any) -> None:
        self.tell = tell
        self.bearer = bearer
        self.current: dict[str, Any] = {}
        self.names: set[str] = set()
        """All events that any definition ever looked at."""

    def define(self, plain: dict[str, Any]) -> None:
        self.current = plain
        for journey in plain.values():
            self.names.add(journey["entry"]["event"])
            for rule in (journey.get("exit_rules") or {"events": []})["events"]:
                self.names.add(rule["event"])
            for step in journey["steps"].values():
                for branch in step.get("hold_until", {}).get("branches", {}).values():
                    self.names.add(branch["event"])

    # ---- inputs --------------------------------------------------------------------------------
    def offer(self, person: Any, event: Any, now: int, pro_before: bool) -> None:
        """An event: exits, then holds, then entries."""
        if event.name not in self.names:
            return
        person.recent = [one for one in person.recent if now - one < 1000]
        if len(person.recent) >= 25:
            return
        acted = False
        for instance in list(person.instances):
            acted |= self.exit(person, instance, event, now)
        active = [(one["key"], one["value"]) for one in person.instances]
        for instance in list(person.instances):
            if (
                event.ts >= instance["entry ts"] and event.at <= instance["due"]
                and event.mid not in (instance["entry mid"], instance["last mid"])
            ):  # fmt: skip
                acted |= self.meet(person, instance, event, now)
        for key, journey in sorted(self.current.items()):
            entry = journey["entry"]
            if entry["event"] != event.name or not fits(event, entry["where"]):
                continue
            if entry.get("audience") and pro_before:
                continue
            value = key_of(event, entry["key"]) if "key" in entry else ""
            once = entry["re_enter"] == "once"
            if now - event.ts > millis(entry["max_entry_age"]) or value is None:
                continue
            if (once and key in person.once) or (key, value) in active:
                continue
            if len(person.instances) >= 25:
                continue
            if once:
                person.once.add(key)
            instance = {
                "key": key, "journey": journey, "value": value, "entered": now,
                "entry ts": event.ts, "entry mid": event.mid, "last mid": "", "step": "",
                "arrived": now, "due": 0, "context": {event.name: event.properties}, "restarts": 0,
            }  # fmt: skip
            person.instances.append(instance)
            self.arrive(person, instance, "start", now)
            acted = True
        if acted:
            person.recent.append(now)

    def fire(self, person: Any, due: int, now: int) -> None:
        """Timers due up to an instant, at the instant of the input that lets them fire."""
        late = [one for one in person.instances if one["due"] <= due]
        for instance in sorted(late, key=lambda one: one["due"]):
            if now >= instance["entered"] + 365 * DAY:
                end(person, instance)
                continue
            step = instance["journey"]["steps"][instance["step"]]
            hold = step.get("hold_until")
            self.arrive(person, instance, hold["timeout"] if hold else step["next"], now)

    def unite(
        self, survivor: Any, loser: Any, ours: list[Any], theirs: list[Any], now: int
    ) -> None:
        """Two people become one: the earlier instance stays, then each side's events are offered
        to the other side's instances."""
        if not (survivor.instances or survivor.once or survivor.recent
                or loser.instances or loser.once or loser.recent):  # fmt: skip
            return
        sides = (list(survivor.instances), list(loser.instances))
        survivor.once |= loser.once
        survivor.recent = sorted([*survivor.recent, *loser.recent])[-25:]
        taken = set()
        kept = []
        for instance in sorted([*sides[0], *sides[1]], key=lambda one: one["entered"]):
            once = instance["journey"]["entry"]["re_enter"] == "once"
            place = (instance["key"], "" if once else instance["value"])
            if place not in taken:
                kept.append(instance)
            taken.add(place)
        survivor.instances = kept
        offered = []
        for side, events in ((0, theirs), (1, ours)):
            for event in events:
                if event.name in self.names:
                    offered.append(((event.ts, event.at, event.mid), side, event))
        for _, side, event in sorted(offered, key=lambda one: one[:2]):
            for instance in list(survivor.instances):
                if not any(instance is one for one in sides[side]):
                    continue
                if event.ts <= instance["entry ts"] or self.exit(survivor, instance, event, now):
                    continue
                if event.ts >= instance["arrived"] and event.at <= instance["due"]:
                    self.meet(survivor, instance, event, now)

    # ---- an instance ---------------------------------------------------------------------------
    def exit(self, person: Any, instance: Any, event: Any, now: int) -> bool:
        rules = instance["journey"].get("exit_rules")
        for rule in rules["events"] if rules else ():
            if rule["event"] != event.name or not fits(event, rule["where"]):
                continue
            if "match_key" in rule and key_of(event, rule["match_key"]) != instance["value"]:
                continue
            end(person, instance)
            if rules.get("send"):
                context = {**instance["context"], event.name: event.properties}
                self.send(person, rules["send"], context)
            return True
        return False

    def meet(self, person: Any, instance: Any, event: Any, now: int) -> bool:
        hold = instance["journey"]["steps"][instance["step"]].get("hold_until")
        for name, branch in sorted(hold["branches"].items()) if hold else ():
            if branch["event"] != event.name or not fits(event, branch["where"]):
                continue
            if "key" in branch and key_of(event, branch["key"]) != instance["value"]:
                continue
            instance["last mid"] = event.mid
            if branch.get("restart") and instance["restarts"] >= 100:
                self.arrive(person, instance, hold["timeout"], now)
                return True
            again = event.name == instance["journey"]["entry"]["event"]
            kept = f"{event.name} - {name}" if again else event.name
            instance["context"] = {**instance["context"], kept: event.properties}
            if branch.get("restart"):
                instance["restarts"] += 1
                self.wait(instance, now + millis(hold["max"]))
            else:
                self.arrive(person, instance, branch["next"], now)
            return True
        return False

    def arrive(self, person: Any, instance: Any, step: str, now: int) -> None:
        while step != "end":
            instance["step"], instance["arrived"] = step, now
            definition = instance["journey"]["steps"][step]
            if "hold_until" in definition:
                self.wait(instance, now + millis(definition["hold_until"]["max"]))
                return
            if "delay" in definition:
                self.wait(instance, now + millis(definition["delay"]["for"]))
                return
            if "send" in definition:
                self.send(person, definition["send"], instance["context"])
                step = definition["next"]
            else:
                split = definition["split"]
                step = split["else"]
                for branch in split["branches"]:
                    ((path, asked),) = branch["when"]["context"].items()
                    name, property = path.split(".")
                    value = figure(instance["context"].get(name, {}).get(property))
                    if value is not None and value >= asked["gte"]:
                        step = branch["next"]
                        break
        end(person, instance)

    @staticmethod
    def wait(instance: Any, until: int) -> None:
        instance["due"] = min(until, instance["entered"] + 365 * DAY)

    def send(self, person: Any, send: Any, context: Any) -> None:
        traits = {}
        for key in send["traits"]:
            value = person.traits.get(key, (None, None))[1]
            if value is not None:
                traits[key] = value
        for destination in send["to"]:
            what = ("journey", send["event"], context, traits, self.bearer(person))
            self.tell(destination, person.id, what)


def end(person: Any, instance: Any) -> None:
    person.instances = [one for one in person.instances if one is not instance]


def fits(event: Any, where: dict[str, Any]) -> bool:
    """`gt` is all that these journeys ask."""
    for property, asked in where.items():
        value = figure(event.properties.get(property))
        if value is None or not value > asked["gt"]:
            return False
    return True


def figure(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def key_of(event: Any, property: str) -> str | None:
    value = event.properties.get(property)
    if value is None or isinstance(value, dict | list) or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
