"""Which URLs and addresses a server of ours may call for others. Pure.

A caller who names a URL must not reach through us what only we can reach: loopback, private networks, cloud
metadata. `ipaddress.is_global` alone is not enough: it lets multicast, NAT64 and 6to4 through, which may lead
back inside.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import MAX_URL_CHARS

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_TRANSLATED: Final = tuple(
    # NAT64, 6to4, Teredo: IPv6 addresses with an IPv4 address in them.
    ip_network(text)
    for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::ffff:0:0/96", "::/96")
)
_PORTS: Final = {"http": 80, "https": 443}
_MAX_HOST_CHARS: Final = 253


class Rules(NamedTuple):
    """allow_http: without TLS. networks: those that may be reached although they are not public."""

    allow_http: bool = False
    networks: Sequence[Network] = ()


class Target(NamedTuple):
    """Where a URL leads. path: with the query."""

    scheme: str
    host: str
    port: int
    path: str


def target(url: str, rules: Rules) -> Target:
    """Read a URL.

    Raises:
        InvalidRequest: it is none that we call, and the message says why.
    """
    if len(url) > MAX_URL_CHARS or not url.isascii() or any(char <= " " or char == "\x7f" for char in url):
        raise InvalidRequest(f"The URL must be ASCII without spaces, of at most {MAX_URL_CHARS} characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidRequest(f"The URL cannot be read: {error}") from None
    schemes = ("https", "http") if rules.allow_http else ("https",)
    if parts.scheme not in schemes:
        raise InvalidRequest(f"The URL must begin with {' or '.join(f'{each}://' for each in schemes)}")
    if not host or len(host) > _MAX_HOST_CHARS or "%" in host:
        raise InvalidRequest("The URL must name a host")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("The URL must not hold a user or a password: deliveries are signed instead")
    literal = _literal(host)
    if literal is not None:
        check(literal, rules)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, _PORTS[parts.scheme] if port is None else port, path)


def check(address: Address, rules: Rules) -> None:
    """Make sure that we may connect to it.

    Raises:
        InvalidRequest: we may not.
    """
    inner = _inner(address)
    if any(
        each.version == network.version and each in network
        for network in rules.networks
        for each in {address, inner}
    ):
        return
    is_translated = address.version == 6 and any(address in network for network in _TRANSLATED)
    if is_translated and inner is address:
        raise InvalidRequest(f"The URL leads to {address}, which is not public")
    if not inner.is_global or inner.is_multicast or inner.is_reserved:
        raise InvalidRequest(f"The URL leads to {address}, which is not public")


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, or itself."""
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or address
