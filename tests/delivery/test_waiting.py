"""What memory holds of the waiting jobs: never out of order, never twice, never too much."""

import random

import pytest

from agents.delivery import JOBS, STAGE, job_key
from agents.records import Job, Moved, Result
from app.waiting import FLYING, Limits, Waiting
from tests.delivery.rig import T0_MS, Definitions, webhook
from tests.stages import MemoryState

TIGHT = Limits(jobs=8, bytes=400, queues=12, of_a_queue=3, slice=4)


class World:
    """The stage and what outbound knows of it, a step at a time."""

    def __init__(self, seed: int, limits: Limits) -> None:
        self.rng = random.Random(seed)
        self.now_ms = T0_MS
        self.limits = limits
        self.state = MemoryState(Definitions({"webhook": webhook()}), T0_MS)
        self.flying: list = []
        self.unlogged: list[Result] = []
        self.made = 0
        self.sent: list[int] = []
        self.largest = 0
        self.restart()

    def restart(self) -> None:
        self.waiting = Waiting("webhook", self.state, lambda: self.now_ms, self.limits)
        self.flying.clear()
        self.unlogged.clear()

    def commit(self, *records) -> None:
        before = dict(self.state.rows.get(JOBS.prefix, {}))
        for record in records:
            self.state.run(STAGE, record, self.now_ms)
        after = self.state.rows.get(JOBS.prefix, {})
        for key in after:
            if before.get(key) != after[key]:
                self.waiting.put(key, self.state.get(JOBS, key))
        for key in before:
            if key not in after:
                self.waiting.delete(key)

    def add(self) -> None:
        jobs = []
        for _ in range(self.rng.randrange(1, 6)):
            self.made += 1
            queue = self.rng.choice(["p1", "p2", "p3", *(f"user_id:u{n}" for n in range(12))])
            jobs.append(Job("webhook", queue, f"m{self.made}", b"x" * self.rng.randrange(1, 60)))
        self.commit(*jobs)

    def send(self) -> None:
        waiting = self.waiting
        waiting.wake()
        while waiting.load():
            pass
        taken = waiting.take(self.rng.choice([1, 1, 3, 10]), 200)
        mine = {entry.number for entry in taken}
        under_way = {entry.number for entry in self.flying}
        answered = {result.job[-8:] for result in self.unlogged if result.status != 500}
        for entry in taken:
            assert entry.stage == FLYING
            assert entry.number not in under_way, "sent twice at a time"
            row = self.state.get(JOBS, entry.key)
            assert row is not None, "sent without a job"
            assert row.next_ms <= self.now_ms, "sent too early"
            prefix = entry.key[:-8]
            earlier = [
                key[-8:] for key, _ in self.state.scan(JOBS, prefix)
                if len(key) == len(entry.key) and key < entry.key
            ]
            assert set(earlier) <= mine | answered, "sent before an earlier one of its queue"
        places = [(entry.key[:-8], entry.number) for entry in taken]
        for queue in {queue for queue, _ in places}:
            numbers = [number for other, number in places if other == queue]
            assert numbers == sorted(numbers), "out of order in one request"
        self.flying.extend(taken)
        held = waiting.in_memory - len(self.unlogged) - len(self.flying)
        self.largest = max(self.largest, held)

    def answer(self, all_good: bool = False) -> None:
        if not self.flying:
            return
        self.rng.shuffle(self.flying)
        entry = self.flying.pop()
        status = 200 if all_good else self.rng.choice([200, 200, 500, 400])
        if self.waiting.finish(entry, status != 500):
            # A 400 is as final as a 200 for what may go next.
            self.unlogged.append(Result(entry.key, entry.attempt, status, "", ""))

    def log(self) -> None:
        results, self.unlogged = self.unlogged, []
        self.commit(*results)


@pytest.mark.parametrize("limits", [TIGHT, Limits()], ids=["tight", "roomy"])
@pytest.mark.parametrize("seed", range(60))
def test_delivery_s4_jobs_of_a_queue_leave_in_order_once_at_a_time_and_all_of_them(seed, limits):
    world = World(seed, limits)
    rng = world.rng
    for _ in range(400):
        what = rng.random()
        if what < 0.3:
            world.add()
        elif what < 0.6:
            world.send()
        elif what < 0.8:
            world.answer()
        elif what < 0.92:
            world.log()
        elif what < 0.95:
            world.now_ms += rng.choice([1_000, 10_000, 300_000])
        elif what < 0.98:
            world.log()
            loser, survivor = rng.sample(["p1", "p2", "p3"], 2)
            world.commit(Moved(loser, survivor))
        elif rng.random() < 0.2:
            world.restart()
    for _ in range(20_000):
        if not list(world.state.scan(JOBS)) and not world.flying:
            break
        world.send()
        world.answer(all_good=True)
        world.log()
        world.now_ms += 1_000
    assert list(world.state.scan(JOBS)) == []
    assert world.waiting.in_memory == 0
    for _ in range(3):
        world.send()
    if limits is TIGHT:
        assert world.largest <= 20
        assert world.waiting._bytes == 0
    assert world.waiting.empty
    assert world.waiting._queues == {}


def test_delivery_s4_what_does_not_fit_stays_in_the_table_and_comes_later():
    state = MemoryState(Definitions({"webhook": webhook()}), T0_MS)
    for n in range(1, 5_001):
        state.run(STAGE, Job("webhook", f"user_id:u{n % 1000}", f"m{n}", b"x"), T0_MS)
    limits = Limits(jobs=100, slice=10)
    waiting = Waiting("webhook", state, lambda: T0_MS, limits)
    sent: dict[bytes, int] = {}
    total = 0
    # MemoryState scans slowly: this many rounds are enough to see it hold.
    for _ in range(40):
        while waiting.load():
            pass
        assert waiting.in_memory <= 100
        for entry in waiting.take(50, 1 << 20):
            queue = entry.key[:-8]
            assert entry.number > sent.get(queue, b"")
            sent[queue] = entry.number
            total += 1
            assert waiting.finish(entry, True)
            key = entry.key
            state.run(STAGE, Result(key, 1, 200, "", ""), T0_MS)
            waiting.delete(key)
    assert total > 1_500


def test_delivery_s4_a_queue_of_one_person_does_not_crowd_out_the_others():
    state = MemoryState(Definitions({"webhook": webhook()}), T0_MS)
    waiting = Waiting("webhook", state, lambda: T0_MS, Limits(jobs=50, of_a_queue=10))
    waiting.load()
    for n in range(1, 201):
        state.run(STAGE, Job("webhook", "whale", f"m{n}", b"x"), T0_MS)
        key = job_key("webhook", "whale", n)
        waiting.put(key, state.get(JOBS, key))
    assert waiting.in_memory == 10
    state.run(STAGE, Job("webhook", "small", "m201", b"x"), T0_MS)
    key = job_key("webhook", "small", 201)
    waiting.put(key, state.get(JOBS, key))
    assert [entry.key for entry in waiting.take(1, 100)] == [job_key("webhook", "whale", 1)]
    assert [entry.key for entry in waiting.take(1, 100)] == [key]
