"""The client against a server that splits its answers at every place."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from loadtests.http_client import Connection, post

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\nhello world"
CHUNKED = b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
BEFORE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Server:
    """Answers each request with the next of `pieces`, one write each."""

    def __init__(self) -> None:
        self.pieces: list[list[bytes]] = []
        self.seen: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for pieces in self.pieces:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            self.seen.append(head + await reader.readexactly(length))
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield made
    listening.close()


def split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_answers_arrive_whole_however_they_are_split(server: Server, size: int) -> None:
    server.pieces = [split(LENGTH, size), split(CHUNKED, size), split(LENGTH, size)]
    connection = await Connection.open(server.url)

    answers = [await connection.ask(post(server.url, "/x"), b"{}") for _ in range(3)]

    assert [(one.status, one.body) for one in answers] == [
        (200, b"hello world"),
        (201, b"hello world"),
        (200, b"hello world"),
    ]
    assert all(one.sent_s <= one.first_s <= one.done_s for one in answers)
    connection.close()


async def test_the_request_is_what_http_says(server: Server) -> None:
    server.pieces = [[LENGTH]]
    connection = await Connection.open(server.url)

    await connection.ask(post(server.url, "/v1/x"), b'{"a":1}')

    head, _, body = server.seen[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v1/x HTTP/1.1",
        b"host: " + server.url.removeprefix("http://").encode(),
        b"content-type: application/json",
        b"content-length: 7",
    ]
    assert body == b'{"a":1}'
    connection.close()


async def test_an_answer_without_a_body(server: Server) -> None:
    server.pieces = [[EMPTY]]
    connection = await Connection.open(server.url)

    answer = await connection.ask(post(server.url, "/x"), b"")

    assert (answer.status, answer.body) == (204, b"")
    connection.close()


@pytest.mark.parametrize("cut", [0, 10, len(LENGTH) - 1])
async def test_a_connection_that_ends_early_is_an_error(server: Server, cut: int) -> None:
    server.pieces = [[LENGTH[:cut]]]
    connection = await Connection.open(server.url)

    with pytest.raises(ConnectionError):
        await connection.ask(post(server.url, "/x"), b"{}")
    with pytest.raises(ConnectionError):
        await connection.ask(post(server.url, "/x"), b"{}")


async def test_what_is_not_http_is_an_error(server: Server) -> None:
    server.pieces = [[b"SSH-2.0-something\r\n\r\n"]]
    connection = await Connection.open(server.url)

    with pytest.raises(ConnectionError, match="not an HTTP response"):
        await connection.ask(post(server.url, "/x"), b"{}")
