"""Whose request it is."""

from collections.abc import Iterable
from typing import NamedTuple

from starlette.requests import Request

from headrace.contracts.errors import InvalidRequest
from headrace.settings import GatewaySettings

_MAX_TENANT_BYTES = 256


class Caller(NamedTuple):
    """Who asks. `tenant`: empty for those who belong to none; what one tenant has, no other sees."""

    tenant: str = ""

    @property
    def key(self) -> bytes | None:
        """The tenant as records say it; None for those who belong to none."""
        return self.tenant.encode() or None


class Callers:
    """Tells callers apart: by a header that a proxy sets, or not at all."""

    def __init__(self, settings: GatewaySettings) -> None:
        name = settings.tenant_header
        self._tenant_header = None if name is None else name.lower().encode()

    def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Who sends these headers.

        Raises:
            InvalidRequest: they do not say it as they must.
        """
        if self._tenant_header is None:
            return _NOBODY
        return Caller((tenant_of(self._tenant_header, headers) or b"").decode())

    def of(self, request: Request) -> Caller:
        """Who sends this request.

        Raises:
            InvalidRequest: its headers do not say it as they must.
        """
        return self.identify(request.headers.raw)


_NOBODY = Caller()


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
