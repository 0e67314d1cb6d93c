"""The vllm engine, with a real model on the CPU, by the conformance suite and by what is its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

import psutil
import pytest
import pytest_asyncio
from tests.contract.engines.conformance import Abilities, Conformance, ask, call, chat, completion
from tests.vllm.parts import CONTEXT_TOKENS, SLOTS, create, model

from headrace.contracts.errors import InvalidRequest, SetupError
from headrace.core.ports import Partial

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

PROMPTS = [
    f"{words} {number}"
    for words in (
        "The capital of France is",
        "Once upon a time",
        "To bake bread one needs",
        "Count: one, two,",
    )
    for number in range(8)
]
TOKENS = 16


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Any]:
    engine = create(model())
    await engine.start()
    yield engine
    await engine.stop()


async def _is_idle(engine: Any) -> bool:
    """By the engine core's own word: it can forget all blocks of its cache only while no request has any."""
    return bool(await engine._core.llm.reset_prefix_cache())


async def _idle(engine: Any) -> None:
    assert await _is_idle(engine), "something runs on"


class TestVllm(Conformance):
    """By the suite."""

    abilities = Abilities(idle=_idle, has_logprobs=True, long_prompt_words=2000)
    prompt = "Count from one to twelve in words, with commas: one, two, three, four, five, six, seven, eight"


class TestTheSameAsVllm:
    """Nothing is lost on the way."""

    async def test_greedy_tokens_are_those_of_vllm_itself(self, engine: Any) -> None:
        from vllm import SamplingParams

        async def direct(number: int) -> list[str]:
            params = SamplingParams(temperature=0, max_tokens=TOKENS, logprobs=0)
            answers = engine._core.llm.generate(PROMPTS[number], params, f"direct-{number}")
            *_, last = [answer async for answer in answers]
            assert len(last.outputs[0].token_ids) == len(last.outputs[0].logprobs)
            pairs = zip(last.outputs[0].token_ids, last.outputs[0].logprobs, strict=True)
            return [tops[token].decoded_token for token, tops in pairs]

        async def ours(number: int, *, stream: bool) -> list[str]:
            answer = await ask(
                engine, completion(PROMPTS[number], max_tokens=TOKENS, logprobs=0, stream=stream)
            )
            tokens: list[str] = answer.choice["logprobs"]["tokens"]
            # The end of a sequence is a token, and no text.
            assert answer.text == "".join(token for token in tokens if token != "<|im_end|>")
            return tokens

        numbers = range(len(PROMPTS))
        want = await asyncio.gather(*map(direct, numbers))
        assert await asyncio.gather(*(ours(number, stream=False) for number in numbers)) == want
        assert await asyncio.gather(*(ours(number, stream=True) for number in numbers)) == want

    async def test_chunks_are_put_together_while_the_caller_is_slow(self, engine: Any) -> None:
        request = chat("Count to a hundred.", stream=True, max_tokens=60, ignore_eos=True)
        chunks = 0
        async with aclosing(engine.run(request)) as events:
            async for event in events:
                if isinstance(event, Partial):
                    chunks += 1
                    await asyncio.sleep(0.5)
                else:
                    final = json.loads(event.value)
        assert chunks < 40
        assert final["usage"]["completion_tokens"] == 60

    async def test_penalties_change_the_answer(self, engine: Any) -> None:
        asked = chat("Say one word a hundred times.", max_tokens=30)
        penalized = chat("Say one word a hundred times.", max_tokens=30, repetition_penalty=1.8)
        assert (await ask(engine, asked)).text != (await ask(engine, penalized)).text


class TestSchemas:
    """Structured answers."""

    @pytest.mark.parametrize("stream", [False, True])
    async def test_it_answers_by_schema(self, engine: Any, *, stream: bool) -> None:
        schema = {"type": "object", "properties": {"size": {"enum": ["big", "small"]}}, "required": ["size"]}
        form = {"type": "json_schema", "json_schema": {"name": "size", "schema": schema}}
        request = chat("How big is an elephant?", response_format=form, max_tokens=40, stream=stream)
        assert json.loads((await ask(engine, request)).text)["size"] in {"big", "small"}

    async def test_it_answers_in_json(self, engine: Any) -> None:
        form = {"type": "json_object"}
        answer = await ask(engine, chat("Say {} in JSON.", response_format=form, max_tokens=200))
        assert answer.final.incomplete or isinstance(json.loads(answer.text), dict)

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "nonsense"},
            {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}},
            {"type": "string", "pattern": "(((("},
            {"type": "array", "minItems": 5, "maxItems": 2},
        ],
    )
    async def test_a_bad_schema_is_refused(
        self, engine: Any, schema: dict[str, Any], *, stream: bool
    ) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "bad", "schema": schema}}
        with pytest.raises(InvalidRequest) as refusal:
            await ask(engine, chat("Hello", response_format=form, stream=stream))
        assert refusal.value.param == "response_format"
        assert (await ask(engine, chat("Hello", max_tokens=2))).text

    @pytest.mark.parametrize("depth", [100, 150])
    async def test_a_deep_schema_does_not_end_the_engine(self, engine: Any, depth: int) -> None:
        schema: dict[str, Any] = {"type": "string"}
        for _ in range(depth):
            schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
        form = {"type": "json_schema", "json_schema": {"name": "deep", "schema": schema}}
        with suppress(InvalidRequest):
            await ask(engine, chat("Hello", response_format=form, max_tokens=5))
        assert (await ask(engine, chat("Hello", max_tokens=2))).text


class TestRefusals:
    """What it cannot do."""

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({"structured_outputs": {"regex": "(a+)+"}}, "structured_outputs"),
            ({"chat_template": "{{ 1 }}"}, "chat_template"),
            ({"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}, "chat_template_kwargs"),
            ({"use_beam_search": True}, "use_beam_search"),
            ({"tools": [{"type": "function", "function": {"name": "f" * 70_000}}]}, "tools"),
            ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
            ({"tools": "none"}, "tools"),
            ({"tools": []}, "tools"),
            ({"tool_choice": "weird"}, "tool_choice"),
            ({"response_format": {"type": "xml"}}, "response_format"),
            ({"response_format": {"type": "json_schema"}}, "response_format"),
            ({"top_k": "many"}, "top_k"),
            ({"top_k": -7}, "top_k"),
            ({"min_p": 7}, "min_p"),
            ({"logit_bias": {"1000000": 1}}, "logit_bias"),
            ({"allowed_token_ids": [10**9]}, "allowed_token_ids"),
            ({"top_logprobs": 2}, "top_logprobs"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ],
    )
    async def test_what_it_cannot_do_is_refused(
        self, engine: Any, body: dict[str, Any], param: str | None, *, stream: bool
    ) -> None:
        defaults = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2, "stream": stream}
        with pytest.raises(InvalidRequest) as refusal:
            await ask(engine, call(**(defaults | body)))
        assert refusal.value.param == param
        assert (await ask(engine, chat("Hello", max_tokens=2))).text

    async def test_settings_of_the_server_are_not_the_callers(self, engine: Any) -> None:
        foreign = {"priority": 7, "cache_salt": "", "kv_transfer_params": {"do_remote_prefill": True}}
        foreign |= {"return_token_ids": True, "request_id": "other", "model": "other"}
        answer = await ask(engine, chat("Count to a hundred.", max_tokens=3, stream=True, **foreign))
        assert answer.whole["usage"]["completion_tokens"] == 3
        assert set(answer.whole) == {"id", "object", "created", "model", "choices", "usage"}

    @pytest.mark.parametrize("words", [600, 100_000])
    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_prompt_over_the_context_names_its_field(
        self, engine: Any, words: int, *, stream: bool
    ) -> None:
        for request, field in (
            (chat("word " * words, stream=stream), "messages"),
            (completion("word " * words, stream=stream), "prompt"),
        ):
            with pytest.raises(InvalidRequest, match=f"context holds {CONTEXT_TOKENS}") as refusal:
                await ask(engine, request)
            assert (refusal.value.code, refusal.value.param) == ("context_length_exceeded", field)

    async def test_an_answer_may_fill_the_context_and_no_more(self, engine: Any) -> None:
        answer = await ask(engine, chat("sea " * 440, max_tokens=2**40, ignore_eos=True))
        assert answer.final.incomplete
        assert answer.whole["usage"]["total_tokens"] == CONTEXT_TOKENS


class TestCancelling:
    """Nothing runs on."""

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("make", [chat, completion])
    async def test_a_cancelled_request_has_ended_when_the_cancel_returns(
        self, engine: Any, make: Any, *, stream: bool
    ) -> None:
        for pause_s in (0.0, 0.02, 0.3):
            asked = [
                make(f"Write a long story about {number}.", max_tokens=400, ignore_eos=True, stream=stream)
                for number in range(2 * SLOTS)
            ]
            tasks = [asyncio.create_task(ask(engine, request)) for request in asked]
            await asyncio.sleep(pause_s)
            if pause_s == 0.3:
                assert not await _is_idle(engine), "the test asks nothing"
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results), results
            assert await _is_idle(engine)
            assert engine._core.llm.get_num_unfinished_requests() == 0

    async def test_it_opens_no_port_to_the_network(self, engine: Any) -> None:
        below = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = [
            item.laddr.ip
            for process in below
            for item in process.net_connections("inet")
            if item.status == psutil.CONN_LISTEN
        ]
        assert set(listening) <= {"127.0.0.1"}


class TestStarting:
    """What a person at the keyboard hears."""

    async def test_what_is_no_model_is_told(self, tmp_path: Any) -> None:
        file = tmp_path / "model.gguf"
        file.write_bytes(b"GGUF")
        pickled = tmp_path / "pickled"
        pickled.mkdir()
        (pickled / "config.json").write_text("{}")
        (pickled / "pytorch_model.bin").write_bytes(b"")
        strange = tmp_path / "strange"
        strange.mkdir()
        (strange / "config.json").write_text('{"model_type": "nonsense"}')
        (strange / "model.safetensors").write_bytes(b"")
        for path, words in (
            (file, "not a folder"),
            (pickled, "has no \\*.safetensors"),
            (strange, "vLLM cannot load"),
        ):
            engine = create(path)
            with pytest.raises(SetupError, match=words):
                await engine.start()
            await engine.stop()

    @pytest.mark.parametrize("args", [{"max_num_seqs": "4"}, {"max_seqs": 4}, {"dtype": "int3"}])
    def test_arguments_are_strict(self, tmp_path: Any, args: dict[str, Any]) -> None:
        with pytest.raises(SetupError, match=r"engine\.args"):
            create(tmp_path, **args)
