"""The engine: how a database is reached, and what its failures mean to callers."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Table, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from headrace.contracts.errors import InvalidRequest, SetupError, Unavailable
from headrace.settings import DatabaseSettings

Engine: TypeAlias = AsyncEngine
"""For those who hold one and may not know SQLAlchemy."""

READ_ONLY: Final = {"sqlite_begin": "BEGIN DEFERRED"}
"""Execution options of a transaction that writes nothing: on SQLite it then waits for no writer."""
NO_TRANSACTION: Final = {"sqlite_begin": None}
"""Execution options for what SQLite does only outside of a transaction."""

_BUSY_TIMEOUT_MS: Final = 10_000
"""How long an SQLite writer waits for another process; the longest transaction of ours is a migration."""
_CONNECT_TIMEOUT_S: Final = 10.0
_STATEMENT_TIMEOUT_S: Final = 60.0
_POOL_SIZE: Final = 2
_POOL_OVERFLOW: Final = 3

_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
}
"""What providers hand out, and what it means here."""
_EXTRAS: Final = {"sqlite+aiosqlite": "store", "postgresql+asyncpg": "postgres"}

_NO_TABLE: Final = re.compile(r"no such table|relation .* does not exist")


def open_engine(settings: DatabaseSettings) -> AsyncEngine:
    """An engine for the database of `settings`; connects when first used.

    Raises:
        SetupError: the URL cannot be read, or its driver is not installed.
    """
    url = _url(settings)
    try:
        engine = create_async_engine(url, **_options(url))
    except ModuleNotFoundError as error:
        raise SetupError(
            f"The database at {shown(url)} needs the Python package {error.name}: "
            f"pip install 'headrace[{_EXTRAS[url.drivername]}]'"
        ) from None
    if url.drivername.startswith("sqlite"):
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def shown(url: URL) -> str:
    """The URL without its password."""
    return url.render_as_string(hide_password=True)


def insert(engine: AsyncEngine, table: Table) -> Any:
    """An insert that may say what happens on a conflict: the two dialects spell it each in its own way."""
    dialect: Any
    # Each costs 4 MB to import.
    if engine.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite as dialect  # noqa: PLC0415
    else:
        from sqlalchemy.dialects import postgresql as dialect  # noqa: PLC0415
    return dialect.insert(table)


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Turn a driver's error into one of ours.

    Raises:
        InvalidRequest: the database refuses the values themselves; the same again will fail again.
        Unavailable: the database cannot be reached or does not work; later may be better.
    """
    try:
        yield
    except (SQLAlchemyError, OSError, OverflowError) as error:
        if _is_about_a_value(error):
            raise InvalidRequest(f"The database refuses a value: {reason(error)}") from error
        said = reason(error)
        hint = "; run `headrace migrate`" if _NO_TABLE.search(said) else ""
        raise Unavailable(f"The database at {shown(url)} does not serve: {said}{hint}") from error


def reason(error: BaseException) -> str:
    """A driver's own first line, without SQLAlchemy's statement and parameters."""
    origin = getattr(error, "orig", None) or error
    lines = str(origin).splitlines() or [""]
    return lines[0].rpartition(">: ")[2] or repr(origin)


def _is_about_a_value(error: BaseException) -> bool:
    # Drivers refuse some values before they are sent: sqlite3 by OverflowError, asyncpg by a ValueError that
    # SQLAlchemy wraps twice.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DataError | IntegrityError | OverflowError | ValueError):
            return True
        cause = cause.__cause__
    return False


def _url(settings: DatabaseSettings) -> URL:
    example = "such as sqlite+aiosqlite:///headrace.db or postgresql+asyncpg://user:password@host/headrace"
    try:
        url = make_url(settings.url)
    except ArgumentError:
        raise SetupError(f"HEADRACE_DATABASE_URL is not a database URL {example}") from None
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    if url.drivername not in _EXTRAS:
        raise SetupError(f"HEADRACE_DATABASE_URL: '{url.drivername}' is not served; use one {example}")
    return url


def _options(url: URL) -> dict[str, Any]:
    if url.drivername.startswith("sqlite"):
        return {}
    return {
        "pool_size": _POOL_SIZE,
        "max_overflow": _POOL_OVERFLOW,
        "pool_pre_ping": True,  # a connection that a proxy has dropped costs a round trip, not an error
        "connect_args": {"timeout": _CONNECT_TIMEOUT_S, "command_timeout": _STATEMENT_TIMEOUT_S},
    }


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # Python's sqlite3 would begin transactions by itself, too late for DDL; `_begin_sqlite` does it instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA synchronous = NORMAL")  # with WAL, a power cut may lose the last commits: replayed
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE: a transaction that reads first and writes later would fail at once instead of waiting.
    statement = connection.get_execution_options().get("sqlite_begin", "BEGIN IMMEDIATE")
    if statement is not None:
        connection.exec_driver_sql(statement)
