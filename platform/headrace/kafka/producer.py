"""Publish and confirm: acks=all, idempotent, bounded in time.

aiokafka retries an idempotent batch for ever and stays dead after some fatal errors. So a watchdog looks at
the oldest unconfirmed record once a second; when that is too old, or the producer is dead, all unconfirmed
records fail and a new producer takes over.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, Final
from zlib import crc32

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    BrokerResponseError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    kafka_errors,
)
from aiokafka.producer.transaction_manager import TransactionManager

from headrace.contracts.errors import BodyTooLarge, HeadraceError, NotPermitted, SetupError, Unavailable
from headrace.core.ports import Outgoing, Place
from headrace.kafka.connection import arguments, start_patiently
from headrace.settings import KafkaSettings

_log = logging.getLogger(__name__)

MAX_RECORD_BYTES: Final = 1_000_000
"""Kafka's own default for a batch is 1,048,588 bytes; this leaves room for headers."""

# One produce request is in flight per broker, so the batch is what sets the throughput: measured
# 465 records/s at aiokafka's 16 KiB, 7,338 at 256 KiB (2 KiB records, 5 ms to acknowledge).
_BATCH_BYTES: Final = 256 * 1024
# A record that fills a batch gains nothing by one, and `send` knows what is too large.
_LARGE_BYTES: Final = _BATCH_BYTES // 2
_ABSENT_TOPIC_S: Final = 5.0
_METADATA_TIMEOUT_S: Final = 3.0


# aiokafka asserts that the partition exists.
_FAULTS: Final = (KafkaError, AssertionError)


class InvalidRecordError(BrokerResponseError):  # type: ignore[misc]  # aiokafka ships no types
    """A record that its topic never takes, such as one without a key where the topic is compacted."""

    errno = 87
    message = "INVALID_RECORD"
    description = "the topic takes no such record; a compacted one takes none without a key"


kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)  # aiokafka does not know it


class Producer:
    """Fills `core.ports.Publisher` and `BulkPublisher`."""

    def __init__(self, settings: KafkaSettings, *, source: str) -> None:
        self._settings = settings
        self._source = source
        self._raw: Any = None
        self._waiting: dict[asyncio.Future[Place], float] = {}
        self._watchdog: asyncio.Task[None] | None = None
        self._absent: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()
        self._confirmed_s = float("-inf")

    async def start(self) -> None:
        """Connect; waits for Kafka as long as it takes."""
        self._raw = await start_patiently(self._build, _close, self._settings)
        self._watchdog = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Send what is waiting, if that is soon done, and close. Who cares has awaited the receipts."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            with suppress(asyncio.CancelledError):
                await self._watchdog
        if self._raw is not None:
            raw, self._raw = self._raw, None
            await _close(raw)
        self._fail_all("the producer was stopped")

    async def send(self, record: Outgoing) -> asyncio.Future[Place]:
        """Hand a record over; the future is the acknowledgement. See `core.ports.Publisher`."""
        raw = self._connected()
        try:
            sent = await raw.send(
                record.topic,
                record.value,
                key=record.key,
                partition=record.partition,
                headers=record.headers,
            )
        except _FAULTS as error:
            raise _refused(record.topic, error) from None
        return self._receipt(sent)

    async def send_all(self, records: Sequence[Outgoing]) -> Sequence[asyncio.Future[Place]]:
        """Hand over many at once, each with its partition; see `core.ports.BulkPublisher`."""
        raw, receipts = self._connected(), []
        now_ms = int(time.time() * 1000)
        batches: dict[tuple[str, int | None], Any] = {}
        for record in records:
            if len(record.value or b"") > _LARGE_BYTES:
                receipts.append(await self.send(record))
                continue
            where = record.topic, record.partition
            batch = batches.get(where)
            if batch is None or not _added(batch, record, now_ms):
                if batch is not None:
                    receipts.append(await self._hand_over(raw, where, batch))
                batch = batches[where] = raw.create_batch()
                _added(batch, record, now_ms)  # the first one always fits
        for where, batch in batches.items():
            receipts.append(await self._hand_over(raw, where, batch))
        return receipts

    def _connected(self) -> Any:
        if self._raw is None:
            raise Unavailable("Kafka is not reachable; nothing was written. Try again in a moment")
        return self._raw

    async def _hand_over(self, raw: Any, where: tuple[str, int | None], batch: Any) -> asyncio.Future[Place]:
        topic, partition = where
        try:
            return self._receipt(await raw.send_batch(batch, topic, partition=partition))
        except _FAULTS as error:
            raise _refused(topic, error) from None

    def _receipt(self, sent: asyncio.Future[Any]) -> asyncio.Future[Place]:
        receipt: asyncio.Future[Place] = self._loop.create_future()
        self._waiting[receipt] = self._loop.time()
        sent.add_done_callback(lambda done: self._confirm(receipt, done))
        return receipt

    def silent_s(self) -> float:
        """How long Kafka has confirmed nothing, though it owes a confirmation; 0 when it owes none.

        One partition in trouble is no silence: the others are confirmed.
        """
        oldest = next(iter(self._waiting.values()), None)
        return 0.0 if oldest is None else self._loop.time() - max(oldest, self._confirmed_s)

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has; 0 when there is none such (asked again after 5 s)."""
        raw = self._raw
        if raw is None:
            raise Unavailable("Kafka is not reachable")
        known = raw.client.cluster.partitions_for_topic(topic)
        if known is not None:
            return len(known)
        if self._absent.get(topic, 0.0) > self._loop.time():
            return 0
        try:
            async with asyncio.timeout(_METADATA_TIMEOUT_S):
                # partitions_for() waits for the topic to appear; one look is enough here.
                await raw.client.add_topic(topic)
                await raw.client.force_metadata_update()
        except (TimeoutError, UnknownTopicOrPartitionError):
            pass
        except KafkaError as error:
            raise Unavailable(f"Kafka did not say whether topic {topic} exists: {error!r}") from None
        known = raw.client.cluster.partitions_for_topic(topic)
        if known is None:
            raw.client._topics.discard(topic)  # or every refresh would ask for it again
            self._absent[topic] = self._loop.time() + _ABSENT_TOPIC_S
            return 0
        return len(known)

    def _build(self) -> Any:
        return AIOKafkaProducer(
            **arguments(self._settings, client_id=self._source),
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=10_000,
            partitioner=_partition,
        )

    def _confirm(self, receipt: asyncio.Future[Place], done: asyncio.Future[Any]) -> None:
        self._waiting.pop(receipt, None)
        if receipt.done():
            done.exception()  # the watchdog has already given it up
            return
        if done.cancelled():
            receipt.set_exception(Unavailable("Kafka did not confirm the record: the producer was closed"))
        elif (error := done.exception()) is not None:
            self._number_anew()
            receipt.set_exception(_translate(error))
        else:
            self._confirmed_s = self._loop.time()
            # RecordMetadata has a Place's attributes and more; copying it would cost for nothing.
            receipt.set_result(done.result())

    def _number_anew(self) -> None:
        """A batch was refused, and its numbers are gone: Kafka would refuse all that follow in its partition.

        aiokafka asks for another id, with numbers from 0, before it sends more.
        """
        raw = self._raw
        if raw is not None and raw._txn_manager.has_pid():
            fresh = TransactionManager(None, raw._txn_manager.transaction_timeout_ms)
            raw._txn_manager = raw._sender._txn_manager = raw._message_accumulator._txn_manager = fresh

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            oldest = next(iter(self._waiting.values()), None)
            late = oldest is not None and self._loop.time() - oldest > self._settings.send_timeout_s
            if late or self._is_dead():
                _log.warning("Kafka has not confirmed for too long; connecting anew")
                try:
                    await self._rebuild()
                except SetupError as error:  # as while it starts, perhaps
                    _log.error("not connected, will try again: %s", error)

    def _is_dead(self) -> bool:
        if self._raw is None:
            return True
        task = self._raw._sender.sender_task
        return task is not None and task.done()

    async def _rebuild(self) -> None:
        raw, self._raw = self._raw, None
        self._fail_all("Kafka did not confirm the record in time; it may or may not have been written")
        if raw is not None:
            await _close(raw, timeout_s=1.0)
        self._raw = await start_patiently(self._build, _close, self._settings)

    def _fail_all(self, why: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for receipt in waiting:
            if not receipt.done():
                receipt.set_exception(Unavailable(why))
                receipt.exception()  # read it, so that nobody's missing await is logged


def _partition(key: bytes | None, every: list[int], available: list[int]) -> int:
    """By CRC-32 of the key: aiokafka's murmur2 is pure Python, and took 7 % of a worker's time."""
    if key is None:
        return random.choice(available or every)  # noqa: S311  # spreading, not secrecy
    return every[crc32(key) % len(every)]


def _added(batch: Any, record: Outgoing, now_ms: int) -> bool:
    """Whether a batch had room for the record."""
    added = batch.append(timestamp=now_ms, key=record.key, value=record.value, headers=record.headers)
    return added is not None


def _refused(topic: str, error: BaseException) -> HeadraceError:
    """Why nothing was written."""
    if isinstance(error, MessageSizeTooLargeError):
        return BodyTooLarge(
            f"The record for topic {topic} is over {MAX_RECORD_BYTES} bytes, which Kafka refuses"
        )
    if isinstance(error, TopicAuthorizationFailedError):
        return _translate(error)
    return Unavailable(f"Kafka did not take a record for topic {topic}: {error!r}")


def _translate(error: BaseException) -> HeadraceError:
    if isinstance(error, MessageSizeTooLargeError):
        return BodyTooLarge("Kafka refused the record: it is larger than the topic allows")
    if isinstance(error, TopicAuthorizationFailedError):
        return NotPermitted(f"Kafka's permissions do not let us write: {error}")
    if isinstance(error, InvalidRecordError):
        return NotPermitted(f"Kafka refuses the record: {error}")
    return Unavailable(f"Kafka did not confirm the record: {error!r}")


async def _close(raw: Any, timeout_s: float = 5.0) -> None:
    stopping: Awaitable[None] = raw.stop()
    try:
        async with asyncio.timeout(timeout_s):
            await stopping
    except (TimeoutError, KafkaError):
        started_s = time.monotonic()
        await raw.client.close()
        _log.debug("producer closed hard in %.1f s", time.monotonic() - started_s)
