"""The embedded log as a Faust transport: ``faust.App(broker="embedded:///PATH")``.

Call `register` before the app is made. One process has one `Log` a folder: `log_at` gives the same
one to the app, whose own appends the agents then see. Only durable records are delivered.

An agent may iterate over its stream as usual, or over `batches(stream)`, which yields all messages
that wait, without Faust's cost per record. A message's ``value`` is bytes; its ``cached`` is what
the writer handed to `Log.append` beside them, None once the record was read from disk.

Where a partition is taken up: at `start_at` if the app set it, else at the committed offset, which
is kept in the log's folder and is a hint only, else at the oldest record.
"""

import asyncio
import atexit
import itertools
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
from faust.app import App
from faust.assignor.client_assignment import ClientAssignment
from faust.channels import Channel
from faust.events import Event
from faust.exceptions import KeyDecodeError, ProducerSendError, ValueDecodeError
from faust.streams import Stream
from faust.topics import Topic
from faust.transport import base
from faust.transport.drivers import TRANSPORTS
from faust.types import TP
from faust.types.tuples import ConsumerMessage, RecordMetadata
from mode import Service
from mode.utils.futures import notify
from xxhash import xxh3_64_intdigest
from yarl import URL

from transport.files import write_file
from transport.log import Log, LogRefused, NotDurable, Record

QUEUE_BYTES = 32 << 20
"""How much may wait in a stream's queue before reading pauses."""
READ_RECORDS = 1000
READ_BYTES = 4 << 20
STOP_SECONDS = 10.0
"""How long a stop waits for agents to finish what they have begun."""
RETRY_SECONDS = 0.5
COMMITTED = "committed.json"

_logs: dict[str, Log] = {}
_starts: dict[tuple[str, int], Callable[[], int]] = {}


# ---- for the app -------------------------------------------------------------------------------
def register() -> None:
    """Make ``embedded://`` known to Faust."""
    TRANSPORTS.aliases["embedded"] = "transport.embedded:Transport"


def path_of(url: str | URL) -> str:
    """Return the folder of an ``embedded:///PATH`` URL. Raises ValueError if it names none."""
    url = URL(url)
    path = url.path
    if url.scheme != "embedded" or url.host not in (None, ".") or path in ("", "/"):
        raise ValueError(f"{url}: write embedded:///ABSOLUTE/PATH or embedded://./RELATIVE/PATH")
    return os.path.abspath("." + path if url.host == "." else path)  # noqa: PTH100


def log_at(path: str | os.PathLike[str], **options: Any) -> Log:
    """Return this process's log in a folder, opened now (``options`` of `Log.open`) if it is not.

    Raises what `Log.open` raises. Closed at the end of the process, or by its `Log.close`.
    """
    place = os.path.abspath(path)  # noqa: PTH100
    log = _logs.get(place)
    if log is None or log.closed:
        log = _logs[place] = Log.open(place, **options)
        atexit.register(log.close)
    return log


def adopt(log: Log) -> None:
    """Let the transport use a log that is open already."""
    _logs[log.path] = log


def start_at(topic: str, partition: int, offset: int | Callable[[], int]) -> None:
    """Take a partition up at ``offset``, whatever was committed; a callable is asked then."""
    _starts[topic, partition] = offset if callable(offset) else lambda: offset


def topic(app: App, name: str, partitions: int = 1) -> Topic:
    """Return a topic of raw bytes, which is what this transport delivers fastest."""
    return app.topic(
        name, partitions=partitions, key_type=bytes, value_type=bytes,
        key_serializer="raw", value_serializer="raw",
    )


async def batches(
    stream: Stream, max_records: int = READ_RECORDS, max_bytes: int = READ_BYTES
) -> AsyncIterator[list["LogMessage"]]:
    """Yield what waits in an agent's stream, at least one message, in order.

    A batch counts as done when the next one is asked for, and only then can be committed. When the
    agent raises instead, nothing from that batch on is committed by this process.
    """
    await stream.maybe_start()
    app = stream.app
    consumer: Consumer = app.consumer
    queue = stream.channel.queue
    while not stream.should_stop:
        try:
            event = await queue.get()
        except StopAsyncIteration:
            return  # how Faust ends an agent
        messages: list[LogMessage] = []
        size = 0
        generation = app.consumer_generation_id
        while True:
            message = event.message
            if message.generation_id == generation:
                messages.append(message)
                size += len(message.value)
            if len(messages) >= max_records or size >= max_bytes or queue.empty():
                break
            event = queue.get_nowait()
        if not messages:
            continue
        last = messages[-1]
        consumer.begin(last)
        done = False
        try:
            yield messages
            done = True
        finally:
            consumer.finish(messages, done)


# ---- Faust's side ------------------------------------------------------------------------------
class LogMessage(ConsumerMessage):
    """A record as Faust knows it."""

    __slots__ = ("cached",)


class Conductor(base.Conductor):
    """Knows which channels want a partition's records."""

    def channels_of(self, tp: TP) -> list[Channel]:
        """Return the channels that are subscribed, in a fixed order."""
        return sorted(self._tp_index.get(tp, ()), key=id)

    def partitions_of(self, name: str) -> int:
        """Return how many partitions a topic's subscribers want it to have."""
        return max((chan.partitions or 1 for chan in self._topic_name_index[name]), default=1)


class Consumer(base.Consumer):
    """Reads the log and fills the streams' queues. There is one consumer, so it gets everything."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Stand still until `subscribe`."""
        super().__init__(*args, **kwargs)
        self._log: Log = self.transport.log
        self._names: list[str] = []
        self._assigned: set[TP] = set()
        self._positions: dict[TP, int] = {}
        self._done: dict[TP, int] = {}
        self._stalled: dict[TP, int] = {}
        self._sizes: dict[TP, deque[int]] = {}
        self._waiting_bytes: dict[TP, int] = {}
        self._wake = asyncio.Event()
        self._deaf: Callable[[], None] = lambda: None

    async def on_start(self) -> None:
        """Listen to the log."""
        self._deaf()
        self._deaf = self._log.on_durable(self._wake.set)

    async def on_stop(self) -> None:
        """Commit what is done."""
        self._deaf()
        self._deaf = lambda: None
        await super().on_stop()

    # ---- assignment ----
    async def subscribe(self, topics: Iterable[str]) -> None:
        """Take up topics. The conductor waits for this, and the assignment for the conductor."""
        names = sorted(topics)
        if names != self._names or not self._assigned:
            self._names = names
            self.add_future(self._assign(names))

    async def _assign(self, names: list[str]) -> None:
        app, log = self.app, self._log
        app.on_rebalance_start()
        if self._assigned:
            await self.on_partitions_revoked(set(self._assigned))
        for name in names:
            log.create(name, max(app.topics.partitions_of(name), log.topics().get(name, 0)))
        counts = log.topics()
        self._assigned = {TP(name, n) for name in names for n in range(counts[name])}
        assignor = app.assignor
        here = {name: list(range(counts[name])) for name in names}
        assignor._assignment = ClientAssignment(actives=here, standbys={})
        assignor._active_tps, assignor._standby_tps = set(self._assigned), set()
        assignor._topic_groups = dict.fromkeys(names, 0)
        logs = {name: here[name] for name in names if name in app.tables.changelog_topics}
        url = str(assignor._url)
        assignor.changelog_distribution = {url: logs}
        assignor.external_topic_distribution = {
            url: {name: here[name] for name in names if name not in logs}
        }
        app.consumer_generation_id += 1
        self._wake.set()
        await self.on_partitions_assigned(set(self._assigned), app.consumer_generation_id)

    def assignment(self) -> set[TP]:
        """Return everything that was subscribed to."""
        return self._assigned

    def topic_partitions(self, topic: str) -> int | None:
        """Return how many partitions a topic has."""
        return self._log.topics().get(topic)

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    async def create_topic(
        self, topic: str, partitions: int, replication: int, **_options: Any  # noqa: ARG002
    ) -> None:
        """Make a topic."""
        self._log.create(topic, partitions)

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int:
        """Return where a key goes."""
        return partition if partition is not None else _partition(self._log, topic, key)

    # ---- positions ----
    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Stand where each partition is to be taken up."""
        log, committed = self._log, self.transport.committed(self.app.conf.id)
        found = {}
        for tp in sorted(self._assigned):
            start, end = log.start(*tp), log.durable_end(*tp)
            asked = _starts.get(tuple(tp))
            offset = asked() if asked else committed.get(f"{tp.topic}/{tp.partition}", start)
            if not start <= offset <= end:
                why = f"{tp.topic}/{tp.partition} is to be taken up at record {offset}, but the " \
                      f"log keeps {start} to {end - 1}: this is not the log that was read before"
                await self.app.crash(LogRefused(why))
                raise LogRefused(why)
            found[tp] = self._positions[tp] = offset
            self._done.pop(tp, None)
            self._stalled.pop(tp, None)
        self._wake.set()
        return found

    async def _seek(self, partition: TP, offset: int) -> None:
        self._positions[partition] = offset
        self._wake.set()

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Stand where recovery wants to read."""
        for tp, offset in partitions.items():
            await self.seek(tp, offset)

    async def position(self, tp: TP) -> int | None:
        """Return the next offset to be delivered."""
        return self._positions.get(tp)

    def highwater(self, tp: TP) -> int:
        """Return the offset behind the last durable record."""
        return self._log.durable_end(*tp)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Return `highwater` of each."""
        return {tp: self._log.durable_end(*tp) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Return the oldest offset that is kept of each."""
        return {tp: self._log.start(*tp) for tp in partitions}

    # ---- what is done ----
    def begin(self, message: LogMessage) -> None:
        """A batch that ends with ``message`` is being worked on."""
        message.tracked = True
        self._unacked_messages.add(message)
        self._wake.set()

    def finish(self, messages: list[LogMessage], done: bool) -> None:
        """A batch is done, or its agent failed."""
        last = messages[-1]
        if not done:
            self._stalled.setdefault(last.tp, messages[0].offset)
        elif last.tp not in self._stalled:
            self._done[last.tp] = last.offset + 1
        last.acked = True
        self._unacked_messages.discard(last)
        notify(self._waiting_for_ack)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterable[TP]:
        found = {*super()._filter_tps_with_pending_acks(topics)}
        return sorted(found | {tp for tp in self._done
                               if topics is None or tp in topics or tp.topic in topics})

    def _new_offset(self, tp: TP) -> int | None:
        offset = self._done.get(tp)
        return super()._new_offset(tp) if offset is None else offset

    async def _commit_offsets(self, *args: Any, **kwargs: Any) -> bool:
        """Commit, unless what agents sent is not durable: a failing disk does not end the app."""
        try:
            return await super()._commit_offsets(*args, **kwargs)
        except NotDurable as error:
            self.log.warning("offsets not committed: %s", error)
            return False

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Write down what is done: a hint, so when the disk does not take it nothing is lost."""
        try:
            await self.transport.commit(self.app.conf.id, offsets)
        except OSError as error:
            self.log.warning("offsets not committed: %s", error)
            return False
        return True

    async def wait_empty(self) -> None:
        """Wait for what agents have begun, but not for ever: an agent may have died over it."""
        until = time.monotonic() + STOP_SECONDS
        while self._unacked_messages and not self.should_stop:
            self._clean_unacked_messages()
            if not self._unacked_messages:
                break
            if time.monotonic() > until:
                self.log.warning("stopping; agents did not finish %s", self._unacked_messages)
                break
            self._waiting_for_ack = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._waiting_for_ack], timeout=0.2)
            self._waiting_for_ack = None
        await self.commit()

    # ---- delivery ----
    def resume_flow(self) -> None:
        """Go on."""
        super().resume_flow()
        self._wake.set()

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Go on with some partitions."""
        super().resume_partitions(tps)
        self._wake.set()

    async def _drain_messages(self, fetcher: Service) -> None:
        """Deliver until stopped. The stock loop's four tasks a record cost more than all else."""
        wake = self._wake
        try:
            while not (self.should_stop or fetcher.should_stop):
                wake.clear()
                moved = False
                if self.flow_active:
                    for tp in sorted(self._active_partitions):
                        moved = await self._deliver(tp) or moved
                if not moved:
                    # An end of rebalancing wakes nobody, hence the limit.
                    await self._pause(RETRY_SECONDS)
        except asyncio.CancelledError:
            if not (self.app.should_stop or fetcher.should_stop):
                raise

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _deliver(self, tp: TP) -> bool:
        """Put a partition's next records into its streams' queues. Return whether some were."""
        app = self.app
        if app.rebalancing and not self._is_changelog_tp(tp):
            return False  # the end of a rebalance empties the queues
        channels = app.topics.channels_of(tp)
        room, size = self._room(tp, channels)
        if room <= 0 or size <= 0:
            return False
        position = self._positions.get(tp)
        if position is None or position >= self._log.durable_end(*tp):
            return False
        await app.flow_control.acquire()
        await app.producer.buffer.wait_until_ebb()
        generation = app.consumer_generation_id
        try:
            records = self._log.read(*tp, position, min(room, READ_RECORDS), min(size, READ_BYTES))
        except LogRefused as error:
            await app.crash(error)
            raise
        except LookupError as error:
            await app.crash(LogRefused(str(error)))
            raise
        except OSError as error:
            self.log.error("%s/%s cannot be read: %s", tp.topic, tp.partition, error)
            await self.sleep(RETRY_SECONDS)
            return True
        if len(channels) == 1 and _is_raw(channels[0]):
            self._put_raw(tp, records, channels[0], generation)
        elif channels:
            await self._put(tp, records, channels, generation)
        if self._positions.get(tp) == position:
            self._positions[tp] = records[-1].offset + 1
            self._read_offset[tp] = records[-1].offset
            self._log.release(*tp, records[-1].offset + 1)
        await asyncio.sleep(0)
        return True

    def _room(self, tp: TP, channels: list[Channel]) -> tuple[int, int]:
        """Return how many records and bytes the fullest queue still takes."""
        if not channels:
            return 1, 1
        full = max((chan.queue for chan in channels), key=lambda queue: queue.qsize())
        waiting = full.qsize()
        sizes = self._sizes.setdefault(tp, deque())
        total = self._waiting_bytes.get(tp, 0)
        while len(sizes) > waiting:
            total -= sizes.popleft()
        self._waiting_bytes[tp] = total
        room, size = full.maxsize - waiting, QUEUE_BYTES - total
        if room <= 0 or size <= 0:
            full._pending_pressure_drop_callbacks.add(self._wake.set)
        return room, size

    def _note(self, tp: TP, record: Record) -> None:
        size = len(record.value)
        self._sizes[tp].append(size)
        self._waiting_bytes[tp] += size

    def _put_raw(
        self, tp: TP, records: list[Record], channel: Channel, generation: int
    ) -> None:
        """Deliver bytes to one stream: nothing to decode, nothing to wait for."""
        app, put = self.app, channel.queue.force_put_nowait
        headers: dict[str, Any] = {}
        for record in records:
            message = _message(tp, record, generation)
            message.refcount = 1
            self._note(tp, record)
            put(Event(app, record.key, record.value, headers, message))

    async def _put(
        self, tp: TP, records: list[Record], channels: list[Channel], generation: int
    ) -> None:
        """Deliver to any streams, as the stock conductor does."""
        for record in records:
            message = _message(tp, record, generation)
            message.refcount = len(channels)
            self._note(tp, record)
            for channel in channels:
                try:
                    event = await channel.decode(message, propagate=True)
                except KeyDecodeError as error:
                    message.ack(self)
                    await channel.on_key_decode_error(error, message)
                except ValueDecodeError as error:
                    message.ack(self)
                    await channel.on_value_decode_error(error, message)
                else:
                    channel.queue.force_put_nowait(event)
            if self.app.consumer_generation_id != generation:
                return

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109
        raise NotImplementedError("this transport drains the log itself")

    def _to_message(self, tp: TP, record: Record) -> LogMessage:
        return _message(tp, record, self.app.consumer_generation_id)


class Producer(base.Producer):
    """Appends to the log; a send is done when it is durable."""

    _turn = itertools.count()

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,  # noqa: ARG002, the log keeps none
        *,
        transactional_id: str | None = None,  # noqa: ARG002
    ) -> Awaitable[RecordMetadata]:
        """Append. Return what is done once the record is durable."""
        log: Log = self.transport.log
        if partition is None:
            partition = _partition(log, topic, key, next(self._turn))
        stamp = int((timestamp or time.time()) * 1000)
        try:
            offset = log.append(topic, partition, value or b"", key, stamp)
        except NotDurable as error:
            raise ProducerSendError(str(error)) from error
        return asyncio.ensure_future(self._settled(log, log.epoch, topic, partition, offset, stamp))

    async def _settled(
        self, log: Log, epoch: int, topic: str, partition: int, offset: int, stamp: int
    ) -> RecordMetadata:
        try:
            await log.flush(epoch)
        except NotDurable as error:
            raise ProducerSendError(str(error)) from error
        return RecordMetadata(topic, partition, TP(topic, partition), offset, stamp / 1000, 0)

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        """Append and wait until it is durable."""
        return await (await self.send(*args, **kwargs))

    async def flush(self) -> None:
        """Wait until all that was sent is durable."""
        await self.buffer.flush()
        await self.transport.log.flush()

    async def create_topic(
        self, topic: str, partitions: int, replication: int, **_options: Any  # noqa: ARG002
    ) -> None:
        """Make a topic."""
        self.transport.log.create(topic, partitions)

    def key_partition(self, topic: str, key: bytes) -> TP:
        """Return where a key goes."""
        return TP(topic, _partition(self.transport.log, topic, key))


class Transport(base.Transport):
    """``embedded://``."""

    Consumer = Consumer
    Producer = Producer
    Conductor = Conductor
    default_port = 0
    driver_version = "embedded"

    @property
    def log(self) -> Log:
        """Return this process's log, opened at the first use."""
        return log_at(path_of(self.url[0]))

    def committed(self, group: str) -> dict[str, int]:
        """Return a group of agents' committed (next) offsets by ``topic/partition``."""
        log = self.log
        name = f"{log.path}/{COMMITTED}"
        if not log.files.exists(name):
            return {}
        handle = log.files.open(name)
        try:
            data = log.files.read(handle, log.files.size(handle), 0)
        finally:
            log.files.close(handle)
        try:
            kept = msgspec.json.decode(data, type=_Committed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}  # a hint only: everything that is kept is delivered again
        return kept.groups.get(group, {}) if kept.log == log.identity else {}

    async def commit(self, group: str, offsets: Mapping[TP, int]) -> None:
        """Keep offsets. Raises OSError."""
        log = self.log
        mine = {**self.committed(group)}
        mine.update({f"{tp.topic}/{tp.partition}": offset for tp, offset in offsets.items()})
        data = msgspec.json.encode(_Committed(log.identity, {group: mine}))
        if not log.files.threaded:
            write_file(log.files, log.path, COMMITTED, data)
            return
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, write_file, log.files, log.path, COMMITTED, data)


class _Committed(msgspec.Struct):
    """`committed.json`."""

    log: str
    groups: dict[str, dict[str, int]]


def _message(tp: TP, record: Record, generation: int) -> LogMessage:
    message = LogMessage(
        tp.topic, tp.partition, record.offset, record.timestamp_ms / 1000, 0, None, record.key,
        record.value, None, 0, len(record.value), tp, generation_id=generation,
    )
    message.cached = record.cached
    return message


def _is_raw(channel: Channel) -> bool:
    schema = channel.schema
    return schema.key_serializer == "raw" and schema.value_serializer == "raw"


def _partition(log: Log, topic: str, key: bytes | None, turn: int = 0) -> int:
    count = log.topics().get(topic, 1)
    return (turn if key is None else xxh3_64_intdigest(key)) % count
