"""A look into an SQLite file without SQLAlchemy, for whoever only wants to know whether there is anything."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from headrace.settings import DatabaseSettings

_QUESTIONS: Final = {
    "batches": "SELECT 1 FROM batches WHERE state NOT IN ('failed', 'completed', 'expired', 'cancelled')",
    "files": "SELECT 1 FROM files",
    "webhooks": "SELECT 1 FROM webhook_deliveries WHERE state = 'pending'",
}


def may_hold(settings: DatabaseSettings, what: str) -> bool:
    """Whether there may be batches to work on, files, or webhooks to send; False only when surely not.

    A few milliseconds; blocks for as long.
    """
    url = urlsplit(settings.url)
    path = Path(unquote(url.path[1:]))
    if not url.scheme.startswith("sqlite") or url.netloc or not path.is_file():
        return True
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(f"{_QUESTIONS[what]} LIMIT 1").fetchone() is not None
    except sqlite3.Error:
        return True
