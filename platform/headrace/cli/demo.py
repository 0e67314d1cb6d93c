"""`headrace demo`: the main job, once, from nothing to nothing.

Starts a stack, deploys a real model, asks it three ways, shows each request's trail through Kafka, stops.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from headrace.cli.call import tokens
from headrace.cli.topics import Request, send
from headrace.cli.trail import Trails
from headrace.contracts.errors import SetupError
from headrace.contracts.requests import CHAT, RequestHead
from headrace.contracts.topics import LANES, Lane, slug
from headrace.kafka.reader import PartitionReader
from headrace.settings import Settings, load

_READY_S: Final = 600.0
_ANSWER_S: Final = 120.0
_STOP_S: Final = 60.0
_QUESTION: Final = "In one sentence: what does a mill wheel do?"
_MAX_TOKENS: Final = 60


def demo(
    function: Annotated[Path, typer.Option(help="Which function to show.")] = Path("functions/chat"),
) -> None:
    """Start a stack, ask a real model over HTTP, by an event and as a stream, show the trails, stop."""
    with (
        tempfile.TemporaryDirectory(prefix="headrace-demo-") as name,
        _stack(folder := Path(name), function) as ready,
    ):
        model = _deployed_name(ready["http_url"])
        asyncio.run(_show(ready, model, _settings(folder)))
    typer.echo("\nEverything is stopped. Next: `make up`, then `.venv/bin/headrace call chat 'Hello'`.")


async def _show(ready: dict[str, Any], model: str, settings: Settings) -> None:
    topics = settings.kafka.topics
    watched = [topics.requests(slug(model), lane) for lane in LANES] + [topics.replies, topics.results]
    async with PartitionReader(settings.kafka, dict.fromkeys(watched), at="end") as reader:
        trails = Trails(topics, [slug(model)], reader)
        for title, ask in (
            ("1. Over HTTP, as any OpenAI client", _over_http),
            ("2. By publishing an event, as any Kafka client", _by_event),
            ("3. As a stream, token by token", _as_stream),
        ):
            typer.echo(f"\n{title}\n    asks: {_QUESTION}")
            started_s = time.monotonic()
            request_id = await ask(ready["http_url"], model, settings)
            typer.echo(f"    {time.monotonic() - started_s:.2f} s, request {request_id}")
            for line in (await trails.of(request_id)).lines():
                typer.echo(line)


async def _over_http(url: str, model: str, settings: Settings) -> str:
    del settings
    import httpx  # noqa: PLC0415

    async with httpx.AsyncClient(base_url=url, timeout=_ANSWER_S) as client:
        response = await client.post(CHAT, json=_body(model))
    if response.status_code != 200:
        raise SetupError(f"The gateway answered {response.status_code}: {response.text}")
    typer.echo(f"    says: {_content(response.json())}")
    return response.headers["x-request-id"]


async def _by_event(url: str, model: str, settings: Settings) -> str:
    del url
    topic = settings.kafka.topics.requests(slug(model), Lane.DEFAULT)
    head = RequestHead(id=f"demo-{uuid.uuid4()}", source="/demo")
    _, answer = await send(settings, Request(topic, head, orjson.dumps(_body(model))), _ANSWER_S)
    if answer is None or answer.value is None:
        raise SetupError("No answer came to the event; the logs are in the data folder")
    typer.echo(f"    says: {_content(orjson.loads(answer.value))}")
    return head.id


async def _as_stream(url: str, model: str, settings: Settings) -> str:
    del settings
    sys.stdout.write("    says: ")
    ids: list[str] = []

    def read() -> None:
        for piece in tokens(url, _body(model), ids.append):
            sys.stdout.write(piece.replace("\n", "\n          "))
            sys.stdout.flush()

    await asyncio.to_thread(read)
    sys.stdout.write("\n")
    return ids[0]


def _body(model: str) -> dict[str, Any]:
    message = {"role": "user", "content": _QUESTION}
    return {
        "model": model,
        "messages": [message],
        "max_tokens": _MAX_TOKENS,
        "temperature": 0,
        "seed": 7,
    }


def _content(answer: dict[str, Any]) -> str:
    if "error" in answer:
        raise SetupError(answer["error"]["message"])
    content: str = answer["choices"][0]["message"]["content"]
    return content.replace("\n", "\n          ")


def _deployed_name(url: str) -> str:
    import httpx  # noqa: PLC0415

    name: str = httpx.get(f"{url}/v1/models", timeout=_ANSWER_S).json()["data"][0]["id"]
    return name


def _settings(folder: Path) -> Settings:
    state = json.loads((folder / "data" / "run" / "stack.json").read_text())
    return load(defaults=state["environment"])


@contextmanager
def _stack(folder: Path, function: Path) -> Iterator[dict[str, Any]]:
    """A stack in a folder that goes away, on free ports; gives its ready file."""
    ready_file = folder / "ready.json"
    command = [sys.executable, "-m", "headrace", "up", "--functions", str(function)]
    command += ["--data-dir", str(folder / "data"), "--ready-file", str(ready_file)]
    command += ["--http-port", "0", "--kafka-port", "0", "--s3-port", "0"]
    process = subprocess.Popen(command, start_new_session=True)  # noqa: S603  # ourselves
    try:
        until_s = time.monotonic() + _READY_S
        while not ready_file.exists():
            if process.poll() is not None:
                raise SetupError("The stack did not start; the reason stands above")
            if time.monotonic() > until_s:
                raise SetupError(f"The stack was not ready after {_READY_S:.0f} s")
            time.sleep(0.05)
        yield json.loads(ready_file.read_text())
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.terminate()  # the second time means now
            process.wait(_STOP_S)
