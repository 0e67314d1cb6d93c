"""API keys on both databases."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from headrace.contracts.errors import InvalidRequest, Unavailable
from headrace.core.keys import ApiKey, Scope, digest, text_of
from headrace.core.limits import TenantLimits
from headrace.settings import DatabaseSettings
from headrace.store.database import open_engine
from headrace.store.key_file import KeyFile
from headrace.store.keys import ApiKeys
from headrace.store.late import Stores


def key(number: int, **more: object) -> ApiKey:
    text = text_of(bytes([number]) * 32)
    told = {
        "id": f"key_{number}",
        "tenant": "acmé",
        "name": "n",
        "prefix": text[:11],
        "sha256": digest(text.encode()),
        "scopes": frozenset({Scope.JOBS, Scope.FILES}),
        "created_at_s": float(number),
    }
    return ApiKey(**{**told, **more})


FULL = key(2, expires_at_s=9.5, limits=TenantLimits(rate_per_s=0.5, tokens_per_min=7))


async def test_keys_are_kept_whole_and_in_order(engine: AsyncEngine) -> None:
    keys = ApiKeys(engine)
    assert await keys.all() == []
    for each in (FULL, key(1), key(3)):
        await keys.add(each)
    assert await keys.all() == [key(1), FULL, key(3)]


async def test_the_first_revocation_counts(engine: AsyncEngine) -> None:
    keys = ApiKeys(engine)
    await keys.add(key(1))
    assert await keys.revoke("key_1", 50.0)
    assert await keys.revoke("key_1", 60.0)
    assert not await keys.revoke("key_9", 50.0)
    assert await keys.all() == [replace(key(1), revoked_at_s=50.0)]


async def test_one_key_is_one_row(engine: AsyncEngine) -> None:
    keys = ApiKeys(engine)
    await keys.add(key(1))
    with pytest.raises(InvalidRequest):
        await keys.add(replace(key(2), sha256=key(1).sha256))
    assert await keys.all() == [key(1)]


async def test_a_database_without_tables_says_what_to_do(settings: DatabaseSettings) -> None:
    engine = open_engine(settings)
    with pytest.raises(Unavailable, match="headrace migrate"):
        await ApiKeys(engine).all()
    await engine.dispose()


async def test_stores_read_what_was_written(engine: AsyncEngine, settings: DatabaseSettings) -> None:
    await ApiKeys(engine).add(FULL)
    stores = Stores(settings)
    assert await stores.api_keys.all() == [FULL]
    assert stores.is_open is not settings.url.startswith("sqlite")
    await stores.close()


async def test_a_file_that_is_not_there_has_no_keys(tmp_path: Path) -> None:
    path = tmp_path / "headrace.db"
    keys = KeyFile(DatabaseSettings(url=f"sqlite+aiosqlite:///{path}"))
    assert await keys.all() == []
    assert not path.exists()
    sqlite3.connect(path).execute("CREATE TABLE other (x)").connection.close()
    assert await keys.all() == []
    path.write_bytes(b"no database" * 100)
    with pytest.raises(Unavailable, match="does not serve"):
        await keys.all()
