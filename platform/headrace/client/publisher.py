"""Requests by Kafka alone: durable when `publish` returns, without a gateway."""

from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson

from headrace.contracts import requests
from headrace.contracts.errors import Unavailable, UnknownModel
from headrace.contracts.requests import ReplyAddress, RequestHead
from headrace.contracts.topics import Lane, slug
from headrace.core.ports import Outgoing, Place
from headrace.kafka.producer import Producer
from headrace.settings import KafkaSettings


class Event(NamedTuple):
    """What a request says beside its body.

    id: one of your own, so that publishing again makes no second result. lane: `flex` for what can wait.
    reply_topic: where the answer is wanted; without it, it is kept in `results`. expires_at_s: Unix seconds.
    """

    id: str | None = None
    lane: Lane = Lane.DEFAULT
    path: str = ""
    reply_topic: str | None = None
    correlation_id: str | None = None
    expires_at_s: float | None = None
    source: str = "headrace-python"


_PLAIN = Event()


class Publisher:
    """Publishes requests. Use as an asynchronous context manager.

    Example:
        >>> async with Publisher(KafkaSettings(bootstrap_servers="127.0.0.1:9092")) as publisher:
        ...     place = await publisher.publish("chat", {"messages": [...]})
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer = Producer(settings, source="client")

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._producer.stop()

    async def publish(self, model: str, body: Mapping[str, Any] | bytes, event: Event = _PLAIN) -> Place:
        """Queue a request; where it lies. In Kafka, on every in-sync replica, when this returns.

        Raises:
            UnknownModel: there is no topic for such a model.
            Unavailable: Kafka did not confirm it.
            BodyTooLarge: Kafka takes no record of this size.
        """
        return await (await self.send(model, body, event))

    async def send(
        self, model: str, body: Mapping[str, Any] | bytes, event: Event = _PLAIN
    ) -> Awaitable[Place]:
        """The same without waiting for Kafka, for many in a row; await what it gives in the end."""
        topic = self._settings.topics.requests(slug(model), event.lane)
        head = RequestHead(
            id=event.id or "",
            source=event.source,
            path=event.path,
            reply=None if event.reply_topic is None else ReplyAddress(event.reply_topic),
            expires_at_s=event.expires_at_s,
        )
        headers = [header for header in requests.write(head) if header[1]]
        if event.correlation_id is not None:
            headers.append(("ce_correlationid", event.correlation_id.encode()))
        value = body if isinstance(body, bytes) else orjson.dumps(body)
        try:
            return await self._producer.send(Outgoing(topic, value, None, headers))
        except Unavailable:
            if await self._producer.partitions(topic):
                raise
            raise UnknownModel(f"There is no model '{model}': topic {topic} does not exist") from None
