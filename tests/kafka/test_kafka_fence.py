"""The fence, a round for each step. The long form: ``python -m tests.kafka.fence``."""

import asyncio

from tests.kafka.fence import STEPS, play


async def test_protocol_9_a_woken_worker_writes_nothing_over_its_successors_rows(broker, name):
    outcomes = await asyncio.gather(*(
        play(broker.servers, f"{name}-{number}", step) for number, step in enumerate(STEPS)))
    assert [(each.step, each.first, each.right) for each in outcomes] == [
        (step, "Fenced", True) for step in STEPS], outcomes


async def test_protocol_9_without_the_transactional_id_the_woken_workers_rows_stay(broker, name):
    outcome = await play(broker.servers, name, "before produce", plain=True)
    assert outcome.first == "went on"
    assert not outcome.right
    assert "first 2" in outcome.detail or "first 4" in outcome.detail
