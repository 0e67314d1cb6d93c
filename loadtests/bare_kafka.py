"""The bare loop: one topic in, the same record out on another. Run as a process of its own.

It is the least that a request and its reply cost on this broker with this client: no parsing, no commits,
no group, the settings of Headrace's own clients. Told so, its records are as large as a worker's answers and
have as many headers, which cost the broker and the client more.
"""

import sys
from typing import Final

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from loadtests.kafka_client import CONSUMER, PRODUCER, partitions_of
from loadtests.parent import stop_with_parent

_HEADERS: Final = [
    ("ce_specversion", b"1.0"),
    ("ce_source", b"/headrace/workers/w-0123456789"),
    ("ce_type", b"headrace.reply.completed.v1"),
    ("content-type", b"application/json"),
    ("ce_httpstatus", b"200"),
    ("ce_final", b"true"),
    ("ce_attempt", b"1"),
    ("ce_run", b"1:w-0123456789"),
    ("ce_model", b"echo"),
    ("ce_id", b"req_0123456789abcdefghijklmnop/1:w-0123456789/00000000f"),
    ("ce_causationid", b"req_0123456789abcdefghijklmnop"),
    ("ce_sequence", b"00000000"),
]
"""As large as an answer's."""
_GROWTH: Final = b" " * 230
"""An answer in OpenAI's shape is so much longer than its question."""


async def echo(bootstrap_servers: str, source: str, target: str, size: str = "same") -> None:
    """Copy records from `source`, from its beginning, to `target` until cancelled.

    size: `answer` makes them as large as a worker's answers.
    """
    grown = size == "answer"
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
                value, headers = record.value, list(record.headers)
                if grown:
                    value, headers = value + _GROWTH, [*_HEADERS, *headers]
                await producer.send(target, value, headers=headers)


if __name__ == "__main__":
    stop_with_parent()
    uvloop.run(echo(*sys.argv[1:]))
