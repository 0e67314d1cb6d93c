"""Who asks, what a gateway signs for, and how much each may ask for."""

import asyncio

import pytest
from tests.unit.gateway.parts import (
    JSON,
    KEY,
    TOPICS,
    Caller,
    Gateway,
    chunks,
    deployed,
    reply,
    settle,
    whole,
)

from headrace.contracts import headers as h
from headrace.contracts import identity
from headrace.contracts.errors import Unavailable
from headrace.core.identity import Trust
from headrace.core.limits import OverLimit, TenantLimits
from headrace.gateway.tenants import Account, Tenants

BODY = b'{"model":"echo","messages":[{"role":"user","content":"x"}]}'
TRUST = Trust(KEY)


def gateway_for_tenants(**settings):
    gateway = Gateway(deployed(), tenant_header="X-Tenant", **settings)
    gateway.answer_with(whole())
    return gateway


async def ask_as(gateway, tenant=None):
    headers = JSON if tenant is None else JSON | {"x-tenant": tenant.encode()}
    return await gateway.client.post("/v1/chat/completions", content=BODY, headers=headers)


def waiting_caller(gateway, tenant):
    """A caller of a tenant whose request is not answered yet."""
    gateway.kafka.on_request = lambda record: None

    async def ask():
        return await ask_as(gateway, tenant)

    return asyncio.create_task(ask())


async def test_every_request_is_signed_for_its_model():
    gateway = Gateway(deployed("org/m"))
    gateway.answer_with(whole())
    await gateway.ask(model="org/m")
    headers = h.as_dict(gateway.kafka.sent[0].headers)
    assert TRUST.judge(headers, "org--sm")
    assert not TRUST.judge(headers, "echo")
    assert h.TENANT_ID not in headers


async def test_the_tenant_is_what_the_proxy_says_and_signed():
    gateway = gateway_for_tenants()
    assert (await ask_as(gateway, "acmé")).status_code == 200
    headers = h.as_dict(gateway.kafka.sent[0].headers)
    assert headers[h.TENANT_ID] == "acmé".encode()
    assert TRUST.judge(headers, "echo")
    assert not TRUST.judge(headers | {h.TENANT_ID: b"other"}, "echo")


async def test_without_the_setting_a_header_says_nothing():
    gateway = Gateway(deployed())
    gateway.answer_with(whole())
    await ask_as(gateway, "acme")
    assert h.TENANT_ID not in h.as_dict(gateway.kafka.sent[0].headers)


@pytest.mark.parametrize("tenant", [None, ""])
async def test_no_header_is_no_tenant(tenant):
    gateway = gateway_for_tenants()
    assert (await ask_as(gateway, tenant)).status_code == 200
    headers = h.as_dict(gateway.kafka.sent[0].headers)
    assert h.TENANT_ID not in headers
    assert TRUST.judge(headers, "echo")


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ([("x-tenant", "a"), ("X-Tenant", "b")], "there twice"),
        ([("x-tenant", "x" * 257)], "over 256 bytes"),
        ([(b"x-tenant", b"\xff\xfe")], "not UTF-8"),
    ],
)
async def test_a_tenant_that_no_proxy_of_ours_has_set_is_refused(headers, word):
    gateway = gateway_for_tenants()
    response = await gateway.client.post(
        "/v1/chat/completions", content=BODY, headers=[*JSON.items(), *headers]
    )
    assert response.status_code == 400
    assert word in response.json()["error"]["message"]
    assert gateway.kafka.sent == []


async def test_cancels_are_signed():
    gateway = Gateway(deployed())
    caller = Caller(gateway)
    record = await caller.request()
    request_id = h.as_dict(record.headers)[h.ID].decode()
    await gateway.submitter.stop()
    await caller.task
    (cancel,) = gateway.kafka.on(TOPICS.control)
    headers = h.as_dict(cancel.headers)
    assert TRUST.judge_cancel(headers, request_id)
    assert not TRUST.judge_cancel(headers, "req_other")
    assert not Trust(identity.signing_key("another secret")).judge_cancel(headers, request_id)


async def test_a_rate_is_refused_with_an_honest_time_and_nothing_is_queued():
    gateway = gateway_for_tenants(tenant_rate_per_s=0.05, tenant_burst=2)
    assert [(await ask_as(gateway, "a")).status_code for _ in range(2)] == [200, 200]
    response = await ask_as(gateway, "a")
    assert (response.status_code, response.json()["error"]["code"]) == (429, "overloaded")
    assert response.headers["retry-after"] == "20"
    assert "Tenant 'a' has reached a limit" in response.json()["error"]["message"]
    assert "x-should-retry" not in response.headers
    assert len(gateway.kafka.sent) == 2
    assert (await ask_as(gateway, "b")).status_code == 200
    assert (await ask_as(gateway)).status_code == 200


async def test_all_who_name_no_tenant_are_one():
    gateway = Gateway(deployed(), tenant_rate_per_s=0.001)
    gateway.answer_with(whole())
    assert (await ask_as(gateway, "a")).status_code == 200
    response = await ask_as(gateway, "b")
    assert (response.status_code, response.headers["retry-after"]) == (429, "60")
    assert "Callers without a tenant" in response.json()["error"]["message"]


async def test_a_tenants_places_are_its_own_and_come_back():
    gateway = gateway_for_tenants(tenant_max_waiting=2)
    first = [waiting_caller(gateway, "a") for _ in range(2)]
    await settle()
    refused = await ask_as(gateway, "a")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    other = waiting_caller(gateway, "b")
    await settle()
    for record in gateway.kafka.sent:
        gateway.deliver(reply(record, whole()))
    answers = await asyncio.gather(*first, other)
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    gateway.answer_with(whole())
    assert [(await ask_as(gateway, "a")).status_code for _ in range(5)] == [200] * 5


async def test_what_kafka_did_not_take_leaves_its_place():
    gateway = gateway_for_tenants(tenant_max_waiting=1)
    gateway.kafka.refusal = Unavailable("Kafka is not reachable")
    assert [(await ask_as(gateway, "a")).status_code for _ in range(3)] == [503] * 3
    gateway.kafka.refusal = None
    assert (await ask_as(gateway, "a")).status_code == 200


async def test_a_body_that_is_refused_takes_no_token():
    gateway = gateway_for_tenants(tenant_rate_per_s=0.001)
    assert (await gateway.client.post("/v1/chat/completions", content=b"{", headers=JSON)).status_code == 400
    assert (await ask_as(gateway)).status_code == 200


def test_buckets_are_bounded_and_the_one_used_longest_ago_goes(monkeypatch):
    monkeypatch.setattr("headrace.gateway.tenants._MAX_BUCKETS", 3)
    tenants = Tenants(TenantLimits(rate_per_s=0.001, burst=2), lambda: 0.0)
    for tenant in (b"a", b"b", b"c", b"a", b"d"):
        tenants.admit(Account(tenant))
    assert len(tenants) == 3
    with pytest.raises(OverLimit):
        tenants.admit(Account(b"a"))
    tenants.admit(Account(b"b"))
    tenants.admit(Account(b"b"))


def test_a_count_of_nobody_is_not_kept():
    tenants = Tenants(TenantLimits(max_waiting=1), lambda: 0.0)
    for number in range(1000):
        tenants.admit(Account(str(number).encode()))
        tenants.release(Account(str(number).encode()))
    assert tenants._waiting == {}


async def test_headers_say_what_is_left_of_both_buckets():
    gateway = gateway_for_tenants(tenant_rate_per_s=0.01, tenant_burst=5, tenant_tokens_per_min=6_000)
    first = (await ask_as(gateway, "a")).headers
    assert (first["x-ratelimit-limit-requests"], first["x-ratelimit-remaining-requests"]) == ("5", "4")
    assert 99 < float(first["x-ratelimit-reset-requests"].removesuffix("s")) <= 100
    assert first["x-ratelimit-limit-tokens"] == "6000"
    assert first["x-ratelimit-remaining-tokens"] == str(6000 - len(BODY) // 4)
    for _ in range(4):
        assert (await ask_as(gateway, "a")).status_code == 200
    refused = await ask_as(gateway, "a")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert (await ask_as(gateway, "b")).headers["x-ratelimit-remaining-requests"] == "4"


async def test_without_a_limit_there_is_no_header_of_one():
    gateway = gateway_for_tenants()
    assert not [name for name in (await ask_as(gateway, "a")).headers if name.startswith("x-ratelimit")]


async def test_a_stream_says_what_is_left_too():
    gateway = gateway_for_tenants(tenant_rate_per_s=1.0, tenant_burst=3)
    caller = Caller(gateway, stream=True)
    record = await caller.request()
    for number, chunk in enumerate(chunks(["a", "b"])):
        gateway.deliver(reply(record, chunk, None, sequence=number))
    gateway.deliver(reply(record, whole("ab"), sequence=3))
    await caller.task
    assert caller.headers["x-ratelimit-remaining-requests"] == "2"


async def test_tokens_are_estimated_by_the_body_and_corrected_by_the_answer():
    gateway = gateway_for_tenants(tenant_tokens_per_min=600)
    gateway.answer_with(answer_of(prompt=5, completion=590))
    assert (await ask_as(gateway, "a")).status_code == 200
    refused = await ask_as(gateway, "a")
    assert refused.status_code == 429
    assert "600 tokens a minute" in refused.json()["error"]["message"]
    assert refused.headers["x-ratelimit-remaining-tokens"] == "5"
    assert len(gateway.kafka.sent) == 1
    assert (await ask_as(gateway, "b")).status_code == 200


def answer_of(*, prompt, completion):
    usage = b'"usage":{"prompt_tokens":%d,"completion_tokens":%d}' % (prompt, completion)
    return b'{"choices":[],' + usage + b"}"


def test_a_key_with_limits_is_counted_alone():
    tenants = Tenants(TenantLimits(rate_per_s=0.001, burst=1), lambda: 0.0)
    own = Account(b"a", "key_1", TenantLimits(rate_per_s=0.001, burst=2))
    for account in (own, own, Account(b"a")):
        tenants.admit(account)
    with pytest.raises(OverLimit, match="API key key_1"):
        tenants.admit(own)
    with pytest.raises(OverLimit, match="Tenant 'a'"):
        tenants.admit(Account(b"a"))


async def test_a_kafka_that_is_silent_is_not_waited_for():
    gateway = gateway_for_tenants(silence_s=5.0)
    gateway.submitter.gate.silent_s = lambda: 6.0
    refused = await ask_as(gateway, "a")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    assert refused.headers["retry-after"] == "1"
    assert gateway.kafka.sent == []
    gateway.submitter.gate.silent_s = lambda: 5.0
    assert (await ask_as(gateway, "a")).status_code == 200
