"""A Kafka caller: publishes requests and matches replies by correlation id, on one reply topic."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from loadtests.answers import Answer, Question

PRODUCER: Final = {
    "acks": "all",
    "enable_idempotence": True,
    "linger_ms": 0,
    "max_batch_size": 256 * 1024,
}
"""As Headrace's own producers are set."""
CONSUMER: Final = {
    "group_id": None,
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",
    "fetch_max_wait_ms": 100,
}
"""As Headrace's own consumers are set."""

_CORRELATION: Final = "correlation_id"
_IS_CHUNK: Final = ("ce_final", b"false")


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests go and replies come from."""

    bootstrap_servers: str
    request_topic: str
    reply_topic: str


async def create_topics(bootstrap_servers: str, partitions: dict[str, int]) -> None:
    """Create topics that do not exist yet, with so many partitions each."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        plans = [NewTopic(name, number, 1) for name, number in partitions.items()]
        await admin.create_topics(plans)
    finally:
        await admin.close()


async def delete_topics(bootstrap_servers: str, topics: list[str]) -> None:
    """Remove topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics(topics)
    finally:
        await admin.close()


async def partitions_of(consumer: Any, topic: str) -> list[TopicPartition]:
    """All partitions of a topic, which the consumer need not follow yet."""
    numbers = await consumer._client._wait_on_metadata(topic)
    return [TopicPartition(topic, number) for number in sorted(numbers)]


class KafkaClient:
    """One producer and one consumer; any number of questions at once."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._producer: Any = None
        self._consumer: Any = None
        self._listener: asyncio.Task[None] | None = None
        self._waiting: dict[bytes, asyncio.Future[tuple[bytes, float]]] = {}
        self._answered: set[bytes] = set()
        self._begun: dict[bytes, float] = {}
        self.repeated = 0
        """Replies to questions that had been answered before."""

    async def start(self) -> None:
        """Connect; when it returns, no reply to a question asked from now on is missed."""
        servers = self._route.bootstrap_servers
        self._producer = AIOKafkaProducer(bootstrap_servers=servers, **PRODUCER)
        await self._producer.start()
        self._consumer = AIOKafkaConsumer(bootstrap_servers=servers, **CONSUMER)
        await self._consumer.start()
        partitions = await partitions_of(self._consumer, self._route.reply_topic)
        self._consumer.assign(partitions)
        await self._consumer.seek_to_end(*partitions)
        for partition in partitions:
            await self._consumer.position(partition)
        self._listener = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        """Close both connections."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        if self._consumer is not None:
            await self._consumer.stop()
        if self._producer is not None:
            await self._producer.stop()

    async def ask(self, question: Question) -> Answer:
        """Publish a question and wait for its reply, however long that takes."""
        id_ = question.id.encode()
        reply: asyncio.Future[tuple[bytes, float]] = asyncio.get_running_loop().create_future()
        self._waiting[id_] = reply
        sent_s = time.perf_counter()
        try:
            await self._producer.send(
                self._route.request_topic,
                question.body,
                headers=[("reply_to", self._route.reply_topic.encode()), (_CORRELATION, id_)],
            )
            body, done_s = await reply
        finally:
            self._waiting.pop(id_, None)
        first_s = self._begun.pop(id_, done_s)
        return Answer(question, body, latency_s=done_s - sent_s, first_s=first_s - sent_s)

    async def _listen(self) -> None:
        while True:
            batches = await self._consumer.getmany(timeout_ms=1000)
            now_s = time.perf_counter()
            for batch in batches.values():
                for record in batch:
                    self._arrive(record, now_s)

    def _arrive(self, record: Any, now_s: float) -> None:
        id_ = next((value for name, value in record.headers if name == _CORRELATION), b"")
        if id_ in self._answered:
            self.repeated += 1
            return
        if _IS_CHUNK in record.headers:
            self._begun.setdefault(id_, now_s)
            return
        reply = self._waiting.get(id_)
        if reply is not None and not reply.done():
            self._answered.add(id_)
            reply.set_result((record.value, now_s))
