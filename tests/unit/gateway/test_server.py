"""The port and the drain, on a real uvicorn."""

import asyncio

import httpx
import pytest
from tests.unit.gateway.parts import Gateway, deployed, reply, request, settle, whole

from headrace.contracts.errors import SetupError
from headrace.gateway.server import listen, serve
from headrace.settings import GatewaySettings


class Served:
    """A gateway at a real port."""

    def __init__(self, gateway: Gateway, drain_s: float = 5.0) -> None:
        self.gateway = gateway
        self.stop = asyncio.Event()
        settings = GatewaySettings(port=0, drain_s=drain_s)
        opened = listen(settings)
        self.url = "http://{}:{}".format(*opened.getsockname())
        self.task = asyncio.create_task(serve(gateway.app, opened, settings, self.stop))

    async def started(self) -> None:
        async with httpx.AsyncClient() as client:
            while True:
                try:
                    await client.get(f"{self.url}/v2/health/live")
                except httpx.ConnectError:
                    await asyncio.sleep(0.01)
                else:
                    return


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


async def test_running_requests_finish_and_new_ones_find_the_door_closed():
    gateway = Gateway(deployed())
    served = Served(gateway)
    await served.started()
    async with httpx.AsyncClient() as client:
        asking = asyncio.create_task(client.post(f"{served.url}/v1/chat/completions", json=request()))
        await until(lambda: gateway.kafka.sent)
        served.stop.set()
        await asyncio.sleep(0.3)
        async with httpx.AsyncClient() as other:
            with pytest.raises(httpx.ConnectError):
                await other.get(f"{served.url}/v2/health/live")
        gateway.deliver(reply(gateway.kafka.sent[0], whole()))
        assert (await asking).content == whole()
    await served.task


async def test_a_caller_who_hangs_up_is_noticed():
    gateway = Gateway(deployed())
    served = Served(gateway)
    await served.started()
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(f"{served.url}/v1/chat/completions", json=request(), timeout=0.05)
    await until(lambda: gateway.kafka.sent)
    gateway.submitter.replies.tick(asyncio.get_running_loop().time())
    await until(lambda: len(gateway.kafka.sent) == 2)
    await until(lambda: not len(gateway.submitter.replies))
    served.stop.set()
    await served.task


async def test_a_body_over_the_limit_is_answered_while_it_is_still_being_sent():
    gateway = Gateway(deployed(), max_body_bytes=1000)
    served = Served(gateway)
    await served.started()

    async def pieces():
        for _ in range(200):
            yield b"x" * 10_000

    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient() as client:
        for _ in range(2):  # and the connection can be used again
            response = await client.post(f"{served.url}/v1/completions", content=pieces(), headers=headers)
            assert response.status_code == 413
    served.stop.set()
    await served.task


async def test_a_stream_over_a_real_connection():
    gateway = Gateway(deployed())
    served = Served(gateway)
    await served.started()
    body = request() | {"stream": True}
    async with (
        httpx.AsyncClient() as client,
        asyncio.TaskGroup() as group,
    ):
        asking = group.create_task(client.post(f"{served.url}/v1/chat/completions", json=body))
        await until(lambda: gateway.kafka.sent)
        gateway.deliver(reply(gateway.kafka.sent[0], whole()))
    assert asking.result().text.endswith("data: [DONE]\n\n")
    assert asking.result().headers["transfer-encoding"] == "chunked"
    served.stop.set()
    await served.task
    await settle()


def test_a_taken_port_is_one_sentence():
    first = listen(GatewaySettings(port=0))
    first.listen()
    port = first.getsockname()[1]
    try:
        with pytest.raises(SetupError, match=rf"Port {port} on 127\.0\.0\.1 is taken"):
            listen(GatewaySettings(port=port))
    finally:
        first.close()
