"""The changelog writer and its recovery reader, against a real broker."""

import asyncio

import pytest

from transport.kafka import Changelog, Fenced, NotReached, Topic, Unknown, ensure_topics, parse


@pytest.fixture
async def settings(broker, name):
    found = parse(broker.url, {})
    assert await ensure_topics(found, [Topic(name, 2, changelog=True)]) == [name]
    return found


def rows(count, size=10, mark=b"v"):
    return [(b"key%d" % number, mark * size) for number in range(count)]


async def recovered(changelog, start=0, topic=None):
    return [row async for each, _ in changelog.recover(start, topic) for row in each]


async def test_protocol_9_what_was_appended_is_recovered_in_order(settings, name):
    changelog = Changelog(settings, name, 1, f"{name}-1")
    await changelog.open()
    assert await recovered(changelog) == []
    first = await changelog.append([*rows(3), (b"key1", None)])
    assert first == 4
    last = await changelog.append([(b"", b""), (b"late", b"x")])
    assert last == 7  # a commit marker lies between
    assert await recovered(changelog) == [*rows(3), (b"key1", None), (b"", b""), (b"late", b"x")]
    assert await recovered(changelog, first) == [(b"", b""), (b"late", b"x")]
    assert await recovered(changelog, last) == []
    await changelog.close()


async def test_protocol_9_a_batch_larger_than_a_request_is_one_transaction(settings, name):
    changelog = Changelog(settings, name, 0, f"{name}-0")
    await changelog.open()
    large = [*rows(2000, 1500), (b"huge", bytes(5 << 20))]
    end = await changelog.append(large)
    assert end == len(large)
    assert await recovered(changelog) == large
    await changelog.close()


async def test_protocol_9_the_new_owner_fences_the_old_one_before_it_reads(settings, name):
    old, new = (Changelog(settings, name, 0, f"{name}-0") for _ in range(2))
    await old.open()
    await old.append(rows(2, mark=b"a"))
    await new.open()
    with pytest.raises(Fenced):
        await old.append(rows(1, mark=b"b"))
    assert await recovered(new) == rows(2, mark=b"a")
    await new.append(rows(1, mark=b"c"))
    assert await recovered(new) == rows(2, mark=b"a") + rows(1, mark=b"c")
    await old.close()
    await new.close()


async def test_protocol_9_the_stages_of_a_partition_share_transactions_and_are_fenced_together(
        settings, name):
    topics = [f"{name}-{stage}" for stage in ("a", "b", "c")]
    await ensure_topics(settings, [Topic(topic, 1, changelog=True) for topic in topics])
    old, new = (Changelog(settings, topics, 0, name) for _ in range(2))
    await old.open()
    ends = await asyncio.gather(*(
        old.append(rows(1, mark=b"%d" % number), topic)
        for number in range(4) for topic in topics))
    assert ends == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]  # one marker a topic, behind them
    wanted = [each for number in range(4) for each in rows(1, mark=b"%d" % number)]
    late = asyncio.create_task(old.append(rows(1, mark=b"x"), topics[1]))
    assert await old.append(rows(1, mark=b"y"), topics[0]) == 6
    assert await late == 6
    await new.open()
    fenced = await asyncio.gather(*(old.append(rows(1), topic) for topic in topics),
                                  return_exceptions=True)
    assert [type(each) for each in fenced] == [Fenced] * 3
    with pytest.raises(Fenced):  # one who hears of it late
        await old.append(rows(1), topics[0])
    assert await recovered(new, topic=topics[0]) == wanted + rows(1, mark=b"y")
    assert await recovered(new, topic=topics[1]) == wanted + rows(1, mark=b"x")
    assert await recovered(new, topic=topics[2]) == wanted
    waiting = asyncio.create_task(new.append(rows(1), topics[2]))
    await asyncio.sleep(0)
    await new.close()
    with pytest.raises(Unknown):
        await waiting


@pytest.mark.parametrize("step", ["added", "produced"])
async def test_protocol_9_what_a_dead_owner_left_open_is_never_read(settings, name, step):
    dead, new = (Changelog(settings, name, 0, f"{name}-0") for _ in range(2))
    await dead.open()
    await dead.append(rows(1, mark=b"a"))
    producer = dead._producer
    await producer.begin_transaction()
    sent = await dead._send(producer, name, rows(3, mark=b"open"))
    if step == "produced":
        await asyncio.gather(*sent)
    else:
        for each in sent:
            each.cancel()
    await dead.close()
    await new.open()
    await asyncio.wait_for(new.append(rows(1, mark=b"new")), 5)
    assert await recovered(new) == rows(1, mark=b"a") + rows(1, mark=b"new")
    await new.close()


async def test_protocol_9_without_a_broker_the_outcome_is_unknown_and_recovery_tells(
        own_broker, name):
    settings = parse(own_broker.url, {})
    await ensure_topics(settings, [Topic(name, 1, changelog=True)])
    changelog = Changelog(settings, name, 0, name, timeout_s=1)
    await changelog.open()
    await changelog.append(rows(2))
    await asyncio.to_thread(own_broker.kill)
    with pytest.raises(Unknown):
        await changelog.append(rows(5))
    with pytest.raises(NotReached):
        await changelog.open()
    await asyncio.to_thread(own_broker.restart)
    while True:
        try:
            await changelog.open()
            break
        except NotReached:
            continue
    assert await recovered(changelog) in (rows(2), rows(2) + rows(5))
    await changelog.append(rows(1, mark=b"after"))
    await changelog.close()
