"""What is wrong in a journey beyond its shape: its graph, names, limits, references (Y1, Y3 to Y6).

Paths count from the definition down; the workspace adds file, line and column.
"""

from collections.abc import Iterable, Mapping

from msgspec import UNSET, Struct
from msgspec.structs import replace

from events.durations import millis
from events.operators import Trouble
from journeys import conditions, limits
from journeys.catalogue import KINDS
from journeys.conditions import in_context
from journeys.definition import Entry, ExitRules, Journey, Step
from journeys.kind import END, Edge, Read, References
from journeys.plan import context_names, filter_of
from journeys.steps import send

NOT_YET = "not supported yet"
START = "start"

_At = tuple[str | int, ...]


def problems(key: str, journey: Journey, references: References) -> list[Trouble]:
    """Return what is wrong in a journey: (keys from the definition down, what, how to mend it).

    ``references`` needs the workspace's audiences and destinations, also those with problems of
    their own. Rule: journeys Y1, Y3, Y4, Y5, Y6, H4.
    """
    names, _ = context_names(journey)
    around = replace(
        references, names=names, keyed=journey.entry.key is not UNSET,
        every=journey.entry.re_enter == "every",
    )  # fmt: skip
    found = _later(journey)
    if journey.name:
        found += limits.name_problems(("name",), "name", journey.name)
    found += _below(("entry",), _entry(journey.entry, around))
    if journey.exit_rules:
        found += _below(("exit_rules",), _exit_rules(key, journey, journey.exit_rules, around))
    for id, step in journey.steps.items():
        found += _below(("steps", id), _step(id, step, around))
    found += _branch_names(journey)
    graph = _Graph(journey)
    return found + graph.problems() + _availability(journey, graph, warn=False)


def warnings(journey: Journey) -> list[Trouble]:
    """Return what is legal but hardly meant: exits of all keys, context that may be missing.

    Rule: journeys Y4, Y5.
    """
    found: list[Trouble] = []
    if journey.exit_rules and journey.entry.re_enter == "every":
        for place, rule in enumerate(journey.exit_rules.events):
            if rule.match_key is UNSET and not rule.any_key:
                what = f"{rule.event} ends all of the person's instances"
                mend = "name the property that equals the key by match_key, or say any_key: true"
                found.append((("exit_rules", "events", place), what, mend))
    return found + _availability(journey, _Graph(journey), warn=True)


def same_names(journeys: Mapping[str, Journey]) -> list[tuple[str, Trouble]]:
    """Return the journeys whose name another one has, by key: names are unique (section 6)."""
    owners: dict[str, str] = {}
    found: list[tuple[str, Trouble]] = []
    for key, journey in sorted(journeys.items()):
        owner = owners.setdefault(journey.name, key) if journey.name else key
        if owner != key:
            what = f'the journey "{owner}" has this name already'
            found.append((key, (("name",), what, "give each its own")))
    return found


# ---- entry, exits, steps -------------------------------------------------------------------------
def _later(journey: Journey) -> list[Trouble]:
    found: list[Trouble] = [
        ((name,), NOT_YET, "leave it out for now")
        for name in ("exit_after", "re_entry_after", "holdout")
        if getattr(journey, name) is not UNSET
    ]
    if journey.version_exclusion is not False:
        found.append((("version_exclusion",), NOT_YET, "leave it out for now"))
    return found


def _entry(entry: Entry, references: References) -> list[Trouble]:
    found: list[Trouble] = []
    if entry.use_history is not UNSET:
        found.append((("use_history",), NOT_YET, "leave it out for now"))
    if entry.event is not UNSET:
        found += limits.name_problems(("event",), "event", entry.event)
    elif entry.audience is not UNSET:
        found.append((("audience",), f"entry by audience is {NOT_YET}", "enter by an event"))
    else:
        found.append(((), "no event", "name the event that starts the journey by event:"))
    found += limits.where_problems((), entry.where)
    if entry.audience is not UNSET and entry.event is not UNSET:
        short = isinstance(entry.audience, str)
        found += [
            (("audience",) if short else ("audience", *at), what, mend)
            for at, what, mend in conditions.problems(
                filter_of(entry.audience), references.audiences, (), only_audiences=True
            )
        ]
    if entry.key is not UNSET:
        found += limits.property_problems(("key",), entry.key)
    elif entry.re_enter == "every":
        what = "no key, though people may enter again"
        found.append(((), what, "name the property that tells entries apart, or re_enter: once"))
    try:
        millis(entry.max_entry_age)
    except ValueError as error:
        found.append((("max_entry_age",), str(error), "give a whole number and a unit"))
    return found


def _exit_rules(
    key: str, journey: Journey, rules: ExitRules, references: References
) -> list[Trouble]:
    events = {rule.event for rule in rules.events}
    found = limits.count_problems(
        ("events",), "exit events", len(rules.events), limits.EXITS_LIMIT)
    if not rules.events:
        found.append((("events",), "no exit events", "name one, or leave exit_rules out"))
    for place, rule in enumerate(rules.events):
        at: _At = ("events", place)
        found += limits.name_problems((*at, "event"), "event", rule.event)
        found += limits.where_problems(at, rule.where)
        if rule.match_key is not UNSET:
            found += limits.property_problems((*at, "match_key"), rule.match_key)
            if not references.keyed:
                mend = "give entry.key, or remove this"
                found.append(((*at, "match_key"), "the entry has no key", mend))
            if rule.any_key:
                mend = "remove one of them"
                found.append(((*at, "any_key"), "both match_key and any_key", mend))
    if not rules.send:
        return found
    names = tuple(sorted({*references.names, *events}))
    found += _below(
        ("send",), send.problems(rules.send, replace(references, names=names), limit=1))
    if rules.send.event is UNSET:
        name = f"{journey.name or key} exited"
        found += limits.name_problems(("send",), "event", name)
    for place, event in enumerate(rules.send.when or ()):
        if event not in events:
            what = f'"{event}" is no exit event here'
            mend = f"exit events are: {', '.join(sorted(events)) or 'none'}"
            found.append((("send", "when", place), what, mend))
    return found


def _step(id: str, step: Step, references: References) -> list[Trouble]:
    found = limits.name_problems((), "step's id", id)
    if id == END:
        found.append(((), f'"{END}" is where paths end', "call the step otherwise"))
    if ":" in id:
        found.append(((), "a step's id holds a colon", "call the step otherwise"))
    given = step.given()
    if len(given) != 1:
        what = "several kinds of step" if given else "no kind of step"
        return [*found, ((), what, f"give exactly one of {', '.join(KINDS)}")]
    ((name, definition),) = given
    kind = KINDS.get(name)
    if kind is None:
        return [*found, ((name,), NOT_YET, f"steps are: {', '.join(KINDS)}")]
    found += _below((name,), kind.problems(definition, references))
    if kind.branches and step.next is not UNSET:
        found.append((("next",), f"a {name} goes on by its branches", "remove next"))
    elif not kind.branches and step.next is UNSET:
        found.append(((), "it leads nowhere", f"write next: and a step, or next: {END}"))
    return found


def _branch_names(journey: Journey) -> list[Trouble]:
    found: list[Trouble] = []
    seen: dict[str, str] = {}
    for id, step in journey.steps.items():
        for at, edge in _edges(step):
            if not edge.branch:
                continue
            place: _At = ("steps", id, *at[:-1])
            found += limits.name_problems(place, "branch's name", edge.branch)
            if edge.branch in seen:
                what = f'the step "{seen[edge.branch]}" has a branch "{edge.branch}" already'
                found.append((place, what, "give each branch of a journey its own name"))
            seen.setdefault(edge.branch, id)
    return found


# ---- the graph -----------------------------------------------------------------------------------
def _edges(step: Step) -> list[tuple[_At, Edge]]:
    """Return a step's ways out with the keys, from the step down, where each is written."""
    given = step.given()
    if len(given) != 1 or given[0][0] not in KINDS:
        return []
    ((name, definition),) = given
    kind = KINDS[name]
    if kind.branches:
        return [((name, *edge.at), edge) for edge in kind.edges(definition)]
    return [(("next",), Edge(("next",), step.next))] if step.next else []


def _reads(step: Step) -> list[Read]:
    given = step.given()
    if len(given) != 1 or given[0][0] not in KINDS:
        return []
    ((name, definition),) = given
    return [replace(read, at=(name, *read.at)) for read in KINDS[name].reads(definition)]


class _Known(Struct):
    """The names that the context has on some way to a step, and on all of them."""

    some: frozenset[str]
    all: frozenset[str]


class _Graph:
    """The steps and their edges: what is wrong with them, and an order without cycles."""

    def __init__(self, journey: Journey) -> None:
        self.steps = journey.steps
        self.edges = {id: _edges(step) for id, step in journey.steps.items()}
        self.order: list[str] = []
        """Steps that can be reached, each before those it leads to."""
        self.cycles: list[tuple[str, _At, str]] = []
        self._walk()

    def problems(self) -> list[Trouble]:
        """Return missing, unreachable and cyclic steps, and that there are too many (Y1, Y6)."""
        found = limits.count_problems(("steps",), "steps", len(self.steps), limits.STEPS_LIMIT)
        listed = ", ".join(self.steps) or "none"
        for id, edges in self.edges.items():
            for at, edge in edges:
                if edge.to and edge.to != END and edge.to not in self.steps:
                    what = f'there is no step "{edge.to}"'
                    found.append((("steps", id, *at), what, f"steps are: {listed}, or {END}"))
        for id, at, to in self.cycles:
            what = f'it leads back to "{to}"'
            found.append((("steps", id, *at), what, "lead to a later step: paths have no cycles"))
        if START not in self.steps:
            return [*found, (("steps",), f'there is no step "{START}"', "call the first step so")]
        if found or not all(self.edges.values()):
            return found  # what an edge should lead to is not known, so neither what is cut off
        reached = set(self.order)
        for id in self.steps:
            if id not in reached:
                what = f'no path leads to the step "{id}"'
                found.append((("steps", id), what, "lead to it, or remove it"))
        return found

    def _walk(self) -> None:
        """Walk depth first from the start, without recursion into Python's limits."""
        if START not in self.steps:
            return
        done: set[str] = set()
        inside: set[str] = {START}
        stack = [(START, iter(self.edges[START]))]
        while stack:
            id, edges = stack[-1]
            for at, edge in edges:
                if edge.to not in self.steps or edge.to in done:
                    continue
                if edge.to in inside:
                    self.cycles.append((id, at, edge.to))
                    continue
                inside.add(edge.to)
                stack.append((edge.to, iter(self.edges[edge.to])))
                break
            else:
                stack.pop()
                inside.discard(id)
                done.add(id)
                self.order.insert(0, id)


def _availability(journey: Journey, graph: _Graph, *, warn: bool) -> list[Trouble]:
    """Return context paths that no way to their step collects; with ``warn`` those that some way
    does not (Y5)."""
    if graph.cycles or not graph.order:
        return []
    names, reused = context_names(journey)
    listed = ", ".join(names)
    found: list[Trouble] = []
    for id, known in _known(journey, graph, reused).items():
        for read in _reads(journey.steps[id]):
            name = _name(read.path, names)
            at: _At = ("steps", id, *read.at)
            if name is None:
                continue
            if name not in known.some and not warn:
                what = f'"{name}" is collected on no way to this step'
                found.append((at, what, f"this journey collects: {listed}"))
            elif name in known.some and name not in known.all and warn and not read.optional:
                what = f'"{name}" is not collected on every way to this step'
                found.append((at, what, "where it is missing, this is false or null"))
    rules = journey.exit_rules
    if rules and rules.send and not warn:
        events = sorted({rule.event for rule in rules.events})
        for read in send.reads(rules.send):
            name = _name(read.path, (*names, *events))
            if name is not None and name not in names and name not in events:
                what = f'"{name}" is never collected'
                mend = f"this journey collects: {', '.join((*names, *events))}"
                found.append((("exit_rules", "send", *read.at), what, mend))
    return found


def _name(path: str, names: Iterable[str]) -> str | None:
    try:
        return in_context(path, names)[0]
    except ValueError:  # an empty step of the path: reported where the path stands
        return None


def _known(journey: Journey, graph: _Graph, reused: frozenset[str]) -> dict[str, _Known]:
    entry = frozenset({journey.entry.event or ""})
    known = {START: _Known(entry, entry)}
    for id in graph.order:
        here = known[id]
        # A restart leads nowhere, but what it collected may be there on every way out.
        again = {_alias(edge, reused) for _, edge in graph.edges[id] if edge.event and not edge.to}
        for _, edge in graph.edges[id]:
            if edge.to not in graph.steps:
                continue
            added = {_alias(edge, reused)} if edge.event else set()
            some, every = here.some | again | added, here.all | added
            before = known.get(edge.to)
            if before is not None:
                some, every = some | before.some, every & before.all
            known[edge.to] = _Known(some, every)
    return known


def _alias(edge: Edge, reused: frozenset[str]) -> str:
    return f"{edge.event} - {edge.branch}" if edge.event in reused else edge.event


def _below(keys: _At, found: list[Trouble]) -> list[Trouble]:
    return [((*keys, *at), what, mend) for at, what, mend in found]

