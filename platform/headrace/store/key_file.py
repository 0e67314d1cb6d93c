"""API keys of an SQLite file, read by Python's own sqlite3.

A gateway of the embedded stack asks for them all the time; SQLAlchemy would cost it 25 MB just for that.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from headrace.contracts.errors import Unavailable
from headrace.core.keys import ApiKey, of_row
from headrace.settings import DatabaseSettings
from headrace.store.migrate import sqlite_path

_PATIENCE_S = 5.0


class KeyFile:
    """Fills `gateway.keyring.KeySource`."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._path = sqlite_path(settings)

    async def all(self) -> Sequence[ApiKey]:
        """Every key. A file that is not there, or has no such table yet, has none.

        Raises:
            Unavailable: the file cannot be read.
        """
        return await asyncio.to_thread(self._read)

    def _read(self) -> Sequence[ApiKey]:
        path: Path | None = self._path
        if path is None or not path.exists():
            return []
        try:
            uri = f"{path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S)) as connection:
                connection.row_factory = sqlite3.Row
                named = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'api_keys'"
                if connection.execute(named).fetchone() is None:
                    return []
                rows = connection.execute("SELECT * FROM api_keys ORDER BY created_at_s, id").fetchall()
        except sqlite3.Error as error:
            raise Unavailable(f"The database {path} does not serve: {error}") from None
        return [of_row(dict(row)) for row in rows]
