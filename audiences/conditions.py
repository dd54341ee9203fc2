"""Conditions as functions of what is known of a person at an instant.

`events/operators.py` tells what a verdict is: `every` is a least, `some` a greatest number.
"""

from collections.abc import Callable, Mapping

from audiences.ledger import States
from events import paths
from events.operators import NEVER, Check, Verdict
from profiles.profile import Computed, Membership, Trait


class View:
    """What conditions read of a profile, at an instant."""

    __slots__ = ("computed", "memberships", "now_ms", "states", "traits")

    def __init__(
        self, traits: Mapping[str, Trait], computed: Mapping[str, Computed],
        memberships: Mapping[str, Membership], states: States, now_ms: int,
    ) -> None:
        self.traits = traits
        self.computed = computed
        self.memberships = memberships
        self.states = states
        self.now_ms = now_ms


Test = Callable[[View], Verdict]


def every(tests: list[Test]) -> Test:
    """Return the test that holds while all of these hold."""
    if len(tests) == 1:
        return tests[0]
    first, *others = tests

    def test(view: View) -> Verdict:
        result = first(view)
        for other in others:
            if result == -NEVER:
                break
            found = other(view)
            if found < result:
                result = found
        return result

    return test


def some(tests: list[Test]) -> Test:
    """Return the test that holds while one of these holds."""
    if len(tests) == 1:
        return tests[0]
    first, *others = tests

    def test(view: View) -> Verdict:
        result = first(view)
        for other in others:
            if result == NEVER:
                break
            found = other(view)
            if found > result:
                result = found
        return result

    return test


def on_value(find: Callable[[View], Trait | Computed | None], check: Check) -> Test:
    """Return the test of a whole value; a null is no value."""
    if check.timed:
        def timed(view: View) -> Verdict:
            found = find(view)
            values = [] if found is None or found.value is None else [found.value]
            return check.at(values, view.now_ms)

        return timed
    alone, absent = check.alone, NEVER if check.holds([]) else -NEVER

    def test(view: View) -> Verdict:
        found = find(view)
        if found is None or found.value is None:
            return absent
        return NEVER if alone(found.value) else -NEVER

    return test


def below(
    find: Callable[[View], Trait | Computed | None], steps: paths.Path, check: Check
) -> Test:
    """Return the test of what stands at a path below a value."""
    follow = paths.each(steps)

    def test(view: View) -> Verdict:
        found = find(view)
        return check.at([] if found is None else follow(found.value), view.now_ms)

    return test
