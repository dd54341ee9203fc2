"""What waits in a queue, one partition alone."""

from typing import Any

import msgspec

from agents.delivery import JOBS, JobRow, job_number
from agents.profile_tables import PROFILES
from agents.records import Arrive, Continue, Define, Hand, Job, Received, SeenUser, Tick
from agents.routed.home import LINES
from agents.routed.records import Await, Expect, Given, Jobs, Water
from app import partitions as net
from app.reader import StoreReader
from events.event import Event
from profiles.profile import ExternalId, Occurrence, Profile, history_key
from runtime.envelope import Batch
from runtime.routed import Item, Origin
from tables.store import MemoryStore
from tests.sim.workspace import DAY, EDITIONS

START_MS = 1_750_000_000_000


class One:
    """One partition of a stage, the only one."""

    def __init__(self, stage: str) -> None:
        self.store = MemoryStore()
        self.part = net.partition(self.store, stage, stage, 0, 1)
        self.reader = StoreReader(self.store)
        self.define(EDITIONS[0].define, START_MS)

    def define(self, define: Define, at_ms: int) -> None:
        """Put definitions in force."""
        self.apply(Batch("define", at_ms, [define]))

    def mail(self, at_ms: int, record: Any) -> None:
        """Let a record of another stage come in."""
        origin = Origin("test", 0, self.part.applied + 1, 0)
        self.apply(Batch("mail", 0, [Item(origin, at_ms, record)]))

    def apply(self, batch: Batch) -> None:
        """Apply a record of the inbox, and write."""
        self.part.apply(self.part.applied + 1, batch)
        self.part.complete(self.part.prepare(lambda _stage, _key: 0))


USER = ExternalId("user_id", "u1", START_MS, "web", "m0")


def order(message_id: str, at_ms: int, *added: ExternalId) -> Arrive:
    data = {"type": "track", "event": "Order Completed", "properties": {"revenue": 1}}
    body = msgspec.json.encode(data)
    event = Event("web", message_id, "track", at_ms, at_ms, at_ms, body, data)
    return Arrive(event, "S", (("user_id", "u1"),), (), added)


def test_protocol_8_a_merge_goes_before_a_timer_that_is_later_than_what_stands_behind_it() -> None:
    one = One("profile")
    one.mail(START_MS, order("m0", START_MS, USER))
    due_ms = one.reader.get(PROFILES, b"S").armed_ms
    assert due_ms == START_MS + 7 * DAY
    one.mail(START_MS + 8 * DAY, order("m3", START_MS + 8 * DAY))
    one.mail(START_MS + 9 * DAY, Await(1, "S", "L"))
    one.mail(START_MS + 6 * DAY, order("m1", START_MS + 6 * DAY))
    for way in (-1, 0):
        one.mail(START_MS + 10 * DAY, Water(way, START_MS + 10 * DAY))
    assert one.reader.get(PROFILES, b"S").armed_ms == due_ms
    lost = Profile("L", "users", START_MS, START_MS, "m2", "web", "m2", "web", definitions=1)
    one.mail(START_MS + 9 * DAY, Given(1, Hand("S", lost, (), None, "m1"), (), ()))
    profile = one.reader.get(PROFILES, b"S")
    assert profile.memberships["recent_buyers"].transitions == 1, "who bought again never left"
    assert not list(one.reader.scan(LINES))


def test_protocol_5_what_follows_a_merge_comes_behind_the_jobs_handed_over() -> None:
    one = One("delivery")
    ahead = START_MS + DAY << 20
    waiting = (("hook", ahead, JobRow("of the lost one", b"{}")),)
    one.mail(START_MS, Expect(1, "S"))
    one.mail(START_MS, Job("hook", "S", "behind", b"{}"))
    one.mail(START_MS, Jobs(1, "S", waiting))
    jobs = [(job_number(key), row.message_id) for key, row in one.reader.scan(JOBS)]
    assert [name for _, name in sorted(jobs)] == ["of the lost one", "behind"]


def test_audiences_B3_what_is_handed_over_is_brought_up_to_the_definitions_here() -> None:
    one = One("profile")
    one.mail(START_MS, order("m0", START_MS, USER))
    one.define(EDITIONS[2].define, START_MS + 1)  # which counts views
    body = b'{"type":"track","event":"Product Viewed","properties":{},"context":{}}'
    seen = Occurrence("web", "track", START_MS, START_MS, "L", (("user_id", "u1"),), (), body)
    lost = Profile("L", "users", START_MS, START_MS, "m2", "web", "m2", "web", definitions=1)
    history = ((history_key("L", START_MS, "m2"), seen),)
    one.mail(START_MS + 2, Await(1, "S", "L"))
    one.mail(START_MS + 2, Given(1, Hand("S", lost, (), None, "m1"), history, ()))
    assert one.reader.get(PROFILES, b"S").computed["views"].value == 1


def test_audiences_B3_history_off_counts_what_was_received_since_though_it_was_applied_before(
) -> None:
    one = One("profile")
    body = b'{"type":"track","event":"Product Viewed","properties":{},"context":{}}'
    event = Event("web", "m0", "track", START_MS + 5, START_MS + 5, START_MS + 5, body,
                  msgspec.json.decode(body))
    one.mail(START_MS + 5, Arrive(event, "S", (("user_id", "u1"),), (), (USER,)))
    one.define(EDITIONS[2].define, START_MS + 1)  # "starting_now" has no history
    one.apply(Batch("continue", START_MS + 9, [Continue(9)]))
    assert one.reader.get(PROFILES, b"S").memberships["starting_now"].inside


def test_protocol_10_definitions_mean_the_same_in_partitions_that_are_ahead_and_behind() -> None:
    behind, ahead = One("profile"), One("profile")
    ahead.apply(Batch("continue", START_MS + DAY, [Continue(1)]))
    for one in (behind, ahead):
        one.define(EDITIONS[2].define, START_MS + 1)
    assert behind.part.definitions.plan.leaves.keys() == ahead.part.definitions.plan.leaves.keys()


def test_protocol_1_where_a_tick_stands_does_not_depend_on_the_last_start() -> None:
    def lane(starts: bool) -> dict[bytes, bytes]:
        store = MemoryStore()
        part = net.partition(store, "intake", "intake", 0, 1)
        two = [Received("web", f"m{n}", START_MS, START_MS, b'{"type":"page"}') for n in (1, 2)]
        for batch in (Batch("define", START_MS, [EDITIONS[0].define]),
                      Batch("event", START_MS, two), Batch("tick", START_MS, [Tick()])):
            part.apply(part.applied + 1, batch)
            part.complete(part.prepare(lambda _stage, _key: 0))
            if starts:
                part = net.partition(store, "intake", "intake", 0, 1)
        return dict(store.scan(b"", b"\xff"))

    assert lane(starts=True) == lane(starts=False)


def test_governance_G46_a_user_on_two_lanes_counts_once_a_month_also_at_its_turn() -> None:
    one = One("usage")
    for at_ms in (START_MS + 30 * DAY, START_MS, START_MS + 30 * DAY, START_MS):
        one.mail(at_ms, SeenUser("u1", "web"))
    counted = dict(one.reader.counters("usage:"))
    assert counted == {
        f"usage:2025-0{month}-15:identified{source}": 1 for month in "67" for source in ("", ":web")
    }
