"""Migrations, on SQLite and PostgreSQL alike."""

import asyncio
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.contracts.errors import SetupError
from headrace.settings import DatabaseSettings
from headrace.store import migrate
from headrace.store.database import open_engine
from headrace.store.schema import METADATA, VERSION_TABLE
from headrace.store.upgrade import upgrade


async def _run(settings: DatabaseSettings, *statements: str) -> None:
    engine = open_engine(settings)
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


async def test_migrations_lead_to_the_schema(engine: AsyncEngine) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return list(compare_metadata(context, METADATA))

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrating_twice_changes_nothing(settings: DatabaseSettings) -> None:
    await upgrade(settings)
    await upgrade(settings)


async def test_several_processes_at_once(settings: DatabaseSettings) -> None:
    script = (
        "import sys; from headrace.settings import DatabaseSettings; "
        "from headrace.store.migrate import migrate; migrate(DatabaseSettings(url=sys.argv[1]))"
    )
    children = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, settings.url) for _ in range(3)
    ]
    assert [await child.wait() for child in children] == [0, 0, 0]
    await upgrade(settings)


async def test_a_foreign_database_is_left_alone(settings: DatabaseSettings) -> None:
    await _run(settings, "CREATE TABLE cats (id INTEGER)")
    with pytest.raises(SetupError, match=r"something else \(cats\)"):
        await upgrade(settings)


async def test_a_newer_database_is_left_alone(settings: DatabaseSettings) -> None:
    await upgrade(settings)
    await _run(settings, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(SetupError, match="newer Headrace"):
        await upgrade(settings)


async def test_a_lost_table_is_said(settings: DatabaseSettings) -> None:
    await upgrade(settings)
    await _run(settings, "DROP TABLE results")
    with pytest.raises(SetupError, match="has lost results"):
        await upgrade(settings)


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    with pytest.raises(SetupError, match="cannot be used: file is not a database"):
        await upgrade(DatabaseSettings(url=f"sqlite+aiosqlite:///{path}"))
    assert path.read_text().startswith("not a database")


async def test_a_server_that_is_not_there() -> None:
    url = "postgresql://someone:secret@127.0.0.1:1/headrace"
    with pytest.raises(SetupError, match="cannot be used") as raised:
        await upgrade(DatabaseSettings(url=url))
    assert "secret" not in str(raised.value)


async def test_what_is_up_to_date_is_seen_without_loading_the_migrations(settings: DatabaseSettings) -> None:
    assert not migrate.is_current_sqlite(settings)
    await upgrade(settings)
    assert migrate.is_current_sqlite(settings) == settings.url.startswith("sqlite")
    await _run(settings, "DROP TABLE results")
    assert not migrate.is_current_sqlite(settings)


async def test_the_head_is_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.HEAD


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///no/such/file.db", "postgresql://h/d"]
)
async def test_in_doubt_the_migrations_run(url: str) -> None:
    assert not migrate.is_current_sqlite(DatabaseSettings(url=url))
