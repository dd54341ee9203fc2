"""Step `split`: the first branch whose condition holds on arrival, else `else` (S1, S2)."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from events.operators import Trouble
from journeys import conditions
from journeys.conditions import Condition
from journeys.instance import Instance
from journeys.kind import Edge, Go, Move, Read, References, Setting, Step, StepKind
from journeys.limits import BRANCHES_LIMIT, count_problems
from journeys.view import View

ELSE = "else"
"""How the way of everyone else is counted."""


class Branch(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A condition and where it leads."""

    name: Annotated[str, Meta(description="The branch's name.", examples=["vip"])]
    when: Annotated[Condition, Meta(description="What must hold on arrival.")]
    next: Annotated[str, Meta(description="The step it leads to, or `end`.", examples=["end"])]


class Split(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Sends everyone one of several ways."""

    branches: Annotated[list[Branch], Meta(description="In order; the first that holds.")]
    else_: Annotated[
        str, Meta(description="Where all others go: a step, or `end`.", examples=["end"])
    ] = field(name="else")
    mode: Annotated[
        Literal["first", "all"],
        Meta(description="`first`: the first that holds. `all` is not supported yet."),
    ] = "first"


class ReadySplit(Step):
    """Tests with where they lead."""

    __slots__ = ("_branches", "_else")

    def __init__(self, setting: Setting, split: Split) -> None:
        self._branches = [
            (conditions.ready(branch.when, setting.names), Go(branch.next, f"branch:{branch.name}"))
            for branch in split.branches
        ]
        self._else = Go(split.else_, ELSE)

    def arrive(self, instance: Instance, person: View, now_ms: int) -> Move:
        """Take the first branch that holds; nothing is waited for."""
        for test, go in self._branches:
            if test(person, instance.context, now_ms):
                return go
        return self._else


def _ready(setting: Setting, _id: str, split: Split, _next: str) -> Step:
    return ReadySplit(setting, split)


def _edges(split: Split) -> list[Edge]:
    return [
        *(
            Edge(("branches", place, "next"), branch.next, branch.name)
            for place, branch in enumerate(split.branches)
        ),
        Edge(("else",), split.else_),
    ]


def _reads(split: Split) -> list[Read]:
    return [
        Read(("branches", place, "when", *at), path)
        for place, branch in enumerate(split.branches)
        for at, path in conditions.context_paths(branch.when)
    ]


def _problems(split: Split, references: References) -> list[Trouble]:
    found: list[Trouble] = []
    if split.mode == "all":
        found.append((("mode",), "not supported yet", "write mode: first"))
    if not split.branches:
        found.append((("branches",), "no branches", "give at least one condition"))
    found += count_problems(("branches",), "branches", len(split.branches), BRANCHES_LIMIT)
    for place, branch in enumerate(split.branches):
        troubles = conditions.problems(
            branch.when, references.audiences, references.names, only_audiences=False
        )
        found += [(("branches", place, "when", *at), what, mend) for at, what, mend in troubles]
    return found


KIND = StepKind(
    "split", Split, ready=_ready, problems=_problems, branches=True, edges=_edges, reads=_reads
)
