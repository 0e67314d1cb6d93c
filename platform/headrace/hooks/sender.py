"""One attempt to deliver a webhook: to exactly the address that was checked, and no further.

httpcore and not httpx: its pool takes a network backend, so that name resolution, check and connection are
one step, and no second look-up can give another address (DNS rebinding). TLS still verifies the name.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final

import httpcore

from headrace.contracts.errors import HeadraceError, InvalidRequest
from headrace.core import addresses
from headrace.core.addresses import Rules
from headrace.core.webhooks import Attempt
from headrace.settings import WebhookSettings

_MAX_ANSWER_BYTES: Final = 65_536
_MAX_ERROR_CHARS: Final = 300


class Sender:
    """Sends one body at a time; many may run at once. Use `close` in the end."""

    def __init__(self, settings: WebhookSettings, context: ssl.SSLContext | None = None) -> None:
        self._timeout_s = settings.timeout_s
        self._rules = settings.rules
        # Connections are not kept: one that was verified for a name must not serve another.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context or ssl.create_default_context(),
            max_connections=settings.at_once,
            max_keepalive_connections=0,
            network_backend=_Checked(self._rules),
        )

    async def send(self, number: int, url: str, headers: dict[str, str], body: bytes) -> Attempt:
        """The attempt, whatever came of it."""
        at_s, begun_s = time.time(), time.perf_counter()
        status: int | None = None
        error: str | None = None
        retry_after_s: float | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                status, answer = await self._post(url, headers, body)
                retry_after_s = _retry_after_s(answer)
        except TimeoutError:
            error = f"no answer within {self._timeout_s:g} s"
        except HeadraceError as refused:
            error = refused.message
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError, ssl.SSLError) as failed:
            error = str(failed) or type(failed).__name__
        if status is not None and 300 <= status < 400:
            error = "redirects are not followed: register the URL that it leads to"
        duration_ms = (time.perf_counter() - begun_s) * 1000
        said = None if error is None else error[:_MAX_ERROR_CHARS]
        return Attempt(number, at_s, duration_ms, status, said, retry_after_s)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        target = addresses.target(url, self._rules)
        sent = [("host", _host(target)), ("content-length", str(len(body))), *headers.items()]
        request = httpcore.Request(
            "POST",
            httpcore.URL(
                scheme=target.scheme, host=target.host, port=target.port, target=target.path.encode()
            ),
            headers=[(name.encode(), value.encode()) for name, value in sent],
            content=body,
        )
        response = await self._pool.handle_async_request(request)
        try:
            read = 0
            async for part in response.aiter_stream():
                read += len(part)
                if read > _MAX_ANSWER_BYTES:
                    break  # it is of no use to anybody
        finally:
            await response.aclose()
        return response.status, {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
        }


class _Checked(httpcore.AsyncNetworkBackend):
    """Resolves names itself, and connects to what passes the rules."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        allowed = [str(each[4][0]) for each in found]
        for address in allowed:
            # All of them: a name that leads inside as well is nobody's webhook.
            addresses.check(ip_address(address.partition("%")[0]), self._rules)
        if not allowed:
            raise InvalidRequest(f"The name {host} has no address")
        return await self._inner.connect_tcp(allowed[0], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _host(target: addresses.Target) -> str:
    name = f"[{target.host}]" if ":" in target.host else target.host
    return name if (target.scheme, target.port) in (("http", 80), ("https", 443)) else f"{name}:{target.port}"


def _retry_after_s(headers: dict[str, str]) -> float | None:
    told = headers.get("retry-after", "")
    return float(told) if told.isdecimal() and len(told) < 7 else None
