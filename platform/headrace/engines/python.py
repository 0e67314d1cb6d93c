"""The engine `python`: a function that is its handler's `predict`, without an engine beneath."""

import inspect
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from typing import Final as Constant

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.contracts.bodies import TextBody
from headrace.contracts.errors import EngineFailed, InvalidRequest, SetupError, UnknownPath
from headrace.contracts.manifest import Manifest
from headrace.contracts.openai import ChatBody, CompletionBody, Shape, usage
from headrace.contracts.parameters import Checker
from headrace.contracts.predictions import Prediction, PredictionBody, whole
from headrace.core.ports import Call, Final, Partial
from headrace.engines.calling import Caller
from headrace.engines.catalog import arguments
from headrace.engines.handler import FILE_NAME, Handler, Hook
from headrace.sdk import Context, Loading

_JSON: Constant = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class PythonArgs(BaseModel):
    """Arguments of the `python` engine; what is not listed is the handler's own.

    slots: requests at once. A plain `predict` has a thread for each, an `async` one none.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    slots: int = Field(default=8, ge=1, le=1024)


class PythonEngine:
    """Fills `core.ports.Engine`."""

    def __init__(self, handler: Handler, slots: int, loading: Loading, gives: Checker | None = None) -> None:
        if handler.predict is None:
            raise SetupError(f"{handler.path.name}: engine 'python' needs a function 'predict'")
        self._handler = handler
        self._predict: Hook = handler.predict
        self._slots = slots
        self._loading = loading
        self._gives = gives
        self._caller = Caller(handler, slots)
        self._state: Any = None

    @property
    def capacity(self) -> int:
        """How many calls may run at once."""
        return self._slots

    @property
    def lookahead(self) -> int:
        """None: calls have nothing to do with one another."""
        return 0

    async def start(self) -> None:
        """Let the handler load what it needs."""
        self._state = await load(self._handler, self._loading)

    async def stop(self) -> None:
        """Let the threads go."""
        self._caller.close()

    async def run(self, call: Call) -> AsyncGenerator[Partial | Final, None]:
        """Serve one call."""
        form = _form(call)
        value = self._input(call)
        context = Context(call.id, call.model, self._state)
        if _is_generator(self._predict):
            found: list[Any] = []
            async with aclosing(self._caller.pieces(self._predict, value, context)) as pieces:
                async for piece in pieces:
                    if call.body.stream:
                        yield Partial(_dump(form.chunk(piece, first=not found)))
                    found.append(piece)
            output = whole(found)
        else:
            output = await self._caller.call(self._predict, (value, context), context)
            if call.body.stream:
                yield Partial(_dump(form.chunk(output, first=True)))
        if call.body.stream:
            for chunk in form.end():
                yield Partial(_dump(chunk))
        answer = _dump(form.response(output))
        self._check(answer)
        yield Final(answer)

    def _input(self, call: Call) -> object:
        if not isinstance(call.body, PredictionBody):
            return orjson.loads(call.value)
        takes = self._handler.takes
        if takes is None:
            return call.body.input
        try:
            return takes.model_validate(call.body.input)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(["input", *map(str, first["loc"])])
            raise InvalidRequest(f"Field '{field}': {first['msg']}", param=field) from None

    def _check(self, answer: bytes) -> None:
        if self._gives is None:
            return
        fault = self._gives.fault(orjson.loads(answer).get("output"), of="output")
        if fault is not None:
            raise EngineFailed(f"The function's answer is not what its 'result' says: {fault[1]}")


class _PredictionForm:
    def __init__(self, call: Call) -> None:
        self._shape = Prediction(request_id=call.id, model=call.model, created_s=call.created_s)

    def chunk(self, piece: object, *, first: bool) -> Mapping[str, Any]:
        """A piece of the answer."""
        del first
        return self._shape.chunk(piece)

    def end(self) -> tuple[Mapping[str, Any], ...]:
        """What comes after the last piece."""
        return ()

    def response(self, output: object) -> Mapping[str, Any]:
        """The whole answer."""
        return self._shape.response(output)


class _TextForm:
    """A chat or a completion whose text the handler makes; tokens are not counted."""

    def __init__(self, call: Call, body: TextBody) -> None:
        self._shape = Shape(request_id=call.id, path=call.path, model=call.model, created_s=call.created_s)
        self._wants_usage = body.wants_usage_chunk

    def chunk(self, piece: object, *, first: bool) -> Mapping[str, Any]:
        """A piece of the answer."""
        return self._shape.chunk(_text(piece), first=first)

    def end(self) -> tuple[Mapping[str, Any], ...]:
        """What comes after the last piece."""
        last = self._shape.chunk(None, "stop")
        return (last, self._shape.usage_chunk(usage(0, 0))) if self._wants_usage else (last,)

    def response(self, output: object) -> Mapping[str, Any]:
        """The whole answer."""
        return self._shape.response("" if output == [] else _text(output), "stop", usage(0, 0))


def create(manifest: Manifest, handler: Handler | None, loading: Loading) -> PythonEngine:
    """The engine for a manifest."""
    if handler is None:
        raise SetupError(f"Function '{manifest.name}': engine 'python' needs a {FILE_NAME} in the folder")
    args = arguments(manifest, PythonArgs)
    return PythonEngine(handler, args.slots, loading, manifest.gives)


async def load(handler: Handler, loading: Loading) -> Any:
    """What the handler's `load` returns; None when it has none.

    Raises:
        SetupError: it fails.
    """
    if handler.load is None:
        return None
    caller = Caller(handler, 1)
    try:
        return await caller.call(handler.load, (loading,), Context("load", ""))
    except EngineFailed as error:
        raise SetupError(error.message) from error
    finally:
        caller.close()


def _form(call: Call) -> _PredictionForm | _TextForm:
    body = call.body
    if isinstance(body, PredictionBody):
        return _PredictionForm(call)
    if isinstance(body, ChatBody | CompletionBody):
        return _TextForm(call, body)
    raise UnknownPath("Engine 'python' answers chats, completions and predictions only")


def _is_generator(hook: Hook) -> bool:
    return inspect.isasyncgenfunction(hook) or inspect.isgeneratorfunction(hook)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise EngineFailed(f"The function gave {type(value).__name__}, and this path needs text")
    return value


def _dump(document: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(document, default=_plain, option=_JSON)
    except TypeError as error:
        raise EngineFailed(f"The function's answer is no JSON: {error}") from None


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is not JSON")
