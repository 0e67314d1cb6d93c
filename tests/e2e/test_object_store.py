"""The embedded S3 server: keeps strangers out, and its objects when it moves to other ports or is killed."""

import asyncio
from pathlib import Path

import pytest

from headrace.contracts.errors import SetupError
from headrace.devstack.object_store import INNER_PORTS, Credentials, ObjectStore
from headrace.devstack.ports import free
from headrace.devstack.probe import get
from headrace.devstack.processes import Child, spawn
from headrace.registry.s3 import Bucket
from headrace.settings import S3Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

KEYS = Credentials("headrace", "a secret of this test")


async def start(folder: Path) -> tuple[Child, ObjectStore]:
    port, *inner_ports = free(1 + len(INNER_PORTS))
    store = ObjectStore(folder, port, inner_ports, KEYS)
    child = await spawn(store.prepare(), folder / "s3.log")
    async with asyncio.timeout(60):
        while not (await get(port, "/")).status:
            assert child.process.returncode is None, (folder / "s3.log").read_text()
            await asyncio.sleep(0.05)
    return child, store


def bucket(store: ObjectStore, keys: Credentials = KEYS) -> Bucket:
    return Bucket(
        S3Settings(
            endpoint_url=store.url,
            access_key_id=keys.access_key_id,
            secret_access_key=keys.secret_access_key,
        )
    )


async def test_keeps_objects_on_new_ports_after_a_stop_and_after_a_kill(tmp_path: Path) -> None:
    child, store = await start(tmp_path)
    try:
        await bucket(store).ensure()
        await bucket(store).put("small", b"before a stop")
        await child.stop()

        child, store = await start(tmp_path)
        large = bytes(range(256)) * 40_000
        await bucket(store).put("large", large)
        child.kill()
        await child.process.wait()

        child, store = await start(tmp_path)
        await bucket(store).ensure()
        assert await bucket(store).get("small") == b"before a stop"
        assert await bucket(store).get("large") == large
        assert not await bucket(store).exists("other")
    finally:
        await child.stop()


async def test_strangers_are_refused(tmp_path: Path) -> None:
    child, store = await start(tmp_path)
    try:
        for keys in (Credentials("headrace", "wrong"), Credentials("stranger", KEYS.secret_access_key)):
            with pytest.raises(SetupError, match=r"403|Denied|Signature|InvalidAccessKeyId"):
                await bucket(store, keys).put("key", b"")
        assert (await get(store.port, "/headrace/key")).status == 403
    finally:
        await child.stop()


async def test_listens_on_this_machine_only_and_leaves_no_socket(tmp_path: Path) -> None:
    import psutil

    # A socket of a server that was killed long ago may bear one of our ports under another name.
    strangers = set(Path("/tmp").glob("seaweedfs-*.sock"))
    child, _ = await start(tmp_path)
    try:
        listening = {
            connection.laddr.ip
            for connection in psutil.Process(child.process.pid).net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        sockets = [Path(path) for path in child.service.litter]
        assert [path.name for path in sockets if path.exists()]
    finally:
        await child.stop()
    left = set(Path("/tmp").glob("seaweedfs-*.sock")) - strangers
    assert [path for path in left if path.stem.split("-")[-1] in ports(child)] == []
    assert [path for path in sockets if path.exists()] == []


def ports(child: Child) -> set[str]:
    return {word.rpartition("=")[2] for word in child.service.command if ".port" in word}
