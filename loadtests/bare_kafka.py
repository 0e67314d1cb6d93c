"""The bare loop: one topic in, the same record out on another. Run as a process of its own.

It is the least that a request and its reply cost on this broker with this client: no parsing, no commits,
no group, the settings of Headrace's own clients.
"""

import sys

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from loadtests.kafka_client import CONSUMER, PRODUCER, partitions_of
from loadtests.parent import stop_with_parent


async def echo(bootstrap_servers: str, source: str, target: str) -> None:
    """Copy records from `source`, from its beginning, to `target` until cancelled."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, **PRODUCER)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, **CONSUMER)
    await producer.start()
    await consumer.start()
    partitions = await partitions_of(consumer, source)
    consumer.assign(partitions)
    while True:
        batches = await consumer.getmany(timeout_ms=1000)
        for batch in batches.values():
            for record in batch:
                await producer.send(target, record.value, headers=list(record.headers))


if __name__ == "__main__":
    stop_with_parent()
    uvloop.run(echo(*sys.argv[1:4]))
