"""Definitions on Kafka: the first worker's folder, later ones by `faust -A app apply` alone.

A worker that takes over with an older folder must not revert them (protocol 10).
"""

from collections.abc import Mapping
from pathlib import Path

from agents.records import Define
from app.cluster.topics import Names
from app.folder import files
from app.partitions import STAGES, numbers
from events.version import VERSION
from runtime.envelope import pack
from transport.kafka import Outbox
from workspace.definitions import digest, load, normal_form


class Unusable(Exception):
    """The folder cannot be used; the text holds a line for each problem."""


def read(config: Path, env: Mapping[str, str]) -> Define:
    """Return the folder's definitions. Raises Unusable."""
    found, problems = files(config)
    definitions, more = load(found, env)
    errors = [problem for problem in (*problems, *more) if not problem.warning]
    if definitions is None or problems:
        raise Unusable("\n".join(
            ["the workspace cannot be used:", *map(str, errors), "see: faust -A app check"]
        ))
    body = normal_form(definitions)
    return Define(body, digest(body), VERSION)


async def enter(
    outbox: Outbox, names: Names, partitions: int, define: Define, now_ms: int
) -> None:
    """Put definitions into every inbox: that of lane 0 last, by which it is seen that all have
    them. Raises Broken."""
    value = pack("define", now_ms, [define])
    await outbox.send([
        (names.inbox(stage), number, value) for stage in STAGES
        for number in numbers(stage, partitions) if (stage, number) != ("intake", 0)
    ])
    await outbox.send([(names.inbox("intake"), 0, value)])
