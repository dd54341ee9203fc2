"""What the simulator found, each reduced to the shortest way there."""

import msgspec

from agents.delivery import JOBS
from agents.identity import ACCOUNTS
from agents.profile_tables import HISTORY, PROFILES
from agents.records import Received
from app.engine import TOPIC, Engine
from app.replay import digest, replay
from runtime.envelope import pack
from runtime.fused import POISON
from tables.store import MemoryStore
from tests.regressions.shop import START_MS, Shop
from tests.sim.stages import sim_stages
from tests.sim.workspace import EDITIONS
from tests.transport.simdisk import SimFiles
from transport.log import Log


def test_engine_s9_a_restart_before_other_definitions_changes_no_state() -> None:
    shop = Shop()
    shop.edition(1)
    shop.restart()
    shop.edition(2)
    assert shop.digest() == shop.replayed()


def test_audiences_M9_an_audience_that_came_back_sends_messages_of_its_own() -> None:
    shop = Shop()
    for number in range(3):
        shop.call("track", f"m{number}", event="Product Viewed", userId="u1", anonymousId="a1")
    shop.edition(3, at=0.1)  # without window_shoppers
    shop.put("continue", 0.1, (100,))
    shop.edition(0, at=0.2)
    shop.put("continue", 0.2, (100,))
    jobs = [row for _, row in shop.reader.scan(JOBS)]
    entered = [
        row.message_id for row in jobs
        if msgspec.json.decode(row.body).get("properties", {}).get("window_shoppers") is True
    ]  # fmt: skip
    assert len(entered) == len(set(entered)) == 2


def test_identity_example_18_a_group_call_after_the_window_stands_once_in_its_account() -> None:
    shop = Shop()
    call = {"groupId": "g1", "userId": "u1", "traits": {"seats": 3}}
    shop.call("group", "m1", **call)
    shop.call("group", "m1", at=2, stamp=0.001, **call)  # corrected by another clock
    account = shop.reader.get(ACCOUNTS, b"default\0g1").profile_id
    assert len(list(shop.reader.scan(HISTORY, account.encode()))) == 1
    assert shop.reader.get(PROFILES, account.encode()).links != ()


def test_identity_L6_ids_that_a_repeated_event_brings_by_now_are_the_profile_s_too() -> None:
    shop = Shop()
    shop.edition(6)  # no emails from properties
    call = {"event": "Opened", "userId": "u1", "properties": {"email": "ann@shop.test"}}
    shop.call("track", "m1", **call)
    shop.edition(0, at=1)
    shop.call("track", "m1", at=2, stamp=0, **call)
    (profile,) = (row for _, row in shop.reader.scan(PROFILES))
    assert [id.type for id in profile.ids] == ["user_id", "email"]
    assert len(list(shop.reader.scan(HISTORY))) == 1


def test_identity_example_18_another_person_s_messageId_is_kept_once_by_each() -> None:
    shop = Shop()
    shop.call("track", "m1", event="Order Completed", anonymousId="a1")
    for day in (2, 4):
        shop.call("track", "m1", at=day, stamp=2, event="Order Completed", anonymousId="a2")
    orders = [row.computed["orders_7d"].value for _, row in shop.reader.scan(PROFILES)]
    assert orders == [1, 1]


# ---- poison that is put back --------------------------------------------------------------------
POISON_CALL = Received("web", "m1", START_MS, START_MS, msgspec.json.encode({
    "type": "track", "event": "Poison", "messageId": "m1", "anonymousId": "a1", "context": {},
    "timestamp": "2025-06-15T15:06:40.000Z",
}))  # fmt: skip


class _Clock:
    scripted = False

    def now_ms(self) -> int:
        return START_MS


async def test_engine_s9_a_base_is_verified_although_a_redrive_waits_behind_it() -> None:
    with sim_stages():
        log = Log.open("/data", SimFiles(), identity=lambda: "ab" * 16)
        log.create(TOPIC)
        engine = Engine(log, MemoryStore(), _Clock())
        await engine.define(EDITIONS[0].define)
        log.append(TOPIC, 0, pack("event", START_MS, [POISON_CALL]))
        await log.flush()
        for record in log.read(TOPIC, 0, 0):
            engine.apply(record.offset, record.value, record.cached)
        engine.commit()
        ((id, _),) = engine.runner.scan(POISON)
        await engine.redrive(id.decode())
        fresh = MemoryStore()
        replay(fresh, log, engine.runner.applied + 1)
        assert digest(fresh) == digest(engine.store)


async def test_engine_s9_poison_is_taken_up_by_one_record_at_a_time() -> None:
    with sim_stages():
        log = Log.open("/data", SimFiles(), identity=lambda: "ab" * 16)
        log.create(TOPIC)
        engine = Engine(log, MemoryStore(), _Clock())
        await engine.define(EDITIONS[0].define)
        log.append(TOPIC, 0, pack("event", START_MS, [POISON_CALL]))
        await log.flush()
        for record in log.read(TOPIC, 0, 0):
            engine.apply(record.offset, record.value, record.cached)
        engine.commit()
        for _ in range(2):
            await engine.redrive("1.0")
        assert log.end(TOPIC, 0) == 3
        (record,) = log.read(TOPIC, 0, 2)
        engine.apply(record.offset, record.value, record.cached)
        engine.commit()
        await engine.redrive("1.0")
        assert log.end(TOPIC, 0) == 3
        fresh = MemoryStore()
        replay(fresh, log)
        assert digest(fresh) == digest(engine.store)


def test_collect_C35_a_repeat_of_what_came_back_from_before_1970_is_kept_once() -> None:
    shop = Shop()
    shop.call("identify", "m7", stamp=-30_000, userId="u1", timestamp="1943-05-01T00:00:00.000Z")
    shop.call("identify", "m7", at=2, userId="u1", traits={"plan": "free"})
    shop.call("identify", "m7", at=4, stamp=2, userId="u1", traits={"plan": "free"})
    (profile,) = (row for _, row in shop.reader.scan(PROFILES))
    assert profile.traits["plan"].received_at_ms == START_MS + 2 * 86_400_000
    assert len(list(shop.reader.scan(HISTORY))) == 1
