"""All journeys made ready for use, those that are only finished too, with an index by event.

An edited journey is a new version; instances inside finish on theirs (journeys L1), so a plan
holds the current definitions and those older versions that somebody may still be in.
"""

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from events.durations import millis
from events.event import Seen
from events.filters import Filter
from journeys import conditions
from journeys.calls import Call
from journeys.catalogue import KINDS
from journeys.conditions import Condition, Test
from journeys.definition import ExitEvent, Journey, version_of
from journeys.instance import Instance
from journeys.keys import key_of
from journeys.kind import Setting, Step
from journeys.steps import send

EXIT = ":exit"
"""Stands for a step in the ids of an exit's messages; no step can be called so."""


class Exit(Struct, frozen=True):
    """An exit event made ready; ``call`` None: it sends nothing."""

    event: str
    filter: Filter
    match_key: str | None
    call: Call | None

    def matches(self, instance: Instance, event: Seen, now_ms: int) -> bool:
        """Return whether the event, of this name, ends the instance (X1, X6)."""
        if self.match_key is not None and key_of(event, self.match_key) != instance.key:
            return False
        return self.filter.test(event.properties, event.context, now_ms)


class Ready(Struct, frozen=True):
    """A version of a journey made ready for use."""

    key: str
    version: str
    event: str
    filter: Filter
    audience: Test | None
    once: bool
    key_property: str | None
    max_entry_age_ms: int
    exits: dict[str, tuple[Exit, ...]]
    steps: dict[str, Step]
    listens: frozenset[str]
    """All events that start, end or move its instances."""


class Plan(Struct, frozen=True):
    """What handlers ask: which journeys an event starts, and how any instance goes on."""

    space: str
    starts: dict[str, tuple[Ready, ...]]
    """Event -> the current journeys that it starts, by key."""
    events: frozenset[str]
    """All events that any version in the plan looks at; for others nothing needs to be asked."""
    versions: dict[tuple[str, str], Ready]
    current: dict[str, str]
    """Journey -> its current version."""


def compile_plan(
    current: Mapping[str, Journey],
    older: Mapping[tuple[str, str], Journey] | None = None,
    space: str = "default",
) -> Plan:
    """Return the plan of checked definitions; ``older`` are versions that somebody may be in,
    by (journey, version).

    Instances of any other version end silently when they are next looked at.
    """
    versions = {
        (key, version): compiled(space, key, version, journey)
        for (key, version), journey in sorted((older or {}).items())
    }
    now = {key: version_of(journey) for key, journey in sorted(current.items())}
    for key, version in now.items():
        versions[key, version] = compiled(space, key, version, current[key])
    starts: dict[str, tuple[Ready, ...]] = {}
    for key, version in now.items():
        ready = versions[key, version]
        starts[ready.event] = (*starts.get(ready.event, ()), ready)
    events = frozenset().union(*(ready.listens for ready in versions.values()))
    # Older versions start nobody: their trigger alone is no reason to look.
    return Plan(space, starts, events, versions, now)


def context_names(journey: Journey) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return all names that a journey's context can hold, and the events that are used again.

    An event that occurs more than once among the entry and the branches of holds enters the
    context as `<event> - <branch>` (C2).
    """
    branches = [
        (name, branch.event)
        for step in journey.steps.values()
        if step.hold_until
        for name, branch in step.hold_until.branches.items()
    ]
    entry = journey.entry.event or ""
    uses = Counter([entry, *(event for _, event in branches)])
    reused = frozenset(event for event, count in uses.items() if count > 1)
    names = {f"{event} - {name}" if event in reused else event for name, event in branches}
    return (tuple(sorted({entry, *names})), reused)


def compiled(space: str, key: str, version: str, journey: Journey) -> Ready:
    """Return one version of a journey, made ready for use."""
    names, reused = context_names(journey)
    setting = Setting(space, key, names, reused)
    steps: dict[str, Step] = {}
    for id, step in journey.steps.items():
        ((kind, definition),) = step.given()
        steps[id] = KINDS[kind].ready(setting, id, definition, step.next or "")
    entry = journey.entry
    exits = _exits(setting, journey)
    assert entry.event, "problems() asks for it"
    return Ready(
        key=key,
        version=version,
        event=entry.event,
        filter=Filter(entry.where),
        audience=conditions.ready(filter_of(entry.audience), names, before=True)
        if entry.audience
        else None,
        once=entry.re_enter == "once",
        key_property=entry.key or None,
        max_entry_age_ms=millis(entry.max_entry_age),
        exits=exits,
        steps=steps,
        listens=frozenset({entry.event, *exits}).union(*(one.listens for one in steps.values())),
    )


def filter_of(audience: str | Condition) -> Condition:
    """Return an entry's audience filter as a condition: a text alone is an audience's key."""
    return Condition(audience=audience) if isinstance(audience, str) else audience


def _exits(setting: Setting, journey: Journey) -> dict[str, tuple[Exit, ...]]:
    rules = journey.exit_rules
    if not rules:
        return {}
    call = None
    if rules.send:
        event = rules.send.event or f"{journey.name or setting.journey} exited"
        names = tuple(sorted({*setting.names, *(rule.event for rule in rules.events)}))
        call = send.call(replace(setting, names=names), EXIT, rules.send, event, "exit")
    found: dict[str, tuple[Exit, ...]] = {}
    for rule in rules.events:
        found[rule.event] = (*found.get(rule.event, ()), _exit(rule, journey, call))
    return found


def _exit(rule: ExitEvent, journey: Journey, call: Call | None) -> Exit:
    rules = journey.exit_rules
    silent = rules and rules.send and rules.send.when and rule.event not in rules.send.when
    return Exit(
        rule.event, Filter(rule.where), rule.match_key or None, None if silent else call
    )
