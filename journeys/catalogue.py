"""The kinds of steps: one line each."""

from journeys.kind import StepKind
from journeys.steps import delay, hold_until, send, split

KINDS: dict[str, StepKind] = {
    kind.name: kind for kind in (delay.KIND, hold_until.KIND, send.KIND, split.KIND)
}
