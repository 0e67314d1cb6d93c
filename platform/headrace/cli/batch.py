"""`headrace batch`: a file of requests, run to its end."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer

from headrace.cli.call import gateway_url, refused
from headrace.cli.target import DEFAULT_DATA_DIR, AsJson, DataDir
from headrace.contracts.errors import SetupError
from headrace.contracts.requests import CHAT

if TYPE_CHECKING:
    import httpx

app = typer.Typer(help="Run files of requests.", no_args_is_help=True)

_Url = Annotated[str | None, typer.Option(help="Base URL of a gateway; default: the stack's.")]
_Id = Annotated[str, typer.Argument(help="Id of the batch.", metavar="BATCH")]
_Token = Annotated[str, typer.Option("--api-key", help="Key, where the gateway asks for one.")]
_TIMEOUT_S: Final = 600.0
_POLL_S: Final = 0.5
_FINAL: Final = frozenset({"completed", "failed", "expired", "cancelled"})
_SHA256: Final = "input_sha256"
"""Metadata by which a batch is found again."""
_PIECE_BYTES: Final = 1 << 20
_PAGE: Final = 100
_ERRORS_SHOWN: Final = 10


class _Gateway:
    """Files and batches over HTTP."""

    def __init__(self, http: "httpx.Client") -> None:
        self._http = http

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """The answer's JSON."""
        response = self._http.request(method, path, **more)
        if response.status_code >= 400:
            raise refused(response)
        return response.json()

    def pages(self, path: str) -> Iterator[dict[str, Any]]:
        """All of a list."""
        after: dict[str, str] = {}
        while True:
            page = self.ask("GET", path, params={"limit": str(_PAGE)} | after)
            yield from page["data"]
            if not page["has_more"]:
                return
            after = {"after": page["last_id"]}

    def download(self, file_id: str, path: Path) -> None:
        """Write a file here, whole or not at all."""
        part = path.with_name(f"{path.name}.part")
        with self._http.stream("GET", f"/v1/files/{file_id}/content") as response:
            if response.status_code >= 400:
                response.read()
                raise refused(response)
            with part.open("wb") as out:
                for piece in response.iter_bytes(_PIECE_BYTES):
                    out.write(piece)
        part.replace(path)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSONL, one request a line.")],
    out: Annotated[Path | None, typer.Option(help="Where the answers go; default: FILE.out.jsonl.")] = None,
    model: Annotated[str | None, typer.Option(help="Model of lines that are bodies alone.")] = None,
    endpoint: Annotated[str, typer.Option(help="Path that the lines are for.")] = CHAT,
    window: Annotated[str, typer.Option(help="Until when it must be done: hours or days.")] = "24h",
    *,
    again: Annotated[bool, typer.Option("--again", help="Run it anew, although it was run before.")] = False,
    url: _Url = None,
    api_key: _Token = "",
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Upload a file, run it, and fetch the answers. Run it again to go on after Ctrl-C.

    Lines are OpenAI's batch lines; with --model also plain bodies, whose names are their line numbers.
    """
    target = out or file.with_name(f"{file.stem}.out.jsonl")
    with _opened(url, api_key, data_dir) as gateway:
        batch = _found_or_made(gateway, file, (model, endpoint, window), again=again)
        typer.echo(f"batch {batch['id']}", err=True)
        try:
            batch = _followed(gateway, batch)
        except KeyboardInterrupt:
            typer.echo(
                f"The batch runs on. To go on here: the same command again; to end it: "
                f"headrace batch cancel {batch['id']}",
                err=True,
            )
            raise typer.Exit(130) from None
        _fetch(gateway, batch, target)
    if batch["status"] != "completed" or batch["request_counts"]["failed"]:
        raise typer.Exit(1)


@app.command("list")
def list_batches(
    url: _Url = None, api_key: _Token = "", *, as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA_DIR
) -> None:
    """List batches, the newest first."""
    with _opened(url, api_key, data_dir) as gateway:
        found = list(gateway.pages("/v1/batches"))
    if as_json:
        typer.echo(orjson.dumps(found))
        return
    for batch in found:
        typer.echo(_line(batch))


@app.command()
def get(
    batch_id: _Id,
    url: _Url = None,
    api_key: _Token = "",
    *,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show a batch."""
    with _opened(url, api_key, data_dir) as gateway:
        batch = gateway.ask("GET", f"/v1/batches/{batch_id}")
    typer.echo(orjson.dumps(batch) if as_json else _line(batch))


@app.command()
def cancel(
    batch_id: _Id,
    url: _Url = None,
    api_key: _Token = "",
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Cancel a batch; what was done is kept."""
    with _opened(url, api_key, data_dir) as gateway:
        typer.echo(_line(gateway.ask("POST", f"/v1/batches/{batch_id}/cancel")))


@contextmanager
def _opened(url: str | None, api_key: str, data_dir: Path) -> Iterator[_Gateway]:
    import httpx  # noqa: PLC0415  # half the start-up time of a command that does not need it

    base = gateway_url(url, data_dir)
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        with httpx.Client(base_url=base, headers=headers, timeout=_TIMEOUT_S) as http:
            yield _Gateway(http)
    except httpx.HTTPError as error:
        raise SetupError(f"The gateway at {base} cannot be reached: {error}") from None


def _found_or_made(
    gateway: _Gateway, file: Path, wish: tuple[str | None, str, str], *, again: bool
) -> dict[str, Any]:
    """The batch of this very file that an earlier run has left, or a new one."""
    import tempfile  # noqa: PLC0415

    model, endpoint, window = wish
    with tempfile.TemporaryFile() as upload:
        digest = hashlib.sha256(endpoint.encode())
        with file.open("rb") as source:
            for number, raw in enumerate(source, 1):
                line = raw if model is None else _completed(raw, number, model, endpoint)
                digest.update(line)
                upload.write(line)
        name = digest.hexdigest()
        for batch in () if again else gateway.pages("/v1/batches"):
            is_same = (batch["metadata"] or {}).get(_SHA256) == name
            if is_same and batch["status"] not in ("failed", "cancelled", "expired"):
                return dict(batch)
        upload.seek(0)
        uploaded = gateway.ask(
            "POST", "/v1/files", files={"file": (file.name, upload)}, data={"purpose": "batch"}
        )
    body = {"input_file_id": uploaded["id"], "endpoint": endpoint, "completion_window": window}
    made: dict[str, Any] = gateway.ask("POST", "/v1/batches", json=body | {"metadata": {_SHA256: name}})
    return made


def _completed(raw: bytes, number: int, model: str, endpoint: str) -> bytes:
    """A batch line of a line that may be a body alone."""
    if not raw.strip():
        return raw
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise SetupError(f"Line {number} is not valid JSON: {error}") from None
    if not isinstance(line, dict):
        raise SetupError(f"Line {number} is not a JSON object")
    if "custom_id" not in line and "body" not in line:
        line = {"custom_id": str(number), "method": "POST", "url": endpoint, "body": line}
    if isinstance(line.get("body"), dict):
        line["body"].setdefault("model", model)
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _followed(gateway: _Gateway, batch: dict[str, Any]) -> dict[str, Any]:
    """The batch at its end; shows how far it is meanwhile."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        shown = progress.add_task(batch["status"], total=None)
        while True:
            counts = batch["request_counts"]
            progress.update(
                shown,
                description=batch["status"],
                total=counts["total"] or None,
                completed=counts["completed"] + counts["failed"],
            )
            if batch["status"] in _FINAL:
                return batch
            time.sleep(_POLL_S)
            batch = gateway.ask("GET", f"/v1/batches/{batch['id']}")


def _fetch(gateway: _Gateway, batch: dict[str, Any], target: Path) -> None:
    for fault in ((batch["errors"] or {}).get("data") or [])[:_ERRORS_SHOWN]:
        where = "" if fault["line"] is None else f"line {fault['line']}: "
        typer.echo(f"{where}{fault['message']} ({fault['code']})", err=True)
    failures = target.with_name(f"{target.name}.errors")
    for file_id, path in ((batch["output_file_id"], target), (batch["error_file_id"], failures)):
        if file_id is not None:
            gateway.download(file_id, path)
            typer.echo(path)
    typer.echo(_line(batch), err=True)


def _line(batch: dict[str, Any]) -> str:
    counts = batch["request_counts"]
    told = f"{counts['completed']} of {counts['total']} completed, {counts['failed']} failed"
    return f"{batch['id']}  {batch['status']:11}  {told}  {batch['model'] or ''}".rstrip()
