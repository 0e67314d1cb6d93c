"""Checks that run inside an environment of an unmodified openai-python, whichever major version it has.

Usage: `python openai_checks.py BASE_URL MODEL SLOW_MODEL`. Prints one JSON object: each check's name, and
null or the trace of its failure. SLOW_MODEL has a slash in its name and takes its time for each word.
"""

import asyncio
import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import openai
from openai import AsyncOpenAI, OpenAI

BASE_URL, MODEL, SLOW_MODEL = sys.argv[1:4]
TEXT = "Every word comes back, in order: äöü 漢字 🙂"


def ask(text: str = TEXT, **more: Any) -> dict[str, Any]:
    """Arguments of a chat request."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def client(**more: Any) -> OpenAI:
    """A client; the key is not looked at."""
    return OpenAI(base_url=f"{BASE_URL}/v1", api_key="none", timeout=30.0, **more)


def caught(call: Callable[[], object]) -> Any:
    """The API error that the call raises."""
    try:
        call()
    except openai.APIStatusError as error:
        return error
    raise AssertionError("no error was raised")


def counted() -> tuple[OpenAI, list[str]]:
    """A client with its default retries, and a list that grows with each request it sends."""
    sent: list[str] = []
    hooks = {"request": [lambda request: sent.append(request.method)]}
    return client(http_client=openai.DefaultHttpxClient(event_hooks=hooks)), sent


def check_chat() -> None:
    answer = client().chat.completions.create(**ask())
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    assert answer.id.startswith("chatcmpl-")
    assert abs(answer.created - time.time()) < 60
    assert len(answer.choices) == 1
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def check_chat_takes_content_parts() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]},
    ]
    answer = client().chat.completions.create(model=MODEL, messages=messages)
    assert answer.choices[0].message.content == "in parts"


def check_max_tokens_ends_with_length() -> None:
    answer = client().chat.completions.create(**ask("one two three", max_tokens=2))
    assert answer.choices[0].finish_reason == "length"
    assert (answer.choices[0].message.content or "").split() == ["one", "two"]


def check_stream_joins_to_the_text() -> None:
    with client().chat.completions.create(**ask(stream=True)) as stream:
        chunks = list(stream)
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


def check_stream_with_usage() -> None:
    more = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = client().chat.completions.create(**ask(**more))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == len(TEXT.split())


def check_stream_helper() -> None:
    with client().chat.completions.stream(**ask()) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert final.choices[0].message.content == TEXT
    assert kinds.count("content.done") == 1


def check_stream_comes_in_pieces() -> None:
    words = "one two three four five " * 4
    stream = client().chat.completions.create(**ask(words, stream=True, model=SLOW_MODEL))
    times_s = [time.monotonic() for _ in stream]
    assert times_s[-1] - times_s[0] > 0.2, f"all chunks came at once: {times_s}"


def check_closing_a_stream_early() -> None:
    one = client()
    started_s = time.monotonic()
    with one.chat.completions.create(**ask("word " * 1000, stream=True, model=SLOW_MODEL)) as stream:
        for _, chunk in zip(range(3), stream, strict=False):
            assert chunk.choices[0].finish_reason is None
    assert time.monotonic() - started_s < 10
    answer = one.chat.completions.create(**ask("still here", model=SLOW_MODEL))
    assert answer.choices[0].message.content == "still here"


def check_completions() -> None:
    answer = client().completions.create(model=MODEL, prompt=TEXT)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].text == TEXT
    assert answer.choices[0].finish_reason == "stop"


def check_completions_stream() -> None:
    chunks = list(client().completions.create(model=MODEL, prompt=TEXT, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
    assert chunks[-1].choices[0].finish_reason == "stop"


def check_models_list() -> None:
    models = {model.id: model for model in client().models.list()}  # pages for ever, if told wrongly
    assert {MODEL, SLOW_MODEL} <= models.keys()
    assert models[MODEL].object == "model"
    assert models[MODEL].owned_by
    assert isinstance(models[MODEL].created, int)


def check_models_retrieve() -> None:
    assert client().models.retrieve(MODEL).id == MODEL


def check_models_retrieve_with_a_slash() -> None:
    assert "/" in SLOW_MODEL
    assert client().models.retrieve(SLOW_MODEL).id == SLOW_MODEL


def check_chat_with_a_slash() -> None:
    answer = client().chat.completions.create(**ask("short", model=SLOW_MODEL))
    assert answer.model == SLOW_MODEL


def check_unknown_model() -> None:
    error = caught(lambda: client().chat.completions.create(**ask(model="nobody/nothing")))
    assert type(error) is openai.NotFoundError
    assert (error.code, error.param, error.type) == ("model_not_found", "model", "invalid_request_error")
    assert "nobody/nothing" in error.message
    assert type(caught(lambda: client().models.retrieve("nobody/nothing"))) is openai.NotFoundError


def check_unknown_path() -> None:
    error = caught(lambda: client().embeddings.create(model=MODEL, input="text"))
    assert type(error) is openai.NotFoundError
    assert error.code == "path_not_found"


def check_wrong_field() -> None:
    error = caught(lambda: client().chat.completions.create(**ask(temperature=3)))
    assert type(error) is openai.BadRequestError
    assert (error.code, error.param, error.status_code) == ("invalid_request", "temperature", 400)
    assert "temperature" in error.message


def check_missing_field() -> None:
    error = caught(lambda: client().chat.completions.create(model=MODEL, messages=[]))
    assert type(error) is openai.BadRequestError
    assert error.param == "messages"


def check_what_the_engine_refuses() -> None:
    error = caught(lambda: client().chat.completions.create(**ask(n=2)))
    assert type(error) is openai.BadRequestError
    assert error.param == "n"
    assert (
        type(caught(lambda: client().chat.completions.create(**ask(n=2, stream=True))))
        is openai.BadRequestError
    )


def check_body_too_large() -> None:
    error = caught(lambda: client().chat.completions.create(**ask("x" * 1_100_000)))
    assert (error.status_code, error.code) == (413, "body_too_large")


def check_wrong_content_type() -> None:
    headers = {"Content-Type": "text/plain"}  # as the client spells it, or it sends both
    error = caught(lambda: client().chat.completions.create(**ask(extra_headers=headers)))
    assert (error.status_code, error.code) == (415, "wrong_content_type")


def check_request_ids() -> None:
    one = client()
    first, second = (one.chat.completions.create(**ask())._request_id for _ in range(2))
    assert first
    assert second
    assert first != second
    for call in (
        lambda: one.chat.completions.create(**ask(model="nobody")),
        lambda: one.chat.completions.create(**ask(temperature=3)),
        lambda: one.chat.completions.create(**ask(n=2)),
        lambda: one.models.retrieve("nobody"),
    ):
        assert caught(call).request_id
    raw = one.chat.completions.with_raw_response.create(**ask())
    assert raw.request_id == raw.headers["x-request-id"]


def check_errors_of_the_caller_are_not_retried() -> None:
    for more in ({"model": "nobody"}, {"temperature": 3}, {"n": 2}):
        one, sent = counted()
        caught(lambda one=one, more=more: one.chat.completions.create(**ask(**more)))
        assert sent == ["POST"], more


def check_an_answer_takes_one_request() -> None:
    one, sent = counted()
    one.chat.completions.create(**ask())
    assert sent == ["POST"]


def check_async_client() -> None:
    asyncio.run(_async_calls())


async def _async_calls() -> None:
    async with AsyncOpenAI(base_url=f"{BASE_URL}/v1", api_key="none", timeout=30.0) as one:
        texts = [f"caller {number} of many" for number in range(40)]
        answers = await asyncio.gather(*(one.chat.completions.create(**ask(text)) for text in texts))
        assert [answer.choices[0].message.content for answer in answers] == texts
        stream = await one.chat.completions.create(**ask(stream=True))
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == TEXT
        assert {MODEL, SLOW_MODEL} <= {model.id async for model in one.models.list()}
        (refused,) = await asyncio.gather(
            one.chat.completions.create(**ask(model="nobody")), return_exceptions=True
        )
        assert isinstance(refused, openai.NotFoundError)
        assert refused.request_id


def main() -> None:
    """Run every check."""
    report: dict[str, str | None] = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                check()
                report[name] = None
            except Exception:  # noqa: BLE001  # whatever it is, it is the report
                report[name] = traceback.format_exc()
    json.dump({"version": openai.__version__, "report": report}, sys.stdout)


if __name__ == "__main__":
    main()
