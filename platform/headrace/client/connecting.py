"""How a client reaches a gateway."""

from dataclasses import dataclass
from typing import Any

import httpx

from headrace import __version__


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach a gateway.

    api_key: `hr_…`; none for a gateway that is open. timeout_s: for an answer; a job needs no long one.
    max_retries: how often a call is sent again that was refused for now, or whose connection broke.
    """

    api_key: str | None = None
    timeout_s: float = 600.0
    max_retries: int = 2


def http_settings(base_url: str, settings: Settings) -> dict[str, Any]:
    """Arguments for httpx's clients."""
    headers = {"user-agent": f"headrace-python/{__version__}"}
    if settings.api_key is not None:
        headers["authorization"] = f"Bearer {settings.api_key}"
    # A stream is silent for up to the gateway's keep-alive; connecting is quick or not at all.
    timeout = httpx.Timeout(settings.timeout_s, connect=5.0)
    return {"base_url": base_url.rstrip("/"), "headers": headers, "timeout": timeout}
