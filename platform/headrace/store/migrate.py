"""`headrace migrate`: tables up to date, without loading the migrations when they are.

SQLAlchemy and Alembic cost a second to import, which every start of the embedded stack would pay.
"""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from headrace.settings import DatabaseSettings

HEAD: Final = "0006"
"""The last migration; a test holds it to `migrations/versions`."""


def migrate(settings: DatabaseSettings) -> None:
    """Bring the database of `settings` up to date; nothing may run in this thread's event loop.

    Raises:
        SetupError: it cannot be reached, belongs to something else, or a newer Headrace has changed it.
    """
    if is_current_sqlite(settings):
        return
    from headrace.store.upgrade import upgrade  # noqa: PLC0415

    asyncio.run(upgrade(settings))


def is_current_sqlite(settings: DatabaseSettings) -> bool:
    """Whether it is an SQLite file that is surely up to date; False whenever in doubt."""
    path = sqlite_path(settings)
    if path is None or not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT version_num FROM headrace_version").fetchall()
            connection.execute("SELECT 1 FROM results LIMIT 1").fetchall()
    except sqlite3.Error:
        return False
    return found == [(HEAD,)]


def sqlite_path(settings: DatabaseSettings) -> Path | None:
    """The file of an SQLite database; None when it is another one, or in memory."""
    url = urlsplit(settings.url)
    path = unquote(url.path[1:])
    is_file = url.scheme.startswith("sqlite") and not url.netloc and path not in ("", ":memory:")
    return Path(path) if is_file else None
