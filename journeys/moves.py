"""What an event, a timer or a merge does to a person's journeys.

The caller keeps `Running` and asks in the order of journeys T4: for an input at an instant,

1. `fire` the timers due strictly before it, the earliest first; a tie belongs to the input (T3).
   When the earliest is overdue by more than `OVERDUE_MS`, none is fired: they wait for the tick
   behind the backlog, and exit events that still lie in the log win (T7).
2. apply the event to the profile, its computed traits, its audiences.
3. `offer` it, when `plan.events` has its name.

At a tick, timers due at or before it fire, the earliest first. None as an answer: nothing changed.
"""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from events.event import Seen
from journeys.instance import (
    EVENTS_LIMIT,
    INSTANCES_LIMIT,
    LIFE_MS,
    NOTHING,
    Instance,
    Running,
    instance_id,
    next_due,
)
from journeys.keys import key_of
from journeys.kind import END, Again, Emit, Go, Send, Wait
from journeys.plan import Exit, Plan, Ready
from journeys.view import View

OVERDUE_MS = 60_000

SECOND_MS = 1000

Count = tuple[str, str, str, str]
"""Journey, version, step (empty: the journey itself), what.

Of a journey: ``entered`` = in progress + ``completed`` + ``exited`` + ``merged_duplicate`` +
``expired`` + ``stopped`` (the version is gone); ``exit:EVENT``; ``refused:`` and ``no_key``,
``too_old``, ``once``, ``instances_limit``, ``rate_limited``.
Of a step: ``arrived`` - ``left`` = waiting there; the ways taken, ``branch:NAME``, ``timeout``
or ``else``; ``restarted``, ``exited``, ``sent``, ``payload_too_large``.
"""


class Outcome(Struct, frozen=True, gc=False):
    """What changed: ``running`` to keep (None: nothing to keep any more), messages in order,
    what is to be counted, and the earliest timer (0: none)."""

    running: Running | None
    sends: tuple[Send, ...]
    counts: tuple[Count, ...]
    due_ms: int


def offer(
    plan: Plan, running: Running | None, event: Seen, person: View, now_ms: int
) -> Outcome | None:
    """Return what an event does: exit rules, then hold branches, then entries; None: nothing.

    ``now_ms`` is the event's ``at_ms``. Each instance takes an event once (V7), one that just
    started does not see its own. More than 25 events in a second are dropped (section 6).
    Rule: journeys V1 to V8, H2 to H8, X1 to X7, T4.
    """
    starts = plan.starts.get(event.name)
    if starts is None and (running is None or not running.instances):
        return None
    turn = _Turn(plan, running, person, now_ms)
    turn.exit(event)
    active = {(one.journey, one.key) for one in turn.instances}
    turn.move(event)
    if starts is not None:
        turn.enter(event, starts, active)
    if not turn.counts:
        return None
    if len(turn.recent) >= EVENTS_LIMIT:
        return _dropped(running, turn)
    if turn.acted:
        turn.recent = (*turn.recent, now_ms)
    return turn.outcome()


def fire(
    plan: Plan, running: Running | None, person: View, due_ms: int, now_ms: int
) -> Outcome | None:
    """Return what the timers due at or before ``due_ms`` do, the earliest first; None: nothing.

    ``now_ms`` is the logged instant of firing, from which later delays count (T6).
    Rule: journeys D1, D5, H2, T6.
    """
    if running is None or not 0 < next_due(running) <= due_ms:
        return None
    turn = _Turn(plan, running, person, now_ms)
    late = [one for one in turn.instances if one.due_ms <= due_ms]
    for instance in sorted(late, key=lambda one: one.due_ms):
        turn.fire(instance)
    return turn.outcome()


def unite(
    plan: Plan,
    survivor: Running | None,
    loser: Running | None,
    survivor_events: Iterable[Seen],
    loser_events: Iterable[Seen],
    person: View,
    now_ms: int,
) -> Outcome | None:
    """Return the journeys of two profiles that became one; None: neither had any.

    The loser's instances move over as they are (G1). Of two in one journey with one key the
    earlier entered stays, the other ends silently (G2). Marks unite (G3). Then each side's events
    later than the entry of an instance of the other side are offered to it once, the oldest
    first: to its exit rules, then to the hold it waits in, from its arrival there on (G5); a
    restart counts from now. Nothing is entered (G6), no limit ends anything (G7).

    The events may come in any order; a side's are not read when the other has no instance.
    Cost: every event of the sides read. Rule: journeys G1 to G8.
    """
    if survivor is None and loser is None:
        return None
    ours, theirs = survivor or NOTHING, loser or NOTHING
    turn = _Turn(plan, ours, person, now_ms)
    turn.take_in(theirs)
    kept = {one.id for one in turn.instances}
    sides = (
        ({one.id for one in ours.instances} & kept, loser_events),
        ({one.id for one in theirs.instances} & kept, survivor_events),
    )
    found: list[tuple[tuple[int, int, str], int, Seen]] = []
    for side, (ids, events) in enumerate(sides):
        since = min((i.entry_timestamp_ms for i in turn.instances if i.id in ids), default=None)
        if since is None:
            continue
        for event in events:
            if event.timestamp_ms > since and event.name in plan.events:
                order = (event.timestamp_ms, event.at_ms, event.message_id)
                found.append((order, side, event))
    found.sort(key=lambda one: (one[0], one[1]))
    for _, side, event in found:
        turn.catch_up(event, sides[side][0])
    return turn.outcome()


def _dropped(running: Running | None, turn: "_Turn") -> Outcome:
    """Return the same state, with the dropped event counted where it would have done something."""
    touched = sorted({(journey, version) for journey, version, _, _ in turn.counts})
    counts = tuple((journey, version, "", "refused:rate_limited") for journey, version in touched)
    return Outcome(running, (), counts, next_due(running))


class _Turn:
    """One input's work on a person's instances; short-lived, the only thing here that changes."""

    __slots__ = (
        "acted", "counts", "instances", "now_ms", "once", "person", "plan", "recent", "sends",
    )  # fmt: skip

    def __init__(
        self, plan: Plan, running: Running | None, person: View, now_ms: int
    ) -> None:
        running = running or NOTHING
        self.plan = plan
        self.person = person
        self.now_ms = now_ms
        self.once = running.once
        self.recent = tuple(at_ms for at_ms in running.recent if now_ms - at_ms < SECOND_MS)
        self.sends: list[Send] = []
        self.counts: list[Count] = []
        self.acted = False
        self.instances: list[Instance] = []
        for instance in running.instances:
            self._keep(instance)

    def outcome(self) -> Outcome:
        running = None
        if self.instances or self.once or self.recent:
            running = Running(tuple(self.instances), self.once, self.recent)
        return Outcome(running, tuple(self.sends), tuple(self.counts), next_due(running))

    # ---- the parts of a turn ------------------------------------------------------------------
    def exit(self, event: Seen) -> None:
        for instance in list(self.instances):
            self._exit(instance, event)

    def move(self, event: Seen) -> None:
        for instance in list(self.instances):
            # Before entry (H7), after the timer's instant (H8), or seen already (V7): not for it.
            if (
                event.timestamp_ms >= instance.entry_timestamp_ms
                and event.at_ms <= instance.due_ms
                and event.message_id not in (instance.entry_message_id, instance.last_message_id)
            ):
                self._meet(instance, event)

    def enter(
        self, event: Seen, starts: tuple[Ready, ...], active: set[tuple[str, str]]
    ) -> None:
        for journey in starts:
            if not journey.filter.test(event.properties, event.context, self.now_ms):
                continue
            if journey.audience is not None and not journey.audience(self.person, {}, self.now_ms):
                continue
            key = "" if journey.key_property is None else key_of(event, journey.key_property)
            refusal = self._refusal(journey, event, key)
            if key is None or refusal:
                self._count(journey, "", f"refused:{refusal}")
            elif (journey.key, key) not in active:  # else it was offered to that instance (V5)
                if len(self.instances) >= INSTANCES_LIMIT:
                    self._count(journey, "", "refused:instances_limit")
                else:
                    self._enter(journey, event, key)

    def fire(self, instance: Instance) -> None:
        self.acted = True
        journey = self._version(instance)
        if self.now_ms >= instance.entered_at_ms + LIFE_MS:
            self._end(instance, "expired")
            return
        move = journey.steps[instance.step].due(instance, self.now_ms)
        assert isinstance(move, Go)
        self._go(instance, move, instance)

    def take_in(self, other: Running) -> None:
        """Add another profile's instances and marks (G1, G2, G3)."""
        self.once = tuple(sorted({*self.once, *other.once}))
        self.recent = tuple(sorted((*self.recent, *other.recent)))[-EVENTS_LIMIT:]
        for instance in other.instances:
            self._keep(instance)
        self.instances.sort(key=lambda one: one.entered_at_ms)
        taken: set[tuple[str, str]] = set()
        for instance in list(self.instances):
            place = (instance.journey, "" if self._version(instance).once else instance.key)
            if place in taken:
                self._end(instance, "merged_duplicate")
            taken.add(place)

    def catch_up(self, event: Seen, ids: set[str]) -> None:
        """Offer an event of the other side to the instances with these ids (G5)."""
        for instance in list(self.instances):
            if instance.id not in ids or event.timestamp_ms <= instance.entry_timestamp_ms:
                continue
            if self._exit(instance, event):
                continue
            if event.timestamp_ms >= instance.arrived_at_ms and event.at_ms <= instance.due_ms:
                self._meet(instance, event)

    # ---- one instance -------------------------------------------------------------------------
    def _keep(self, instance: Instance) -> None:
        self.instances.append(instance)
        if (instance.journey, instance.version) not in self.plan.versions:
            self._end(instance, "stopped")

    def _version(self, instance: Instance) -> Ready:
        return self.plan.versions[instance.journey, instance.version]

    def _refusal(self, journey: Ready, event: Seen, key: str | None) -> str:
        if self.now_ms - event.timestamp_ms > journey.max_entry_age_ms:
            return "too_old"
        if key is None:
            return "no_key"
        return "once" if journey.once and journey.key in self.once else ""

    def _enter(self, journey: Ready, event: Seen, key: str) -> None:
        instance = Instance(
            id=instance_id(self.plan.space, journey.key, journey.version,
                           self.person.profile.id, key, event.message_id),
            journey=journey.key, version=journey.version, key=key,
            entered_at_ms=self.now_ms, entry_timestamp_ms=event.timestamp_ms,
            entry_message_id=event.message_id, step="", arrived_at_ms=self.now_ms, due_ms=0,
            context={journey.event: event.properties},
        )  # fmt: skip
        self.acted = True
        if journey.once:
            self.once = tuple(sorted({*self.once, journey.key}))
        self.instances.append(instance)
        self._count(journey, "", "entered")
        self._arrive(journey, instance, "start", instance)

    def _exit(self, instance: Instance, event: Seen) -> bool:
        """End the instance if an exit rule matches; return whether it did."""
        journey = self._version(instance)
        for rule in journey.exits.get(event.name, ()):
            if rule.matches(instance, event, self.now_ms):
                self.acted = True
                self._count(journey, "", f"exit:{rule.event}")
                self._count(journey, instance.step, "exited")
                self._end(instance, "exited")
                self._send_exit(journey, rule, instance, event)
                return True
        return False

    def _send_exit(self, journey: Ready, rule: Exit, instance: Instance, event: Seen) -> None:
        if rule.call is None:
            return
        context = {**instance.context, event.name: event.properties}
        sends, counts = rule.call.made(instance, context, self.person, self.now_ms)
        self.sends += sends
        for what in counts:
            self._count(journey, "", what)

    def _meet(self, instance: Instance, event: Seen) -> None:
        """Let the step that the instance waits in see the event."""
        journey = self._version(instance)
        step = journey.steps[instance.step]
        if event.name not in step.listens:
            return
        move = step.meet(instance, event, self.now_ms)
        if move is None:
            return
        self.acted = True
        context = instance.context
        if isinstance(move, Go | Again) and move.remember:
            context = {**context, move.remember: event.properties}
        now = replace(instance, context=context, last_message_id=event.message_id)
        if isinstance(move, Again):
            self._count(journey, instance.step, move.way)
            self._count(journey, instance.step, "restarted")
            self._wait(replace(now, restarts=now.restarts + 1), move.until_ms, instance)
        else:
            assert isinstance(move, Go)
            self._go(now, move, instance)

    def _go(self, now: Instance, move: Go, stored: Instance) -> None:
        """Leave the step that an instance is in."""
        journey = self._version(now)
        if move.way:
            self._count(journey, now.step, move.way)
        self._count(journey, now.step, "left")
        self._arrive(journey, now, move.next, stored)

    def _arrive(self, journey: Ready, now: Instance, step: str, stored: Instance) -> None:
        """Walk from a step until one waits or the path ends.

        ``stored`` is the instance as it stands in the list.
        """
        while step != END:
            self._count(journey, step, "arrived")
            now = replace(now, step=step, arrived_at_ms=self.now_ms)
            move = journey.steps[step].arrive(now, self.person, self.now_ms)
            if isinstance(move, Wait):
                self._wait(now, move.until_ms, stored)
                return
            assert isinstance(move, Go | Emit)
            if isinstance(move, Emit):
                self.sends += move.sends
                for what in move.counts:
                    self._count(journey, step, what)
            elif move.way:
                self._count(journey, step, move.way)
            self._count(journey, step, "left")
            step = move.next
        self._count(journey, "", "completed")
        del self.instances[_place(self.instances, stored)]

    def _wait(self, now: Instance, until_ms: int, stored: Instance) -> None:
        due_ms = min(until_ms, now.entered_at_ms + LIFE_MS)
        self.instances[_place(self.instances, stored)] = replace(now, due_ms=due_ms)

    def _end(self, instance: Instance, what: str) -> None:
        """Take an instance out and count how it ended."""
        del self.instances[_place(self.instances, instance)]
        self.counts.append((instance.journey, instance.version, instance.step, "left"))
        self.counts.append((instance.journey, instance.version, "", what))

    def _count(self, journey: Ready, step: str, what: str) -> None:
        self.counts.append((journey.key, journey.version, step, what))


def _place(instances: list[Instance], wanted: Instance) -> int:
    return next(place for place, one in enumerate(instances) if one is wanted)
