"""Who is let in, by keys and without."""

import asyncio

import pytest
from tests.unit.gateway.parts import JSON, Gateway, deployed, whole

from headrace.contracts.errors import InvalidApiKey, Unavailable
from headrace.core.keys import ApiKey, Scope, digest, text_of
from headrace.core.limits import TenantLimits
from headrace.gateway.callers import Callers, keyring_for, scope_of
from headrace.gateway.front import More, application
from headrace.settings import GatewaySettings

BODY = b'{"model":"echo","messages":[{"role":"user","content":"x"}]}'
TEXT = text_of(b"k" * 32)


def key(number=1, text=TEXT, **more):
    told = {"tenant": "acme", "name": "n", "scopes": frozenset({Scope.ALL}), "created_at_s": 1.0, **more}
    return ApiKey(id=f"key_{number}", prefix=text[:11], sha256=digest(text.encode()), **told)


class Source:
    """Keys that a test changes."""

    def __init__(self, *keys):
        self.keys = list(keys)
        self.reads = 0
        self.fault = None

    async def all(self):
        self.reads += 1
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        return list(self.keys)


class Doors:
    """A gateway with keys."""

    def __init__(self, *keys, **settings):
        self.source = Source(*keys)
        self.gateway = Gateway(deployed(), **settings)
        self.gateway.answer_with(whole())
        told = GatewaySettings(**settings)
        self.keyring = keyring_for(told, self.source)
        app = application(
            told,
            self.gateway.submitter,
            self.gateway.directory,
            lambda: True,
            None,
            More(Callers(told, self.keyring)),
        )
        self.gateway.client._transport.app = app

    async def ask(self, text=None, **headers):
        told = {} if text is None else {"authorization": f"Bearer {text}"}
        return await self.gateway.client.post(
            "/v1/chat/completions", content=BODY, headers=JSON | told | headers
        )

    async def get(self, path, text=None):
        headers = {} if text is None else {"authorization": f"Bearer {text}"}
        return await self.gateway.client.get(path, headers=headers)


async def opened(*keys, **settings):
    doors = Doors(*keys, **settings)
    await doors.keyring.refresh()
    return doors


def code(response):
    return response.status_code, response.json().get("error", {}).get("code")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
async def test_without_a_key_this_machine_is_let_in_whatever_it_sends(host):
    doors = await opened(host=host)
    for text in (None, "unused", "hr_wrong"):
        assert (await doors.ask(text)).status_code == 200
    assert doors.source.reads == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gateway.internal"])
async def test_without_a_key_other_machines_are_not(host, caplog):
    doors = await opened(host=host)
    response = await doors.ask("unused")
    assert code(response) == (401, "invalid_api_key")
    refused = await doors.ask()
    assert "headrace keys create" in refused.json()["error"]["message"]
    assert refused.headers["www-authenticate"] == "Bearer"
    assert "x-request-id" in refused.headers
    assert "no API key exists" in caplog.text
    assert doors.gateway.kafka.sent == []
    assert (await doors.get("/v2/health/live")).status_code == 200


async def test_a_proxy_that_names_tenants_is_let_in_from_anywhere():
    doors = await opened(host="0.0.0.0", tenant_header="X-Tenant")
    assert (await doors.ask(**{"x-tenant": "a"})).status_code == 200


async def test_the_first_key_closes_the_doors_and_revoking_it_does_not_open_them():
    doors = await opened()
    assert (await doors.ask()).status_code == 200
    doors.source.keys = [key()]
    await doors.keyring.refresh()
    assert code(await doors.ask()) == (401, "invalid_api_key")
    assert code(await doors.ask("unused")) == (401, "invalid_api_key")
    assert (await doors.ask(TEXT)).status_code == 200
    assert (await doors.ask(**{"api-key": TEXT})).status_code == 200
    doors.source.keys = [key(revoked_at_s=2.0)]
    await doors.keyring.refresh()
    for text in (None, TEXT):
        assert code(await doors.ask(text)) == (401, "invalid_api_key")


async def test_every_path_but_health_needs_a_key():
    doors = await opened(key())
    for path in ("/v1/models", "/v1/models/echo", "/v2", "/v2/models/echo/ready", "/v1/jobs", "/nothing"):
        assert code(await doors.get(path)) == (401, "invalid_api_key"), path
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert (await doors.get(path)).status_code == 200
    assert (await doors.get("/v1/models", TEXT)).status_code == 200


async def test_a_key_is_for_its_scopes():
    doors = await opened(key(scopes=frozenset({Scope.JOBS})))
    assert code(await doors.ask(TEXT)) == (403, "insufficient_scope")
    assert (await doors.get("/v1/models", TEXT)).status_code == 200
    assert code(await doors.get("/nothing", TEXT)) == (403, "insufficient_scope")
    assert doors.gateway.kafka.sent == []


def test_paths_and_their_scopes():
    expected = {
        "/v1/jobs": Scope.JOBS,
        "/v1/jobs/req_1/cancel": Scope.JOBS,
        "/v1/files/file_1/content": Scope.FILES,
        "/v1/batches": Scope.BATCHES,
        "/v1/webhook_endpoints/1": Scope.WEBHOOKS,
        "/v1/webhook_secret": Scope.WEBHOOKS,
        "/v1/responses/resp_1": Scope.INFERENCE,
        "/v1/models/org/name": None,
        "/v2/models/x/ready": None,
        "/v1/jobless": Scope.ALL,
        "/": Scope.ALL,
    }
    assert {path: scope_of(path) for path in expected} == expected


async def test_a_new_key_is_looked_for_at_once_and_a_flood_of_wrong_ones_once_a_second():
    doors = await opened(key())
    new = text_of(b"n" * 32)
    doors.source.keys.append(key(2, new))
    assert (await doors.ask(new)).status_code == 200
    assert doors.source.reads == 2
    answers = await asyncio.gather(*(doors.ask(f"hr_{n}") for n in range(50)))
    assert {answer.status_code for answer in answers} == {401}
    assert doors.source.reads == 2


async def test_many_who_come_with_a_new_key_wait_for_one_look():
    doors = await opened(key())
    new = text_of(b"n" * 32)
    doors.source.keys.append(key(2, new))
    answers = await asyncio.gather(*(doors.ask(new) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert doors.source.reads == 2


async def test_a_database_that_does_not_serve_leaves_the_keys_as_they_were(caplog):
    doors = await opened(key())
    doors.source.fault = Unavailable("the database is down")
    for _ in range(3):
        await doors.keyring.refresh()
    assert (await doors.ask(TEXT)).status_code == 200
    assert (await doors.ask()).status_code == 401
    assert caplog.text.count("the database is down") == 1


async def test_keys_that_were_never_read_let_nobody_in():
    doors = Doors()
    doors.source.fault = Unavailable("the database is down")
    await doors.keyring.refresh()
    response = await doors.ask()
    assert code(response) == (503, "unavailable")
    assert "the database is down" in response.json()["error"]["message"]
    doors.source.fault = None
    await doors.keyring.refresh()
    assert (await doors.ask()).status_code == 200


async def test_the_tenant_is_the_keys_and_a_key_of_none_is_a_proxys():
    proxy = text_of(b"p" * 32)
    settings = GatewaySettings(tenant_header="X-Tenant")
    keyring = keyring_for(settings, Source(key(), key(2, proxy, tenant="")))
    await keyring.refresh()
    callers = Callers(settings, keyring)

    def tenant(text):
        return callers.identify(
            [(b"x-tenant", b"other"), (b"authorization", b"bearer " + text.encode())]
        ).tenant

    assert (tenant(TEXT), tenant(proxy)) == ("acme", "other")
    with pytest.raises(InvalidApiKey):
        tenant("hr_wrong")


async def test_a_key_with_limits_of_its_own_is_held_to_them():
    other = text_of(b"o" * 32)
    limited = key(2, other, limits=TenantLimits(rate_per_s=0.01, burst=1))
    doors = await opened(key(), limited)
    assert [(await doors.ask(other)).status_code for _ in range(2)] == [200, 429]
    assert [(await doors.ask(TEXT)).status_code for _ in range(3)] == [200] * 3
