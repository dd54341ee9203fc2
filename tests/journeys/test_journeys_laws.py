"""What holds for any input: a plain account of journey J, restarts, timers and inputs in order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from journeys import moves
from tests.journeys.space import DAY_MS, Person, Space, clock, ms
from tests.journeys.test_journeys_examples import J

HOUR_MS = 3_600_000

# (minutes since the last input, cart modified or order, cart, total); 120 minutes is the hold
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 30, 59, 60, 61, 119, 120, 121, 1439, 1440, 1441]),
        st.sampled_from(["Cart Modified", "Cart Modified", "Order Completed"]),
        st.sampled_from(["c1", "c2", "c3"]),
        st.sampled_from([50, 100, 101, 150]),
    ),
    max_size=25,
)


class InMemory(Person):
    """A person of a worker that is never restarted."""

    live = None

    @property
    def running(self):
        return self.live


class Undisturbed(Space):
    def person(self, who):
        if who not in self.people:
            self.people[who] = InMemory(who)
            self.identify(who, user_id=who)
        return self.people[who]

    def keep(self, person, outcome, at_ms):
        super().keep(InMemory(person.profile.id), None, at_ms)
        if outcome is not None:
            person.live = outcome.running
            for send in outcome.sends:
                self.messages.append((clock(at_ms), send.destination, "m", {"id": send.body}))


def played(space, steps):
    at_ms = ms("10:00")
    for minutes, event, cart, total in steps:
        at_ms += minutes * 60_000
        space.track(clock(at_ms), event, cart_id=cart, total=total)
    space.until("+60 00:00")
    return space


def account(steps):
    """J in plain words, a cart at a time, sharing no code with the rules."""
    sent = []
    for cart in ("c1", "c2", "c3"):
        at = ms("10:00")
        inside = None  # [due, waits in hold, totals]
        for minutes, event, name, total in [*steps, (90 * 1440, "", cart, 0)]:
            at += minutes * 60_000
            while inside and inside[0] < at:
                due, holding, totals = inside
                if holding:
                    sent.append((due, f"N1 {cart}"))
                    inside = [due + DAY_MS, False, totals]
                else:
                    if max(totals) > 100:
                        sent.append((due, f"N2 {cart}"))
                    inside = None
            if name != cart:
                continue
            if event == "Order Completed":
                if inside:
                    sent.append((at, f"X {cart}"))
                inside = None
            elif event == "Cart Modified" and inside is None:
                inside = [at + 2 * HOUR_MS, True, [total]]
            elif event == "Cart Modified" and inside[1]:
                inside = [at + 2 * HOUR_MS, True, [inside[2][0], total]]
    return sorted(f"{clock(at)} {what}" for at, what in sent)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_journeys_T3_whatever_comes_the_sends_are_those_of_a_plain_account(steps):
    space = played(Space(J), steps)
    assert sorted(space.sent) == account(steps)
    space.balanced()


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_journeys_D5_a_restart_between_any_two_inputs_changes_no_byte_of_what_is_sent(steps):
    bodies = [message["id"] for *_, message in played(Undisturbed(J), steps).messages]
    restarted = []

    class Recording(Space):
        def keep(self, person, outcome, at_ms):
            restarted.extend(send.body for send in outcome.sends) if outcome else None
            super().keep(person, outcome, at_ms)

    played(Recording(J), steps)
    assert restarted == bodies


@given(STEPS, st.integers(0, 24))
@settings(max_examples=100, deadline=None)
def test_journeys_G1_a_merge_at_any_moment_loses_no_instance_and_keeps_the_counts(steps, place):
    space = Space(J)
    at_ms = ms("10:00")
    for number, (minutes, event, cart, total) in enumerate(steps):
        at_ms += minutes * 60_000
        apart = number < place
        who = "a" if not apart or number % 2 else "b"
        if number == place and len(space.people) == 2:
            space.ring(at_ms - 1)
            before = {one for person in space.people.values() for one in ids(person)}
            space.merge(clock(at_ms), "a", "b")
            ended = sum(space.count(what) for what in ("exited", "merged_duplicate"))
            assert len(before) >= len(ids(space.people["a"])) >= len(before) - ended
            space.balanced()
        space.track(clock(at_ms), event, who=who, cart_id=cart, total=total)
    space.until("+60 00:00")
    space.balanced()
    sent = [message["messageId"] for *_, message in space.messages]
    assert len(sent) == len(set(sent))


def ids(person):
    return [one.id for one in person.running.instances] if person.running else []


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_journeys_T3_one_call_for_all_timers_does_what_a_call_for_each_does(steps):
    space = Space(J)
    at_ms = ms("10:00")
    for minutes, event, cart, total in steps:
        at_ms += min(minutes, 30) * 60_000
        space.track(clock(at_ms), event, cart_id=cart, total=total)
    person = space.people.get("m")
    if person is None or person.running is None or not person.running.instances:
        return
    now_ms = at_ms + DAY_MS
    view = moves.View(person.profile, person.profile)
    at_once = moves.fire(space.plan, person.running, view, now_ms, now_ms)
    running, sends, counts = person.running, [], []
    while running and 0 < (due_ms := moves.next_due(running)) <= now_ms:
        outcome = moves.fire(space.plan, running, view, due_ms, now_ms)
        running = outcome.running
        sends += outcome.sends
        counts += outcome.counts
    if at_once is None:
        assert not sends
    else:
        assert (at_once.running, list(at_once.sends)) == (running, sends)
        assert sorted(at_once.counts) == sorted(counts)
