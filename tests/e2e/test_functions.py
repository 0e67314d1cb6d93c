"""Functions with code of their own, on the whole stack: over HTTP, over Kafka, and through a change."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from tests.stack import Stack

from headrace.contracts.topics import Lane, Topics
from headrace.kafka.reader import PartitionReader
from headrace.settings import KafkaSettings

PREDICTIONS = "/v1/predictions"
ROOT = Path(__file__).parents[2]
REDACT = ROOT / "functions" / "redact"
TEXT = "Ann: ann@example.org, +49 30 1234567, card 4111 1111 1111 1111."

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def redact(stack: Stack) -> str:
    stack.deploy(REDACT)
    return "redact"


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.http_url, timeout=60) as client:
        yield client


def write(folder: Path, name: str, code: str, *, slots: int = 4) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "function.yaml").write_text(
        f"name: {name}\nengine: {{kind: python, args: {{slots: {slots}}}}}\n"
    )
    (folder / "handler.py").write_text(code)
    return folder


async def test_a_prediction_over_http(client: httpx.AsyncClient, redact: str) -> None:
    answer = await client.post(PREDICTIONS, json={"model": redact, "input": {"text": TEXT}})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["object"] == "prediction"
    assert body["output"] == {
        "text": "Ann: [email], [phone], card [card].",
        "found": {"email": 1, "card": 1, "phone": 1},
    }


async def test_the_form_of_the_answer_is_the_callers_choice(client: httpx.AsyncClient, redact: str) -> None:
    asked = {"model": redact, "input": {"text": TEXT}}
    answer = await client.post(PREDICTIONS, json=asked, headers={"accept": "text/plain"})
    assert answer.text == "Ann: [email], [phone], card [card]."
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    answer = await client.post(PREDICTIONS, json=asked, headers={"accept": "text/html"})
    assert (answer.status_code, "text/plain" in answer.text) == (406, True)
    assert answer.headers["content-type"] == "application/json"
    wrong = {"model": redact, "input": {}}
    answer = await client.post(PREDICTIONS, json=wrong, headers={"accept": "text/plain"})
    assert answer.json()["error"]["param"] == "input"


@pytest.mark.parametrize(
    ("given", "param", "said"),
    [
        ({}, "input", "'text' is a required|\"text\" is a required"),
        ({"text": 7}, "input.text", "not of type"),
        ({"text": "x", "keep": ["name"]}, "input.keep.0", "is not one of"),
        ({"text": "x", "kept": []}, "input", "unexpected"),
    ],
)
async def test_what_the_schema_refuses_never_reaches_a_worker(
    client: httpx.AsyncClient, redact: str, given: object, param: str, said: str
) -> None:
    answer = await client.post(PREDICTIONS, json={"model": redact, "input": given})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert any(each in error["message"] for each in said.split("|"))


async def test_paths_that_a_model_does_not_serve(client: httpx.AsyncClient, redact: str) -> None:
    chat = {"model": redact, "messages": [{"role": "user", "content": "x"}]}
    answer = await client.post("/v1/chat/completions", json=chat)
    assert (answer.status_code, "/v1/predictions" in answer.text) == (404, True)
    answer = await client.post(PREDICTIONS, json={"model": "echo", "input": 1})
    assert answer.status_code == 404


@pytest.mark.parametrize("accept", [b"", b"text/plain"])
async def test_a_bare_record_is_for_the_first_path_that_the_model_serves(
    stack: Stack, redact: str, accept: bytes
) -> None:
    topics = Topics()
    settings = KafkaSettings(bootstrap_servers=stack.kafka_bootstrap_servers)
    async with PartitionReader(settings, {topics.results: None}, at="end") as results:
        producer = AIOKafkaProducer(bootstrap_servers=stack.kafka_bootstrap_servers)
        await producer.start()
        try:
            place = await producer.send_and_wait(
                topics.requests(redact, Lane.DEFAULT),
                json.dumps({"input": {"text": TEXT}}).encode(),
                headers=[("ce_accept", accept)] if accept else [],
            )
        finally:
            await producer.stop()
        wanted = f"{place.topic}-{place.partition}-{place.offset}".encode()
        async with asyncio.timeout(60):
            while True:
                found = [each for each in await results.poll(1.0) if each.key == wanted]
                if found:
                    break
    value, kind = found[0].value or b"", found[0].headers["content-type"]
    if accept:
        assert (value, kind) == (b"Ann: [email], [phone], card [card].", b"text/plain; charset=utf-8")
    else:
        assert (json.loads(value)["output"]["found"]["email"], kind) == (1, b"application/json")


async def test_a_generator_is_a_stream(client: httpx.AsyncClient, stack: Stack, tmp_path: Path) -> None:
    code = "def predict(input, context):\n    for n in range(input):\n        yield n * n\n"
    stack.deploy(write(tmp_path / "squares", "squares", code))
    asked = {"model": "squares", "input": 4, "stream": True}
    async with client.stream("POST", PREDICTIONS, json=asked) as answer:
        lines = [line async for line in answer.aiter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert [json.loads(line[6:])["output"] for line in lines[:-1]] == [0, 1, 4, 9]


async def test_a_streams_first_piece_is_there_before_the_second_is_made(
    client: httpx.AsyncClient, stack: Stack, tmp_path: Path
) -> None:
    code = (
        "import time\nfrom pathlib import Path\n\n"
        "def predict(input, context):\n"
        "    yield 'first'\n"
        "    while not Path(input).exists():\n"
        "        time.sleep(0.01)\n"
        "    yield 'second'\n"
    )
    stack.deploy(write(tmp_path / "waiter", "waiter", code))
    heard = tmp_path / "heard"
    asked = {"model": "waiter", "input": str(heard), "stream": True}
    outputs = []
    async with asyncio.timeout(60), client.stream("POST", PREDICTIONS, json=asked) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                outputs.append(json.loads(line[6:])["output"])
                heard.touch()  # without the first piece there would never be a second
    assert outputs == ["first", "second"]


async def test_the_function_of_the_page_works(
    client: httpx.AsyncClient, stack: Stack, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "how-to" / "write-a-function.md").read_text()
    files = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert {name for name, _ in files} == {"handler.py", "function.yaml"}
    for name, text in files:
        (tmp_path / name).write_text(text)
    stack.deploy(tmp_path)
    route = {"origin": "Berlin", "target": "Kiel"}
    answer = await client.post(PREDICTIONS, json={"model": "distance", "input": route})
    assert answer.json()["output"] == {"kilometres": 386}
    answer = await client.post(PREDICTIONS, json={"model": "distance", "input": route | {"target": "Rome"}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input.target")


async def test_a_new_function_works_as_it_is(client: httpx.AsyncClient, stack: Stack, tmp_path: Path) -> None:
    def new(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "headrace", "new", "function", name, "--into", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    made = new("org/counted")
    assert made.returncode == 0, made.stderr
    stack.deploy(tmp_path / "counted")
    asked = {"model": "org/counted", "input": {"text": "one two three"}}
    assert (await client.post(PREDICTIONS, json=asked)).json()["output"] == {"words": 3}

    again = new("counted")
    assert (again.returncode, "is there already" in again.stderr) == (1, True)
    bad = new("no good")
    assert (bad.returncode, "no good" in bad.stderr) == (1, True)


async def test_what_the_code_does_wrong_has_a_fate(
    client: httpx.AsyncClient, stack: Stack, tmp_path: Path
) -> None:
    folder = write(tmp_path / "bad", "bad", "def predict(input, context):\n    return 1 / input\n")
    (folder / "function.yaml").write_text(
        "name: bad\nengine: {kind: python}\nretry: {max_attempts: 1}\nlimits: {deadline_s: 60}\n"
    )
    stack.deploy(folder)
    answer = await client.post(PREDICTIONS, json={"model": "bad", "input": 0})
    assert answer.status_code == 500
    assert "handler.py:2: ZeroDivisionError" in answer.json()["error"]["message"]
    assert (await client.post(PREDICTIONS, json={"model": "bad", "input": 2})).json()["output"] == 0.5


async def test_a_changed_handler_takes_over_and_a_broken_one_does_not(
    client: httpx.AsyncClient, stack: Stack, tmp_path: Path
) -> None:
    code = "def predict(input, context):\n    return {}\n"
    folder = write(tmp_path / "moving", "moving", code.format(1))
    stack.deploy(folder)

    async def ask() -> object:
        answer = await client.post(PREDICTIONS, json={"model": "moving", "input": 0})
        assert answer.status_code == 200, answer.text
        return answer.json()["output"]

    assert await ask() == 1
    stack.deploy(write(folder, "moving", code.format(2)))
    async with asyncio.timeout(60):
        while (found := await ask()) == 1:
            await asyncio.sleep(0.05)
    assert found == 2

    refused = stack.run("deploy", str(write(folder, "moving", "def predict(input, context:\n")))
    assert refused.returncode != 0
    assert "handler.py:1: SyntaxError" in refused.stderr
    assert await ask() == 2

    stack.run("deploy", str(write(folder, "moving", "import nothing_like_this\n" + code.format(3))))
    for _ in range(20):
        assert await ask() == 2
        await asyncio.sleep(0.1)
    said = json.dumps(stack.status())
    assert "handler.py:1: ModuleNotFoundError" in said
