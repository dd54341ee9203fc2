"""Kafka as the log of the routed mode: who may write a partition's changelog, and how it is read.

`Changelog` is the fence. Each partition of a stage has one transactional id; opening it makes
the broker refuse whoever held it before, so that a worker which slept through a take-over can
write nothing over its successor's rows. `Outbox` sends what goes on to other stages: outside any
transaction, since a replaced worker's outputs equal its successor's and are known by their
origin. `Inbox` reads from given offsets, `Membership` says which partitions are this worker's.
Nothing here knows what the bytes mean (protocol 9).
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as broker
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from aiokafka.helpers import create_ssl_context
from aiokafka.producer import sender

MARKER_WAIT_S = 0.005
"""How long a transaction waits when the marker of the last is not written yet. The library's own
20 ms is most of the time that an append takes under load."""
RECORD_BYTES = 16 << 20
"""The largest record of any topic."""
BATCH_BYTES = 1 << 20
"""Rows of one transaction go out in record batches of about this size."""

sender.BACKOFF_OVERRIDE = MARKER_WAIT_S

Row = tuple[bytes, bytes | None]


class Fenced(Exception):
    """The partition's changelog is another's now, or was given up by the broker: stop, never retry.

    Nothing of the refused append will ever be read.
    """


class Unknown(Exception):
    """An append may have taken place or not: write no local state, open again and recover."""


class NotReached(Exception):
    """The brokers cannot be reached, or did not answer in time. Nothing was written."""


class Broken(Exception):
    """Something sent was not taken, and what came after it must not be: begin anew."""


class OutOfRange(Exception):
    """An inbox does not hold the offset asked for: cut, made anew, or never that long."""


class TopicDiffers(Exception):
    """A topic is there, but not as wanted."""


# ---- settings ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class KafkaSettings:
    """Where the brokers are and how to be let in. What is secret is in no repr."""

    servers: tuple[str, ...]
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_context: SSLContext | None = field(default=None, repr=False, compare=False)

    def options(self) -> dict[str, Any]:
        """Return the arguments that every client of aiokafka takes."""
        return {
            "bootstrap_servers": list(self.servers),
            "security_protocol": self.security_protocol,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": self.sasl_password,
            "ssl_context": self.ssl_context,
            "retry_backoff_ms": 100,
        }


PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
ENVIRONMENT = "WATERSMEET_KAFKA_"


def parse(url: str, environ: Mapping[str, str] = os.environ) -> KafkaSettings:
    """Return the settings of ``kafka://host:9092,host2:9092``; a port left out is 9092.

    TLS and SASL come from ``environ``: WATERSMEET_KAFKA_SECURITY_PROTOCOL, _SASL_MECHANISM,
    _SASL_USERNAME, _SASL_PASSWORD, _CAFILE, _CERTFILE, _KEYFILE. Raises ValueError with a
    sentence for whoever set them; it never contains a secret.
    """
    scheme, _, rest = url.partition("://")
    if scheme != "kafka" or "@" in rest:
        raise ValueError("a Kafka broker is written kafka://host:9092,host2:9092; a user and a "
                         f"password go into {ENVIRONMENT}SASL_USERNAME and _SASL_PASSWORD")
    servers = tuple(_server(each) for each in rest.rstrip("/").split(","))
    given = {name.removeprefix(ENVIRONMENT): value for name, value in environ.items()
             if name.startswith(ENVIRONMENT) and value}
    known = {"SECURITY_PROTOCOL", "SASL_MECHANISM", "SASL_USERNAME", "SASL_PASSWORD", "CAFILE",
             "CERTFILE", "KEYFILE"}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"{ENVIRONMENT}{unknown[0]} is not a setting; there are: "
                         + ", ".join(sorted(known)))
    protocol = given.get("SECURITY_PROTOCOL", "PLAINTEXT")
    mechanism = given.get("SASL_MECHANISM", "PLAIN")
    if protocol not in PROTOCOLS:
        raise ValueError(f"{ENVIRONMENT}SECURITY_PROTOCOL is one of: " + ", ".join(PROTOCOLS))
    if mechanism not in MECHANISMS:
        raise ValueError(f"{ENVIRONMENT}SASL_MECHANISM is one of: " + ", ".join(MECHANISMS))
    _check_pairs(protocol, given)
    return KafkaSettings(
        servers, protocol, mechanism, given.get("SASL_USERNAME"), given.get("SASL_PASSWORD"),
        _context(given) if protocol.endswith("SSL") else None,
    )


def _server(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, "9092"
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or "/" in host:
        raise ValueError(f'"{text}" is not a broker: write host:9092')
    return f"{host}:{port}"


def _check_pairs(protocol: str, given: Mapping[str, str]) -> None:
    """Refuse settings that would be left unused in silence."""
    sasl = [name for name in given if name.startswith("SASL_")]
    if sasl and not protocol.startswith("SASL_"):
        raise ValueError(f"{ENVIRONMENT}{sasl[0]} is set, but {ENVIRONMENT}SECURITY_PROTOCOL is "
                         f"{protocol}: set it to SASL_SSL (or SASL_PLAINTEXT)")
    if protocol.startswith("SASL_") and not {"SASL_USERNAME", "SASL_PASSWORD"} <= given.keys():
        raise ValueError(f"{protocol} needs {ENVIRONMENT}SASL_USERNAME and _SASL_PASSWORD")
    files = [name for name in ("CAFILE", "CERTFILE", "KEYFILE") if name in given]
    if files and not protocol.endswith("SSL"):
        raise ValueError(f"{ENVIRONMENT}{files[0]} is set, but {ENVIRONMENT}SECURITY_PROTOCOL is "
                         f"{protocol}: set it to SSL or SASL_SSL")
    if "KEYFILE" in given and "CERTFILE" not in given:
        raise ValueError(f"{ENVIRONMENT}KEYFILE needs {ENVIRONMENT}CERTFILE")


def _context(given: Mapping[str, str]) -> SSLContext:
    try:
        return create_ssl_context(cafile=given.get("CAFILE"), certfile=given.get("CERTFILE"),
                                  keyfile=given.get("KEYFILE"))
    except OSError as error:  # ssl.SSLError is one
        names = ", ".join(f"{ENVIRONMENT}{name}" for name in sorted(given) if "FILE" in name)
        raise ValueError(f"TLS cannot be set up from {names}: {error}") from error


# ---- topics --------------------------------------------------------------------------------------
class Topic(NamedTuple):
    """A topic as it must be: an inbox keeps every record, a changelog the last one of each key."""

    name: str
    partitions: int
    changelog: bool = False

    def configs(self) -> dict[str, str]:
        """Return the broker's settings for it, but for those that depend on the replication."""
        keep = {"cleanup.policy": "compact"} if self.changelog else {
            "cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
        return {**keep, "max.message.bytes": str(RECORD_BYTES),
                "unclean.leader.election.enable": "false"}


async def ensure_topics(settings: KafkaSettings, topics: Iterable[Topic],
                        replication: int | None = None,
                        extra: Mapping[str, str] | None = None) -> list[str]:
    """Create what is missing and return its names; what is there is compared, never changed.

    ``replication``: 3, or as many as there are brokers. ``extra`` settings for those created.
    Raises TopicDiffers when a topic has another number of partitions or another cleanup.policy,
    NotReached. Two workers may do this at once.
    """
    wanted = {topic.name: topic for topic in topics}
    async with _admin(settings) as admin:
        there = {each["topic"] for each in await _describe(admin, [])} & wanted.keys()
        copies = replication or min(3, len((await admin.describe_cluster())["brokers"]))
        own = {"min.insync.replicas": str(max(1, copies - 1)), **(extra or {})}
        missing = [topic for name, topic in wanted.items() if name not in there]
        if missing:
            answer = await admin.create_topics([
                NewTopic(topic.name, topic.partitions, copies,
                         topic_configs={**topic.configs(), **own}) for topic in missing])
            for name, code, reason in answer.topic_errors:
                if code not in (0, broker.TopicAlreadyExistsError.errno):
                    raise TopicDiffers(f"topic {name} cannot be created: "
                                       f"{reason or broker.for_code(code).__name__}")
        await _await_leaders(admin, wanted)
        policies = await _configs(admin, list(wanted), "cleanup.policy")
    for name, found in policies.items():
        if found["cleanup.policy"] != wanted[name].configs()["cleanup.policy"]:
            raise TopicDiffers(f"topic {name} has cleanup.policy={found['cleanup.policy']}, and "
                               f"must have {wanted[name].configs()['cleanup.policy']}")
    return [topic.name for topic in missing]


async def _await_leaders(admin: AIOKafkaAdminClient, wanted: Mapping[str, Topic]) -> None:
    """Return when every partition can be written."""
    for _ in range(200):
        found = {each["topic"]: each["partitions"]
                 for each in await _describe(admin, list(wanted)) if not each["error_code"]}
        for name, partitions in found.items():
            if len(partitions) != wanted[name].partitions:
                raise TopicDiffers(f"topic {name} has {len(partitions)} partitions, not "
                                   f"{wanted[name].partitions}")
        if len(found) == len(wanted) and all(
                each["leader"] >= 0 for partitions in found.values() for each in partitions):
            return
        await asyncio.sleep(0.05)
    raise NotReached(f"no leaders yet for the topics {', '.join(sorted(wanted))}")


async def check_brokers(settings: KafkaSettings, topics: Iterable[str] = ()) -> list[str]:
    """Return a sentence for each setting under which what was answered 200 may be lost.

    Looks at ``topics``, at the brokers' own topics of transactions and groups, and at how many
    brokers there are. Empty when all is well. Raises NotReached.
    """
    warnings = []
    async with _admin(settings) as admin:
        count = len((await admin.describe_cluster())["brokers"])
        if count < 3:
            warnings.append(f"there are {count} brokers: with fewer than 3, losing one of them "
                            "can lose what was answered 200")
        own = {"__transaction_state", "__consumer_offsets"}
        wanted = {*topics, *own}
        described = [each for each in await _describe(admin, []) if each["topic"] in wanted]
        configs = await _configs(admin, [each["topic"] for each in described],
                                 "min.insync.replicas", "unclean.leader.election.enable")
    few, unsafe, unclean = [], [], []
    for each in sorted(described, key=lambda each: each["topic"]):
        name = each["topic"]
        if min((len(one["replicas"]) for one in each["partitions"]), default=0) < 3:
            few.append(name)
        if int(configs[name]["min.insync.replicas"]) < 2:
            unsafe.append(name)
        if configs[name]["unclean.leader.election.enable"] == "true":
            unclean.append(name)
    for names, what in ((few, "replication below 3"), (unsafe, "min.insync.replicas below 2"),
                        (unclean, "unclean.leader.election.enable=true")):
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
            warnings.append(f"{what}: {shown}")
    return warnings


@contextlib.asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**settings.options())
    try:
        await admin.start()
        yield admin
    except (broker.KafkaError, TimeoutError, OSError) as error:
        raise NotReached(f"{', '.join(settings.servers)}: {_told(error)}") from error
    finally:
        await admin.close()


async def _describe(admin: AIOKafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
    return await admin.describe_topics(names or None)


async def _configs(admin: AIOKafkaAdminClient, topics: list[str],
                   *names: str) -> dict[str, dict[str, str]]:
    if not topics:
        return {}
    answers = await admin.describe_configs([
        ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(names)) for topic in topics])
    return {
        topic: {entry[0]: entry[1] for entry in entries}
        for answer in answers for code, _, _, topic, entries in answer.resources if not code
    }


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__


# ---- the changelog -------------------------------------------------------------------------------
class Changelog:
    """What one partition number of the stages has to keep, and the one right to write it.

    A topic a stage, and one transaction for all that is appended while the last one is on its
    way: seven stages cost a broker little more than one. `open`, then `recover`, then `append`:
    whoever reads before it has fenced its predecessor may miss what that one still writes.
    Rule: protocol 9.
    """

    def __init__(self, settings: KafkaSettings, topics: str | Sequence[str], partition: int,
                 transactional_id: str, *, timeout_s: float = 30.0) -> None:
        """``transactional_id``: the same for every owner this partition ever has, nobody else's.

        ``timeout_s`` bounds each call, and how long a transaction may stay open at the broker.
        """
        self._settings = settings
        self._topics = (topics,) if isinstance(topics, str) else tuple(topics)
        self._partition = partition
        self._id = transactional_id
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._queued: list[tuple[str, Sequence[Row], asyncio.Future[int]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._ended: Exception | None = None

    async def open(self) -> None:
        """Take the partition over: whoever had it is refused from now on, what it left open ends.

        Raises NotReached. Must not be called by a worker that is not the partition's owner.
        """
        assert self._producer is None, "it is open"
        if self._committing:
            await asyncio.wait([self._committing])  # it is still telling of its end
        producer = AIOKafkaProducer(
            **self._settings.options(),
            transactional_id=self._id,
            transaction_timeout_ms=int(self._timeout_s * 1000),
            request_timeout_ms=int(self._timeout_s * 1000),
            acks="all",
            max_batch_size=BATCH_BYTES,
            compression_type="lz4",
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                await producer.start()
        except BaseException as error:
            await _drop(producer)
            if isinstance(error, broker.KafkaError | OSError):  # TimeoutError is an OSError
                raise NotReached(f"{self._id}: {_told(error)}") from error
            raise
        self._ended, self._producer = None, producer

    async def recover(self, start: int = 0, topic: str | None = None) -> (
            AsyncIterator[tuple[list[Row], int]]):
        """Yield ``(rows, offset after them)`` from ``start`` to the last committed row.

        ``topic``: which of several. Rows of transactions that were not committed are left out; a
        value None means the key is gone. Raises NotReached when nothing more comes for
        ``timeout_s``, OutOfRange.
        """
        assert self._producer is not None, "fence first, then read"
        at = TopicPartition(topic or self._topics[0], self._partition)
        where = f"{at.topic}-{at.partition}"
        consumer = _reader(self._settings, isolation_level="read_committed")
        try:
            async with asyncio.timeout(self._timeout_s):
                await consumer.start()
                end = (await consumer.end_offsets([at]))[at]
            if start > end:
                raise OutOfRange(f"{where} ends at {end}, before {start}")
            consumer.assign([at])
            consumer.seek(at, start)
            # The last offset is that of a commit marker, which is no row: the position passes it.
            moved = asyncio.get_running_loop().time()
            while (position := await consumer.position(at)) < end:
                fetched = await consumer.getmany(timeout_ms=20, max_records=5000)
                if records := fetched.get(at):
                    yield [(each.key, each.value) for each in records], records[-1].offset + 1
                now = asyncio.get_running_loop().time()
                if await consumer.position(at) > position:
                    moved = now
                elif now > moved + self._timeout_s:
                    raise NotReached(f"{where} stays at {position} of {end}")
        except broker.OffsetOutOfRangeError as error:
            raise OutOfRange(f"{where} has no offset {start}") from error
        except (broker.KafkaError, OSError) as error:
            raise NotReached(f"{where}: {_told(error)}") from error
        finally:
            await consumer.stop()

    async def append(self, rows: Sequence[Row], topic: str | None = None) -> int:
        """Append ``rows`` as a whole, durably; return the offset after them.

        ``topic``: which of several. Raises Fenced, or Unknown; either way everybody gets the same
        until it is opened again. Whoever cancels this must close it, open it again and recover.
        Cost: three round trips and a marker record, shared by all that wait together.
        """
        assert rows
        if self._ended:
            raise self._meaning(self._ended)
        assert self._producer is not None, "it is closed"
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queued.append((topic or self._topics[0], rows, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_queued(self._producer))
        return await done

    async def _commit_queued(self, producer: AIOKafkaProducer) -> None:
        try:
            while self._queued:
                group, self._queued = self._queued, []
                try:
                    async with asyncio.timeout(self._timeout_s):
                        ends = await self._commit(producer, group)
                except BaseException:
                    self._queued = group + self._queued
                    raise
                for (_, _, done), end in zip(group, ends, strict=True):
                    if not done.done():
                        done.set_result(end)
        except Exception as error:  # noqa: BLE001, told to whoever waits
            self._ended, self._producer = error, None
            await _drop(producer)
            self._tell(error)
        finally:
            self._committing = None

    def _tell(self, error: Exception) -> None:
        failed, self._queued = self._queued, []
        for _, _, done in failed:
            if not done.done():
                done.set_exception(self._meaning(error))

    def _meaning(self, error: Exception) -> Exception:
        if isinstance(error, broker.ProducerFenced | broker.InvalidProducerEpoch):
            meaning: Exception = Fenced(f"{self._id}: another has taken over")
        elif isinstance(error, broker.KafkaError | broker.IllegalOperation | OSError):
            # Illegal is what is sent once the library knows, and does not say, that it is fenced.
            meaning = Unknown(f"{self._id}: {_told(error)}")
        else:
            return error
        meaning.__cause__ = error
        return meaning

    async def _commit(self, producer: AIOKafkaProducer,
                      group: Sequence[tuple[str, Sequence[Row], Any]]) -> list[int]:
        """Return the offset after each one's rows, once the transaction is committed."""
        await producer.begin_transaction()
        sent = [await self._send(producer, topic, rows) for topic, rows, _ in group]
        ends = await asyncio.gather(*(asyncio.gather(*batches) for batches in sent))
        await producer.commit_transaction()
        return [end[-1] for end in ends]

    async def _send(self, producer: AIOKafkaProducer, topic: str,
                    rows: Sequence[Row]) -> "list[asyncio.Future[int]]":
        sent = []
        left = deque(rows)
        while left:
            batch, count = producer.create_batch(), 0
            while left and batch.append(key=left[0][0], value=left[0][1], timestamp=None):
                left.popleft()
                count += 1
            assert count, "an empty batch takes any row"
            future = await producer.send_batch(batch, topic, partition=self._partition)
            sent.append(asyncio.ensure_future(_end(future, count)))
        return sent

    async def close(self) -> None:
        """Give the connections back. The right to write stays until another opens."""
        if committing := self._committing:
            committing.cancel()
            await asyncio.wait([committing])
            self._committing = None
        if producer := self._producer:
            self._producer = None
            await _drop(producer)
        self._tell(broker.ProducerClosed())


async def _end(sent: "asyncio.Future[Any]", count: int) -> int:
    return (await sent).offset + count


async def _drop(producer: AIOKafkaProducer) -> None:
    """Close at once: its own `stop` first waits, without end, for what the broker does not take."""
    producer._closed = True
    producer._message_accumulator.fail_all(broker.ProducerClosed())
    sending = producer._sender.sender_task
    for _ in range(3):  # it waits for its own tasks each time it is told to end
        if sending is None or sending.done():
            break
        sending.cancel()
        await asyncio.wait([sending], timeout=0.1)
    await producer.client.close()
    # What failed is told to the caller, once: these futures of the library would tell it again.
    left = [batch._drain_waiter for batches in producer._message_accumulator._batches.values()
            for batch in batches]
    if (manager := producer._txn_manager) and (ending := manager.wait_for_transaction_end()):
        left.append(ending)
    for future in left:
        if future.done() and not future.cancelled():
            future.exception()


def _reader(settings: KafkaSettings, **options: Any) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **settings.options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 << 20,
        **options,
    )


# ---- outputs -------------------------------------------------------------------------------------
class Outbox:
    """Sends records to other partitions' inboxes, in order within each.

    One a worker, shared by its partitions. What could not be sent in order is never followed by
    anything: then it is broken, every send raises, and all that use it begin anew.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._broken: BaseException | None = None

    async def open(self) -> None:
        """Connect. Raises NotReached."""
        producer = AIOKafkaProducer(
            **self._settings.options(),
            enable_idempotence=True,
            acks="all",
            max_batch_size=BATCH_BYTES,
            max_request_size=RECORD_BYTES,
            linger_ms=0,
        )
        try:
            async with asyncio.timeout(30):
                await producer.start()
        except BaseException as error:
            await _drop(producer)
            if isinstance(error, broker.KafkaError | OSError):
                raise NotReached(_told(error)) from error
            raise
        self._producer = producer

    async def send(self, phase: Iterable[tuple[str, int, bytes]]) -> None:
        """Send ``(topic, partition, value)`` each; return when the brokers hold all of them.

        While they cannot be reached it waits, without end. Raises Broken. Whoever cancels it does
        not know which of them were sent.
        """
        producer = self._producer
        assert producer is not None, "it is not open"
        if self._broken is not None:
            raise Broken(_told(self._broken)) from self._broken
        waiting: list[asyncio.Future[Any]] = []
        try:
            for topic, partition, value in phase:
                waiting.append(await self._queue(producer, topic, partition, value))
            if waiting:
                await asyncio.wait(waiting)
            for each in waiting:
                each.result()
        except broker.KafkaError as error:
            self._broken = self._broken or error
            for each in waiting:
                each.cancel()
            raise Broken(_told(error)) from error

    async def _queue(self, producer: AIOKafkaProducer, topic: str, partition: int,
                     value: bytes) -> "asyncio.Future[Any]":
        while True:
            try:
                return await producer.send(topic, value, partition=partition)
            except broker.KafkaTimeoutError:
                continue  # no room before it yet: it was not taken

    async def close(self) -> None:
        """Give the connections back; what is still being sent may arrive or not."""
        if producer := self._producer:
            self._producer = None
            await _drop(producer)


# ---- inboxes -------------------------------------------------------------------------------------
Received = tuple[str, int, int, bytes]
"""topic, partition, offset, value"""


class Inbox:
    """Reads given partitions from given offsets; no group, no commits, nothing skipped."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._next: dict[TopicPartition, int] = {}
        self._waiting: deque[Received] = deque()

    async def open(self) -> None:
        """Connect. Raises NotReached."""
        consumer = _reader(self._settings, fetch_max_wait_ms=500)
        try:
            await consumer.start()
        except (broker.KafkaError, OSError) as error:
            await consumer.stop()
            raise NotReached(_told(error)) from error
        self._consumer = consumer

    def assign(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Read these from now on, each from its offset. What was there before is forgotten."""
        assert self._consumer is not None, "it is not open"
        self._waiting.clear()
        self._next = {TopicPartition(*at): offset for at, offset in offsets.items()}
        self._assign()

    def add(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Read these as well."""
        fresh = {TopicPartition(*at): offset for at, offset in offsets.items()}
        assert not fresh.keys() & self._next.keys(), "it is read already"
        self._next |= fresh
        self._assign()

    def remove(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Read these no longer; nothing more of them is returned."""
        gone = {TopicPartition(*at) for at in partitions}
        self._next = {at: offset for at, offset in self._next.items() if at not in gone}
        self._waiting = deque(each for each in self._waiting if each[:2] not in gone)
        self._assign()

    def _assign(self) -> None:
        consumer = self._consumer
        assert consumer is not None, "it is not open"
        if not self._next:
            consumer.unsubscribe()
            return
        consumer.assign(list(self._next))
        for at, offset in self._next.items():
            consumer.seek(at, offset)

    async def read(self, max_bytes: int, timeout_s: float = 1.0) -> list[Received]:
        """Return what has come, in order within each partition, of about ``max_bytes`` in all.

        At least one record, or empty after ``timeout_s``. Raises OutOfRange.
        """
        assert self._consumer is not None, "it is not open"
        if not self._waiting:
            await self._fetch(timeout_s)
        taken, size = [], 0
        while self._waiting and (not taken or size + len(self._waiting[0][3]) <= max_bytes):
            each = self._waiting.popleft()
            taken.append(each)
            size += len(each[3])
        return taken

    async def _fetch(self, timeout_s: float) -> None:
        if not self._next:
            await asyncio.sleep(timeout_s)
            return
        try:
            fetched = await self._consumer.getmany(timeout_ms=int(timeout_s * 1000))
        except broker.OffsetOutOfRangeError as error:
            (at, offset), = error.args[0].items()
            raise OutOfRange(f"{at.topic}-{at.partition} has no offset {offset}") from error
        for at, records in fetched.items():
            if at in self._next:
                self._waiting.extend((at.topic, at.partition, each.offset, each.value)
                                     for each in records)
                self._next[at] = records[-1].offset + 1

    def end(self, topic: str, partition: int) -> int | None:
        """Return the next offset to be written, as the last answer of the broker had it."""
        at = TopicPartition(topic, partition)
        if self._consumer is None or at not in self._next:
            return None
        found: int | None = self._consumer.highwater(at)
        return found

    async def ends(self, partitions: Iterable[tuple[str, int]] | None = None) -> (
            dict[tuple[str, int], int]):
        """Return the next offset to be written, of ``partitions`` or of all that are read.

        Raises NotReached.
        """
        wanted = [TopicPartition(*at) for at in (self._next if partitions is None else partitions)]
        try:
            found = await self._consumer.end_offsets(wanted) if wanted else {}
        except (broker.KafkaError, OSError) as error:
            raise NotReached(_told(error)) from error
        return {(at.topic, at.partition): offset for at, offset in found.items()}

    async def close(self) -> None:
        """Give the connections back."""
        if consumer := self._consumer:
            self._consumer = None
            await consumer.stop()


# ---- which partitions are whose ------------------------------------------------------------------
class _Claim(msgspec.Struct):
    """What a worker tells the group: how others reach it, and what it had, as of which round."""

    name: str
    owned: list[int] = []
    round: int = 0


class _Given(msgspec.Struct):
    """What the group tells each worker beside its own share: everybody's."""

    owners: dict[int, str]
    round: int


def share_out(partitions: Iterable[int], claims: Mapping[str, _Claim]) -> dict[str, list[int]]:
    """Return each member's partitions: even to within one, and as few as possible move.

    Of two that claim the same, the one who had it last keeps it.
    """
    free = set(partitions)
    kept: dict[str, list[int]] = {member: [] for member in claims}
    for member in sorted(claims, key=lambda member: (-claims[member].round, member)):
        kept[member] = sorted(free & set(claims[member].owned))
        free -= set(kept[member])
    least, more = divmod(len(free) + sum(map(len, kept.values())), len(claims))
    order = sorted(claims, key=lambda member: (-len(kept[member]), member))
    quota = {member: least + (place < more) for place, member in enumerate(order)}
    for member in order:
        free |= set(kept[member][quota[member]:])
        del kept[member][quota[member]:]
    left = sorted(free, reverse=True)
    for member in order:
        while len(kept[member]) < quota[member]:
            kept[member].append(left.pop())
    return kept


class _Assignor:
    """`share_out`, as the client library wants it; one of each `Membership`."""

    name = "watersmeet"

    def __init__(self, name: str) -> None:
        self.claim = _Claim(name)
        self.owners: dict[int, str] = {}

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(0, sorted(topics), msgspec.json.encode(self.claim))

    def assign(self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]) -> (
            dict[str, ConsumerProtocolMemberAssignment]):
        topic = next(iter(members.values())).subscription[0]
        claims = {member: msgspec.json.decode(metadata.user_data, type=_Claim)
                  for member, metadata in members.items()}
        shares = share_out(cluster.partitions_for_topic(topic) or (), claims)
        told = msgspec.json.encode(_Given(
            {number: claims[member].name for member, share in shares.items() for number in share},
            1 + max(claim.round for claim in claims.values())))
        return {member: ConsumerProtocolMemberAssignment(0, [(topic, sorted(share))], told)
                for member, share in shares.items()}

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        given = msgspec.json.decode(assignment.user_data, type=_Given)
        self.owners = given.owners
        self.claim.owned = sorted(at.partition for at in assignment.partitions())
        self.claim.round = given.round


class Membership:
    """This worker's place among the workers of a workspace: which partition numbers it owns.

    A number is the same partition of every stage. Being told is not the fence: a worker that
    slept is told late, and `Changelog` is what refuses it. So nothing stops while the group
    confers; only what really moves is given up, when its new owner is known.
    """

    def __init__(self, settings: KafkaSettings, group: str, topic: str, name: str, *,
                 assigned: Callable[[set[int]], None], revoked: Callable[[set[int]], None],
                 session_s: float = 10.0) -> None:
        """``topic``: one with as many partitions as there are to own; nothing of it is read.

        ``name``: how the others reach this worker, as `owners` tells them. ``assigned`` and
        ``revoked`` get the numbers that came and went, ``revoked`` first; they return at once.
        A worker that is silent for ``session_s`` has lost its partitions.
        """
        self.owned: set[int] = set()
        self._settings = settings
        self._group, self._topic = group, topic
        self._assigned, self._revoked = assigned, revoked
        self._session_ms = int(session_s * 1000)
        self._assignor = _Assignor(name)
        self._consumer: AIOKafkaConsumer | None = None
        self._polling: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Join. Raises NotReached; the partitions come through ``assigned``."""
        consumer = AIOKafkaConsumer(
            **self._settings.options(),
            client_id=f"watersmeet-{self._assignor.claim.name}",
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            partition_assignment_strategy=(self._assignor,),
            session_timeout_ms=self._session_ms,
            heartbeat_interval_ms=max(100, min(1000, self._session_ms // 5)),
        )
        try:
            await consumer.start()
        except (broker.KafkaError, OSError) as error:
            await consumer.stop()
            raise NotReached(_told(error)) from error
        self._consumer = consumer
        consumer.subscribe([self._topic], listener=_Listener(self))
        self._polling = asyncio.create_task(self._poll(consumer))

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        """Stay a member: one that asks for nothing for five minutes is thrown out."""
        while True:
            await consumer.getmany(timeout_ms=1000)

    def _settle(self, now: set[int]) -> None:
        if self._consumer is not None:
            self._consumer.pause(*self._consumer.assignment())
        gone, came = self.owned - now, now - self.owned
        self.owned = now
        if gone:
            self._revoked(gone)
        if came:
            self._assigned(came)

    @property
    def owners(self) -> dict[int, str]:
        """Who owns which partition, by name, as the group last agreed."""
        return self._assignor.owners

    async def failed(self) -> None:
        """Return never, or raise what ended the membership: open another then."""
        assert self._polling is not None, "it is not open"
        await asyncio.shield(self._polling)

    async def close(self) -> None:
        """Leave: the others take over at once. Stop the partitions first; nothing is called."""
        if consumer := self._consumer:
            self._consumer = None
            self._polling.cancel()
            await asyncio.wait([self._polling])
            await consumer.stop()


class _Listener(ConsumerRebalanceListener):
    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    def on_partitions_revoked(self, revoked: Any) -> None:
        """What moves is not known yet."""

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._membership._settle({at.partition for at in assigned})


async def ask_owners(settings: KafkaSettings, group: str) -> dict[int, str]:
    """Return who owns which partition, for one who is no member. Empty while they confer.

    Raises NotReached.
    """
    async with _admin(settings) as admin:
        answer, = await admin.describe_consumer_groups([group])
    for _, _, state, _, _, members, *_ in answer.groups:
        for member in members if state == "Stable" else ():
            given = ConsumerProtocolMemberAssignment.decode(member[4])
            return msgspec.json.decode(given.user_data, type=_Given).owners
    return {}
