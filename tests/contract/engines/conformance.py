"""What every engine must do; see `core.ports.Engine`.

An engine's test file subclasses `Conformance`, has a fixture `engine`, and says in `Abilities` what the
engine cannot do.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from headrace.contracts import bodies
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.requests import CHAT, COMPLETIONS
from headrace.core.ports import Call, Engine, Final, Partial

MODEL = "org/name"
CREATED_S = 1_700_000_000


@dataclass(frozen=True)
class Abilities:
    """What an engine can do, and what the tests need to know about it.

    idle: returns when nothing runs inside the engine; raises when that takes too long.
    long_prompt_words: so many words are sure to be over its context; None when it has no limit.
    """

    idle: Callable[[Engine], Awaitable[None]]
    has_logprobs: bool
    long_prompt_words: int | None


@dataclass(frozen=True)
class Answer:
    """All that an engine said to one call."""

    chunks: list[dict[str, Any]]
    final: Final

    @property
    def whole(self) -> dict[str, Any]:
        body: dict[str, Any] = orjson.loads(self.final.value)
        return body

    @property
    def choice(self) -> dict[str, Any]:
        (choice,) = self.whole["choices"]
        return choice

    @property
    def text(self) -> str:
        return self.choice["text"] if "text" in self.choice else self.choice["message"]["content"] or ""

    @property
    def streamed_text(self) -> str:
        pieces = [choice for chunk in self.chunks for choice in chunk["choices"]]
        return "".join(
            piece["text"] if "text" in piece else piece["delta"].get("content") or "" for piece in pieces
        )


def call(path: str = CHAT, **body: Any) -> Call:
    """A call, as a worker makes it."""
    value = json.dumps(body).encode()  # deeper than orjson writes
    parsed = bodies.parse(path, value)
    return Call(id="req_abc", model=MODEL, path=path, value=value, body=parsed, created_s=CREATED_S)


def chat(text: str, **body: Any) -> Call:
    """A chat of one message; always the same answer, and a short one."""
    defaults = {"temperature": 0, "max_tokens": 12}
    return call(**(defaults | body), messages=[{"role": "user", "content": text}])


def completion(text: str, **body: Any) -> Call:
    """A completion, likewise."""
    defaults = {"temperature": 0, "max_tokens": 12}
    return call(COMPLETIONS, **(defaults | body), prompt=text)


async def ask(engine: Engine, request: Call) -> Answer:
    """Run a call to its end; checks the protocol on the way."""
    chunks: list[dict[str, Any]] = []
    final: Final | None = None
    async with aclosing(engine.run(request)) as events:
        async for event in events:
            assert final is None, "nothing comes after Final"
            if isinstance(event, Partial):
                chunks.append(orjson.loads(event.value))
            else:
                final = event
    assert final is not None, "a run ends with Final"
    assert bool(chunks) == bool(request.body.stream), "chunks come when, and only when, a stream is wanted"
    return Answer(chunks, final)


@pytest.mark.asyncio(loop_scope="module")
class Conformance:
    """The tests. `prompt` makes the engine say at least eight words."""

    abilities: Abilities
    prompt = "one two three four five six seven eight nine ten"

    async def test_chat_answers_in_openais_shape(self, engine: Engine) -> None:
        whole = (await ask(engine, chat(self.prompt))).whole
        assert set(whole) == {"id", "object", "created", "model", "choices", "usage"}
        assert whole["id"] == "chatcmpl-abc"
        assert whole["object"] == "chat.completion"
        assert (whole["model"], whole["created"]) == (MODEL, CREATED_S)
        (choice,) = whole["choices"]
        assert set(choice) == {"index", "message", "finish_reason", "logprobs"}
        assert choice["message"]["role"] == "assistant"
        assert choice["message"]["content"]

    async def test_completion_answers_in_openais_shape(self, engine: Engine) -> None:
        whole = (await ask(engine, completion(self.prompt))).whole
        assert whole["id"] == "cmpl-abc"
        assert whole["object"] == "text_completion"
        assert set(whole["choices"][0]) == {"index", "text", "finish_reason", "logprobs"}
        assert whole["choices"][0]["text"]

    @pytest.mark.parametrize("make", [chat, completion])
    async def test_the_stream_adds_up_to_the_whole(self, engine: Engine, make: Callable[..., Call]) -> None:
        whole = await ask(engine, make(self.prompt))
        streamed = await ask(engine, make(self.prompt, stream=True))
        assert streamed.streamed_text == streamed.text == whole.text
        assert streamed.whole["usage"]["completion_tokens"] == whole.whole["usage"]["completion_tokens"]

    @pytest.mark.parametrize("make", [chat, completion])
    async def test_chunks_are_in_openais_shape(self, engine: Engine, make: Callable[..., Call]) -> None:
        chunks = (await ask(engine, make(self.prompt, stream=True))).chunks
        whole = (await ask(engine, make(self.prompt))).whole
        assert all(set(chunk) == {"id", "object", "created", "model", "choices"} for chunk in chunks)
        assert {chunk["id"] for chunk in chunks} == {whole["id"]}
        assert {chunk["created"] for chunk in chunks} == {CREATED_S}
        reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
        assert reasons[:-1] == [None] * (len(chunks) - 1)
        assert reasons[-1] == whole["choices"][0]["finish_reason"]
        if make is chat:
            roles = [chunk["choices"][0]["delta"].get("role") for chunk in chunks]
            assert roles == ["assistant"] + [None] * (len(chunks) - 1)

    async def test_usage_comes_last_when_it_is_asked_for(self, engine: Engine) -> None:
        answer = await ask(engine, chat(self.prompt, stream=True, stream_options={"include_usage": True}))
        assert [bool(chunk["choices"]) for chunk in answer.chunks] == [True] * (len(answer.chunks) - 1) + [
            False
        ]
        assert answer.chunks[-1]["usage"] == answer.whole["usage"]

    async def test_usage_adds_up(self, engine: Engine) -> None:
        used = (await ask(engine, chat(self.prompt, max_tokens=5))).whole["usage"]
        assert used["completion_tokens"] == 5
        assert used["prompt_tokens"] >= 10
        assert used["total_tokens"] == used["prompt_tokens"] + used["completion_tokens"]

    @pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
    async def test_a_limit_cuts_the_answer_short(self, engine: Engine, name: str) -> None:
        request = call(messages=[{"role": "user", "content": self.prompt}], temperature=0, **{name: 3})
        answer = await ask(engine, request)
        assert answer.final.incomplete
        assert answer.choice["finish_reason"] == "length"
        assert answer.whole["usage"]["completion_tokens"] == 3
        full = await ask(engine, chat(self.prompt))
        assert full.text.startswith(answer.text)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_stop_string_ends_the_answer_before_itself(self, engine: Engine, *, stream: bool) -> None:
        full = (await ask(engine, chat(self.prompt))).text
        stop = full.split()[3]
        answer = await ask(engine, chat(self.prompt, stop=["", stop], stream=stream))
        assert answer.text == full[: full.index(stop)]
        assert answer.choice["finish_reason"] == "stop"
        assert not answer.final.incomplete
        if stream:
            assert answer.streamed_text == answer.text

    async def test_the_same_seed_gives_the_same_answer(self, engine: Engine) -> None:
        texts = [(await ask(engine, chat(self.prompt, temperature=1.5, seed=2**33 + 7))).text for _ in "ab"]
        assert texts[0] == texts[1]

    async def test_nulls_mean_nothing(self, engine: Engine) -> None:
        names = (
            "stop", "seed", "n", "top_p", "logprobs", "tools", "tool_choice", "response_format", "logit_bias"
        )  # fmt: skip
        nulls = dict.fromkeys(names)
        assert (await ask(engine, chat(self.prompt, **nulls))).text

    async def test_parts_of_text_are_text(self, engine: Engine) -> None:
        parts = [{"type": "text", "text": self.prompt[:20]}, {"type": "text", "text": self.prompt[20:]}]
        request = call(messages=[{"role": "user", "content": parts}], temperature=0, max_tokens=12)
        assert (await ask(engine, request)).text

    async def test_answers_at_once_do_not_mix(self, engine: Engine) -> None:
        prompts = [f"{number} {self.prompt}" for number in range(engine.capacity)]
        alone = [(await ask(engine, chat(prompt, max_tokens=6))).text for prompt in prompts[:2]]
        together = await asyncio.gather(*(ask(engine, chat(prompt, max_tokens=6)) for prompt in prompts))
        assert all(answer.whole["usage"]["completion_tokens"] == 6 for answer in together)
        assert [answer.text for answer in together[:2]] == alone

    async def test_closing_the_generator_frees_the_slot(self, engine: Engine) -> None:
        for _ in range(engine.capacity + 1):
            run = engine.run(chat(self.prompt, stream=True, max_tokens=1000))
            assert isinstance(await anext(run), Partial)
            await run.aclose()
        await self.abilities.idle(engine)
        assert (await ask(engine, chat(self.prompt))).text

    async def test_cancelling_the_task_frees_the_slot(self, engine: Engine) -> None:
        runs = [ask(engine, self.endless(number)) for number in range(engine.capacity)]
        tasks = [asyncio.create_task(run) for run in runs]
        await asyncio.sleep(0.05)
        if all(task.done() for task in tasks):
            pytest.skip("this engine answers at once")
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        await self.abilities.idle(engine)

    def endless(self, number: int) -> Call:
        """A call that runs for long."""
        return chat(f"{number} {self.prompt * 20}", max_tokens=1000, ignore_eos=True)

    @pytest.mark.parametrize(
        ("make", "body", "param"),
        [(chat, {"n": 2}, "n"), (completion, {"n": 2}, "n")],
    )
    async def test_several_choices_are_refused(
        self, engine: Engine, make: Callable[..., Call], body: dict[str, Any], param: str
    ) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            await ask(engine, make(self.prompt, **body))
        assert refusal.value.param == param

    async def test_one_prompt_in_a_list_will_do_and_two_are_refused(self, engine: Engine) -> None:
        one = await ask(engine, call(COMPLETIONS, prompt=[self.prompt], max_tokens=4, temperature=0))
        assert one.text
        with pytest.raises(InvalidRequest) as refusal:
            await ask(engine, call(COMPLETIONS, prompt=["a", "b"], max_tokens=4))
        assert refusal.value.param == "prompt"

    async def test_an_engine_that_refused_a_request_serves_the_next(self, engine: Engine) -> None:
        for _ in range(engine.capacity + 1):
            with pytest.raises(InvalidRequest):
                await ask(engine, chat(self.prompt, n=3))
        assert (await ask(engine, chat(self.prompt))).text

    async def test_a_prompt_over_the_context_is_refused(self, engine: Engine) -> None:
        words = self.abilities.long_prompt_words
        if words is None:
            pytest.skip("this engine has no context limit")
        with pytest.raises(InvalidRequest, match=r"\d+ tokens .* context holds \d+") as refusal:
            await ask(engine, chat("word " * words))
        assert refusal.value.code == "context_length_exceeded"

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("top", [0, 2])
    async def test_logprobs_of_a_chat(self, engine: Engine, top: int, *, stream: bool) -> None:
        if not self.abilities.has_logprobs:
            pytest.skip("this engine has no log probabilities")
        request = chat(self.prompt, max_tokens=4, logprobs=True, top_logprobs=top, stream=stream)
        answer = await ask(engine, request)
        entries = answer.choice["logprobs"]["content"]
        assert len(entries) == 4
        assert "".join(entry["token"] for entry in entries) == answer.text
        for entry in entries:
            assert set(entry) == {"token", "logprob", "bytes", "top_logprobs"}
            assert entry["logprob"] <= 0
            assert len(entry["top_logprobs"]) == top

    @pytest.mark.parametrize("top", [0, 2])
    async def test_logprobs_of_a_completion(self, engine: Engine, top: int) -> None:
        if not self.abilities.has_logprobs:
            pytest.skip("this engine has no log probabilities")
        answer = await ask(engine, completion(self.prompt, max_tokens=4, logprobs=top))
        logprobs = answer.choice["logprobs"]
        assert "".join(logprobs["tokens"]) == answer.text
        assert [len(tops) for tops in logprobs["top_logprobs"]] == [top] * 4
        offsets = logprobs["text_offset"]
        assert [
            answer.text[at:].startswith(token) for at, token in zip(offsets, logprobs["tokens"], strict=True)
        ]
