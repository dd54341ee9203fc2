"""Settings, topics, outputs, inboxes and membership, against a real broker."""

import asyncio
import time

import pytest

from transport.kafka import (
    Broken,
    Inbox,
    KafkaSettings,
    Membership,
    NotReached,
    Outbox,
    OutOfRange,
    Topic,
    TopicDiffers,
    _Claim,
    ask_owners,
    check_brokers,
    ensure_topics,
    parse,
    share_out,
)


@pytest.fixture
def settings(broker):
    return parse(broker.url, {})


# ---- settings ------------------------------------------------------------------------------------
def test_kafka_urls_name_brokers_and_nothing_secret():
    assert parse("kafka://a:1,b", {}) == KafkaSettings(("a:1", "b:9092"))
    assert parse("kafka://[::1]:7", {}).servers == ("[::1]:7",)
    for wrong in ("kafka://", "kafka://a:b", "redis://a", "kafka://a,,b", "kafka://a:0"):
        with pytest.raises(ValueError, match="host:9092"):
            parse(wrong, {})
    with pytest.raises(ValueError, match="_SASL_PASSWORD") as refused:
        parse("kafka://me:hunter2@a", {})
    assert "hunter2" not in str(refused.value)


SASL = {"WATERSMEET_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "WATERSMEET_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "WATERSMEET_KAFKA_SASL_USERNAME": "me", "WATERSMEET_KAFKA_SASL_PASSWORD": "hunter2"}


def test_kafka_tls_and_sasl_come_from_the_environment_and_are_in_no_repr():
    settings = parse("kafka://a", SASL)
    assert settings.options()["sasl_plain_password"] == "hunter2"
    assert settings.options()["ssl_context"].check_hostname
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(("change", "told"), [
    ({"SECURITY_PROTOCOL": "TLS"}, "is one of"),
    ({"SASL_MECHANISM": "GSSAPI"}, "is one of"),
    ({"SECURITY_PROTOCOL": "SSL"}, "set it to SASL_SSL"),
    ({"SASL_PASSWORD": ""}, "needs"),
    ({"CAFILE": "/nowhere"}, "CAFILE"),
    ({"KEYFILE": "/nowhere"}, "needs WATERSMEET_KAFKA_CERTFILE"),
    ({"PASSWORD": "x"}, "is not a setting"),
])
def test_kafka_settings_that_would_be_unused_or_wrong_are_refused(change, told):
    environ = SASL | {f"WATERSMEET_KAFKA_{name}": value for name, value in change.items()}
    with pytest.raises(ValueError, match=told) as refused:
        parse("kafka://a", environ)
    assert "hunter2" not in str(refused.value)


# ---- topics --------------------------------------------------------------------------------------
async def test_kafka_topics_are_made_once_and_never_changed(settings, name):
    wanted = [Topic(f"{name}-in", 3), Topic(f"{name}-log", 3, changelog=True)]
    assert sorted(await ensure_topics(settings, wanted)) == [f"{name}-in", f"{name}-log"]
    assert await ensure_topics(settings, wanted) == []
    with pytest.raises(TopicDiffers, match="has 3 partitions, not 4"):
        await ensure_topics(settings, [Topic(f"{name}-in", 4)])
    with pytest.raises(TopicDiffers, match=r"cleanup\.policy=compact"):
        await ensure_topics(settings, [Topic(f"{name}-log", 3)])
    warnings = await check_brokers(settings, [each.name for each in wanted])
    assert [each.split(":")[0] for each in warnings] == [
        "there are 1 brokers", "replication below 3", "min.insync.replicas below 2"]
    assert f"{name}-in" in warnings[1]


async def test_kafka_two_workers_may_make_the_topics_at_once(settings, name):
    wanted = [Topic(f"{name}-{number}", 2) for number in range(5)]
    made = await asyncio.gather(*(ensure_topics(settings, wanted) for _ in range(3)))
    assert set().union(*made) == {each.name for each in wanted}


async def test_kafka_no_broker_is_told_in_a_sentence():
    with pytest.raises(NotReached, match=r"127\.0\.0\.1:1"):
        await check_brokers(parse("kafka://127.0.0.1:1", {}))


# ---- outputs and inboxes -------------------------------------------------------------------------
async def drain(inbox, count, max_bytes=1 << 20):
    got = []
    async with asyncio.timeout(20):
        while len(got) < count:
            got += await inbox.read(max_bytes)
    return got


async def test_protocol_9_outputs_arrive_in_order_within_each_partition(settings, name):
    await ensure_topics(settings, [Topic(name, 2)])
    outbox, inbox = Outbox(settings), Inbox(settings)
    await outbox.open()
    await inbox.open()
    inbox.assign({(name, 0): 0, (name, 1): 0})
    large = bytes(300_000)
    for start in range(0, 300, 50):
        await outbox.send([(name, number % 2, b"%d " % number + large[: number * 1000])
                           for number in range(start, start + 50)])
        ends = await inbox.ends()
        assert sum(ends.values()) == start + 50  # all are acknowledged
    got = await drain(inbox, 300)
    for partition in (0, 1):
        mine = [(offset, int(value.split()[0])) for _, p, offset, value in got if p == partition]
        assert mine == [(each, 2 * each + partition) for each in range(150)]
    await outbox.close()
    await inbox.close()


async def test_protocol_9_an_inbox_reads_from_where_it_is_told_and_skips_nothing(settings, name):
    await ensure_topics(settings, [Topic(name, 3)])
    outbox, inbox = Outbox(settings), Inbox(settings)
    await outbox.open()
    await inbox.open()
    await outbox.send([(name, partition, b"%d" % number)
                       for number in range(10) for partition in range(3)])
    inbox.assign({(name, 0): 8})
    assert [each[2:] for each in await drain(inbox, 2)] == [(8, b"8"), (9, b"9")]
    inbox.add({(name, 1): 0, (name, 2): 9})
    got = await inbox.read(3)
    assert 1 <= len(got) <= 3
    inbox.remove([(name, 2)])
    got = [each for each in got if each[1] == 1]
    got += await drain(inbox, 10 - len(got), 2)
    assert [each[1:3] for each in got] == [(1, offset) for offset in range(10)]
    await outbox.send([(name, 2, b"late"), (name, 0, b"on")])
    assert await drain(inbox, 1) == [(name, 0, 10, b"on")]
    assert await inbox.read(1, timeout_s=0.05) == []
    inbox.assign({(name, 1): 99})  # a state that lies beyond its log
    with pytest.raises(OutOfRange, match="99"):
        await drain(inbox, 1)
    await outbox.close()
    await inbox.close()


async def test_protocol_9_outputs_wait_for_the_broker_and_are_sent_once(own_broker, name):
    settings = parse(own_broker.url, {})
    await ensure_topics(settings, [Topic(name, 1)])
    outbox, inbox = Outbox(settings), Inbox(settings)
    await outbox.open()
    await inbox.open()
    inbox.assign({(name, 0): 0})
    await outbox.send([(name, 0, b"0")])
    await asyncio.to_thread(own_broker.kill)
    sending = [asyncio.create_task(outbox.send([(name, 0, b"1"), (name, 0, b"2")]))]
    await asyncio.sleep(0.2)
    sending.append(asyncio.create_task(outbox.send([(name, 0, b"3")])))
    await asyncio.to_thread(own_broker.restart)
    await asyncio.wait_for(asyncio.gather(*sending), 20)
    got = await drain(inbox, 4)
    assert [each[3] for each in got] == [b"0", b"1", b"2", b"3"]
    await outbox.close()
    await inbox.close()


async def test_protocol_9_after_what_was_refused_nothing_is_sent(settings, name):
    await ensure_topics(settings, [Topic(name, 1)], extra={"max.message.bytes": "1000"})
    outbox = Outbox(settings)
    await outbox.open()
    await outbox.send([(name, 0, b"small")])
    with pytest.raises(Broken):
        await outbox.send([(name, 0, bytes(5000)), (name, 0, b"after")])
    with pytest.raises(Broken):
        await outbox.send([(name, 0, b"later")])
    await outbox.close()


# ---- membership ----------------------------------------------------------------------------------
def test_kafka_shares_are_even_and_few_move():
    alone = share_out(range(8), {"a": _Claim("a")})
    assert alone == {"a": list(range(8))}
    two = share_out(range(8), {"a": _Claim("a", alone["a"], 1), "b": _Claim("b")})
    assert two == {"a": [0, 1, 2, 3], "b": [4, 5, 6, 7]}
    three = share_out(range(8), {"a": _Claim("a", two["a"], 2), "b": _Claim("b", two["b"], 2),
                                 "c": _Claim("c")})
    assert three == {"a": [0, 1, 2], "b": [4, 5, 6], "c": [3, 7]}
    left = share_out(range(8), {"a": _Claim("a", three["a"], 3), "c": _Claim("c", three["c"], 3)})
    assert left == {"a": [0, 1, 2, 4], "c": [3, 7, 5, 6]}
    # one that slept claims what others have had since
    woken = share_out(range(4), {"a": _Claim("a", [0, 1, 2, 3], 7), "z": _Claim("z", [0, 1], 3)})
    assert woken == {"a": [0, 1], "z": [2, 3]}
    assert share_out(range(1), {"a": _Claim("a"), "b": _Claim("b")}) == {"a": [0], "b": []}


class Worker:
    def __init__(self, settings, name, own):
        self.told = []
        self.membership = Membership(
            settings, name, name, own, session_s=2,
            assigned=lambda numbers: self.told.append(("+", sorted(numbers))),
            revoked=lambda numbers: self.told.append(("-", sorted(numbers))))


async def until(check):
    async with asyncio.timeout(15):
        while not check():  # noqa: ASYNC110, it looks at another task's work
            await asyncio.sleep(0.02)


async def test_kafka_workers_join_and_leave_and_only_what_moves_is_told(settings, name):
    await ensure_topics(settings, [Topic(name, 4)])
    one, two = Worker(settings, name, "one"), Worker(settings, name, "two")
    await one.membership.open()
    await until(lambda: one.told)
    assert one.told == [("+", [0, 1, 2, 3])]
    await two.membership.open()
    await until(lambda: two.told and len(one.told) > 1)
    assert (one.told[1:], two.told) == ([("-", [2, 3])], [("+", [2, 3])])
    agreed = {0: "one", 1: "one", 2: "two", 3: "two"}
    assert one.membership.owners == two.membership.owners == agreed
    assert await ask_owners(settings, name) == agreed
    began = time.monotonic()
    await one.membership.close()
    await until(lambda: len(two.told) > 1)
    assert time.monotonic() - began < 2
    assert two.told[1:] == [("+", [0, 1])]
    assert two.membership.owned == {0, 1, 2, 3}
    await two.membership.close()
    assert await ask_owners(settings, name) == {}


async def test_kafka_a_membership_lives_through_a_restart_of_the_broker(own_broker, name):
    settings = parse(own_broker.url, {})
    await ensure_topics(settings, [Topic(name, 2)])
    one = Worker(settings, name, "one")
    await one.membership.open()
    await until(lambda: one.told)
    await asyncio.to_thread(own_broker.kill)
    await asyncio.to_thread(own_broker.restart)
    two = Worker(settings, name, "two")
    while True:
        try:
            await two.membership.open()
            break
        except NotReached:
            await asyncio.sleep(0.1)
    await until(lambda: two.told)
    assert two.told == [("+", [1])]
    assert one.membership.owned == {0}
    await two.membership.close()
    await one.membership.close()
