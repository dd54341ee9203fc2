"""What makes up a workspace in partitions: the stages, what their inboxes carry, and the way from
one to another. Brokers, workers and the simulator stand on this alike.

The stages run with the same handlers as in one process, and with what waits in between (protocol):
`lane` (intake), `keeper` (dedup), `writer` (identity), `home` (profile), `desk` (delivery); usage
needs nothing more.
"""

from collections.abc import Mapping
from typing import Final

from agents.definitions import EMPTY, compile_definitions
from agents.definitions import TABLES as DEFINITION_TABLES
from agents.records import Continue, Define, Received, Result, SeenUser, Tick
from agents.routed import desk, home, keeper, lane, writer
from agents.routed.records import MAIL
from agents.usage import STAGE as USAGE
from runtime.fused import Kind
from runtime.routed import Item, Partition, Wire, place
from runtime.stage import Stage
from tables.store import Store

STAGES: Final[Mapping[str, Stage]] = {
    "intake": lane.STAGE, "dedup": keeper.STAGE, "identity": writer.STAGE, "profile": home.STAGE,
    "usage": USAGE, "delivery": desk.STAGE,
}
WIRE: Final = Wire((*MAIL, SeenUser))
SINGLE: Final = ("identity",)
"""Stages of one partition: one serial writer a space."""


def kinds(stage: str) -> Mapping[str, Kind]:
    """Return what the inbox of a stage carries."""
    found = {
        "mail": Kind(Item, (stage,), mail=True),
        "define": Kind(Define, (), define=True),
    }
    if stage == "intake":
        found["event"] = Kind(Received, (stage,), control=False)
        found["tick"] = Kind(Tick, (stage,), closes=True)
    elif stage == "profile":
        found["define"] = Kind(Define, (stage,), define=True)
        found["continue"] = Kind(Continue, (stage,))
    elif stage == "delivery":
        found["define"] = Kind(Define, (stage,), define=True)
        found["result"] = Kind(Result, (stage,))
    return found


def partition(store: Store, inbox: str, stage: str, number: int, partitions: int) -> Partition:
    """Return a stage's partition over its store."""
    return Partition(store, inbox, STAGES[stage], number, partitions, kinds(stage),
                     compile_definitions, tables=DEFINITION_TABLES, first=EMPTY)


def route(stage: str, key: str, partitions: int) -> int:
    """Return where a key of a stage lives. Lanes are addressed by their number, and ``#N`` is
    partition N itself."""
    if stage in SINGLE:
        return 0
    if stage == "intake":
        return int(key)
    return int(key[1:]) if key.startswith("#") else place(key, partitions)


def numbers(stage: str, partitions: int) -> range:
    """Return the partitions of a stage."""
    return range(1 if stage in SINGLE else partitions)
