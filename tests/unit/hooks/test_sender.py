"""The sender, against real servers on loopback, over TLS and without."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from headrace.hooks.sender import Sender
from headrace.settings import WebhookSettings

Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]
HEADERS = {"content-type": "application/json", "webhook-id": "evt_1"}
LOOPBACK = {"allow_http": True, "allow_networks": ["127.0.0.0/8"]}


class Receiver:
    """A server that keeps what it gets. `names`: those that TLS was asked for."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.heard: list[bytes] = []
        self.names: list[str | None] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            size = next(int(line[16:]) for line in lines if line.startswith(b"content-length: "))
            self.heard.append(head + await reader.readexactly(size))
            replying = asyncio.create_task(self._reply(writer))
            # Whatever it says, it ends when its caller leaves.
            leaving = asyncio.create_task(reader.read())
            await asyncio.wait({replying, leaving}, return_when=asyncio.FIRST_COMPLETED)
            for task in (replying, leaving):
                task.cancel()
            await asyncio.gather(replying, leaving, return_exceptions=True)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def says(text: str) -> Reply:
    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(text.encode())
        await writer.drain()

    return reply


@asynccontextmanager
async def receiver(reply: Reply, context: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    made = Receiver(reply)
    if context is not None:
        context.sni_callback = lambda connection, name, _: made.names.append(name)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


@asynccontextmanager
async def sender(context: ssl.SSLContext | None = None, **settings: Any) -> AsyncIterator[Sender]:
    made = Sender(WebhookSettings(**{**LOOPBACK, **settings}), context)
    try:
        yield made
    finally:
        await made.close()


OK = "HTTP/1.1 204 No Content\r\n\r\n"


async def test_what_is_sent() -> None:
    async with receiver(says(OK)) as there, sender() as ours:
        attempt = await ours.send(3, f"http://127.0.0.1:{there.port}/a?b=c", HEADERS, b'{"x": 1}')
    assert (attempt.number, attempt.http_status, attempt.error) == (3, 204, None)
    (heard,) = there.heard
    assert heard.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{there.port}\r\n".encode() in heard.lower()
    assert b"webhook-id: evt_1\r\n" in heard
    assert heard.endswith(b'\r\n\r\n{"x": 1}')


@pytest.mark.parametrize(
    ("reply", "status", "error", "retry_after_s"),
    [
        ("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", 500, None, None),
        ("HTTP/1.1 503 No\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n", 503, None, 30.0),
        (
            "HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n",
            301,
            "redirects",
            None,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", None, "", None),
        ("nonsense\r\n\r\n", None, "", None),
        ("", None, "", None),
    ],
)
async def test_what_receivers_answer(
    reply: str, status: int | None, error: str | None, retry_after_s: float | None
) -> None:
    async with receiver(says(reply)) as there, sender() as ours:
        attempt = await ours.send(1, f"http://127.0.0.1:{there.port}/", HEADERS, b"{}")
    assert (attempt.http_status, attempt.retry_after_s) == (status, retry_after_s)
    assert (attempt.error is None) == (error is None)
    assert (error or "") in (attempt.error or "")


async def test_a_slow_receiver_has_its_time_and_no_more() -> None:
    async def never(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with receiver(never) as there, sender(timeout_s=0.1) as ours:
        attempt = await ours.send(1, f"http://127.0.0.1:{there.port}/", HEADERS, b"{}")
    assert attempt.http_status is None
    assert attempt.error == "no answer within 0.1 s"


async def test_a_receiver_that_talks_without_end_is_not_listened_to() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with receiver(endless) as there, sender(timeout_s=10.0) as ours:
        attempt = await ours.send(1, f"http://127.0.0.1:{there.port}/", HEADERS, b"{}")
    assert attempt.http_status == 200


async def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        async with sender() as ours:
            attempt = await ours.send(1, f"http://127.0.0.1:{port}/", HEADERS, b"{}")
    assert attempt.http_status is None
    assert attempt.error


def _pretend(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Let the names resolve to these addresses, one look-up after another; the last one repeats."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        address = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
    return asked


async def test_tls_is_for_the_name_and_the_connection_to_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    theirs, ours_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("hooks.there.test").configure_cert(theirs)
    authority.configure_trust(ours_context)
    _pretend(monkeypatch, "127.0.0.1")
    async with receiver(says(OK), theirs) as there, sender(ours_context) as ours:
        good = await ours.send(1, f"https://hooks.there.test:{there.port}/", HEADERS, b"{}")
        other = await ours.send(1, f"https://other.there.test:{there.port}/", HEADERS, b"{}")
    assert (good.http_status, good.error) == (204, None)
    assert there.names[0] == "hooks.there.test"
    assert other.http_status is None
    assert "certificate" in (other.error or "").lower()


@pytest.mark.parametrize("inside", ["10.0.0.7", "169.254.169.254", "127.0.0.1"])
async def test_a_name_that_leads_inside_is_not_called(inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _pretend(monkeypatch, inside)
    async with receiver(says(OK)) as there, sender(allow_networks=[]) as ours:
        attempt = await ours.send(1, f"http://hooks.there.test:{there.port}/", HEADERS, b"{}")
    assert asked == ["hooks.there.test"]
    assert (attempt.http_status, there.heard) == (None, [])
    assert "not public" in (attempt.error or "")


async def test_a_name_is_looked_up_once_for_check_and_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: a second look-up would give another address."""
    asked = _pretend(monkeypatch, "127.0.0.1", "10.0.0.7")
    async with receiver(says(OK)) as there, sender() as ours:
        attempt = await ours.send(1, f"http://hooks.there.test:{there.port}/", HEADERS, b"{}")
        again = await ours.send(1, f"http://hooks.there.test:{there.port}/", HEADERS, b"{}")
    assert attempt.http_status == 204
    assert len(asked) == 2, "no connection is kept, so that each is checked"
    assert "not public" in (again.error or "")


async def test_addresses_in_the_url_are_checked_too() -> None:
    async with sender(allow_networks=[]) as ours:
        attempt = await ours.send(1, "http://127.0.0.1:9/", HEADERS, b"{}")
    assert "not public" in (attempt.error or "")
