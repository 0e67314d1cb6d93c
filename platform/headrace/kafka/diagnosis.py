"""Why Kafka does not let us in. aiokafka only says that it could not connect, as when nobody is there yet."""

import asyncio
import ssl
import struct
from collections.abc import Mapping
from typing import Any, Final

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError, SaslAuthenticationFailed

from headrace.contracts.errors import SetupError

_PATIENCE_S: Final = 5.0
_HANDSHAKE_S: Final = 2.0
"""A port that speaks plain words waits for more of what it takes for a very long request."""
_OTHER_NAME: Final = (62, 64)
"""OpenSSL's codes for a certificate of another host name or address."""
_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)
"""A request that any broker answers before it asks who we are: size, key, version, correlation, no client."""

_PROTOCOL: Final = "HEADRACE_KAFKA_SECURITY_PROTOCOL"


async def diagnose(host: str, port: int, arguments: Mapping[str, Any]) -> None:
    """Look for a reason that waiting will not mend; returns when there is none.

    arguments: as for any aiokafka client.

    Raises:
        SetupError: there is one.
    """
    where = f"Kafka at {host}:{port}"
    protocol = arguments["security_protocol"]
    try:
        async with asyncio.timeout(_PATIENCE_S):
            if protocol.endswith("SSL"):
                await _diagnose_tls(where, host, port, arguments["ssl_context"])
            elif await _speaks_tls(host, port):
                raise SetupError(f"{where} speaks TLS: set {_PROTOCOL} to SSL or SASL_SSL")
            if protocol.startswith("SASL"):
                await _diagnose_sasl(where, host, port, arguments)
    except TimeoutError:
        return


async def _diagnose_tls(where: str, host: str, port: int, context: ssl.SSLContext) -> None:
    try:
        reader, writer = await asyncio.open_connection(
            host, port, ssl=context, ssl_handshake_timeout=_HANDSHAKE_S
        )
        try:
            writer.write(_API_VERSIONS)
            # With TLS 1.3 a server refuses a certificate only after we believe to be connected.
            await reader.read(4)
        finally:
            writer.transport.abort()  # no word of farewell to wait for
    except ssl.SSLCertVerificationError as error:
        raise SetupError(_distrust(where, host, error)) from None
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            raise SetupError(
                f"{where} refuses our certificate ({_words(error)}): HEADRACE_KAFKA_SSL_CERT_FILE and "
                "HEADRACE_KAFKA_SSL_KEY_FILE must be a client certificate that it trusts"
            ) from None
        await _refuse_if_plain(where, host, port)
    except OSError:
        await _refuse_if_plain(where, host, port)


def _distrust(where: str, host: str, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OTHER_NAME:
        return (
            f"{where} has a certificate that is not for {host}: use the name in its certificate in "
            "HEADRACE_KAFKA_BOOTSTRAP_SERVERS and in the broker's advertised.listeners"
        )
    return (
        f"{where} has a certificate that we do not trust ({error.verify_message}): "
        "HEADRACE_KAFKA_SSL_CA_FILE must hold the authority that has signed it"
    )


async def _refuse_if_plain(where: str, host: str, port: int) -> None:
    try:
        connection = await create_conn(host, port, security_protocol="PLAINTEXT")
    except (KafkaError, OSError):
        return
    connection.close()
    raise SetupError(f"{where} does not speak TLS: set {_PROTOCOL} to PLAINTEXT or use its TLS port")


async def _speaks_tls(host: str, port: int) -> bool:
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE  # nothing is said to it: we only look whether it speaks TLS
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=anybody)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
    writer.transport.abort()
    return True


async def _diagnose_sasl(where: str, host: str, port: int, arguments: Mapping[str, Any]) -> None:
    ours = {n: each for n, each in arguments.items() if n.startswith(("sasl_", "security_", "ssl_"))}
    try:
        connection = await create_conn(host, port, **ours)
    except SaslAuthenticationFailed:
        raise SetupError(
            f"{where} refuses user {arguments['sasl_plain_username']}: HEADRACE_KAFKA_SASL_USERNAME and "
            "HEADRACE_KAFKA_SASL_PASSWORD must be those of a user that it knows"
        ) from None
    except KafkaError as error:
        if error.retriable:
            return
        raise SetupError(
            f"{where} does not take {arguments['sasl_mechanism']} ({type(error).__name__}): "
            f"see {_PROTOCOL} and HEADRACE_KAFKA_SASL_MECHANISM"
        ) from None
    except OSError:
        return
    connection.close()


def _words(error: ssl.SSLError) -> str:
    return (error.reason or "TLS error").lower().replace("_", " ")
