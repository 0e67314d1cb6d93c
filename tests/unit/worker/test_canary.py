"""A worker's canary: what it asks, what it takes for well, and when it gives up."""

import asyncio

import orjson
import pytest

from headrace.contracts.errors import SetupError
from headrace.contracts.manifest import Health
from headrace.core.ports import Final
from headrace.worker.canary import Canary


class Asked:
    """An engine that answers as it is told to, and remembers what it was asked."""

    capacity = 4
    lookahead = 0

    def __init__(self, answer=b'{"choices": []}'):
        self.answer = answer
        self.calls = []
        self.hangs = False

    async def run(self, call):
        self.calls.append(call)
        while self.hangs:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue  # as code in a thread does
        if isinstance(self.answer, Exception):
            raise self.answer
        yield Final(self.answer)


@pytest.fixture
def with_health(deployed):
    def change(engine=None, serves=None, **health):
        # Made anew: a copy would keep what the manifest has remembered of its schema.
        update = {"health": Health.model_construct(**dict(deployed.manifest.health) | health)}
        if serves is not None:
            update["serves"] = serves
        manifest = deployed.manifest.model_copy(update=update)
        return Canary(deployed.model_copy(update={"manifest": manifest}), engine or Asked())

    return change


def never_full():
    return False


async def watched(canary, is_full=never_full):
    async with asyncio.timeout(5):
        return await canary.watch(is_full)


@pytest.mark.parametrize(
    ("serves", "body"),
    [
        (None, {"messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}),
        (("/v1/completions",), {"prompt": "ping", "max_tokens": 1}),
        (("/v1/embeddings",), {"input": "ping"}),
        (("/v1/predictions", "/v1/embeddings"), {"input": "ping"}),
    ],
)
async def test_models_of_text_have_a_canary_without_asking_for_one(with_health, serves, body):
    engine = Asked()
    await with_health(engine, serves).prove()
    (call,) = engine.calls
    assert orjson.loads(call.value) == body


@pytest.mark.parametrize(
    ("serves", "given"), [(("/v1/predictions",), None), (None, False)], ids=["unknown", "refused"]
)
async def test_without_one_a_worker_is_believed(with_health, serves, given):
    engine = Asked(RuntimeError("broken"))
    canary = with_health(engine, serves, canary=given)
    await canary.prove()
    assert engine.calls == []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await canary.watch(never_full)


async def test_a_healthy_worker_says_when_it_was_well(with_health):
    canary = with_health()
    await canary.prove()
    assert canary.health.at_s > 0
    assert canary.health.took_s >= 0
    assert canary.health.ailing is None


@pytest.mark.parametrize(
    ("answer", "health", "reason"),
    [
        (RuntimeError("the card fell off"), {}, "RuntimeError: the card fell off"),
        (b'{"data": 1}', {"answer": {"required": ["choices"]}}, "not as it should be"),
        (b"no JSON", {"answer": {}}, "no JSON"),
        (b"{}", {"canary": {"messages": "none"}}, "the manifest's canary is no request"),
    ],
)
async def test_a_wrong_answer_keeps_a_worker_from_serving(with_health, answer, health, reason):
    with pytest.raises(SetupError, match=reason):
        await with_health(Asked(answer), **health).prove()


async def test_an_engine_that_hangs_is_not_waited_for(with_health):
    engine = Asked()
    engine.hangs = True
    with pytest.raises(SetupError, match=r"no answer within 0\.05 s"):
        await with_health(engine, timeout_s=0.05).prove()
    engine.hangs = False


async def test_a_worker_that_fails_too_often_is_given_up_with_the_reason(with_health, monkeypatch):
    monkeypatch.setattr("headrace.core.wellness._HASTE_S", 0.01)
    canary = with_health(Asked(RuntimeError("the card fell off")), failures=3, every_s=0.01)
    assert (await watched(canary)).startswith("3 canaries in a row failed, at last: The engine failed")


async def test_a_doubt_is_looked_into_at_once(with_health):
    engine = Asked(RuntimeError("broken"))
    canary = with_health(engine, failures=1, every_s=3600)
    asyncio.get_running_loop().call_later(0.05, canary.doubted)
    assert (await watched(canary)).startswith("a canary failed")


async def test_a_full_engine_is_left_alone(with_health):
    engine = Asked(RuntimeError("broken"))
    canary = with_health(engine, failures=1, every_s=0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await canary.watch(lambda: True)
    assert engine.calls == []
