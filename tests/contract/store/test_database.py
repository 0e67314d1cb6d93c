"""URLs, drivers and what they say when they are wrong."""

import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.contracts.errors import SetupError
from headrace.settings import DatabaseSettings
from headrace.store.database import open_engine


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:///a.db", "sqlite+aiosqlite"),
        ("sqlite+aiosqlite:///a.db", "sqlite+aiosqlite"),
        ("postgres://u:p@h/d", "postgresql+asyncpg"),
        ("postgresql://u:p@h/d", "postgresql+asyncpg"),
        ("postgresql+asyncpg://u:p@h/d", "postgresql+asyncpg"),
    ],
)
async def test_the_urls_that_providers_hand_out_work(given: str, driver: str) -> None:
    assert open_engine(DatabaseSettings(url=given)).url.drivername == driver


@pytest.mark.parametrize("wrong", ["", "nonsense", "mysql://h/d", "postgresql+psycopg2://h/d"])
async def test_other_urls_are_refused_with_an_example(wrong: str) -> None:
    with pytest.raises(SetupError, match=r"HEADRACE_DATABASE_URL.*such as sqlite"):
        open_engine(DatabaseSettings(url=wrong))


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [("sqlite:///a.db", "aiosqlite", "store"), ("postgresql://h/d", "asyncpg", "postgres")],
)
async def test_a_missing_driver_says_what_to_install(
    url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SetupError, match=rf"pip install 'headrace\[{extra}\]'"):
        open_engine(DatabaseSettings(url=url))


async def test_sqlite_writes_ahead_and_waits(engine: AsyncEngine, tmp_path: Path) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("about SQLite")
    async with engine.connect() as connection:
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar() == "wal"
        assert (await connection.execute(text("PRAGMA busy_timeout"))).scalar() == 10_000
