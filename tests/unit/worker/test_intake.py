"""From record to job or refusal."""

import time

import pytest
from tests.unit.worker.conftest import body, record

from headrace.contracts.manifest import Manifest
from headrace.contracts.requests import COMPLETIONS, ReplyAddress, RequestHead
from headrace.contracts.topics import Lane
from headrace.core.deadlines import patience_s
from headrace.core.identity import Trust
from headrace.worker.intake import Job, Refusal, read


def test_a_plain_body_without_any_header_is_a_request(deployed):
    job = read(record(), deployed, time.time())
    assert isinstance(job, Job)
    assert job.head.id == "headrace.requests.echo.default-0-0"
    assert job.call.path == "/v1/chat/completions"
    assert job.expires_at_s == pytest.approx(time.time() + patience_s(Lane.DEFAULT), abs=1)


def test_who_waits_waits_as_long_as_the_model_says(deployed):
    job = read(record(headers={"reply_to": b"replies.here"}), deployed, time.time())
    assert job.expires_at_s == pytest.approx(time.time() + 60, abs=1)


def test_the_callers_deadline_wins_when_it_is_earlier(deployed):
    soon = RequestHead(id="a", source="/t", expires_at_s=time.time() + 5)
    assert read(record(head=soon), deployed, time.time()).expires_at_s == pytest.approx(soon.expires_at_s)
    late = RequestHead(
        id="a", source="/t", reply=ReplyAddress("replies.here"), expires_at_s=time.time() + 999
    )
    assert read(record(head=late), deployed, time.time()).expires_at_s < late.expires_at_s


@pytest.mark.parametrize(
    ("made", "code", "dead_letter"),
    [
        ({"value": b"not json"}, "malformed_body", True),
        ({"value": b""}, "malformed_body", True),
        ({"value": b"[]"}, "malformed_body", True),
        ({"value": b'{"messages": []}'}, "invalid_request", False),
        ({"value": body(max_tokens=101)}, "invalid_request", False),
        ({"value": body("x" * 3000)}, "body_too_large", False),
        ({"age_s": 61, "headers": {"reply_to": b"replies.here"}}, "request_expired", False),
        ({"headers": {"ce_apipath": b"/v1/nonsense"}}, "invalid_request", True),
        ({"headers": {"ce_expirytime": b"tomorrow"}}, "invalid_request", True),
        ({"headers": {"ce_id": b"\xff"}}, "invalid_request", True),
    ],
)
def test_refusals(deployed, made, code, dead_letter):
    refusal = read(record(**made), deployed, time.time())
    assert isinstance(refusal, Refusal)
    assert (refusal.error.code, refusal.dead_letter) == (code, dead_letter)


def test_a_path_that_the_model_does_not_serve(deployed):
    manifest = deployed.manifest.model_copy(update={"serves": ("/v1/chat/completions",)})
    chat_only = deployed.model_copy(update={"manifest": manifest})
    head = RequestHead(id="a", source="/t", path=COMPLETIONS)
    assert read(record(b'{"prompt": "x"}', head=head), chat_only, time.time()).error.code == "path_not_found"


def test_a_broken_header_does_not_hide_where_to_answer(deployed):
    made = record(headers={"ce_attempt": b"x", "reply_to": b"replies.here", "correlation_id": b"7"})
    refusal = read(made, deployed, time.time())
    assert refusal.head.reply.topic == "replies.here"
    assert refusal.head.correlation == (("correlation_id", b"7"),)


def test_a_stranger_cannot_use_a_gateways_id(deployed):
    trust = Trust.from_secret("a secret of the installation")
    claimed = RequestHead(id="req_0123", source="/t", tenant="rich")
    refusal = read(record(head=claimed), deployed, time.time(), trust)
    assert isinstance(refusal, Refusal)
    assert refusal.head.id == "headrace.requests.echo.default-0-0", "results of req_0123 are not touched"
    own = read(record(head=claimed._replace(id="mine")), deployed, time.time(), trust)
    assert isinstance(own, Job)
    assert (own.head.tenant, own.trusted) == (None, False)


@pytest.mark.parametrize(
    ("asked", "model", "adapter"),
    [
        ("echo:sql", "echo:sql", "sql"),
        ("echo", "echo", None),
        ("gpt-9:sql", "echo", None),  # the topic says which model it is
        (None, "echo", None),
    ],
)
def test_the_models_suffix_chooses_an_adapter(deployed, asked, model, adapter):
    fields = {"name": "echo", "engine": {"kind": "vllm"}, "adapters": {"sql": {"source": "file:sql"}}}
    deployed = deployed.model_copy(update={"manifest": Manifest.model_validate(fields)})
    named = {} if asked is None else {"model": asked}
    call = read(record(body(**named)), deployed, time.time()).call
    assert (call.model, call.adapter) == (model, adapter)


def test_an_unknown_adapter_is_refused(deployed):
    refusal = read(record(body(model="echo:sql")), deployed, time.time())
    assert isinstance(refusal, Refusal)
    assert (refusal.error.code, refusal.dead_letter) == ("model_not_found", False)
