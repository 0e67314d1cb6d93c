"""Who asks, what a gateway signs for, and how much each may ask for."""

import asyncio

import pytest
from tests.unit.gateway.parts import JSON, KEY, TOPICS, Caller, Gateway, deployed, reply, settle, whole

from headrace.contracts import headers as h
from headrace.contracts import identity
from headrace.contracts.errors import Unavailable
from headrace.core.identity import Trust
from headrace.core.limits import OverLimit, TenantLimits
from headrace.gateway.tenants import Tenants

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
        tenants.admit(tenant)
    assert len(tenants) == 3
    with pytest.raises(OverLimit):
        tenants.admit(b"a")
    tenants.admit(b"b")
    tenants.admit(b"b")


def test_a_count_of_nobody_is_not_kept():
    tenants = Tenants(TenantLimits(max_waiting=1), lambda: 0.0)
    for number in range(1000):
        tenants.admit(str(number).encode())
        tenants.release(str(number).encode())
    assert tenants._waiting == {}
