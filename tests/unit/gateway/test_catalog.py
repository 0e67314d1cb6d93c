"""Models, health, metadata, and the shape of every refusal."""

import time

import pytest
from tests.unit.gateway.parts import TOPICS, Gateway, deployed, news

from headrace.contracts.events import WorkerHeartbeat, WorkerState


def heartbeat(state: WorkerState, model: str = "echo", *, age_s: float = 0.0, reason: str | None = None):
    event = WorkerHeartbeat(
        id="w",
        pid=1,
        host="h",
        model=model,
        version="0123456789ab",
        state=state,
        in_flight=0,
        capacity=1,
        started_at_s=0.0,
        sent_at_s=time.time() - age_s,
        reason=reason,
    )
    return news(TOPICS.workers, "w", event.encode())


async def test_models_are_listed_as_one_page():
    gateway = Gateway(deployed("zebra"), deployed("org/name-1.5"))
    page = (await gateway.client.get("/v1/models")).json()
    assert [model["id"] for model in page["data"]] == ["org/name-1.5", "zebra"]
    assert page["object"] == "list"
    assert page["has_more"] is False  # without it, openai-python asks for pages for ever
    assert (page["first_id"], page["last_id"]) == ("org/name-1.5", "zebra")
    assert page["data"][0]["object"] == "model"
    assert page["data"][0]["created"] == 1_790_000_000


async def test_adapters_are_models_to_their_callers():
    adapters = {name: {"source": f"file:{name}"} for name in ("sql", "law")}
    chat = deployed("org/chat", engine={"kind": "vllm"}, adapters=adapters)
    gateway = Gateway(chat)
    page = (await gateway.client.get("/v1/models")).json()
    assert [model["id"] for model in page["data"]] == ["org/chat", "org/chat:law", "org/chat:sql"]
    one = (await gateway.client.get("/v1/models/org/chat:sql")).json()
    assert (one["id"], one["parent"]) == ("org/chat:sql", "org/chat")
    gateway.directory.update([heartbeat(WorkerState.READY, "org/chat")])
    assert (await gateway.client.get("/v2/models/org/chat:sql/ready")).headers["x-model-state"] == "warm"
    missing = await gateway.client.get("/v1/models/org/chat:cooking")
    assert missing.status_code == 404
    assert "it has law, sql" in missing.json()["error"]["message"]
    none = await Gateway(deployed()).client.get("/v1/models/echo:sql")
    assert (none.status_code, "it has none" in none.text) == (404, True)


async def test_an_empty_list_is_a_page_too():
    page = (await Gateway().client.get("/v1/models")).json()
    assert (page["data"], page["first_id"], page["last_id"]) == ([], None, None)


@pytest.mark.parametrize("spelt", ["org/name-1.5", "org%2Fname-1.5", "org%2fname-1%2E5"])
async def test_a_name_with_a_slash_is_found_raw_and_escaped(spelt):
    gateway = Gateway(deployed("org/name-1.5"))
    response = await gateway.client.get(f"/v1/models/{spelt}")
    assert response.status_code == 200
    assert response.json()["id"] == "org/name-1.5"
    ready = await gateway.client.get(f"/v2/models/{spelt}/ready")
    assert (ready.status_code, ready.headers["x-model-state"]) == (200, "cold")


@pytest.mark.parametrize(
    ("beat", "state", "status"),
    [
        ({"state": WorkerState.READY}, "warm", 200),
        ({"state": WorkerState.READY, "age_s": 11}, "cold", 200),
        ({"state": WorkerState.STARTING}, "cold", 200),
        ({"state": WorkerState.READY, "model": "other"}, "cold", 200),
        ({"state": WorkerState.FAILED, "reason": "no memory"}, "failed", 503),
        (None, "cold", 200),
    ],
)
async def test_a_model_is_warm_with_a_ready_worker(beat, state, status):
    gateway = Gateway(deployed())
    # Made here: at collection it would be old by the time its turn comes.
    gateway.directory.update([news(TOPICS.workers, "w", None) if beat is None else heartbeat(**beat)])
    response = await gateway.client.get("/v2/models/echo/ready")
    assert (response.headers["x-model-state"], response.status_code) == (state, status)


async def test_health_and_metadata():
    gateway = Gateway()
    assert (await gateway.client.get("/v2/health/live")).json() == {"live": True}
    assert (await gateway.client.get("/v2/health/ready")).json() == {"ready": True}
    assert (await gateway.client.get("/v2")).json()["name"] == "headrace"
    gateway.ready = False
    response = await gateway.client.get("/v2/health/ready")
    assert (response.status_code, response.json()) == (503, {"ready": False})
    assert (await gateway.client.get("/v2/health/live")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "word"),
    [
        ("GET", "/", 404, "path_not_found", "/v1/chat/completions"),
        ("POST", "/v1/none", 404, "path_not_found", "/v1/embeddings"),
        ("POST", "/v2/infer", 404, "path_not_found", "/v2/models/{model}/infer"),
        ("GET", "/v2/models/none", 404, "model_not_found", "echo"),
        ("POST", "/v1/chat/completions/", 404, "path_not_found", "/v1/models"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed", "use POST"),
        ("DELETE", "/v1/models/echo", 405, "method_not_allowed", "GET"),
        ("GET", "/v1/models/none", 404, "model_not_found", "echo"),
        ("GET", "/v2/models/none/ready", 404, "model_not_found", "echo"),
    ],
)
async def test_every_refusal_has_the_merged_body(method, path, status, code, word):
    response = await Gateway(deployed()).client.request(method, path)
    body = response.json()
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (body["error"]["code"], body["status"]) == (code, status)
    assert body["detail"] == body["error"]["message"]
    assert word in body["detail"]
    if status == 405:
        assert response.headers["allow"]


async def test_a_fault_of_ours_has_the_merged_body(monkeypatch):
    gateway = Gateway(deployed())
    monkeypatch.setattr(gateway.directory, "models", lambda: 1 / 0)
    response = await gateway.client.get("/v1/models")
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert response.headers["x-request-id"]


async def test_each_request_has_an_id_of_its_own():
    client = Gateway().client
    ids = {
        (await client.get(path, headers={"x-request-id": "mine"})).headers["x-request-id"]
        for path in ("/v1/models", "/v1/models", "/v2", "/v2/health/live", "/nothing")
    }
    assert len(ids) == 5
    assert "mine" not in ids
