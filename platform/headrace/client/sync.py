"""The client for programs that wait."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from headrace.client import calls, files
from headrace.client.calls import PLAIN, Call, Options
from headrace.client.connecting import Settings, http_settings
from headrace.client.events import Event, EventLines
from headrace.client.jobs import Batch, Job
from headrace.contracts.errors import RequestExpired, Unavailable


class Client:
    """Headrace over HTTP. Use as a context manager, or call `close`.

    Every method may raise an error of `headrace.contracts.errors`, the tree that servers use themselves:
    `InvalidRequest` and those below it for what the caller must change, `Overloaded` and `Unavailable` when
    nothing was queued (after `max_retries` pauses as long as the server asks for).

    Example:
        >>> with Client("http://127.0.0.1:8080") as client:
        ...     job = client.submit("/v1/chat/completions", {"model": "chat", "messages": [...]})
        ...     print(client.wait(job.id).result)
    """

    def __init__(self, base_url: str = "http://127.0.0.1:8080", settings: Settings = Settings()) -> None:  # noqa: B008  # immutable
        self._settings = settings
        self._http = httpx.Client(**http_settings(base_url, settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def run(self, path: str, body: Any, options: Options = PLAIN) -> Any:
        """Ask on an inference path and wait for the answer's JSON."""
        return orjson.loads(self._send(calls.run(path, body, options)))

    def submit(self, path: str, body: Any, options: Options = PLAIN) -> Job:
        """Make a job of a request; returns when it is durable."""
        return self._job(calls.submit(path, body, options))

    def job(self, job_id: str) -> Job:
        """Where a job stands."""
        return self._job(calls.job(job_id))

    def wait(self, job_id: str, timeout_s: float | None = None) -> Job:
        """The job when it is over.

        Raises:
            RequestExpired: it is not over in `timeout_s`; it goes on.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        attempt = 0
        while not (job := self.job(job_id)).is_over:
            if until_s is not None and time.monotonic() >= until_s:
                raise RequestExpired(f"Job {job_id} is {job.status} after {timeout_s:g} s; it goes on")
            time.sleep(min(calls.backoff_s(attempt), 2.0))
            attempt += 1
        return job

    def result(self, job_id: str) -> bytes:
        """The exact body that a caller who waits would have had.

        Raises:
            HeadraceError: the one that the job ended with.
            Unavailable: it has not ended.
        """
        response = self._response(calls.result(job_id))
        if response.status_code == 202:
            raise Unavailable(f"Job {job_id} has no result yet: `wait` for it")
        return response.content

    def cancel(self, job_id: str) -> Job:
        """Stop a job, wherever it is; one that is over stays as it is."""
        return self._job(calls.cancel(job_id))

    def delete(self, job_id: str) -> None:
        """Remove a job that is over, and its result."""
        self._send(calls.delete(job_id))

    def jobs(self, **query: str) -> Iterator[Job]:
        """All jobs, newest first. query: `status`, `model`, `order`."""
        after = None
        while True:
            page = orjson.loads(self._send(calls.jobs(after, query)))
            yield from map(Job.read, page["data"])
            if not page["has_more"]:
                return
            after = page["last_id"]

    def stream(self, job_id: str, last_id: str | None = None) -> Iterator[Event]:
        """What happens to a job until it is over, from its beginning or behind an event.

        A connection that breaks is made anew, as often as it brings something.
        """
        lines, attempt = EventLines(), 0
        lines.last_id = last_id
        while True:
            with suppress(httpx.TransportError, Unavailable):
                for event in self._events(job_id, lines):
                    attempt = 0
                    yield event
                    if event.kind not in ("status", "chunk", "reset"):
                        return
            if attempt > self._settings.max_retries:
                raise Unavailable(f"The events of job {job_id} broke off; go on behind {lines.last_id}")
            time.sleep(calls.backoff_s(attempt))
            attempt += 1

    def _events(self, job_id: str, lines: EventLines) -> Iterator[Event]:
        call = calls.events(job_id, lines.last_id)
        with self._http.stream(call.method, call.path, headers=dict(call.headers)) as response:
            if response.is_error:
                raise calls.fault(response.status_code, response.read())
            lines.begin()
            for line in response.iter_lines():
                for event in lines.take(line):
                    yield calls.good(event)

    def batch(
        self,
        requests: Path | Iterable[Mapping[str, Any]],
        path: str = "/v1/chat/completions",
        *,
        window: str = "24h",
        metadata: Mapping[str, str] | None = None,
    ) -> Batch:
        """Run many requests: a JSONL file as OpenAI has it, or bodies, whose `custom_id` is their number."""
        with files.opened(requests, path) as (name, content):
            parts = {"file": (name, content, "application/jsonl")}
            response = self._http.post("/v1/files", data={"purpose": "batch"}, files=parts)
        file_id = orjson.loads(_good(response).content)["id"]
        return Batch.read(orjson.loads(self._send(calls.create_batch(file_id, path, window, metadata))))

    def batch_status(self, batch_id: str) -> Batch:
        """Where a batch stands."""
        return Batch.read(orjson.loads(self._send(calls.batch(batch_id))))

    def wait_batch(self, batch_id: str, poll_s: float = 2.0) -> Batch:
        """The batch when it is over."""
        while not (batch := self.batch_status(batch_id)).is_over:
            time.sleep(poll_s)
        return batch

    def cancel_batch(self, batch_id: str) -> Batch:
        """Stop a batch; what is done is kept."""
        return Batch.read(orjson.loads(self._send(calls.cancel_batch(batch_id))))

    def batch_results(self, batch: Batch) -> Iterator[Mapping[str, Any]]:
        """The lines of a batch's output, then of its errors; see OpenAI's batch output."""
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id is not None:
                with self._http.stream("GET", f"/v1/files/{file_id}/content") as response:
                    if response.is_error:
                        raise calls.fault(response.status_code, response.read())
                    yield from map(orjson.loads, filter(None, response.iter_lines()))

    def _job(self, call: Call) -> Job:
        return Job.read(orjson.loads(self._send(call)))

    def _send(self, call: Call) -> bytes:
        return self._response(call).content

    def _response(self, call: Call) -> httpx.Response:
        attempt = 0
        while True:
            try:
                response = self._http.request(
                    call.method,
                    call.path,
                    content=call.content,
                    headers=dict(call.headers),
                    params=dict(call.query),
                )
            except httpx.TransportError as error:
                # Not even a connection: nothing was sent.
                if attempt >= self._settings.max_retries or not (
                    call.is_safe or isinstance(error, httpx.ConnectError)
                ):
                    raise Unavailable(f"{self._http.base_url} cannot be reached: {error}") from error
                pause_s = calls.backoff_s(attempt)
            else:
                again_s = calls.pause_s(response.status_code, response.headers, attempt)
                if again_s is None or attempt >= self._settings.max_retries:
                    return _good(response)
                pause_s = again_s
            time.sleep(pause_s)
            attempt += 1


def _good(response: httpx.Response) -> httpx.Response:
    if response.is_error:
        raise calls.fault(response.status_code, response.content)
    return response
