"""What is to be done with a batch, and how its lines are read and written."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.errors import InvalidRequest, UnknownModel
from headrace.contracts.events import ModelDeployed
from headrace.contracts.manifest import Manifest
from headrace.contracts.states import State
from headrace.core import batch_lines as lines
from headrace.core.archive import FinalResult
from headrace.core.batches import (
    CANCEL_S,
    LAST_RESULTS_S,
    Batch,
    BatchState,
    Step,
    final_state,
    next_step,
    window_s,
)

_CHAT = "/v1/chat/completions"
_BATCH = Batch(
    id="batch_1",
    tenant="",
    path=_CHAT,
    input_file_id="file-1",
    state=BatchState.IN_PROGRESS,
    window_text="24h",
    created_at_s=0.0,
    expires_at_s=1000.0,
    total=100,
)
_ECHO = ModelDeployed(
    name="echo",
    slug="echo",
    version="1",
    package_url="s3://b/k",
    manifest=Manifest.model_validate(
        {"schema": "headrace.function/v1", "name": "echo", "engine": {"kind": "echo"}}
    ),
    partitions=4,
    deployed_at_s=0.0,
)


@pytest.mark.parametrize(
    ("changes", "now_s", "step"),
    [
        ({"state": BatchState.VALIDATING}, 0, Step.VALIDATE),
        ({}, 0, Step.QUEUE),
        ({"queued_lines": 8}, 0, Step.WAIT),
        ({"queued_lines": 8, "completed": 1, "failed": 1}, 0, Step.QUEUE),
        ({"queued_lines": 100, "completed": 99}, 0, Step.WAIT),
        ({"queued_lines": 100, "completed": 90, "failed": 10}, 0, Step.FINALIZE),
        ({"queued_lines": 10, "completed": 9}, 1000, Step.WAIT),
        ({"queued_lines": 10, "completed": 10}, 1000, Step.FINALIZE),
        ({"queued_lines": 10, "completed": 9}, 1000 + LAST_RESULTS_S, Step.FINALIZE),
        ({"state": BatchState.CANCELLING, "cancelling_at_s": 5, "queued_lines": 3}, 6, Step.WAIT),
        (
            {"state": BatchState.CANCELLING, "cancelling_at_s": 5, "queued_lines": 3},
            5 + CANCEL_S,
            Step.FINALIZE,
        ),
        ({"state": BatchState.CANCELLING, "cancelling_at_s": 5}, 6, Step.FINALIZE),
        ({"state": BatchState.FINALIZING}, 0, Step.FINALIZE),
        ({"state": BatchState.COMPLETED}, 0, Step.NONE),
        ({"state": BatchState.FAILED}, 0, Step.NONE),
    ],
)
def test_next_step(changes: dict[str, object], now_s: float, step: Step) -> None:
    assert next_step(replace(_BATCH, **changes), 8, now_s) is step


@pytest.mark.parametrize("window", range(1, 6))
def test_a_batch_comes_to_its_end_whatever_the_window(window: int) -> None:
    batch = replace(_BATCH, total=7)
    for _ in range(100):
        match next_step(batch, window, 0):
            case Step.QUEUE:
                queued = min(batch.total, batch.done + window)
                assert queued > batch.queued_lines
                batch = replace(batch, queued_lines=queued)
            case Step.WAIT:
                assert batch.done < batch.queued_lines
                batch = replace(batch, completed=batch.completed + 1)
            case _:
                break
    assert batch.completed == 7


def test_final_states() -> None:
    assert final_state(_BATCH, expired_lines=0) is BatchState.COMPLETED
    assert final_state(_BATCH, expired_lines=1) is BatchState.EXPIRED
    cancelling = replace(_BATCH, state=BatchState.CANCELLING)
    assert final_state(cancelling, expired_lines=1) is BatchState.CANCELLED


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86_400), ("1h", 3600), ("7d", 604_800), ("168h", 604_800)]
    + [(text, None) for text in ("8d", "169h", "0h", "h", "", "24", "24m", "-1h", "٣h", "1.5h", "99999h")],
)
def test_windows(text: str, seconds: float | None) -> None:
    assert window_s(text) == seconds


@given(st.binary(max_size=200), st.lists(st.integers(1, 20), max_size=50))
def test_lines_do_not_depend_on_the_pieces(content: bytes, sizes: list[int]) -> None:
    cutter, found, at = lines.Split(), [], 0
    for size in [*sizes, 200]:
        found += cutter.feed(content[at : at + size])
        at += size
    found += cutter.end()
    whole = content.split(b"\n")
    assert found == (whole if whole[-1] else whole[:-1])


def test_an_endless_line_is_refused() -> None:
    cutter = lines.Split()
    assert cutter.feed(b"x" * lines.MAX_LINE_BYTES) == []
    with pytest.raises(InvalidRequest, match="over 1000000 bytes"):
        cutter.feed(b"x")


def _line(custom_id: str = "a", **changes: object) -> bytes:
    body = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
    return orjson.dumps({"custom_id": custom_id, "method": "POST", "url": _CHAT, "body": body} | changes)


def _find(name: str) -> ModelDeployed:
    if name != "echo":
        raise UnknownModel(f"There is no model '{name}'", param="model")
    return _ECHO


def _check(*rows: bytes, max_lines: int = 1000) -> lines.Checker:
    checker = lines.Checker(_CHAT, _find, max_lines)
    for row in rows:
        checker.take(row)
    return checker


def test_a_good_file() -> None:
    checker = _check(_line("a"), b"", _line("b"), b"  ")
    assert checker.end() == []
    assert (checker.total, checker.model) == (2, "echo")


def test_each_fault_has_its_line() -> None:
    other = orjson.loads(_line("d"))["body"] | {"model": "other"}
    checker = _check(
        *(
            _line("a"),
            b"{",
            b"[]",
            b"",
            _line("a"),
            _line("b", method="GET"),
            _line("c", url="/v1/embeddings"),
        ),
        *(_line("d", body=other), _line("e", body={"model": "echo"}), _line("f", body=1), _line("")),
        _line("g", body=orjson.loads(_line())["body"] | {"stream": True}),
    )
    assert [(fault.line, fault.code, fault.param) for fault in checker.end()] == [
        (2, "invalid_json_line", None),
        (3, "invalid_json_line", None),
        (5, "duplicate_custom_id", "custom_id"),
        (6, "invalid_method", "method"),
        (7, "invalid_url", "url"),
        (8, "mismatched_model", "body.model"),
        (9, "invalid_request", "messages"),
        (10, "missing_required_parameter", "body"),
        (11, "missing_required_parameter", "custom_id"),
        (12, "invalid_request", "body.stream"),
    ]


def test_an_unknown_model_is_told() -> None:
    body = orjson.loads(_line())["body"] | {"model": "other"}
    assert [fault.code for fault in _check(_line(body=body)).end()] == ["model_not_found"]


def test_at_most_a_hundred_faults() -> None:
    assert len(_check(*[b"{"] * 300).end()) == lines.MAX_FAULTS


def test_limits_of_the_whole_file() -> None:
    assert [fault.code for fault in _check(b"").end()] == ["empty_file"]
    rows = [_line(str(number)) for number in range(4)]
    assert [fault.code for fault in _check(*rows, max_lines=3).end()] == ["too_many_tasks"]
    assert _check(*rows, max_lines=4).end() == []


def test_marks_say_where_lines_begin() -> None:
    rows = [_line(str(number)) for number in range(3000)]
    checker = _check(*rows, max_lines=5000)
    content = b"\n".join(rows)
    for number in (0, 1023, 1024, 2999):
        line, start = lines.mark(checker.marks, number)
        assert line <= number < line + lines.MARK_LINES
        assert content[start:].startswith(rows[line])


_RESULT = FinalResult("req_1", State.COMPLETED, 200, "echo", "application/json", b'{"id":1}', 0.0, 1.0)


@pytest.mark.parametrize(
    ("state", "status", "is_good", "code"),
    [
        (State.COMPLETED, 200, True, None),
        (State.INCOMPLETE, 200, True, None),
        (State.FAILED, 500, False, None),
        (State.COMPLETED, 400, False, None),
        (State.EXPIRED, 504, False, "batch_expired"),
        (State.CANCELLED, 499, False, "batch_cancelled"),
    ],
)
def test_a_result_becomes_a_line(state: State, status: int, is_good: bool, code: str | None) -> None:
    name = lines.line_name("batch_1", 7, "mine")
    written = lines.answered(name, replace(_RESULT, state=state, http_status=status), b'{"id":1}')
    told = orjson.loads(written.value)
    assert written.value.endswith(b"\n")
    assert (written.is_good, told["id"], told["custom_id"]) == (is_good, "batch_req_1-7", "mine")
    if code is None:
        assert told["response"] == {"status_code": status, "request_id": "req_1", "body": {"id": 1}}
        assert told["error"] is None
    else:
        assert (told["response"], told["error"]["code"]) == (None, code)
        assert written.is_expired == (code == "batch_expired")
