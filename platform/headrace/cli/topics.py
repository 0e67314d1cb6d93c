"""`headrace publish` and `headrace tail`: the wire, by hand."""

import asyncio
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer

from headrace.cli.decode import document, line
from headrace.cli.target import DEFAULT_DATA_DIR, AsJson, DataDir, settings_for
from headrace.contracts import bodies, replies, requests
from headrace.contracts import headers as h
from headrace.contracts.errors import InvalidRequest, SetupError
from headrace.contracts.requests import CHAT, COMPLETIONS, INFER, PREDICTIONS, ReplyAddress, RequestHead
from headrace.contracts.topics import Lane, slug
from headrace.core.ports import Outgoing, Place, Record
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.settings import Settings

_POLL_S: Final = 0.5


def publish(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    text: Annotated[str | None, typer.Argument(help="What to ask; becomes a user message.")] = None,
    body: Annotated[Path | None, typer.Option(help="File with the JSON body instead; - is stdin.")] = None,
    lane: Annotated[Lane, typer.Option(help="Which lane to use.")] = Lane.DEFAULT,
    reply_to: Annotated[str | None, typer.Option(help="Topic for the answer; default: results.")] = None,
    wait_s: Annotated[float, typer.Option(help="Wait this long for the answer; 0: do not.")] = 0.0,
    *,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Publish one request event, as any Kafka client could."""
    settings = settings_for(data_dir)
    value = _body(model, text, body)
    path = _path(value)
    bodies.parse(path, value)
    head = RequestHead(
        id=f"cli-{uuid.uuid4()}",
        source="/cli",
        path=path,
        reply=ReplyAddress(reply_to) if reply_to else None,
        correlation=((h.CORRELATION_ID, uuid.uuid4().hex.encode()),),
    )
    topic = settings.kafka.topics.requests(slug(model), lane)
    place, answer = asyncio.run(send(settings, Request(topic, head, value), wait_s))
    _print_published(head, place, answer, as_json=as_json)
    if wait_s and answer is None:
        raise SetupError(f"No answer within {wait_s:g} s; the request stays queued")


def tail(
    topic: Annotated[str, typer.Argument(help="Topic, with or without its prefix: results, workers, …")],
    count: Annotated[int, typer.Option("--count", "-n", help="Stop after so many; 0: never.")] = 0,
    timeout_s: Annotated[float, typer.Option(help="Stop after so many silent seconds; 0: never.")] = 0.0,
    *,
    beginning: Annotated[bool, typer.Option(help="From the oldest record on.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Print a topic's records, decoded, as they come."""
    settings = settings_for(data_dir)
    prefix = settings.kafka.topic_prefix
    name = topic if topic.startswith(prefix) else prefix + topic
    limits = _Limits(count or sys.maxsize, timeout_s or float("inf"))
    asyncio.run(_tail(settings, name, limits, beginning=beginning, as_json=as_json))


@dataclass(frozen=True, slots=True)
class Request:
    """A request event to publish."""

    topic: str
    head: RequestHead
    value: bytes


async def send(settings: Settings, request: Request, wait_s: float) -> tuple[Place, Record | None]:
    """Publish; with `wait_s` also wait for the final answer on the reply topic or `results`."""
    producer = Producer(settings.kafka, source="cli")
    await producer.start()
    try:
        await _require(producer, request.topic)
        answers = request.head.reply.topic if request.head.reply else settings.kafka.topics.results
        if not wait_s:
            return await _publish(producer, request), None
        await _require(producer, answers)
        async with PartitionReader(settings.kafka, {answers: None}, at="end") as reader:
            place = await _publish(producer, request)
            return place, await _answer(reader, request.head.id, wait_s)
    finally:
        await producer.stop()


async def _publish(producer: Producer, request: Request) -> Place:
    receipt = await producer.send(
        Outgoing(request.topic, request.value, headers=requests.write(request.head))
    )
    return await receipt


async def _require(producer: Producer, topic: str) -> None:
    if not await producer.partitions(topic):
        raise SetupError(f"There is no topic {topic}; `headrace models` lists what is deployed")


async def _answer(reader: PartitionReader, request_id: str, wait_s: float) -> Record | None:
    until_s = time.monotonic() + wait_s
    while (left_s := until_s - time.monotonic()) > 0:
        for record in await reader.poll(min(left_s, _POLL_S)):
            if is_final(record, request_id):
                return record
    return None


def is_final(record: Record, request_id: str) -> bool:
    """Whether the record is the final answer to the request."""
    if record.headers.get(h.CAUSATION_ID) != request_id.encode():
        return False
    try:
        return replies.read(record.headers).is_final
    except InvalidRequest:
        return False


def _body(model: str, text: str | None, path: Path | None) -> bytes:
    if (text is None) == (path is None):
        raise SetupError("Give either the text to ask or --body FILE")
    if path is None:
        return orjson.dumps({"model": model, "messages": [{"role": "user", "content": text}]})
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}") from None


def _path(value: bytes) -> str:
    """What the body is for, by the field that only this path's has."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return CHAT  # whose check says what is wrong
    fields = body if isinstance(body, dict) else {}
    if "inputs" in fields:
        return INFER
    return PREDICTIONS if "input" in fields else COMPLETIONS if "prompt" in fields else CHAT


def _print_published(head: RequestHead, place: Place, answer: Record | None, *, as_json: bool) -> None:
    where = {"topic": place.topic, "partition": place.partition, "offset": place.offset}
    if as_json:
        told = {"id": head.id, **where, "answer": None if answer is None else document(answer)}
        typer.echo(orjson.dumps(told))
        return
    typer.echo(f"{head.id} {place.topic}[{place.partition}]@{place.offset}")
    if answer is not None:
        typer.echo((answer.value or b"").decode())


@dataclass(frozen=True, slots=True)
class _Limits:
    count: int
    silence_s: float


async def _tail(settings: Settings, topic: str, limits: _Limits, *, beginning: bool, as_json: bool) -> None:
    producer = Producer(settings.kafka, source="cli")
    await producer.start()
    await _require(producer, topic)
    await producer.stop()
    printed = 0
    last_s = time.monotonic()
    async with PartitionReader(
        settings.kafka, {topic: None}, at="beginning" if beginning else "end"
    ) as reader:
        while printed < limits.count and time.monotonic() - last_s < limits.silence_s:
            records = await reader.poll(min(_POLL_S, limits.silence_s))
            if records:
                last_s = time.monotonic()
            _print(records[: limits.count - printed], as_json=as_json)
            printed += len(records)


def _print(records: Sequence[Record], *, as_json: bool) -> None:
    for record in records:
        typer.echo(orjson.dumps(document(record)) if as_json else line(record))
