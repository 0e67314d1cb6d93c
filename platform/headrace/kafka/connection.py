"""Settings to aiokafka's arguments, and patience while the broker is not there."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

from aiokafka.errors import KafkaConnectionError, KafkaError

from headrace.contracts.errors import SetupError
from headrace.settings import KafkaSettings

_log = logging.getLogger(__name__)

_RETRY_S: Final = 0.1


def arguments(settings: KafkaSettings, *, client_id: str) -> dict[str, Any]:
    """Arguments that every aiokafka client takes.

    Raises:
        SetupError: a certificate file cannot be used, or SASL lacks a user.
    """
    found: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": f"headrace-{client_id}",
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        found["ssl_context"] = _ssl_context(settings)
    if settings.security_protocol.startswith("SASL"):
        if settings.sasl_username is None or settings.sasl_password is None:
            raise SetupError(
                "HEADRACE_KAFKA_SECURITY_PROTOCOL asks for SASL: "
                "set HEADRACE_KAFKA_SASL_USERNAME and HEADRACE_KAFKA_SASL_PASSWORD too"
            )
        found |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    return found


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
        if settings.ssl_cert_file is not None:
            context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file)
    except (OSError, ssl.SSLError) as error:
        raise SetupError(f"The TLS files for Kafka cannot be used: {error}") from None
    return context


class Client(Protocol):
    """The part of an aiokafka client that starting needs."""

    async def start(self) -> Any:
        """Connect."""
        ...


ClientT = TypeVar("ClientT", bound=Client)


async def start_patiently(
    build: Callable[[], ClientT], stop: Callable[[ClientT], Awaitable[Any]], settings: KafkaSettings
) -> ClientT:
    """Build and start a client as soon as Kafka answers, so that roles and broker start in any order.

    Says once that it waits. Cancelling ends it.

    Raises:
        SetupError: Kafka answers and refuses us (credentials, TLS, permissions).
    """
    _waiting.append(settings.bootstrap_servers)
    try:
        await _wait_for_port(settings)
        return await _start(build, stop, settings)
    finally:
        _waiting.pop()


def is_waiting() -> bool:
    """Whether some client of this process waits for Kafka. A process told to stop then need not drain."""
    return bool(_waiting)


_waiting: Final[list[str]] = []


async def _start(
    build: Callable[[], ClientT], stop: Callable[[ClientT], Awaitable[Any]], settings: KafkaSettings
) -> ClientT:
    while True:
        client = build()
        try:
            await client.start()
        except KafkaError as error:
            await stop(client)
            if not (error.retriable or isinstance(error, KafkaConnectionError)):
                raise SetupError(f"Kafka at {settings.bootstrap_servers} refuses us: {error!r}") from None
            _log.warning("Kafka at %s is not ready: %r", settings.bootstrap_servers, error)
            await asyncio.sleep(_RETRY_S * 5)
        except BaseException:
            await stop(client)
            raise
        else:
            return client


async def _wait_for_port(settings: KafkaSettings) -> None:
    """A look at the port first: aiokafka logs an error for every attempt."""
    addresses = [_address(server) for server in settings.bootstrap_servers.split(",")]
    said = False
    while True:
        for host, port in addresses:
            try:
                async with asyncio.timeout(5):
                    _, writer = await asyncio.open_connection(host, port)
            except (OSError, TimeoutError):
                continue
            writer.close()
            return
        if not said:
            _log.info("waiting for Kafka at %s", settings.bootstrap_servers)
            said = True
        await asyncio.sleep(_RETRY_S)


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.strip().rpartition(":")
    if not host or not port.isdigit():
        raise SetupError(f"HEADRACE_KAFKA_BOOTSTRAP_SERVERS: {server!r} is not HOST:PORT")
    return host.strip("[]"), int(port)
