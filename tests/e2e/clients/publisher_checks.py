"""Foreign publishers, unmodified: FastStream by its own headers, and CloudEvents' SDK.

Usage: `python publisher_checks.py BOOTSTRAP_SERVERS MODEL REPLY_TOPIC`. Prints what came back, as JSON.
"""

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from cloudevents.core.bindings.kafka import KafkaMessage as EventMessage
from cloudevents.core.bindings.kafka import from_kafka_event, to_binary_event
from cloudevents.core.v1.event import CloudEvent
from faststream.kafka import KafkaBroker, KafkaMessage

SERVERS, MODEL, REPLY_TOPIC = sys.argv[1:4]
REQUESTS = f"headrace.requests.{MODEL}.default"


def body(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}]}


async def by_faststream() -> dict[str, object]:
    broker = KafkaBroker(SERVERS)
    answer: asyncio.Future[tuple[str | None, object]] = asyncio.get_running_loop().create_future()

    @broker.subscriber(REPLY_TOPIC, auto_offset_reset="earliest")
    async def take(message: KafkaMessage) -> None:
        if not answer.done():
            answer.set_result((message.correlation_id, json.loads(message.body)))

    async with broker:
        await broker.start()
        asked = body("by faststream")
        await broker.publish(asked, REQUESTS, reply_to=REPLY_TOPIC, correlation_id="order-7")
        correlation_id, told = await asyncio.wait_for(answer, 30)
    return {"correlation_id": correlation_id, "text": told["choices"][0]["message"]["content"]}


async def by_cloudevents() -> dict[str, object]:
    attributes = {
        "id": "ce-7",
        "source": "/shop",
        "type": "headrace.inference.request.v1",
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "correlationid": "c-7",
        "replytopic": REPLY_TOPIC,
    }
    sent = to_binary_event(CloudEvent(attributes, body("by cloudevents")))
    reader = AIOKafkaConsumer(REPLY_TOPIC, bootstrap_servers=SERVERS, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=SERVERS, acks="all")
    await reader.start()
    await producer.start()
    try:
        await producer.send_and_wait(REQUESTS, sent.value, headers=list(sent.headers.items()))
        async with asyncio.timeout(30):
            async for record in reader:
                headers = dict(record.headers)
                if headers.get("ce_causationid") == b"ce-7":
                    event = from_kafka_event(EventMessage(headers, record.key, record.value))
                    break
    finally:
        await producer.stop()
        await reader.stop()
    data = event.get_data()
    told = data if isinstance(data, dict) else json.loads(data)
    return {
        "type": event.get_type(),
        "correlation_id": event.get_extension("correlationid"),
        "text": told["choices"][0]["message"]["content"],
    }


async def main() -> None:
    print(json.dumps({"faststream": await by_faststream(), "cloudevents": await by_cloudevents()}))


asyncio.run(main())
