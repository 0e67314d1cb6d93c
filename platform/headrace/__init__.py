"""Headrace: durable, elastic, cheap inference behind Apache Kafka."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.client.asynchronous import AsyncClient as AsyncClient
    from headrace.client.publisher import Publisher as Publisher
    from headrace.client.sync import Client as Client
    from headrace.client.webhooks import unwrap_webhook as unwrap_webhook

__version__ = "0.1.0"

_CLIENTS = {
    "Client": "sync",
    "AsyncClient": "asynchronous",
    "Publisher": "publisher",
    "unwrap_webhook": "webhooks",
}


def __getattr__(name: str) -> Any:
    # Only programs that call a Headrace elsewhere need them; no role of ours should pay for their imports.
    if name in _CLIENTS:
        return getattr(import_module(f"headrace.client.{_CLIENTS[name]}"), name)
    raise AttributeError(f"module 'headrace' has no attribute {name!r}")
