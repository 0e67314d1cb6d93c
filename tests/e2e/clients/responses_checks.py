"""Checks of the Responses API inside an environment of an unmodified openai-python, whichever major version.

Usage: `python responses_checks.py BASE_URL OTHER_URL MODEL SLOW_MODEL`. OTHER_URL: another gateway. Prints
one JSON object: each check's name, and null or the trace of its failure.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import openai
from openai import OpenAI
from openai.types.responses import Response

BASE_URL, OTHER_URL, MODEL, SLOW_MODEL = sys.argv[1:5]
TEXT = "Every word comes back, in order: äöü 漢字 🙂"
LONG = " ".join(f"word{number}" for number in range(80))
LONGER = LONG * 6  # seconds, so that a heartbeat tells of it

client = OpenAI(base_url=f"{BASE_URL}/v1", api_key="unused", max_retries=0)
other = OpenAI(base_url=f"{OTHER_URL}/v1", api_key="unused", max_retries=0)


def check_create() -> None:
    response = client.responses.create(model=MODEL, input=TEXT, metadata={"a": "b"}, instructions="Be kind.")
    assert response.status == "completed", response
    assert response.output_text == TEXT
    assert response.id.startswith("resp_")
    assert response.metadata == {"a": "b"}
    assert response.instructions == "Be kind."
    assert response.usage is not None
    assert response.usage.input_tokens > 0
    assert response.usage.output_tokens > 0
    Response.model_validate(response.model_dump(), strict=False)


def until_history_is(response_id: str, texts: list[str]) -> None:
    """What the archive has of it, which is a moment behind."""
    found: list[str] = []
    for _ in range(100):
        with suppress(openai.NotFoundError):
            items = client.responses.input_items.list(response_id, order="asc").data
            found = [item.content[0].text for item in items]
        if found == texts:
            return
        time.sleep(0.2)
    raise AssertionError(found)


def check_items_and_history() -> None:
    said = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "second"}]},
        {"role": "user", "content": [{"type": "input_text", "text": "third"}]},
    ]
    first = client.responses.create(model=MODEL, input=said)
    assert first.output_text == "third"
    until_history_is(first.id, ["first", "second", "third"])
    second = client.responses.create(model=MODEL, input="fourth", previous_response_id=first.id)
    assert second.output_text == "fourth"
    assert second.previous_response_id == first.id
    until_history_is(second.id, ["first", "second", "third", "third", "fourth"])


def check_stream() -> None:
    events = list(client.responses.create(model=MODEL, input=TEXT, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ], kinds
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ], kinds
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == TEXT == events[-1].response.output_text


def check_retrieve() -> None:
    made = client.responses.create(model=MODEL, input="keep me")
    found = until(lambda: other.responses.retrieve(made.id), lambda r: r.status == "completed")
    assert found.output_text == "keep me"
    forgotten = client.responses.create(model=MODEL, input="do not", store=False)
    assert forgotten.output_text == "do not"


def check_background() -> None:
    begun = client.responses.create(model=MODEL, input="later", background=True)
    assert begun.status == "queued"
    assert begun.background is True
    done = until(
        lambda: client.responses.retrieve(begun.id), lambda r: r.status not in ("queued", "in_progress")
    )
    assert (done.status, done.output_text) == ("completed", "later")


def check_cancel() -> None:
    begun = client.responses.create(model=SLOW_MODEL, input=LONGER, background=True)
    until(lambda: client.responses.retrieve(begun.id), lambda r: r.status == "in_progress")
    cancelled = client.responses.cancel(begun.id)
    assert cancelled.status == "cancelled", cancelled
    assert other.responses.retrieve(begun.id).status == "cancelled"


def check_resume_on_another_gateway() -> None:
    stream = client.responses.create(model=SLOW_MODEL, input=LONG, background=True, stream=True)
    first = []
    for event in stream:
        first.append(event)
        if len(first) == 12:
            break
    stream.close()
    name = first[0].response.id
    rest = list(other.responses.retrieve(name, stream=True, starting_after=first[-1].sequence_number))
    events = first + rest
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == LONG
    assert events[-1].type == "response.completed"
    again = list(client.responses.retrieve(name, stream=True))
    assert [event.type for event in again] == [event.type for event in events]


def check_delete() -> None:
    made = client.responses.create(model=MODEL, input="gone")
    client.responses.delete(made.id)
    raises(openai.NotFoundError, lambda: client.responses.retrieve(made.id))


def check_incomplete() -> None:
    cut = client.responses.create(model=SLOW_MODEL, input=LONG, max_output_tokens=3)
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"
    assert cut.output_text.split() == LONG.split()[:3]


def check_errors() -> None:
    error = raises(openai.NotFoundError, lambda: client.responses.create(model="nobody", input="x"))
    assert error.code == "model_not_found"
    raises(openai.NotFoundError, lambda: client.responses.retrieve("resp_0123"))
    raises(
        openai.NotFoundError,
        lambda: client.responses.create(model=MODEL, input="x", previous_response_id="resp_0123"),
    )
    for param, body in (
        ("input", {"input": 7}),
        ("temperature", {"input": "x", "temperature": 3}),
        ("tools", {"input": "x", "tools": [{"type": "web_search"}]}),
    ):
        extra: Any = {"model": MODEL, **body}
        found = raises(openai.BadRequestError, lambda extra=extra: client.responses.create(**extra))
        assert found.param is not None, found
        assert found.param.startswith(param), found.param


def until(ask: Callable[[], Any], is_so: Callable[[Any], bool]) -> Any:
    for _ in range(200):
        found = ask()
        if is_so(found):
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def raises(kind: type[Exception], call: Callable[[], Any]) -> Any:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def main() -> None:
    report: dict[str, str | None] = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                check()
                report[name] = None
            except Exception:  # noqa: BLE001  # whatever it is, it is the report
                report[name] = traceback.format_exc()
    print(json.dumps({"version": openai.__version__, "report": report}))


if __name__ == "__main__":
    main()
