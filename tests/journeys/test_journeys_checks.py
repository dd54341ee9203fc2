"""What is refused when definitions are loaded (journeys 11, section 6)."""

import msgspec
import pytest
import yaml

from journeys import checks
from journeys.catalogue import KINDS
from journeys.definition import Journey
from tests.journeys.space import REFERENCES

GOOD = """
name: Carts
entry: {event: Go, key: k}
exit_rules: {events: [{event: Stop, match_key: k}], send: {to: [log]}}
steps:
  start:
    hold_until:
      max: 2h
      branches: {again: {event: Go, key: k, restart: true}, b: {event: E, key: k, next: ask}}
      timeout: pause
  pause: {delay: {for: 1h}, next: ask}
  ask:
    split:
      branches: [{name: big, when: {context: {Go.total: {gt: 1}}}, next: s}]
      else: end
  s: {send: {to: [mailer], map: {total: context.Go.total}}, next: end}
"""


def load(text):
    return msgspec.convert(yaml.safe_load(text), Journey)


def found(text):
    """The problems as `path: what`."""
    troubles = checks.problems("j", load(text), REFERENCES)
    assert all(mend for *_, mend in troubles)
    return [".".join(map(str, at)) + ": " + what for at, what, _ in troubles]


def warned(text):
    return [".".join(map(str, at)) + ": " + what for at, what, _ in checks.warnings(load(text))]


def changed(*pairs):
    """GOOD with texts replaced."""
    text = GOOD
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def test_journeys_Y1_a_sound_journey_has_no_problems():
    assert found(GOOD) == []
    assert warned(GOOD) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            (("timeout: pause", "timeout: paus")),
            'steps.start.hold_until.timeout: there is no step "paus"',
        ),
        (
            ("for: 1h}, next: ask", "for: 1h}, next: asq"),
            'steps.pause.next: there is no step "asq"',
        ),
        (
            (
                "restart: true}, b: {event: E, key: k, next: ask",
                "restart: true}, b: {event: E, key: k, next: x",
            ),
            'steps.start.hold_until.branches.b.next: there is no step "x"',
        ),
        (("else: end", "else: x"), 'steps.ask.split.else: there is no step "x"'),
        (
            ("gt: 1}}}, next: s", "gt: 1}}}, next: x"),
            'steps.ask.split.branches.0.next: there is no step "x"',
        ),
        (
            ("Go.total}}, next: end", "Go.total}}, next: pause"),
            'steps.pause.next: it leads back to "ask"',
        ),
        (
            ("steps:\n  start:", "steps:\n  alone: {delay: {for: 1h}, next: end}\n  start:"),
            'steps.alone: no path leads to the step "alone"',
        ),
        (("  start:", "  begin:"), 'steps: there is no step "start"'),
        (("to: [mailer]", "to: [mailr]"), 'steps.s.send.to.0: there is no destination "mailr"'),
        (("to: [log]", "to: [logg]"), 'exit_rules.send.to.0: there is no destination "logg"'),
        (
            ("event: Go, key: k}\n", "event: Go, key: k, audience: {audience: vi}}\n"),
            'entry.audience.audience: there is no audience "vi"',
        ),
        (
            ("when: {context: {Go.total: {gt: 1}}}", "when: {any: [{audience: vi}]}"),
            'steps.ask.split.branches.0.when.any.0.audience: there is no audience "vi"',
        ),
        (("for: 1h}, next: ask", "for: 1h}"), "steps.pause: it leads nowhere"),
        (
            ("      timeout: pause\n", "      timeout: pause\n    next: ask\n"),
            "steps.start.next: a hold_until goes on by its branches",
        ),
        (
            ("{event: E, key: k, next: ask}", "{event: E, key: k}"),
            "steps.start.hold_until.branches.b: it leads nowhere",
        ),
        (
            ("restart: true}", "restart: true, next: ask}"),
            "steps.start.hold_until.branches.again.next: a restart stays in its step",
        ),
    ],
)
def test_journeys_Y1_every_step_exists_is_reached_and_no_path_turns_back(change, problem):
    assert problem in found(changed(change))


def test_journeys_Y1_a_step_that_leads_to_itself_is_a_cycle():
    assert 'steps.pause.next: it leads back to "pause"' in found(
        changed(("for: 1h}, next: ask", "for: 1h}, next: pause"))
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("for: 1h", "for: 4m"), "steps.pause.delay.for: 4m is not within 5 minutes and 182 days"),
        (("for: 1h", "for: 183d"), "steps.pause.delay.for: 183d is not within"),
        (("for: 1h", "for: soon"), 'steps.pause.delay.for: "soon" is not a duration'),
        (("max: 2h", "max: 299s"), "steps.start.hold_until.max: 299s is not within"),
        (("max: 2h", "max: 27w"), "steps.start.hold_until.max: 27w is not within"),
        (("for: 1h", ""), "steps.pause.delay: no duration"),
    ],
)
def test_journeys_Y3_delays_and_holds_lie_within_5_minutes_and_182_days(change, problem):
    assert any(text.startswith(problem) for text in found(changed(change)))


def test_journeys_Y3_the_bounds_themselves_are_legal():
    assert found(changed(("for: 1h", "for: 182d"), ("max: 2h", "max: 5m"))) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("event: Go, key: k}\n", "event: Go}\n"), "entry: no key, though people may enter again"),
        (
            ("b: {event: E, key: k,", "b: {event: E,"),
            "steps.start.hold_until.branches.b: no key, though",
        ),
        (
            ("event: Go, key: k}\n", "event: Go, re_enter: once}\n"),
            "steps.start.hold_until.branches.b.key: the entry has no key",
        ),
        (
            ("event: Go, key: k}\n", "event: Go, re_enter: once}\n"),
            "exit_rules.events.0.match_key: the entry has no key",
        ),
        (
            ("match_key: k", "match_key: k, any_key: true"),
            "exit_rules.events.0.any_key: both match_key and any_key",
        ),
    ],
)
def test_journeys_Y4_keys_stand_where_instances_are_told_apart_by_them(change, problem):
    assert any(text.startswith(problem) for text in found(changed(change)))


def test_journeys_Y4_an_exit_of_all_keys_is_legal_and_warned_of_unless_it_is_said():
    text = changed((", match_key: k", ""))
    assert found(text) == []
    assert warned(text) == ["exit_rules.events.0: Stop ends all of the person's instances"]
    assert warned(changed(("match_key: k", "any_key: true"))) == []
    once = text.replace("key: k", "key: k, re_enter: once", 1)
    assert warned(once) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            ("{Go.total: {gt: 1}}", "{Gone.total: {gt: 1}}"),
            'steps.ask.split.branches.0.when.context.Gone.total: "Gone" is collected on no way',
        ),
        (
            ("context.Go.total", "context.Gone.total"),
            'steps.s.send.map.total: "Gone" is collected on no way to this step',
        ),
        (
            ("map: {total", "context: [Gone], map: {total"),
            'steps.s.send.context.0: "Gone" is collected on no way',
        ),
        (
            ("to: [log]", "to: [log], context: [Gone]"),
            'exit_rules.send.context.0: "Gone" is never collected',
        ),
    ],
)
def test_journeys_Y5_a_context_path_must_be_collected_on_some_way(change, problem):
    assert any(text.startswith(problem) for text in found(changed(change)))


def test_journeys_Y5_a_path_that_only_some_ways_collect_is_warned_of():
    text = changed(("{Go.total: {gt: 1}}", "{E.total: {gt: 1}}"))
    assert found(text) == []
    assert warned(text) == [
        'steps.ask.split.branches.0.when.context.E.total: "E" is not collected on every way to '
        "this step"
    ]
    again = changed(("{Go.total: {gt: 1}}", "{Go - again.total: {gt: 1}}"))
    assert (found(again), len(warned(again))) == ([], 1)
    chosen = changed(("map: {total", "context: [Go, Go - again, E], map: {total"))
    assert (found(chosen), warned(chosen)) == ([], [])


def test_journeys_Y5_only_ways_to_the_step_count():
    text = changed(
        ("event: E, key: k, next: ask", "event: E, key: k, next: end"),
        ("{Go.total: {gt: 1}}", "{E.total: {gt: 1}}"),
    )
    assert any('"E" is collected on no way to this step' in one for one in found(text))


def test_journeys_Y5_the_exit_may_read_the_exit_event():
    assert found(changed(("to: [log]", "to: [log], map: {why: context.Stop.reason}"))) == []


def test_journeys_Y5_an_events_name_with_dots_needs_no_backslash():
    text = GOOD.replace("event: Go", "event: cart.go").replace("Go.total", "cart.go.total")
    assert found(text) == []


LONG = "x" * 74


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("name: Carts", f"name: {LONG}"), "name: the name has 74 characters, more than 73"),
        (("entry: {event: Go", f"entry: {{event: {LONG}"), "entry.event: the event has 74"),
        (
            ("b: {event: E", f"{LONG}: {{event: E"),
            f"steps.start.hold_until.branches.{LONG}: the branch's name has 74",
        ),
        (("name: big", f"name: {LONG}"), "steps.ask.split.branches.0: the branch's name has 74"),
        (("event: Stop", f"event: {LONG}"), "exit_rules.events.0.event: the event has 74"),
        (("to: [mailer]", f"to: [mailer], event: {LONG}"), "steps.s.send.event: the event has 74"),
        (
            ("name: big", "name: b"),
            'steps.ask.split.branches.0: the step "start" has a branch "b" already',
        ),
        (
            ("to: [mailer]", "to: [mailer, push, log, d4, d5, d6]"),
            "steps.s.send.to: 6 destinations, more than 5",
        ),
        (("to: [mailer]", "to: []"), "steps.s.send.to: no destination"),
        (("to: [mailer]", "to: [mailer, mailer]"), 'steps.s.send.to.1: "mailer" stands twice'),
        (("to: [log]", "to: [log, push]"), "exit_rules.send.to: 2 destinations, more than 1"),
        (
            ("to: [mailer]", f"to: [mailer], traits: [{', '.join(f't{n}' for n in range(100))}]"),
            "steps.s.send.map: 101 mappings",
        ),
        (
            ("map: {total", "map: {journey_context: 1, total"),
            'steps.s.send.map.journey_context: "journey_context" is taken',
        ),
        (("key: k}\n", f"key: {'k' * 501}}}\n"), "entry.key: the property has 501 characters"),
        (
            ("for: 1h}, next: ask", "for: 1h}, next: end}\n  end: {delay: {for: 1h}, next: ask"),
            'steps.end: "end" is where paths end',
        ),
        (
            ("events: [", "events: [" + "{event: Stop, any_key: true}, " * 10),
            "exit_rules.events: 11 exit events, more than 10",
        ),
        (
            ("to: [log]", "to: [log], when: [Nope]"),
            'exit_rules.send.when.0: "Nope" is no exit event here',
        ),
        (
            ("event: Go, key: k}\n", "event: Go, key: k, where: {a: {gt: x}}}\n"),
            'entry.where.a.gt: "x" is not a number',
        ),
        (
            ("event: Go, key: k}\n", "event: Go, key: k, max_entry_age: 1}\n"),
            "entry.max_entry_age:",
        ),
    ],
)
def test_journeys_Y6_names_counts_and_sizes_have_limits(change, problem):
    text = changed(change)
    if "max_entry_age: 1}" in text:
        text = text.replace("max_entry_age: 1}", 'max_entry_age: "1"}')
    assert any(one.startswith(problem) for one in found(text)), found(text)


def test_journeys_Y6_more_than_50_steps_are_refused():
    chain = "".join(f"  d{n}: {{delay: {{for: 1h}}, next: d{n + 1}}}\n" for n in range(50))
    head = "entry: {event: Go, key: k}\nsteps:\n  start: {delay: {for: 1h}, next: d0}\n"
    text = f"{head}{chain}  d50: {{delay: {{for: 1h}}, next: end}}\n"
    assert found(text) == ["steps: 52 steps, more than 50"]


def test_journeys_Y6_more_than_nine_branches_are_refused():
    holds = ", ".join(f"b{n}: {{event: E{n}, key: k, next: end}}" for n in range(10))
    asks = ", ".join(f"{{name: s{n}, when: {{audience: vip}}, next: end}}" for n in range(10))
    text = f"""
entry: {{event: Go, key: k}}
steps:
  start: {{hold_until: {{max: 1h, branches: {{{holds}}}, timeout: ask}}}}
  ask: {{split: {{branches: [{asks}], else: end}}}}
"""
    assert found(text) == [
        "steps.start.hold_until.branches: 10 branches, more than 9",
        "steps.ask.split.branches: 10 branches, more than 9",
    ]


def test_journeys_Y6_names_are_unique_among_journeys():
    one, other = load(GOOD), load(GOOD)
    ((key, (at, what, _)),) = checks.same_names({"a": one, "b": other})
    assert (key, at, what) == ("b", ("name",), 'the journey "a" has this name already')


def test_journeys_H4_branches_that_certainly_overlap_are_refused():
    more = "c: {event: E, key: k, where: {n: {gt: 1}}, next: ask}"
    text = changed(
        ("b: {event: E, key: k, next: ask}", f"b: {{event: E, key: k, next: ask}}, {more}")
    )
    assert found(text) == [
        'steps.start.hold_until.branches.c: it overlaps with "b": the same E matches both'
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("event: Go, key: k}\n", "audience: vip, key: k}\n"), "entry.audience: entry by audience"),
        (("event: Go, key: k}\n", "event: Go, key: k, use_history: true}\n"), "entry.use_history:"),
        (("delay: {for: 1h}", "delay: {until: 2025-01-01T00:00:00}"), "steps.pause.delay.until:"),
        (
            ("delay: {for: 1h}", "delay: {for: 1h, on_missing: exit}"),
            "steps.pause.delay.on_missing:",
        ),
        (("delay: {for: 1h}", "wait_for: {audience: vip}"), "steps.pause.wait_for:"),
        (("delay: {for: 1h}", "random: {branches: {}}"), "steps.pause.random:"),
        (("delay: {for: 1h}", "rate_limit: {at_most: 1, per: 1d}"), "steps.pause.rate_limit:"),
        (("delay: {for: 1h}", "show_ad: {to: [log]}"), "steps.pause.show_ad:"),
        (("delay: {for: 1h}", "send_list: {to: [log]}"), "steps.pause.send_list:"),
        (("name: Carts", "holdout: {percent: 5}"), "holdout:"),
        (("name: Carts", "version_exclusion: true"), "version_exclusion:"),
        (("name: Carts", "exit_after: 7d"), "exit_after:"),
        (("name: Carts", "re_entry_after: 7d"), "re_entry_after:"),
        (("    split:\n", "    split:\n      mode: all\n"), "steps.ask.split.mode:"),
        (
            ("{context: {Go.total: {gt: 1}}}", "{performed: {event: E}}"),
            "steps.ask.split.branches.0.when.performed:",
        ),
        (
            ("{context: {Go.total: {gt: 1}}}", "{not: {consent: {a: true}}}"),
            "steps.ask.split.branches.0.when.not.consent:",
        ),
    ],
)
def test_journeys_s11_what_is_not_built_yet_is_refused(change, problem):
    text = changed(change).replace("until: 2025-01-01T00:00:00}", 'until: "2025-01-01T00:00:00Z"}')
    assert any(one.startswith(problem) and "not supported yet" in one for one in found(text))


def test_journeys_s11_version_exclusion_may_say_false():
    assert found(changed(("name: Carts", "version_exclusion: false"))) == []


@pytest.mark.parametrize(
    "text", ["s: {next: end}", "s: {delay: {for: 1h}, send: {to: [log]}, next: end}"]
)
def test_journeys_s11_a_step_has_exactly_one_kind(text):
    head = "entry: {event: Go, key: k}\nsteps:\n  start: {delay: {for: 1h}, next: s}\n  "
    assert any("kind" in one for one in found(head + text))


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{audience: vip, trait: {a: {exists: true}}}",
        "{all: []}",
        "{trait: {}}",
        "{trait: {a..b: {exists: true}}}",
        "{trait: {a: {}}}",
        "{context: {Go..x: {exists: true}}}",
    ],
)
def test_journeys_S1_a_condition_that_says_nothing_is_refused(text):
    assert found(changed(("{context: {Go.total: {gt: 1}}}", text)))


def test_journeys_V2_only_audiences_can_be_asked_at_the_entry():
    text = changed(("key: k}\n", "key: k, audience: {trait: {a: {exists: true}}}}\n"))
    assert found(text) == ["entry.audience.trait: only audiences can be asked here"]


def test_journeys_s11_every_kind_of_step_describes_its_fields():
    assert sorted(KINDS) == ["delay", "hold_until", "send", "split"]
    schema = msgspec.json.schema(Journey)
    for name, one in schema["$defs"].items():
        for field, value in one.get("properties", {}).items():
            inner = value.get("$ref", "") or value.get("anyOf", "")
            assert value.get("description") or inner, (name, field)
