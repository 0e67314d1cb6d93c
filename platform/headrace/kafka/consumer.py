"""Consumers as all of Headrace has them: they commit what they are told to, and see what is committed."""

from typing import Any

from aiokafka import AIOKafkaConsumer

from headrace.kafka.connection import arguments, start_patiently
from headrace.settings import KafkaSettings


async def consumer(
    settings: KafkaSettings, client_id: str, *topics: str, group: str | None = None, **others: Any
) -> Any:
    """A consumer that has started. others: further arguments of aiokafka's, or other values than ours."""
    found: dict[str, Any] = {
        "group_id": group,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
    }

    def build() -> Any:
        return AIOKafkaConsumer(*topics, **arguments(settings, client_id=client_id), **found | others)

    return await start_patiently(build, _close, settings)


async def _close(raw: Any) -> None:
    await raw.stop()
