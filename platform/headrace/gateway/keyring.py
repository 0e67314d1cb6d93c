"""API keys in memory: no request waits for SQL, and no flood of wrong keys becomes one of SQL."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final, Protocol

from headrace.contracts.errors import HeadraceError, InvalidApiKey, Unavailable
from headrace.core.keys import ApiKey, Scope, check, digest

_log = logging.getLogger(__name__)

_LOOK_AGAIN_S: Final = 1.0
"""Between two looks for keys that are unknown; a new key works after at most so long, and a refresh."""


class KeySource(Protocol):
    """Where keys are kept; see `store.keys`."""

    async def all(self) -> Sequence[ApiKey]:
        """Every key, those that open nothing too.

        Raises:
            HeadraceError: they cannot be read.
        """
        ...


class Keyring:
    """All keys, read again and again. `is_open`: whether everybody may come in while there is none."""

    def __init__(self, source: KeySource, refresh_s: float, *, is_open: bool) -> None:
        self._source = source
        self._refresh_s = refresh_s
        self._is_open = is_open
        self._keys: dict[str, ApiKey] | None = None
        # By the text that opened them, since the last reading: hashing costs more than all the rest.
        self._opened: dict[bytes, ApiKey] = {}
        self._looking: asyncio.Task[None] | None = None
        self._looked_s = float("-inf")
        self._complaint = ""

    @property
    def lets_everybody_in(self) -> bool:
        """Whether no key is asked for. One that was revoked closes the doors all the same."""
        return self._is_open and self._keys is not None and not self._keys

    def find(self, text: bytes | None, scope: Scope | None) -> ApiKey:
        """The key behind its text.

        Raises:
            InvalidApiKey: there is none, or one that opens nothing.
            InsufficientScope: it is for other things.
            Unavailable: keys were never read yet.
        """
        if self._keys is None:
            raise Unavailable(f"This gateway cannot read its API keys yet: {self._complaint or 'it starts'}")
        if text is None:
            first = "" if self._keys else ", and none was made yet"
            raise InvalidApiKey(
                f"This gateway asks for an API key{first}: make one by `headrace keys create` and send it as "
                "'Authorization: Bearer hr_...'"
            )
        key = self._opened.get(text)
        if key is None:
            key = self._keys.get(digest(text))
            if key is not None:
                self._opened[text] = key
        return check(key, scope, time.time())

    async def look_again(self) -> bool:
        """Read them because one is unknown; False: that was done a moment ago."""
        if self._looking is None or self._looking.done():
            if time.monotonic() - self._looked_s < _LOOK_AGAIN_S:
                return False
            self._looked_s = time.monotonic()
            self._looking = asyncio.create_task(self.refresh())
        await asyncio.shield(self._looking)
        return True

    async def refresh(self) -> None:
        """Read them; when that fails, those that were read last remain."""
        try:
            found = await self._source.all()
        except HeadraceError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.warning("API keys cannot be read, those read last remain: %s", error)
            return
        if self._complaint:
            self._complaint = ""
            _log.info("API keys can be read again")
        if self._keys is None and not found and not self._is_open:
            _log.warning(
                "no API key exists, and this gateway listens to other machines: it refuses every request "
                "until there is one; `headrace keys create` makes it"
            )
        if not self._keys and found and self._is_open:
            _log.info("there are API keys: requests without one are refused from now on")
        self._keys, self._opened = {key.sha256: key for key in found}, {}

    async def regularly(self) -> None:
        """Read them for ever."""
        while True:
            await asyncio.sleep(self._refresh_s)
            await self.refresh()
