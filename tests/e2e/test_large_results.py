"""Results larger than Kafka takes: by HTTP as they are, over Kafka and in the archive as references."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from tests.e2e.batch_client import Client, chat_line
from tests.stack import Stack, wait_until

from headrace.cli.target import settings_for
from headrace.contracts import claims, requests
from headrace.contracts import headers as h
from headrace.contracts.claims import Claim, Made
from headrace.contracts.errors import Unavailable
from headrace.contracts.requests import CHAT
from headrace.contracts.states import State
from headrace.contracts.topics import Lane
from headrace.core.answers import Outcome, ReplyRules
from headrace.core.ports import Record
from headrace.devstack.object_store import INNER_PORTS, Credentials, ObjectStore
from headrace.devstack.ports import free
from headrace.devstack.probe import get
from headrace.devstack.processes import Child, spawn
from headrace.kafka.producer import Producer
from headrace.kafka.reader import PartitionReader
from headrace.registry import purge
from headrace.registry.claims import Claims
from headrace.registry.s3 import Bucket
from headrace.settings import S3Settings, Settings
from headrace.store.database import open_engine
from headrace.store.results import Results
from headrace.worker.claims import Keeper
from headrace.worker.replies import Replies

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NAME = "test/large-1"
TOKENS = 12_000
TOKEN = "ä" * 499 + "z "
"""1,000 bytes of UTF-8, so that the answer has 12 MB."""
MANIFEST = f"""
schema: headrace.function/v1
name: {NAME}
engine:
  kind: echo
  args: {{ output_tokens: {TOKENS} }}
"""
UNSERVED = "test/unserved"
UNSERVED_MANIFEST = f"""
schema: headrace.function/v1
name: {UNSERVED}
engine:
  kind: echo
scaling: {{ min_workers: 0, max_workers: 0 }}
"""
"""Its worker is the test."""
BODY = {"model": NAME, "messages": [{"role": "user", "content": TOKEN}]}
TEXT = TOKEN * TOKENS
KEYS = Credentials("headrace", "a secret of this test")
MADE = Made("echo", "r1", "1:w")
DAY_S = 86_400.0
_WAIT_S = 30.0


@pytest.fixture(scope="module")
def large(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The session's stack with a model of long answers; gives its settings."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "function.yaml").write_text(MANIFEST)
    stack.deploy(folder)
    return settings_for(stack.data_dir)


@pytest.fixture(scope="module")
def unserved(stack: Stack, large: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The same with a model that no worker serves."""
    folder = tmp_path_factory.mktemp("unserved")
    (folder / "function.yaml").write_text(UNSERVED_MANIFEST)
    done = stack.run("deploy", "--json", str(folder))
    assert done.returncode == 0, done.stderr
    wait_until(
        lambda: any(
            model["id"] == UNSERVED for model in httpx.get(f"{stack.http_url}/v1/models").json()["data"]
        ),
        "the gateway to know the model",
    )
    return large


@pytest.fixture
async def http(stack: Stack, large: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.http_url, timeout=60) as client:
        yield client


def test_as_a_line_of_a_batch_it_comes_whole(stack: Stack, large: Settings) -> None:
    with Client(stack) as client:
        batch = client.run([chat_line(1, TOKEN, model=NAME), chat_line(2, TOKEN, model=NAME)])
        assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
        lines = client.lines(batch["output_file_id"])
    told = [line["response"]["body"]["choices"][0]["message"]["content"] for line in lines]
    assert told == [TEXT, TEXT]


async def test_over_http_it_comes_byte_for_byte(http: httpx.AsyncClient, large: Settings) -> None:
    async with PartitionReader(large.kafka, {large.kafka.topics.replies: None}, at="end") as reader:
        response = await http.post(CHAT, json=BODY)
        final = await _next(reader)
    claim = claims.read(final.headers, large.s3.bucket)
    assert claim is not None
    assert (claim.size_bytes, claim.sha256) == (len(response.content), claims.digest(response.content))
    assert len(final.value or b"") < 1_000
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json()["choices"][0]["message"]["content"] == TEXT
    assert len(response.content) > 12_000_000


async def test_a_stream_of_it_is_whole(http: httpx.AsyncClient) -> None:
    said: list[str] = []
    async with http.stream("POST", CHAT, json=BODY | {"stream": True}) as response:
        async for line in response.aiter_lines():
            said += [line.removeprefix("data: ")] if line.startswith("data: ") else []
    assert said.pop() == "[DONE]"
    text = (json.loads(event)["choices"][0]["delta"].get("content", "") for event in said)
    assert "".join(text) == TEXT


async def test_over_kafka_and_in_the_archive_it_is_a_reference(
    stack: Stack, large: Settings, tmp_path: Path
) -> None:
    request = tmp_path / "body.json"
    request.write_text(json.dumps(BODY))
    done = await asyncio.to_thread(
        stack.run, "publish", NAME, "--body", str(request), "--wait-s", "60", "--json"
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    answer = said["answer"]
    claim = claims.read({name: value.encode() for name, value in answer["headers"].items()}, large.s3.bucket)
    assert claim is not None
    assert answer["value"] == json.loads(claims.pointer(claim))
    assert answer["headers"][h.HTTP_STATUS] == "200"
    body = await Bucket(large.s3).get(claim.key)
    assert (len(body), claims.digest(body)) == (claim.size_bytes, claim.sha256)
    assert json.loads(body)["choices"][0]["message"]["content"] == TEXT
    assert await _archived(large, said["id"]) == claims.pointer(claim)


class Tampered(Claims):
    """Somebody else writes to the bucket as soon as a worker has."""

    def __init__(self, settings: S3Settings, instead: bytes | None) -> None:
        super().__init__(settings)
        self._instead = instead
        self._raw = Bucket(settings)

    async def put(self, made: Made, body: bytes, timeout_s: float) -> Claim:
        claim = await super().put(made, body, timeout_s)
        if self._instead is None:
            await self._raw.remove(claim.key)
        else:
            await self._raw.put(claim.key, self._instead)
        return claim


LARGE = b'{"choices": "' + b"x" * 2_000_000 + b'"}'


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        (LARGE.replace(b"x", b"y"), "not what the worker wrote"),
        (LARGE + b"x" * 9_000_000, "not what the worker wrote"),
        (b"", "not what the worker wrote"),
        (None, "no longer in the bucket"),
    ],
    ids=["other", "longer", "empty", "gone"],
)
async def test_other_bytes_in_its_place_reach_nobody(
    http: httpx.AsyncClient, unserved: Settings, instead: bytes | None, said: str
) -> None:
    topics = unserved.kafka.topics
    rules = ReplyRules(topics, (), "/workers/test", UNSERVED)
    producer = Producer(unserved.kafka, source="test")
    await producer.start()
    lane = topics.requests("test--sunserved", Lane.DEFAULT)
    try:
        async with PartitionReader(unserved.kafka, {lane: None}, at="end") as reader:
            body = {"model": UNSERVED, "messages": [{"role": "user", "content": "x"}]}
            asking = asyncio.create_task(http.post(CHAT, json=body))
            record = await _next(reader)
            replies = Replies(producer, rules, Keeper(Tampered(unserved.s3, instead), 1 << 26))
            reply = await replies.open(requests.read(record.headers, default_id=""), "1:w")
            await reply.finish(Outcome(State.COMPLETED, LARGE))
            response = await asking
    finally:
        await producer.stop()
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert said in response.json()["error"]["message"]
    assert response.headers["x-should-retry"] == "false"


async def test_a_bucket_that_comes_back_is_waited_for_and_one_that_does_not_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, *inner_ports = free(1 + len(INNER_PORTS))
    store = ObjectStore(tmp_path, port, inner_ports, KEYS)
    settings = _s3(store)
    child = await _start(store, tmp_path)
    try:
        await Bucket(settings).ensure()
        await child.stop()
        keeper = Keeper(Claims(settings), 1 << 26)
        keeping = asyncio.create_task(keeper.keep(MADE, LARGE))
        await asyncio.sleep(1)  # so that it meets nobody at first
        child = await _start(store, tmp_path)
        claim = await keeping
        assert await Claims(settings).get(claim, _WAIT_S) == LARGE
    finally:
        await child.stop()
    with pytest.raises(Unavailable):
        await Claims(settings).get(claim, _WAIT_S)
    monkeypatch.setattr("headrace.worker.claims._PATIENCE_S", 2.0)
    with pytest.raises(Unavailable, match="could not be used; ask again later"):
        await keeper.keep(MADE, LARGE)


async def test_the_purge_removes_days_that_are_over_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, *inner_ports = free(1 + len(INNER_PORTS))
    store = ObjectStore(tmp_path, port, inner_ports, KEYS)
    settings = _s3(store)
    child = await _start(store, tmp_path)
    try:
        bucket = Bucket(settings)
        await bucket.ensure()
        now_s = time.time()
        kept = Claims(settings)
        assert await kept.purge(now_s, DAY_S) == 0
        claim = await kept.put(MADE, b"young", _WAIT_S)
        old = claims.claim(MADE, settings.bucket, b"old", now_s - 3 * DAY_S)
        twin = claims.claim(MADE, settings.bucket, b"twin", now_s - 3 * DAY_S)
        others = ["functions/a.zip", "claims/kept/by-hand", "claims/2020-01-01.txt"]
        for key in (old.key, twin.key, *others):
            await bucket.put(key, b"x")
        assert await kept.purge(now_s, DAY_S) == 2
        assert [key for key in (old.key, twin.key) if await bucket.exists(key)] == []
        assert [key for key in (claim.key, *others) if not await bucket.exists(key)] == []
        assert await kept.purge(now_s, DAY_S) == 0
        await _in_a_process_of_its_own(bucket, old.key, store, monkeypatch)
    finally:
        await child.stop()
    assert not await purge.once()


async def test_a_worker_that_has_no_large_result_does_not_import_the_client() -> None:
    """Nor a gateway: the import takes seconds and thirty megabytes."""
    script = "import sys; import headrace.worker.app, headrace.gateway.app; print('aioboto3' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    assert said.strip() == b"False"


async def _in_a_process_of_its_own(
    bucket: Bucket, key: str, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bucket.put(key, b"x")
    monkeypatch.setenv("HEADRACE_S3_ENDPOINT_URL", store.url)
    monkeypatch.setenv("HEADRACE_S3_ACCESS_KEY_ID", KEYS.access_key_id)
    monkeypatch.setenv("HEADRACE_S3_SECRET_ACCESS_KEY", KEYS.secret_access_key)
    assert await purge.once()
    assert not await bucket.exists(key)


def _s3(store: ObjectStore) -> S3Settings:
    return S3Settings(
        endpoint_url=store.url,
        access_key_id=KEYS.access_key_id,
        secret_access_key=SecretStr(KEYS.secret_access_key),
    )


async def _start(store: ObjectStore, folder: Path) -> Child:
    child = await spawn(store.prepare(), folder / "s3.log")
    async with asyncio.timeout(60):
        while not (await get(store.port, "/")).status:
            assert child.process.returncode is None, (folder / "s3.log").read_text()
            await asyncio.sleep(0.05)
    return child


async def _next(reader: PartitionReader) -> Record:
    async with asyncio.timeout(_WAIT_S):
        while True:
            for record in await reader.poll(0.2):
                return record


async def _archived(settings: Settings, request_id: str) -> bytes:
    results = Results(open_engine(settings.database))
    try:
        async with asyncio.timeout(_WAIT_S):
            while (found := await results.get(request_id)) is None:
                await asyncio.sleep(0.1)
    finally:
        await results.close()
    return found.body
