"""A gateway without Kafka: what it publishes is kept, and replies are handed in."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import orjson

from headrace.contracts import headers as h
from headrace.contracts import manifest, replies
from headrace.contracts.events import ModelDeployed
from headrace.contracts.openai import Shape
from headrace.contracts.replies import ReplyHead
from headrace.contracts.requests import CHAT, ReplyAddress
from headrace.contracts.states import State
from headrace.contracts.topics import Topics, slug
from headrace.core.ports import Outgoing, Place, Record
from headrace.gateway.channel import Identity
from headrace.gateway.directory import Directory
from headrace.gateway.front import application
from headrace.gateway.submit import Submitter
from headrace.settings import GatewaySettings

KEY = b"k" * 32
TOPICS = Topics()
MESSAGES = [{"role": "user", "content": "hello"}]
JSON = {"content-type": "application/json"}


def deployed(name: str = "echo", *, partitions: int = 4, **more: Any) -> ModelDeployed:
    """A model as `models` tells of it; `more` goes into its manifest."""
    document = {"schema": manifest.SCHEMA, "name": name, "engine": {"kind": "echo"}, **more}
    return ModelDeployed(
        name=name,
        slug=slug(name),
        version="0123456789ab",
        package_url="s3://headrace/functions/0123456789ab.zip",
        manifest=manifest.parse(document, where="test"),
        partitions=partitions,
        deployed_at_s=1_790_000_000.0,
    )


def news(topic: str, key: str, value: bytes | None) -> Record:
    """A record of `models` or `workers`."""
    return Record(Place(topic, 0, 0), key.encode(), value, {}, 0)


def request_id(record: Outgoing) -> str:
    """The id that a request record carries."""
    return h.as_dict(record.headers or [])[h.ID].decode()


def reply(record: Outgoing, value: bytes, state: State | None = State.COMPLETED, **head: Any) -> Record:
    """What a worker says to a request; `state` None is a chunk."""
    said = ReplyHead(request_id(record), state, "/workers/w", **({"run": "1:w"} | head))
    return Record(Place(TOPICS.replies, 3, 0), None, value, h.as_dict(replies.write(said)), 0)


def whole(text: str = "hello", path: str = CHAT) -> bytes:
    """An engine's whole answer."""
    shape = Shape(request_id="req_1", path=path, model="echo", created_s=7)
    return orjson.dumps(shape.response(text, "stop", {"total_tokens": 3}))


def chunks(words: Sequence[str], path: str = CHAT) -> list[bytes]:
    """An engine's chunks, the last of which has the finish reason."""
    shape = Shape(request_id="req_1", path=path, model="echo", created_s=7)
    said = [shape.chunk(word, first=index == 0) for index, word in enumerate(words)]
    return [orjson.dumps(chunk) for chunk in [*said, shape.chunk(None, "stop")]]


class Kept:
    """Fills `core.ports.Publisher`: keeps records, and confirms them unless told otherwise."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.receipts: list[asyncio.Future[Place]] = []
        self.refusal: Exception | None = None
        self.confirms = True
        self.on_request: Callable[[Outgoing], object] = lambda record: None

    async def send(self, record: Outgoing) -> asyncio.Future[Place]:
        if self.refusal is not None:
            raise self.refusal
        receipt: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        if self.confirms:
            receipt.set_result(Place(record.topic, record.partition or 0, len(self.sent)))
        self.sent.append(record)
        self.receipts.append(receipt)
        if record.topic.startswith(f"{TOPICS.prefix}requests."):
            asyncio.get_running_loop().call_soon(self.on_request, record)
        return receipt

    async def partitions(self, topic: str) -> int:
        return 4

    def on(self, topic: str) -> list[Outgoing]:
        """What was sent to a topic."""
        return [record for record in self.sent if record.topic == topic]


class Gateway:
    """Everything behind the HTTP surface, with a client before it."""

    def __init__(self, *models: ModelDeployed, **settings: Any) -> None:
        self.kafka = Kept()
        self.directory = Directory(TOPICS)
        self.directory.update([news(TOPICS.models, model.name, model.encode()) for model in models])
        self.settings = GatewaySettings(**settings)
        identity = Identity("/gateways/g", KEY, ReplyAddress(TOPICS.replies, 3), TOPICS)
        self.submitter = Submitter(self.settings, identity, self.directory, self.kafka)
        self.ready = True
        self.app = application(self.settings, self.submitter, self.directory, lambda: self.ready)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://gateway.test")

    def deliver(self, *records: Record) -> None:
        """Hand in replies."""
        for record in records:
            self.submitter.replies.deliver(record)

    def answer_with(self, value: bytes, state: State = State.COMPLETED, **head: Any) -> None:
        """Let every request be answered at once."""
        self.kafka.on_request = lambda record: self.deliver(reply(record, value, state, **head))

    async def ask(self, path: str = CHAT, **body: Any) -> httpx.Response:
        """Send a request of the right shape for `path`."""
        return await self.client.post(path, json=request(path) | body)


def request(path: str = CHAT) -> dict[str, Any]:
    """A body that is right."""
    return {"model": "echo", **({"messages": MESSAGES} if path == CHAT else {"prompt": "hello"})}


class Caller:
    """An HTTP caller at the ASGI door, who sees every message and may leave at any moment."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        path: str = CHAT,
        body: bytes | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        **more: Any,
    ) -> None:
        self._gateway = gateway
        value = orjson.dumps(request(path) | more) if body is None else body
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.inbox.put_nowait({"type": "http.request", "body": value, "more_body": False})
        self.status = 0
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []
        self.ended = False
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(b"content-type", b"application/json"), *headers],
        }
        self.task = asyncio.create_task(gateway.app(scope, self.inbox.get, self._send))

    def leave(self) -> None:
        """Close the connection."""
        self.inbox.put_nowait({"type": "http.disconnect"})

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    async def request(self) -> Outgoing:
        """The record that the request has become."""
        await settle()
        return next(record for record in self._gateway.kafka.sent if ".requests." in record.topic)

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.parts.append(message["body"])
            self.ended = not message.get("more_body", False)


async def settle() -> None:
    """Let everything run that can run."""
    for _ in range(20):
        await asyncio.sleep(0)
