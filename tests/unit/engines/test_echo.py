"""What the echo engine says. How it fills the port is in tests/contract/engines."""

import asyncio

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.engines.virtual_time import in_virtual_time

from headrace.contracts import bodies
from headrace.contracts.manifest import parse
from headrace.contracts.requests import CHAT
from headrace.core.ports import Call, Final
from headrace.engines import catalog
from headrace.engines.echo import EchoArgs, EchoEngine

TEXTS = st.text(st.sampled_from("ab \n\u2003é"), max_size=30)


def _call(text: str, **body: object) -> Call:
    value = orjson.dumps({"messages": [{"role": "user", "content": text}], **body})
    return Call("req_a", "echo", CHAT, value, bodies.parse(CHAT, value), 1)


async def _say(engine: EchoEngine, call: Call) -> tuple[list[dict[str, object]], Final]:
    *chunks, final = [event async for event in engine.run(call)]
    assert isinstance(final, Final)
    return [orjson.loads(chunk.value) for chunk in chunks], final


async def _text(args: EchoArgs, text: str, **body: object) -> tuple[str, str, int]:
    _, final = await _say(EchoEngine(args), _call(text, **body))
    whole = orjson.loads(final.value)
    choice = whole["choices"][0]
    assert final.incomplete == (choice["finish_reason"] == "length")
    return choice["message"]["content"], choice["finish_reason"], whole["usage"]["completion_tokens"]


@given(TEXTS)
async def test_there_are_as_many_chunks_with_text_as_tokens(text: str) -> None:
    chunks, final = await _say(EchoEngine(EchoArgs()), _call(text, stream=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]  # type: ignore[index]  # JSON
    assert "".join(delta.get("content", "") for delta in deltas) == text
    assert len(chunks) - 1 == orjson.loads(final.value)["usage"]["completion_tokens"]
    assert deltas[0]["role"] == "assistant"


@given(TEXTS, st.integers(1, 40))
async def test_a_fixed_length_is_exact(text: str, tokens: int) -> None:
    said, reason, counted = await _text(EchoArgs(output_tokens=tokens), text)
    assert counted == tokens
    assert reason == "stop"
    assert said


async def test_lengths() -> None:
    assert await _text(EchoArgs(output_tokens=5), "a  b\n") == ("a  b a  b a  ", "stop", 5)
    assert await _text(EchoArgs(output_tokens=2), "a  b\nc") == ("a  b\n", "stop", 2)
    assert await _text(EchoArgs(output_tokens=9), "a b", max_tokens=3) == ("a b a ", "length", 3)
    assert await _text(EchoArgs(), "a b", max_tokens=2) == ("a b", "stop", 2)
    assert await _text(EchoArgs(), "") == ("", "stop", 0)


async def test_the_earliest_stop_string_counts() -> None:
    assert await _text(EchoArgs(), "a b c d", stop=["d", "c", "", "x"]) == ("a b ", "stop", 2)
    assert await _text(EchoArgs(), "a b c d", stop="") == ("a b c d", "stop", 4)


async def test_the_last_user_message_is_answered() -> None:
    messages = [{"role": role, "content": role} for role in ("system", "user", "assistant", "tool")]
    value = orjson.dumps({"messages": messages})
    call = Call("req_a", "echo", CHAT, value, bodies.parse(CHAT, value), 1)
    _, final = await _say(EchoEngine(EchoArgs()), call)
    assert orjson.loads(final.value)["choices"][0]["message"]["content"] == "user"


async def test_the_manifests_limit_holds_for_who_names_none() -> None:
    document = {"name": "x", "engine": {"kind": "echo"}, "limits": {"max_tokens": 2}}
    engine = catalog.create(parse(document, where="test"), None)
    assert isinstance(engine, EchoEngine)
    _, final = await _say(engine, _call("a b c"))
    assert final.incomplete


async def test_it_fails_when_told_to() -> None:
    engine = EchoEngine(EchoArgs(fail_on="boom"))
    with pytest.raises(RuntimeError, match="boom"):
        await _say(engine, _call("go boom"))
    assert (await _say(engine, _call("go on")))[1]


@in_virtual_time
async def test_times_add_up() -> None:
    loop = asyncio.get_running_loop()
    engine = EchoEngine(EchoArgs(start_ms=500, prefill_ms=200, token_ms=50))
    await engine.start()
    assert loop.time() == pytest.approx(0.5)
    await _say(engine, _call("a b c d"))
    assert loop.time() == pytest.approx(0.5 + 0.2 + 4 * 0.05)
    await _say(engine, _call("a b c d", stream=True))
    assert loop.time() == pytest.approx(0.5 + 2 * (0.2 + 4 * 0.05))
    begun_s = loop.time()
    await _say(EchoEngine(EchoArgs(prefill_ms=200, prefill_ms_per_token=10)), _call("a b c d"))
    assert loop.time() - begun_s == pytest.approx(0.24), "a long prompt takes longer"
