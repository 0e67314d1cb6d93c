"""Which request records are jobs, and what they say of themselves."""

import orjson

from headrace.contracts import headers as h
from headrace.contracts import ids, requests
from headrace.contracts.events import ModelDeployed
from headrace.contracts.identity import Claims, sign, signing_key
from headrace.contracts.ids import RequestId
from headrace.contracts.manifest import Manifest
from headrace.contracts.requests import CHAT, ReplyAddress, RequestHead
from headrace.contracts.states import State
from headrace.contracts.topics import Lane
from headrace.core.deadlines import patience_s
from headrace.core.identity import Trust
from headrace.core.jobs import Job, queued
from headrace.core.ports import Place, Record

KEY = signing_key("a secret of the installation")
DEPLOYED = ModelDeployed(
    name="Chat",
    slug="chat",
    version="1",
    package_url="s3://b/k",
    manifest=Manifest.model_validate({"name": "Chat", "engine": {"kind": "echo"}}),
    partitions=1,
    deployed_at_s=0,
)
ID = ids.mint(KEY, RequestId(5_000, ids.model_tag("chat"), Lane.FLEX, 3), b"12345", b"acme")


def job(
    *, signed: bool = True, value: bytes = b"{}", trust: bytes | None = KEY, **head: object
) -> Job | None:
    said = RequestHead(**{"id": ID, "source": "/g", "tenant": "acme", **head})  # type: ignore[arg-type]
    headers = h.as_dict(requests.write(said))
    if signed:
        claims = Claims(
            headers.get(h.TENANT_ID, b""), said.id.encode(), b"chat", headers.get(h.EXPIRY_TIME, b"")
        )
        headers[h.SIGNATURE] = sign(KEY, claims)
    record = Record(Place("headrace.requests.chat.flex", 3, 17), None, value, headers, 6_000)
    return queued(record, DEPLOYED, Lane.FLEX, Trust(trust), retention_s=60.0)


def test_what_a_job_says() -> None:
    deadline_s = 6 + patience_s(Lane.FLEX)
    assert job(attempt=2) == Job(
        id=ID,
        tenant="acme",
        model="Chat",
        path=CHAT,
        lane="flex",
        state=State.QUEUED,
        attempt=2,
        stream=False,
        created_at_s=5.0,
        expires_at_s=deadline_s + 60,
        deadline_s=deadline_s,
        topic="headrace.requests.chat.flex",
        partition=3,
        offset=17,
    )


def test_who_is_waited_for_is_no_job_unless_the_answer_is_kept_all_the_same() -> None:
    assert job(reply=ReplyAddress("replies.here")) is None
    assert job(reply=ReplyAddress("replies.here"), durable=True) is not None


def test_a_line_of_a_batch_is_its_batchs_business() -> None:
    assert job(batch_id="batch_1") is None


def test_a_stranger_has_no_tenant_and_no_gateways_id() -> None:
    assert job(signed=False) is None, "a worker dead-letters it"
    found = job(signed=False, id="mine")
    assert found is not None
    assert (found.id, found.tenant, found.created_at_s) == ("mine", "", 6.0)
    believed = job(signed=False, trust=None)
    assert believed is not None
    assert believed.tenant == "acme", "without the secret all are believed"


def test_streams_are_told_by_their_body() -> None:
    for body, is_stream in (
        ({"stream": True}, True),
        ({"stream": False}, False),
        ({"messages": [{"stream": True}]}, False),
        (["stream"], False),
    ):
        found = job(value=orjson.dumps(body))
        assert found is not None
        assert found.stream is is_stream
    broken = job(value=b'{"stream": true')
    assert broken is not None
    assert not broken.stream
