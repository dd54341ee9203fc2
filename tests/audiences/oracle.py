"""Audiences by brute force: every event looked at again for every question. Shares no code."""

from fractions import Fraction

UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def span(text):
    return int(text[:-1]) * UNITS[text[-1]]


def spelled(value):
    return str(int(value)) if value == int(value) else str(value)


def counts(definition, event, now):
    """Return whether the event counts at this instant; the tests use `equals` only."""
    if event.name != definition["event"] or event.source in definition.get("exclude_sources", ()):
        return False
    for key, asked in definition.get("where", {}).items():
        if "equals" in asked and event.properties.get(key) != asked["equals"]:
            return False
        if "within_next" in asked:
            due = event.properties.get(key)
            if due is None or not now <= due <= now + span(asked["within_next"]):
                return False
    window = definition.get("window", definition)
    age = now - event.timestamp_ms
    if "within" in window:
        return age < span(window["within"])
    if "between" in window:
        low, high = map(span, window["between"])
        return low <= age < high
    return True


def performed(definition, events, now):
    times = sum(counts(definition, event, now) for event in events)
    if "exactly" in definition:
        return times == definition["exactly"]
    if "at_most" in definition:
        return times <= definition["at_most"]
    return times >= definition.get("at_least", 1)


def computed(definition, events, now):
    found = sorted(
        (event for event in events if counts(definition, event, now)),
        key=lambda event: (event.timestamp_ms, event.message_id),
    )
    kind = definition["type"]
    if kind == "count":
        return len(found)
    values = [event.properties.get(definition["property"]) for event in found]
    values = [value for value in values if value is not None]
    if not values:
        return None
    if kind == "first":
        return values[0]
    if kind == "last":
        return values[-1]
    if kind == "unique_list":
        return sorted(set(values), key=spelled)
    if kind == "unique_count":
        return len(set(values))
    if kind == "most_frequent":
        best = min(set(values), key=lambda value: (-values.count(value), spelled(value)))
        return spelled(best) if values.count(best) >= definition.get("min_frequency", 2) else None
    if kind in ("min", "max"):
        return {"min": min, "max": max}[kind](values)
    total = sum(Fraction(repr(value)) for value in values)
    result = total if kind == "sum" else total / len(values)
    return int(result) if result.denominator == 1 else float(result)


def holds(where, events, now):
    if "all" in where:
        return all(holds(part, events, now) for part in where["all"])
    if "any" in where:
        return any(holds(part, events, now) for part in where["any"])
    if "not" in where:
        return not holds(where["not"], events, now)
    return performed(where["performed"], events, now)
