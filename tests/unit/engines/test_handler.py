"""Functions' own code: loaded by path, and what is wrong with it told with its line."""

import asyncio
import textwrap
import threading

import orjson
import pytest

from headrace.contracts import bodies
from headrace.contracts.errors import EngineFailed, InvalidRequest, SetupError
from headrace.contracts.manifest import parse
from headrace.contracts.requests import CHAT, PREDICTIONS
from headrace.core.ports import Call, Final, Partial
from headrace.engines import catalog


@pytest.fixture
def make(tmp_path):
    """A started engine for the code of a handler."""

    async def make(code, kind="python", **manifest):
        (tmp_path / "handler.py").write_text(textwrap.dedent(code))
        document = {"name": "f", "engine": {"kind": kind, "args": manifest.pop("args", {})}, **manifest}
        engine = catalog.create(parse(document, where="test"), None, tmp_path)
        await engine.start()
        return engine

    return make


def prediction(value, **more):
    return call(PREDICTIONS, input=value, **more)


def chat(text, **more):
    return call(CHAT, messages=[{"role": "user", "content": text}], **more)


def call(path, **body):
    value = orjson.dumps(body)
    return Call("req_a", "f", path, value, bodies.parse(path, value), 7)


async def ask(engine, request):
    events = [event async for event in engine.run(request)]
    assert isinstance(events[-1], Final)
    assert all(isinstance(event, Partial) for event in events[:-1])
    return orjson.loads(events[-1].value), [orjson.loads(event.value) for event in events[:-1]]


PLAIN = "def predict(input, context): return {'was': input, 'by': context.request_id}"
ASYNC = "async " + PLAIN


@pytest.mark.parametrize("code", [PLAIN, ASYNC])
async def test_a_prediction(make, code):
    engine = await make(code)
    answer, chunks = await ask(engine, prediction([1, "x"]))
    assert answer == {
        "id": "pred-a",
        "object": "prediction",
        "created": 7,
        "model": "f",
        "output": {"was": [1, "x"], "by": "req_a"},
    }
    assert chunks == []
    _, (chunk,) = await ask(engine, prediction(1, stream=True))
    assert (chunk["object"], chunk["output"]["was"]) == ("prediction.chunk", 1)


GENERATOR = """
def predict(input, context):
    for number in range(input):
        yield {kind}
"""


@pytest.mark.parametrize("prefix", ["", "async "])
@pytest.mark.parametrize(("kind", "whole"), [("number", [0, 1, 2]), ("str(number)", "012")])
async def test_what_a_generator_yields_is_streamed(make, prefix, kind, whole):
    engine = await make(prefix + GENERATOR.strip().format(kind=kind))
    answer, chunks = await ask(engine, prediction(3, stream=True))
    assert [chunk["output"] for chunk in chunks] == list(whole)
    assert answer["output"] == whole
    answer, chunks = await ask(engine, prediction(3))
    assert (answer["output"], chunks) == (whole, [])


async def test_the_first_piece_leaves_before_the_second_is_made(make):
    engine = await make(
        """
        made = []
        def load(loading): return made
        def predict(input, context):
            for number in range(3):
                context.state.append(number)
                yield number
        """
    )
    events = engine.run(prediction(0, stream=True))
    await anext(events)
    import headrace_handler

    assert headrace_handler.made == [0]
    await events.aclose()
    assert headrace_handler.made == [0]


TYPED = """
from pydantic import BaseModel

class Point(BaseModel):
    x: int
    y: int = 0

def predict(point: Point, context):
    return Point(x=point.y, y=point.x)
"""


async def test_input_and_output_may_be_pydantic_models(make):
    engine = await make(TYPED)
    answer, _ = await ask(engine, prediction({"x": 3}))
    assert answer["output"] == {"x": 0, "y": 3}
    with pytest.raises(InvalidRequest, match=r"Field 'input\.y'.*integer") as caught:
        await ask(engine, prediction({"x": 3, "y": "z"}))
    assert caught.value.param == "input.y"


async def test_what_the_handler_raises(make):
    engine = await make(
        """
        from headrace.sdk import InvalidRequest

        def predict(input, context):
            if input == "mine":
                return {}["nothing"]
            if input == "exit":
                raise SystemExit(3)
            raise InvalidRequest("No such city", param="input.city")
        """
    )
    with pytest.raises(EngineFailed, match=r"handler\.py:6: KeyError: 'nothing'"):
        await ask(engine, prediction("mine"))
    with pytest.raises(EngineFailed, match="SystemExit"):
        await ask(engine, prediction("exit"))
    with pytest.raises(InvalidRequest, match="No such city"):
        await ask(engine, prediction("theirs"))


async def test_an_answer_that_is_not_as_the_manifest_says(make):
    engine = await make(PLAIN, result={"properties": {"was": {"type": "integer"}}})
    await ask(engine, prediction(1))
    with pytest.raises(EngineFailed, match=r"'result'.*output\.was"):
        await ask(engine, prediction("x"))


async def test_an_answer_that_is_no_json(make):
    engine = await make("def predict(input, context): return {1, 2}")
    with pytest.raises(EngineFailed, match=r"no JSON: .*set"):
        await ask(engine, prediction(1))


async def test_load_comes_first_and_its_result_is_the_state(make):
    engine = await make(
        """
        async def load(loading):
            return {"greeting": loading.args["greeting"], "here": (loading.folder / "handler.py").exists()}

        def predict(input, context):
            return [context.state, context.model]
        """,
        args={"greeting": "hello", "slots": 2},
    )
    answer, _ = await ask(engine, prediction(1))
    assert answer["output"] == [{"greeting": "hello", "here": True}, "f"]
    assert engine.capacity == 2


async def test_neighbours_can_be_imported(make, tmp_path):
    (tmp_path / "neighbour_of_test.py").write_text("ANSWER = 42")
    engine = await make("import neighbour_of_test as n\ndef predict(input, context): return n.ANSWER")
    answer, _ = await ask(engine, prediction(1))
    assert answer["output"] == 42


async def test_plain_functions_run_beside_one_another(make):
    engine = await make(
        """
        import threading

        def load(loading): return threading.Barrier(3)
        def predict(input, context): return context.state.wait(10) >= 0
        """,
        args={"slots": 3},
    )
    async with asyncio.timeout(10):
        assert len(await asyncio.gather(*(ask(engine, prediction(n)) for n in range(3)))) == 3


async def test_a_cancelled_call_leaves_nothing_running(make):
    engine = await make(
        """
        import threading, time

        def load(loading): return {"began": threading.Event(), "ended": threading.Event()}

        def predict(input, context):
            context.state["began"].set()
            while not context.cancelled:
                time.sleep(0.01)
            context.state["ended"].set()
        """
    )
    state = engine._state
    running = asyncio.create_task(ask(engine, prediction(1)))
    await asyncio.to_thread(state["began"].wait, 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert state["ended"].is_set()
    await engine.stop()
    assert not [each for each in threading.enumerate() if each.name.startswith("handler") and each.daemon]


async def test_a_chat_may_be_a_handler_as_a_whole(make):
    code = "def predict(body, context):\n    yield 'You said '\n    yield body['messages'][-1]['content']"
    engine = await make(code, serves=[CHAT])
    answer, chunks = await ask(engine, chat("hi", stream=True, stream_options={"include_usage": True}))
    assert answer["choices"][0]["message"]["content"] == "You said hi"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert deltas == [{"role": "assistant", "content": "You said "}, {"content": "hi"}, {}]
    assert chunks[-1]["usage"]["total_tokens"] == 0


HOOKS = """
def before(body, context):
    body["messages"][-1]["content"] += "!"
    return body

async def after(answer, context):
    answer["choices"][0]["message"]["content"] = answer["choices"][0]["message"]["content"].upper()
    return answer
"""


async def test_hooks_round_an_engine(make):
    engine = await make(HOOKS, kind="echo")
    answer, chunks = await ask(engine, chat("hi"))
    assert (answer["choices"][0]["message"]["content"], chunks) == ("HI!", [])
    answer, chunks = await ask(engine, chat("hi", stream=True))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "HI!"


async def test_without_after_a_stream_stays_one(make):
    engine = await make(HOOKS.partition("async")[0], kind="echo")
    _, chunks = await ask(engine, chat("one two three", stream=True))
    assert len(chunks) == 4


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def before(body, context): return 7", "'before' gave int"),
        ("def before(body, context): return {'messages': []}", "'before' gave no body"),
        ("def after(answer, context): return None", "'after' gave NoneType"),
        ("def after(answer, context): raise ValueError('x')", r"handler\.py:1: ValueError: x"),
    ],
)
async def test_hooks_that_are_wrong(make, code, told):
    engine = await make(code, kind="echo")
    with pytest.raises(EngineFailed, match=told):
        await ask(engine, chat("hi"))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x = (", r"handler\.py:1: SyntaxError"),
        ("import os\nimport nothing_like_this", r"handler\.py:2: ModuleNotFoundError"),
        ("x = 1", "defines none of"),
        ("predict = 3", "'predict' must be a function"),
        ("\ndef predict(input): return 1", r"handler\.py:2: 'predict' must take \(input, context\)"),
        ("def load(): return 1", r"'load' must take \(loading\)"),
        ("def before(body, context): return body", "needs a function 'predict'"),
        ("def predict(x: 'Nope', context): return x", "Nope"),
    ],
)
async def test_code_that_cannot_be_used(make, code, told):
    with pytest.raises(SetupError, match=told):
        await make(code)


async def test_a_load_that_fails(make):
    with pytest.raises(SetupError, match=r"handler\.py:1: ZeroDivisionError"):
        await make("def load(loading): 1 / 0\ndef predict(input, context): return 1")


async def test_no_handler_at_all(tmp_path):
    with pytest.raises(SetupError, match=r"needs a handler\.py"):
        catalog.create(parse({"name": "f", "engine": {"kind": "python"}}, where="test"), None, tmp_path)
