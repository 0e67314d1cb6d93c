"""Tensors over HTTP: the model is in the URL, and what it takes can be asked."""

import time

import orjson
import pytest
from jsonschema import Draft202012Validator
from tests.unit.gateway.parts import JSON, TOPICS, Gateway, deployed, news

from headrace.contracts import headers as h
from headrace.contracts import requests, tensors
from headrace.contracts.documents.responses import SCHEMAS
from headrace.contracts.events import WorkerHeartbeat, WorkerState
from headrace.contracts.tensors import Signature, TensorSpec

BODY = b' {"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1.5]}]} '
ANSWER = orjson.dumps(tensors.response("org/m", "0123456789ab", "7", []))


def onnx(name: str = "org/m"):
    return deployed(name, engine={"kind": "onnx"}, model={"source": "file:m.onnx"})


@pytest.mark.parametrize("spelt", ["org/m", "org%2Fm"])
async def test_the_model_is_in_the_url_and_the_record_is_the_exact_body(spelt):
    gateway = Gateway(onnx())
    gateway.answer_with(ANSWER)
    response = await gateway.client.post(f"/v2/models/{spelt}/infer", content=BODY, headers=JSON)
    assert (response.status_code, response.content) == (200, ANSWER)
    (record,) = gateway.kafka.sent
    assert (record.topic, record.value) == ("headrace.requests.org--sm.default", BODY)
    assert requests.read(h.as_dict(record.headers), default_id="none").path == requests.INFER


@pytest.mark.parametrize(
    ("name", "content", "status", "param"),
    [
        ("org/m", b"{}", 400, "inputs"),
        ("org/m", BODY.replace(b"1.5", b"1.5,2"), 400, "inputs.0.data"),
        ("none", BODY, 404, "model"),
        ("echo", BODY, 404, None),
    ],
)
async def test_what_is_wrong_is_refused_before_it_is_queued(name, content, status, param):
    gateway = Gateway(onnx(), deployed())
    response = await gateway.client.post(f"/v2/models/{name}/infer", content=content, headers=JSON)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert gateway.kafka.sent == []


async def test_metadata_are_what_a_worker_has_said():
    gateway = Gateway(onnx())
    silent = (await gateway.client.get("/v2/models/org/m")).json()
    assert silent == {
        "name": "org/m",
        "versions": ["0123456789ab"],
        "platform": "onnx",
        "inputs": [],
        "outputs": [],
    }
    given = TensorSpec(name="x", datatype="FP32", shape=(-1, 3))
    beat = WorkerHeartbeat(
        id="w",
        pid=1,
        host="h",
        model="org/m",
        version="0123456789ab",
        state=WorkerState.READY,
        in_flight=0,
        capacity=1,
        started_at_s=time.time(),
        sent_at_s=time.time(),
        signature=Signature(inputs=(given,), outputs=(given,)),
    )
    gateway.directory.update([news(TOPICS.workers, "w", beat.encode())])
    told = (await gateway.client.get("/v2/models/org/m")).json()
    Draft202012Validator(SCHEMAS["ModelMetadata"]).validate(told)
    assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
