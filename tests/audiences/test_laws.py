"""Laws: arrival order plays no part, halves unite to the whole, timers miss nothing."""

from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from audiences import merge
from audiences.evaluate import Memory
from tests.audiences import oracle
from tests.audiences.driver import EPOCH, HOUR, Person, observe, plan_of
from tests.audiences.driver import occurred as event_of

START = 20_000 * 24 * HOUR

windows = st.sampled_from([{}, {"within": "5h"}, {"within": "12h"}, {"between": ["3h", "9h"]}])
numbers = st.sampled_from(
    [
        {"at_least": 1},
        {"at_least": 3},
        {"exactly": 0},
        {"exactly": 2},
        {"at_most": 1},
        {"at_most": 3},
    ]
)
wheres = st.sampled_from(
    [
        {},
        {},
        {"where": {"kind": {"equals": "a"}}},
        {"exclude_sources": ["app"]},
        {"where": {"due": {"within_next": "4h"}}},
    ]
)
names = st.sampled_from(["A", "B"])
performed = st.builds(
    lambda event, *parts: {
        "performed": {"event": event}
        | {key: value for part in parts for key, value in part.items()}
    },
    names,
    numbers,
    windows,
    wheres,
)
conditions = st.recursive(
    performed,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"any": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=4,
)
kinds = st.sampled_from(
    [
        "count",
        "sum",
        "avg",
        "min",
        "max",
        "first",
        "last",
        "unique_list",
        "unique_count",
        "most_frequent",
    ]
)
traits = st.builds(
    lambda kind, event, window, where: (
        {"type": kind, "event": event}
        | where
        | ({} if kind == "count" else {"property": "value"})
        | ({"window": window} if window else {})
    ),
    kinds,
    names,
    windows,
    wheres,
)


@st.composite
def histories(draw, size=25):
    """Draw events within a day, received when they happened or up to ten hours late."""
    events = []
    for number in range(draw(st.integers(0, size))):
        timestamp = START + draw(st.integers(0, 24 * 60)) * 60_000
        late = draw(st.sampled_from([0, 0, 0, 1, 4, 10])) * HOUR
        due = timestamp + draw(st.integers(-5, 9)) * HOUR
        events.append(
            event_of(
                draw(names),
                timestamp,
                received=timestamp + late,
                id=f"m{number}",
                source=draw(st.sampled_from(["web", "app"])),
                value=draw(st.sampled_from([1, 2, 0.1, 0.2, 1e17, -7, 33.35])),
                kind=draw(st.sampled_from(["a", "b"])),
                due=iso(due),
            )
        )
    return sorted(events, key=lambda event: event.at_ms)


def iso(instant):
    return (EPOCH + timedelta(milliseconds=instant)).isoformat()


def undated(event):
    """Return the event with `due` as the oracle reads it."""
    properties = dict(event.properties)
    properties["due"] = instant_of(properties["due"])
    return event_of(
        event.name, event.timestamp_ms, event.at_ms, event.message_id, event.source, **properties
    )


def instant_of(text):
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)


def check(person, definitions, traits, seen):
    plain = [undated(event) for event in seen]
    for key, where in definitions.items():
        assert person.inside(key) is oracle.holds(where, plain, person.now), (
            key,
            person.now - START,
        )
    for key, definition in traits.items():
        found, wanted = person.value(key), oracle.computed(definition, plain, person.now)
        assert found == wanted or (found is None and wanted == 0), (key, found, wanted)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(conditions, min_size=1, max_size=3),
    st.lists(traits, max_size=3),
    histories(),
    st.lists(st.integers(0, 48 * 60), min_size=1, max_size=6),
)
def test_audiences_E2_timers_and_events_give_what_brute_force_gives_at_any_instant(
    wheres, traits, events, moments
):
    definitions = {f"a{number}": where for number, where in enumerate(wheres)}
    traits = {f"t{number}": trait for number, trait in enumerate(traits)}
    person = Person(plan_of(definitions, traits), born=START)
    instants = sorted(START + minute * 60_000 for minute in moments)
    seen = []
    for event in [*events, None]:
        while instants and (event is None or instants[0] < event.at_ms):
            person.until(instants.pop(0))
            check(person, definitions, traits, seen)
        if event is not None:
            person.sees(event)
            seen.append(event)
            # An input goes before a timer of the same instant, which then fires.
            person.until(event.at_ms)
            check(person, definitions, traits, seen)


def settled_at(plan, rows, instant):
    """Return memberships and values that follow from states at an instant."""
    states = Memory()
    states.rows = dict(rows)
    person = Person(plan, born=instant)
    person.states = states
    person.settle(plan.computations)
    return (
        {key: standing.inside for key, standing in person.profile.memberships.items()},
        {key: value.value for key, value in person.profile.computed.items()},
        person.profile.flips,
    )


@settings(max_examples=80, deadline=None)
@given(
    st.lists(conditions, min_size=1, max_size=3),
    st.lists(traits, max_size=3),
    histories(),
    st.randoms(use_true_random=False),
    st.integers(24 * 60, 48 * 60),
)
def test_audiences_T8_arrival_order_plays_no_part(wheres, traits, events, random, minute):
    plan = plan_of(
        {f"a{number}": where for number, where in enumerate(wheres)},
        {f"t{number}": trait for number, trait in enumerate(traits)},
    )
    # All received at one instant: what arrives later than its window is another matter (E6).
    events = [
        event_of(
            event.name,
            event.timestamp_ms,
            START + 24 * HOUR,
            event.message_id,
            event.source,
            **event.properties,
        )
        for event in events
    ]
    shuffled = random.sample(events, len(events))
    one, other = Memory(), Memory()
    for event, mixed in zip(events, shuffled, strict=True):
        observe(plan, event, one)
        observe(plan, mixed, other)
    instant = START + minute * 60_000
    assert settled_at(plan, one.rows, instant) == settled_at(plan, other.rows, instant)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(conditions, min_size=1, max_size=3),
    st.lists(traits, max_size=3),
    histories(),
    st.lists(st.booleans(), min_size=25, max_size=25),
    st.integers(0, 48 * 60),
)
def test_audiences_T8_the_states_of_two_halves_unite_to_that_of_the_whole(
    wheres, traits, events, sides, minute
):
    plan = plan_of(
        {f"a{number}": where for number, where in enumerate(wheres)},
        {f"t{number}": trait for number, trait in enumerate(traits)},
    )
    whole, left, right = Memory(), Memory(), Memory()
    for event, side in zip(events, sides, strict=False):
        observe(plan, event, whole)
        observe(plan, event, left if side else right)
    united = {
        key: merge.unite(plan, key, left.get(key), right.get(key))
        for key in {*left.rows, *right.rows}
    }
    # States may forget what had aged out when the last event came, so not before that.
    instant = max([START + minute * 60_000, *(event.at_ms for event in events)])
    assert settled_at(plan, united, instant) == settled_at(plan, whole.rows, instant)


MANY = {
    "t_count": {"type": "count", "event": "A", "window": {"within": "90d"}},
    "t_sum": {"type": "sum", "event": "A", "property": "value", "window": {"within": "90d"}},
    "t_first": {
        "type": "first",
        "event": "A",
        "property": "value",
        "window": {"between": ["1d", "60d"]},
    },
    "t_top": {
        "type": "most_frequent",
        "event": "A",
        "property": "value",
        "window": {"within": "30d"},
    },
}
OFTEN = {"often": {"performed": {"event": "A", "at_least": 200, "between": ["10d", "50d"]}}}


def test_audiences_T2_a_thousand_events_in_a_window_stay_exact_in_bundles():
    person = Person(plan_of(OFTEN, MANY), born=START)
    seen = []
    for number in range(1_000):
        event = event_of(
            "A",
            START + (number * 7919 % 1_000) * 2 * HOUR,
            START + 2_000 * HOUR + number,
            f"m{number}",
            value=number % 17 + 0.1,
            due=iso(START),
        )
        person.sees(event)
        seen.append(event)
        if number % 97 == 0:
            check(person, OFTEN, MANY, seen)
    for hours in range(2_000, 5_000, 111):
        person.until(START + hours * HOUR + 1_000)
        check(person, OFTEN, MANY, seen)
    assert max(len(row) for row in person.states.rows.values()) < 100
    assert person.value("t_count") == 0


def test_audiences_T8_the_same_events_of_two_persons_count_for_each_when_they_merge():
    plan = plan_of(OFTEN, MANY)
    events = [
        event_of(
            "A",
            START + number * 2 * HOUR,
            START + 2_000 * HOUR,
            f"m{number}",
            value=number % 3,
            due=iso(START),
        )
        for number in range(600)
    ]
    one, other = Memory(), Memory()
    for event in events:
        observe(plan, event, one)
        observe(plan, event, other)
    rows = {key: merge.unite(plan, key, one.rows[key], other.rows[key]) for key in one.rows}
    _, values, _ = settled_at(plan, rows, START + 2_700 * HOUR)
    alone = settled_at(plan, one.rows, START + 2_700 * HOUR)[1]
    assert 0 < alone["t_count"] < 600
    assert values["t_count"] == 2 * alone["t_count"]
    assert values["t_sum"] == 2 * alone["t_sum"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(conditions, min_size=1, max_size=3),
    st.lists(traits, max_size=2),
    histories(),
    st.lists(st.booleans(), min_size=25, max_size=25),
    st.booleans(),
    st.integers(0, 24 * 60),
)
def test_audiences_M6_after_a_merge_all_is_as_if_it_had_been_one_person(
    wheres, traits, events, sides, known, minute
):
    definitions = {f"a{number}": where for number, where in enumerate(wheres)}
    traits = {f"t{number}": trait for number, trait in enumerate(traits)}
    plan = plan_of(definitions, traits)
    one = Person(plan, born=START)
    other = Person(plan, born=START, ids=[("user_id", "u2") if known else ("anonymous_id", "x")])
    for event, side in zip(events, sides, strict=False):
        (one if side else other).sees(event)
    instant = max([START + minute * 60_000, *(event.at_ms for event in events)])
    one.until(instant)
    other.until(instant)
    ids = one.profile.ids + other.profile.ids
    united = merge.unite_results(plan, one.profile, other.profile, ids, other.states.rows)
    for key, row in other.states.rows.items():
        one.states.put(key, merge.unite(plan, key, one.states.get(key), row))
    one.profile = replace(
        one.profile,
        ids=ids,
        computed=united.computed,
        memberships=united.memberships,
        flips=united.flips,
    )
    one.settle(united.touched, united.announce)
    check(one, definitions, traits, events)
    for hours in (1, 5, 11, 30):
        one.until(instant + hours * HOUR)
        check(one, definitions, traits, events)
