"""Functions and models on a real S3 server."""

import asyncio
import hashlib
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.stack import wait_until

from headrace.contracts.errors import SetupError
from headrace.contracts.manifest import ModelSource
from headrace.devstack.object_store import INNER_PORTS, Credentials, ObjectStore
from headrace.devstack.ports import free
from headrace.registry.cache import FunctionCache, package_key
from headrace.registry.function import pack
from headrace.registry.s3 import Bucket
from headrace.registry.sources import resolve
from headrace.settings import S3Settings, Settings

CREDENTIALS = Credentials("test", "a secret of the tests")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    folder = tmp_path_factory.mktemp("s3")
    port, *inner_ports = free(1 + len(INNER_PORTS))
    store = ObjectStore(folder, port, inner_ports, CREDENTIALS)
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(store.prepare().command, stdout=output, stderr=output)

    def is_ready() -> bool:
        if process.poll() is not None:
            pytest.fail(f"weed did not start:\n{log.read_text(errors='replace')[-4000:]}")
        return _answers(store.url)

    settings = S3Settings(
        endpoint_url=store.url,
        access_key_id=CREDENTIALS.access_key_id,
        secret_access_key=CREDENTIALS.secret_access_key,  # type: ignore[arg-type]  # pydantic makes it one
    )
    try:
        wait_until(is_ready, "the S3 server to answer")
        asyncio.run(_ensure(settings))
        yield settings
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5)
    except urllib.error.HTTPError:
        return True  # it asks for credentials
    except OSError:
        return False
    return True


async def _ensure(settings: S3Settings) -> None:
    async with asyncio.timeout(30):
        while True:  # the door opens before the house is ready
            try:
                return await Bucket(settings).ensure()
            except SetupError:
                await asyncio.sleep(0.2)


@pytest.fixture
def settings(s3: S3Settings, tmp_path: Path) -> Settings:
    return Settings(s3=s3, cache_dir=tmp_path / "cache")


async def test_objects_come_back_as_they_went(s3: S3Settings, tmp_path: Path) -> None:
    bucket = Bucket(s3)
    data = os.urandom(3_000_000)
    assert not await bucket.exists("a/b c/ü.bin")
    await bucket.put("a/b c/ü.bin", data)
    assert await bucket.exists("a/b c/ü.bin")
    assert await bucket.get("a/b c/ü.bin") == data
    await bucket.download("a/b c/ü.bin", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data


async def test_two_may_make_the_bucket_at_once(s3: S3Settings) -> None:
    await asyncio.gather(*(Bucket(s3, "made-twice").ensure() for _ in range(4)))
    await Bucket(s3, "made-twice").ensure()
    await Bucket(s3, "made-twice").put("key", b"")


async def test_what_is_not_there_is_told(s3: S3Settings) -> None:
    with pytest.raises(SetupError, match="s3://headrace/nothing: NoSuchKey"):
        await Bucket(s3).get("nothing")
    assert not await Bucket(s3, "no-such-bucket").exists("key")


async def test_a_wrong_secret_is_told(s3: S3Settings) -> None:
    wrong = S3Settings.model_validate(s3.model_dump() | {"secret_access_key": "wrong"})
    with pytest.raises(SetupError, match="SignatureDoesNotMatch"):
        await Bucket(wrong).get("key")
    with pytest.raises(SetupError, match=r"403|Forbidden"):
        await Bucket(wrong).ensure()


async def test_a_server_out_of_reach_is_told() -> None:
    settings = S3Settings.model_validate(
        {"endpoint_url": "http://127.0.0.1:9", "access_key_id": "a", "secret_access_key": "b"}
    )
    with pytest.raises(SetupError, match=r"S3 at http://127\.0\.0\.1:9 cannot be used"):
        await Bucket(settings).get("key")


async def test_a_function_goes_there_and_comes_back(settings: Settings, tmp_path: Path) -> None:
    function = tmp_path / "function"
    function.mkdir()
    (function / "function.yaml").write_text("name: x\nengine:\n  kind: echo\n")
    (function / "handler.py").write_text("print()\n")
    package = pack(function)
    await Bucket(settings.s3).put(package_key(package.version), package.data)
    url = f"s3://{settings.s3.bucket}/{package_key(package.version)}"
    cache = FunctionCache(settings)
    folders = await asyncio.gather(*(cache.fetch(package.version, url) for _ in range(3)))
    assert pack(folders[0]) == package
    assert len(set(folders)) == 1
    assert await cache.fetch(package.version, "s3://not/asked.zip") == folders[0]


async def test_a_package_that_was_changed_is_refused(settings: Settings) -> None:
    await Bucket(settings.s3).put("functions/000000000000.zip", b"something else")
    with pytest.raises(SetupError, match="damaged"):
        await FunctionCache(settings).fetch("000000000000", "s3://headrace/functions/000000000000.zip")
    with pytest.raises(SetupError, match="is not a version"):
        await FunctionCache(settings).fetch("../../etc", "s3://headrace/functions/000000000000.zip")


async def test_a_model_is_downloaded_once_and_checked_first(settings: Settings, tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    bucket = Bucket(settings.s3)
    await bucket.put("models/m.gguf", data)
    source = "s3://headrace/models/m.gguf"
    with pytest.raises(SetupError, match="the manifest wants 000"):
        await resolve(ModelSource(source=source, sha256="0" * 64), tmp_path, settings)
    assert not [path for path in settings.cache_dir.rglob("*") if path.is_file()], "nothing bad is kept"

    right = ModelSource(source=source, sha256=hashlib.sha256(data).hexdigest())
    paths = await asyncio.gather(*(resolve(right, tmp_path, settings) for _ in range(3)))
    assert paths[0].read_bytes() == data
    assert [path for path in settings.cache_dir.rglob("*") if path.is_file()] == [paths[0]]

    await bucket.put("models/m.gguf", b"changed")
    assert (await resolve(right, tmp_path, settings)).read_bytes() == data


async def test_a_model_that_is_not_there_is_told(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="NoSuchKey"):
        await resolve(ModelSource(source="s3://headrace/models/none"), tmp_path, settings)
    assert not [path for path in settings.cache_dir.rglob("*") if path.is_file()]
