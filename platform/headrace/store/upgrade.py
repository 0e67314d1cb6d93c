"""Runs the migrations. Safe at any time, twice, and from two processes at once."""

import asyncio
import time
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.contracts.errors import SetupError
from headrace.settings import DatabaseSettings
from headrace.store.database import NO_TRANSACTION, open_engine, reason, shown
from headrace.store.schema import METADATA, VERSION_TABLE

_SCRIPTS: Final = Path(__file__).parent / "migrations"
_LOCK_KEY: Final = 0x6865616472616365
"""PostgreSQL's advisory lock of our migrations: "headrace" in ASCII."""
_SHOWN_TABLES: Final = 3
_WAL_WAIT_S: Final = 30.0
_WAL_RETRY_S: Final = 0.05


async def upgrade(settings: DatabaseSettings) -> None:
    """Bring the database of `settings` up to date.

    Raises:
        SetupError: it cannot be reached, belongs to something else, or a newer Headrace has changed it.
    """
    engine = open_engine(settings)
    try:
        await _upgrade(engine)
    except (SQLAlchemyError, OSError) as error:
        raise SetupError(f"The database at {shown(engine.url)} cannot be used: {reason(error)}") from None
    finally:
        await engine.dispose()


async def _upgrade(engine: AsyncEngine) -> None:
    if engine.dialect.name == "sqlite":
        await _look_at(engine)
        await _use_wal(engine)
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        await connection.run_sync(_run)


async def _look_at(engine: AsyncEngine) -> None:
    """Refuse a foreign file before the write-ahead log changes it."""
    async with engine.connect() as connection:
        await connection.run_sync(_check)


async def _use_wal(engine: AsyncEngine) -> None:
    """Readers and the writer then do not wait for each other. The file remembers it."""
    # SQLite's own busy timeout does not cover this switch, so we wait for other processes ourselves.
    until_s = time.monotonic() + _WAL_WAIT_S
    while True:
        try:
            async with engine.execution_options(**NO_TRANSACTION).connect() as connection:
                await connection.execute(text("PRAGMA journal_mode = WAL"))
        except OperationalError:
            if time.monotonic() > until_s:
                raise
            await asyncio.sleep(_WAL_RETRY_S)
        else:
            return


def _run(connection: Connection) -> None:
    _check(connection)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _check(connection: Connection) -> None:
    url = shown(connection.engine.url)
    tables = set(inspect(connection).get_table_names())
    if VERSION_TABLE not in tables:
        if tables:
            some = ", ".join(sorted(tables)[:_SHOWN_TABLES])
            raise SetupError(
                f"The database at {url} holds tables of something else ({some}): "
                "give Headrace a database of its own by HEADRACE_DATABASE_URL"
            )
        return
    found = set(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars())  # noqa: S608
    known = {revision.revision for revision in ScriptDirectory.from_config(_config()).walk_revisions()}
    if not found <= known:
        raise SetupError(
            f"The database at {url} was changed by a newer Headrace (revision {', '.join(sorted(found))}): "
            "install that version, or name another database by HEADRACE_DATABASE_URL"
        )
    missing = {table for table in METADATA.tables if found and table not in tables}
    if missing:
        raise SetupError(
            f"The database at {url} has lost {', '.join(sorted(missing))}: restore a backup of it"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
