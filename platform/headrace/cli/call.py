"""`headrace call` and `headrace models`: a look through the front door."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer

from headrace.cli.target import DEFAULT_DATA_DIR, AsJson, DataDir, stack_state
from headrace.contracts.errors import SetupError
from headrace.contracts.requests import CHAT

if TYPE_CHECKING:
    import httpx

_Url = Annotated[str | None, typer.Option(help="Base URL of a gateway; default: the stack's.")]
_TIMEOUT_S: Final = 600.0
_DONE: Final = "[DONE]"


def call(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    text: Annotated[str, typer.Argument(help="What to ask.")],
    max_tokens: Annotated[int | None, typer.Option(help="Tokens to generate at most.")] = None,
    url: _Url = None,
    *,
    stream: Annotated[bool, typer.Option(help="Print tokens as they come.")] = True,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Ask a model over HTTP and print its answer, token by token."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    base = gateway_url(url, data_dir)
    if as_json or not stream:
        answer = _request(base, "POST", CHAT, body)
        typer.echo(orjson.dumps(answer) if as_json else answer["choices"][0]["message"]["content"])
        return
    for piece in tokens(base, body):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def models(
    url: _Url = None,
    *,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List what is deployed."""
    listed = _request(gateway_url(url, data_dir), "GET", "/v1/models")["data"]
    if as_json:
        typer.echo(orjson.dumps(listed))
        return
    for model in listed:
        typer.echo(f"{model['id']:24} {model['version']}  {model['slug']:24} {model['description']}")
        if bad := model.get("rolled_back"):
            typer.echo(f"  version {bad['version']} was taken out: {bad['reason']}")


def tokens(base: str, body: dict[str, Any], on_start: Callable[[str], object] | None = None) -> Iterator[str]:
    """The text of a streamed answer, piece by piece; `on_start` gets the request's id.

    Raises:
        SetupError: the gateway refuses, or the stream breaks off.
    """
    import httpx  # noqa: PLC0415  # half the start-up time of a command that does not need it

    try:
        with httpx.stream("POST", base + CHAT, json=body | {"stream": True}, timeout=_TIMEOUT_S) as response:
            if response.status_code >= 400:
                response.read()
                raise refused(response)
            if on_start is not None:
                on_start(response.headers["x-request-id"])
            yield from _pieces(response)
    except httpx.HTTPError as error:
        raise SetupError(f"The gateway at {base} cannot be reached: {error}") from None


def _pieces(response: "httpx.Response") -> Iterator[str]:
    for line in response.iter_lines():
        if not line.startswith("data: "):
            continue
        data = line.removeprefix("data: ")
        if data == _DONE:
            return
        chunk = json.loads(data)
        if "error" in chunk:
            raise SetupError(chunk["error"]["message"])
        for choice in chunk["choices"]:
            yield choice["delta"].get("content") or ""
    raise SetupError("The stream broke off before its end")


def _request(base: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    import httpx  # noqa: PLC0415

    try:
        response = httpx.request(method, base + path, json=body, timeout=_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise SetupError(f"The gateway at {base} cannot be reached: {error}") from None
    if response.status_code >= 400:
        raise refused(response)
    return response.json()


def refused(response: "httpx.Response") -> SetupError:
    """What the gateway says against a request, for the person who sent it."""
    try:
        return SetupError(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return SetupError(f"The gateway answered {response.status_code}: {response.text[:200]}")


def gateway_url(url: str | None, data_dir: Path) -> str:
    """The gateway's base URL: the one that was given, or the running stack's.

    Raises:
        SetupError: there is neither.
    """
    if url is not None:
        return url.rstrip("/")
    state = stack_state(data_dir)
    if state is None:
        raise SetupError(
            f"No stack runs in {data_dir}: start one with `headrace up --data-dir {data_dir}`, or give --url"
        )
    return str(state["http_url"])
