"""Whose request it is, and whether it may be made."""

import ipaddress
from collections.abc import Iterable
from typing import Final, NamedTuple

from starlette.requests import Request

from headrace.contracts.errors import InvalidApiKey, InvalidRequest
from headrace.core.keys import ApiKey, Scope
from headrace.gateway.keyring import Keyring, KeySource
from headrace.gateway.tenants import Account
from headrace.settings import GatewaySettings

_MAX_TENANT_BYTES: Final = 256
_BEARER: Final = b"bearer "
_NO_KEY: Final = "/v2/health/"
"""Paths that load balancers ask, which have no keys."""
_SCOPES: Final = (
    ("/v1/models", None),
    ("/v2", None),
    ("/v1/jobs", Scope.JOBS),
    ("/v1/files", Scope.FILES),
    ("/v1/batches", Scope.BATCHES),
    ("/v1/webhook", Scope.WEBHOOKS),
    ("/v1/responses", Scope.INFERENCE),
)
"""What paths beside those of inference need; any key will do for None, and one for everything elsewhere."""


class Caller(NamedTuple):
    """Who asks. `tenant`: empty for those who belong to none; what one tenant has, no other sees."""

    tenant: str = ""
    api_key: ApiKey | None = None

    @property
    def key(self) -> bytes | None:
        """The tenant as records say it; None for those who belong to none."""
        return self.tenant.encode() or None

    @property
    def account(self) -> Account:
        """Who is counted for what it asks."""
        if self.api_key is None or self.api_key.limits is None:
            return Account(self.key)
        return Account(self.key, self.api_key.id, self.api_key.limits)


_NOBODY: Final = Caller()


class Callers:
    """Tells callers apart: by API keys, by a header that a proxy sets, or not at all."""

    def __init__(self, settings: GatewaySettings, keyring: Keyring | None = None) -> None:
        name = settings.tenant_header
        self._tenant_header = None if name is None else name.lower().encode()
        self._keyring = keyring

    def identify(
        self, headers: Iterable[tuple[bytes, bytes]], scope: Scope | None = Scope.INFERENCE
    ) -> Caller:
        """Who sends these headers.

        Raises:
            InvalidApiKey: a key is asked for, and there is none that opens anything.
            InsufficientScope: the key is for other things.
            InvalidRequest: they do not say it as they must.
            Unavailable: the keys were never read yet.
        """
        if self._keyring is None or self._keyring.lets_everybody_in:
            if self._tenant_header is None:
                return _NOBODY
            return Caller(self._told(headers))
        found = self._keyring.find(_key_in(headers), scope)
        # A key of no tenant may be a proxy's, which says whose the request is.
        return Caller(found.tenant or self._told(headers), found)

    async def admit(
        self, headers: Iterable[tuple[bytes, bytes]], scope: Scope | None = Scope.INFERENCE
    ) -> Caller:
        """The same, with a look at the database for a key that is new."""
        try:
            return self.identify(headers, scope)
        except InvalidApiKey:
            if _key_in(headers) is None or self._keyring is None or not await self._keyring.look_again():
                raise
            return self.identify(headers, scope)

    async def check(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep those out who may not ask for `path`; for paths beside those of inference.

        Raises as `identify` does.
        """
        if self._keyring is not None and not path.startswith(_NO_KEY):
            await self.admit(headers, scope_of(path))

    def of(self, request: Request) -> Caller:
        """Who sends this request.

        Raises:
            InvalidRequest: its headers do not say it as they must.
        """
        return self.identify(request.headers.raw, scope_of(request.url.path))

    def _told(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        if self._tenant_header is None:
            return ""
        return (tenant_of(self._tenant_header, headers) or b"").decode()


def scope_of(path: str) -> Scope | None:
    """What a key must be for, on a path beside those of inference."""
    for begin, scope in _SCOPES:
        if path == begin or path.startswith((begin + "/", begin + "_")):
            return scope
    return Scope.ALL


def keyring_for(settings: GatewaySettings, source: KeySource) -> Keyring:
    """Keys for a gateway. Without any key, everybody who reaches it may ask: who is on this machine, or comes
    by a proxy that says whose the request is. Anybody else may not.
    """
    is_open = settings.tenant_header is not None or _is_here_alone(settings.host)
    return Keyring(source, settings.keys_refresh_s, is_open=is_open)


def _is_here_alone(host: str) -> bool:
    """Whether a gateway that listens there is reached by nobody but this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key that is sent: a Bearer token, or the header that Azure's clients use."""
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == _BEARER:
            return value[7:]
        if name == b"api-key":
            return value
    return None


def tenant_of(name: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The tenant in the header `name` (lower case); None when it is absent or empty.

    Raises:
        InvalidRequest: it is there twice, too long or not UTF-8: no proxy of ours has set it.
    """
    found = [value for header, value in headers if header == name]
    if not found:
        return None
    shown = name.decode()
    if len(found) > 1:
        raise InvalidRequest(f"Header {shown} is there twice: the proxy must replace what callers send")
    tenant = found[0]
    if len(tenant) > _MAX_TENANT_BYTES:
        raise InvalidRequest(f"Header {shown} is over {_MAX_TENANT_BYTES} bytes")
    try:
        tenant.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"Header {shown} is not UTF-8 text") from None
    return tenant or None
