"""Settings to aiokafka's arguments, and patience while the broker is not there."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from aiokafka.errors import KafkaConnectionError, KafkaError

from headrace.contracts.errors import SetupError
from headrace.kafka.diagnosis import diagnose
from headrace.settings import KafkaSettings

_log = logging.getLogger(__name__)

_RETRY_S: Final = 0.1
_SLOW_S: Final = 3.0


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
    ca, cert, key = settings.ssl_ca_file, settings.ssl_cert_file, settings.ssl_key_file
    for name, path in (("CA", ca), ("CERT", cert), ("KEY", key)):
        _check_readable(f"HEADRACE_KAFKA_SSL_{name}_FILE", path)
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise SetupError(f"HEADRACE_KAFKA_SSL_CA_FILE: {ca} holds no certificate in PEM form") from None
    if cert is None:
        if key is not None:
            raise SetupError("HEADRACE_KAFKA_SSL_KEY_FILE needs HEADRACE_KAFKA_SSL_CERT_FILE beside it")
        return context
    try:
        # Without a password of ours OpenSSL would ask for one at the terminal.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        raise SetupError(
            f"HEADRACE_KAFKA_SSL_KEY_FILE: {key or cert} holds no key without a password that fits "
            f"HEADRACE_KAFKA_SSL_CERT_FILE {cert} ({(error.reason or 'no PEM').lower().replace('_', ' ')})"
        ) from None
    return context


def _check_readable(name: str, path: Path | None) -> None:
    if path is None:
        return
    try:
        path.open("rb").close()
    except OSError as error:
        raise SetupError(f"{name}: {path}: {error.strerror}") from None


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
            await _start_or_say_why(client, settings)
        except KafkaError as error:
            await stop(client)
            if not (error.retriable or isinstance(error, KafkaConnectionError)):
                raise SetupError(f"Kafka at {settings.bootstrap_servers} refuses us: {error!r}") from None
            await _diagnose(settings)
            _log.warning("Kafka at %s is not ready: %r", settings.bootstrap_servers, error)
            await asyncio.sleep(_RETRY_S * 5)
        except BaseException:
            await stop(client)
            raise
        else:
            return client


async def _start_or_say_why(client: Client, settings: KafkaSettings) -> None:
    """Some mistakes make aiokafka wait for 40 s."""
    starting = asyncio.ensure_future(client.start())
    try:
        done, _ = await asyncio.wait([starting], timeout=_SLOW_S)
        if not done:
            await _diagnose(settings)
        await starting
    finally:
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)


async def _diagnose(settings: KafkaSettings) -> None:
    for host, port in _addresses(settings):
        await diagnose(host, port, arguments(settings, client_id="diagnosis"))


async def _wait_for_port(settings: KafkaSettings) -> None:
    """A look at the port first: aiokafka logs an error for every attempt."""
    addresses = _addresses(settings)
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


def _addresses(settings: KafkaSettings) -> list[tuple[str, int]]:
    return [_address(server) for server in settings.bootstrap_servers.split(",")]


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.strip().rpartition(":")
    if not host or not port.isdigit():
        raise SetupError(f"HEADRACE_KAFKA_BOOTSTRAP_SERVERS: {server!r} is not HOST:PORT")
    return host.strip("[]"), int(port)
