"""The clients against scripted answers: what is sent again, what is not, and which errors are raised."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from headrace import AsyncClient, Client
from headrace.client import calls
from headrace.client.calls import Options
from headrace.client.connecting import Settings
from headrace.contracts.errors import (
    ERRORS,
    HeadraceError,
    Overloaded,
    Unavailable,
    UnknownModel,
    error_body,
    of_code,
)

BODY = {"model": "chat"}


class Script:
    """Answers one after another; an exception is raised."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def error(code: str, **headers: str) -> httpx.Response:
    kind = ERRORS[code]
    return httpx.Response(kind.http_status, content=error_body(kind, "why", "model"), headers=headers)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "backoff_s", lambda attempt: 0.0)
    monkeypatch.setattr(calls, "MAX_PAUSE_S", 0.0)


def run(script: Script, kind: str, options: Options = calls.PLAIN) -> Any:
    """The same call by either client."""
    settings = Settings(api_key="hr_key")
    transport = httpx.MockTransport(script)
    if kind == "sync":
        with Client("http://there.test", settings) as client:
            client._http = httpx.Client(base_url="http://there.test", transport=transport)
            return client.run("/v1/chat/completions", BODY, options)

    async def ask() -> Any:
        async with AsyncClient("http://there.test", settings) as client:
            await client._http.aclose()
            client._http = httpx.AsyncClient(base_url="http://there.test", transport=transport)
            return await client.run("/v1/chat/completions", BODY, options)

    return asyncio.run(ask())


both = pytest.mark.parametrize("kind", ["sync", "async"])


@both
def test_what_was_refused_for_now_is_sent_again(kind: str) -> None:
    late = error("unavailable", **{"retry-after": "1"})
    script = Script(error("overloaded"), late, httpx.Response(200, json=7))
    assert run(script, kind) == 7
    assert len(script.asked) == 3


@both
def test_not_for_ever(kind: str) -> None:
    script = Script(*(error("overloaded") for _ in range(3)))
    with pytest.raises(Overloaded, match="why"):
        run(script, kind)


@both
@pytest.mark.parametrize("code", ["model_not_found", "internal_error", "engine_failed", "request_expired"])
def test_what_may_have_run_or_is_wrong_is_not_sent_again(kind: str, code: str) -> None:
    script = Script(error(code))
    with pytest.raises(HeadraceError) as told:
        run(script, kind)
    assert (told.value.code, told.value.param, len(script.asked)) == (code, "model", 1)


@both
def test_the_server_has_the_last_word(kind: str) -> None:
    script = Script(error("unavailable", **{"x-should-retry": "false"}))
    with pytest.raises(Unavailable):
        run(script, kind)


@both
def test_a_broken_connection_is_made_anew_only_when_that_is_safe(kind: str) -> None:
    broken = httpx.ReadError("gone")
    with pytest.raises(Unavailable):
        run(Script(broken), kind)
    keyed = Script(broken, httpx.Response(200, json=7))
    assert run(keyed, kind, Options(idempotency_key="k")) == 7
    assert [request.headers["idempotency-key"] for request in keyed.asked] == ["k", "k"]
    assert run(Script(httpx.ConnectError("no"), httpx.Response(200, json=7)), kind) == 7


@pytest.mark.parametrize("code", ERRORS)
def test_every_code_becomes_its_own_exception(code: str) -> None:
    found = of_code(code, "why", param="p")
    assert (found.message, found.param) == ("why", "p")
    assert found.code in (code, HeadraceError.code)


def test_codes_of_the_tree() -> None:
    assert type(of_code("model_not_found", "why")) is UnknownModel
    assert type(of_code("overloaded", "why")) is Overloaded


def test_an_error_in_no_shape_of_ours() -> None:
    assert "502" in str(calls.fault(502, b"<html>Bad Gateway</html>"))
    assert "502" in str(calls.fault(502, orjson.dumps({"error": "text"})))
