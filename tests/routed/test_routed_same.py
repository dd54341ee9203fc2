"""The fused mode and any number of partitions give the same results (protocol 12.1)."""

import random

import msgspec
import pytest

from agents.records import Received, Tick
from app.engine import runner_over
from app.reader import StoreReader
from events.calls import Refused, accept, request_context
from runtime.envelope import pack
from tables.store import MemoryStore
from tests.routed.memory import Net
from tests.routed.views import differences, view
from tests.sim.people import histories
from tests.sim.workspace import EDITIONS

START_MS = 1_750_000_000_000


def story(seed: int, calls: int) -> list[tuple[int, Received, dict]]:
    """Return a history: instants, stored events, what they hold."""
    rng = random.Random(seed)
    found = []
    now_ms = START_MS
    queues = [(client, list(client.calls)) for client in histories(rng, calls)]
    while any(left for _, left in queues):
        client, left = rng.choice([pair for pair in queues if pair[1]])
        call = left.pop(0)
        now_ms += rng.choice((1, 5, 1_000, 60_000, 3_600_000, 86_400_000))
        context = request_context(
            type=None, project_id=client.source, channel="server", client_side=False,
            received_at_ms=now_ms, new_message_id=lambda at_ms=now_ms: f"new-{at_ms}",
        )
        taken = accept(dict(call.body), context)
        if isinstance(taken, Refused):
            continue
        body = msgspec.json.decode(taken.body)
        found.append((now_ms, Received(client.source, taken.message_id, now_ms,
                                       taken.timestamp_ms, taken.body), body))
    return found


def fused(seed: int, calls: int) -> dict:
    store = MemoryStore()
    runner = runner_over(store, "f" * 32)
    records = [pack("define", START_MS, [EDITIONS[0].define])]
    for now_ms, record, _ in story(seed, calls):
        records += [pack("event", now_ms, [record]), pack("tick", now_ms, [Tick()])]
    for offset, value in enumerate(records):
        runner.apply(offset, value)
        runner.commit()
    return view([StoreReader(store)])


def routed(seed: int, calls: int, partitions: int) -> dict:
    net = Net(partitions, seed)
    net.define(EDITIONS[0].define, START_MS)
    net.rest()
    for now_ms, record, data in story(seed, calls):
        net.event(record, data, now_ms)
        net.rest()
        net.tick(now_ms)
        net.rest()
    return view([StoreReader(store) for store in net.stores.values()])


@pytest.mark.parametrize("partitions", [1, 4, 16])
@pytest.mark.parametrize("seed", range(12))
def test_protocol_12_one_event_at_a_time_gives_the_same_on_any_number_of_partitions(
    seed: int, partitions: int
) -> None:
    found = differences(fused(seed, 60), routed(seed, 60, partitions))
    assert not found, "\n".join(found[:12])
