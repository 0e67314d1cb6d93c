"""vLLM behind a real Kafka."""

from collections.abc import Iterator

import httpx
import orjson
import pytest
from tests.stack import Stack
from tests.vllm.parts import ARGS, engine_cores, model

pytestmark = pytest.mark.timeout(400)

CHAT = {
    "model": "chat",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 8,
    "temperature": 0,
}


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("chat")
    manifest = {
        "schema": "headrace.function/v1",
        "name": "chat",
        "engine": {"kind": "vllm", "args": ARGS},
        "model": {"source": f"file:{model()}"},
    }
    # JSON is YAML, too.
    (folder / "function.yaml").write_bytes(orjson.dumps(manifest))
    stack = Stack(tmp_path_factory.mktemp("stack"), functions=(folder,))
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def test_requests_are_answered_before_and_after_the_death_of_the_engine_core(stack: Stack) -> None:
    with httpx.Client(base_url=stack.http_url, timeout=180) as client:
        first = client.post("/v1/chat/completions", json=CHAT)
        assert first.status_code == 200, first.text
        lines = client.post("/v1/chat/completions", json=CHAT | {"stream": True}).text.splitlines()
        chunks = [orjson.loads(line[6:]) for line in lines if line.startswith("data: {")]
        said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert said == first.json()["choices"][0]["message"]["content"]
        refused = client.post("/v1/chat/completions", json=CHAT | {"min_p": 7})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "min_p")
        cores = {process for pid in stack.pids.values() for process in engine_cores(pid)}
        assert cores
        for process in cores:
            process.kill()
        again = client.post("/v1/chat/completions", json=CHAT)
        assert again.json()["choices"][0]["message"] == first.json()["choices"][0]["message"]
