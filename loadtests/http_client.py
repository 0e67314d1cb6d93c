"""An HTTP/1.1 keep-alive client that costs little: on a small machine its cost is in every figure.

One request at a time per connection, written as prebuilt bytes; httptools parses what comes back.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Self, cast
from urllib.parse import urlsplit

import httptools


@dataclass(slots=True)
class Response:
    """What came back. Times are `time.perf_counter()` seconds; `first_s` is that of the first body bytes."""

    status: int
    body: bytes
    sent_s: float
    first_s: float
    done_s: float


def post(url: str, path: str, more: str = "") -> bytes:
    """The head of a JSON POST up to the value of its last header, content-length; see `Connection.ask`.

    more: header lines, each with its line end.
    """
    return (
        f"POST {path} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\n{more}"
        "content-type: application/json\r\ncontent-length: "
    ).encode()


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Response] | None = None
        self._body: list[bytes] = []
        self._sent_s = 0.0
        self._first_s = 0.0

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect to the host and port of `url`."""
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"{url} must name a host and a port, as in http://127.0.0.1:8080")
        _, connection = await asyncio.get_running_loop().create_connection(cls, parts.hostname, parts.port)
        return connection

    async def ask(self, head: bytes, body: bytes) -> Response:
        """Send `head` (of `post`) with `body`; return the whole response.

        Raises:
            ConnectionError: the connection ended first, or what came is not HTTP.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._body = []
        self._first_s = 0.0
        self._sent_s = time.perf_counter()
        self._transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        return await self._answer

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Called by the event loop; the parser calls `on_body` and `on_message_complete` from here."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"not an HTTP response: {error!r}"))
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        self._fail(ConnectionError(f"the server closed the connection: {error!r}"))

    def on_body(self, data: bytes) -> None:
        """Called by the parser, for each piece of a body."""
        if not self._first_s:
            self._first_s = time.perf_counter()
        self._body.append(data)

    def on_message_complete(self) -> None:
        """Called by the parser, at the end of a response."""
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        done_s = time.perf_counter()
        status = self._parser.get_status_code()
        first_s = self._first_s or done_s
        answer.set_result(Response(status, b"".join(self._body), self._sent_s, first_s, done_s))

    def _fail(self, error: ConnectionError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
