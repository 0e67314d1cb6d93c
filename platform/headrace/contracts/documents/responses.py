"""Schemas of what we answer: OpenAI's shapes as `contracts.openai.Shape` builds them, predictions, errors.

A test holds `Shape` and the error table against these.
"""

from collections.abc import Mapping
from typing import Any, Final, get_args

from headrace.contracts.errors import ERRORS
from headrace.contracts.tensors import Datatype

_Schema = dict[str, Any]

_TEXT: Final[_Schema] = {"type": "string"}
_INTEGER: Final[_Schema] = {"type": "integer"}
_MAYBE_TEXT: Final[_Schema] = {"type": ["string", "null"]}
_LOGPROBS: Final[_Schema] = {"type": ["object", "null"]}


def _object(properties: Mapping[str, _Schema], *, optional: tuple[str, ...] = ()) -> _Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


def _list(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


def _choice(name: str, content: _Schema) -> _Schema:
    return _object(
        {"index": _INTEGER, "finish_reason": _MAYBE_TEXT, "logprobs": _LOGPROBS, name: content},
        optional=("logprobs",),
    )


_USAGE: Final = _object({"prompt_tokens": _INTEGER, "completion_tokens": _INTEGER, "total_tokens": _INTEGER})
_MESSAGE: Final = _object(
    {"role": {"const": "assistant"}, "content": _MAYBE_TEXT, "refusal": _MAYBE_TEXT}, optional=("refusal",)
)
_DELTA: Final = _object(
    {"role": {"const": "assistant"}, "content": _MAYBE_TEXT}, optional=("role", "content")
)


def _answer(object_: str, choice: _Schema, *, chunk: bool = False) -> _Schema:
    return _object(
        {
            "id": _TEXT,
            "object": {"const": object_},
            "created": {**_INTEGER, "description": "Unix seconds."},
            "model": _TEXT,
            "choices": _list(choice),
            "usage": _USAGE,
        },
        optional=("usage",) if chunk else (),
    )


def _prediction(object_: str) -> _Schema:
    output: _Schema = {"description": "As the function's `result` schema says."}
    created: _Schema = {**_INTEGER, "description": "Unix seconds."}
    return _object(
        {"id": _TEXT, "object": {"const": object_}, "created": created, "model": _TEXT, "output": output}
    )


_TENSOR: Final = {
    "name": _TEXT,
    "shape": _list({**_INTEGER, "description": "-1 for an axis of any length."}),
    "datatype": {"enum": list(get_args(Datatype))},
}
_INFERRED: Final = _object(
    {
        "model_name": _TEXT,
        "model_version": _TEXT,
        "id": _TEXT,
        "outputs": _list(_object({**_TENSOR, "data": {"type": "array", "description": "Flat, row-major."}})),
    }
)
_EMBEDDING: Final = _object(
    {
        "object": {"const": "embedding"},
        "index": _INTEGER,
        "embedding": {
            "anyOf": [_list({"type": "number"}), _TEXT],
            "description": "As text: base64 of little-endian 32-bit floats.",
        },
    }
)
_EMBEDDINGS: Final = _object(
    {
        "object": {"const": "list"},
        "data": _list(_EMBEDDING),
        "model": _TEXT,
        "usage": _object({"prompt_tokens": _INTEGER, "total_tokens": _INTEGER}),
    }
)
_METADATA: Final = _object(
    {
        "name": _TEXT,
        "versions": _list(_TEXT),
        "platform": {**_TEXT, "description": "The engine."},
        "inputs": {**_list(_object(_TENSOR)), "description": "Empty until a worker has loaded the model."},
        "outputs": _list(_object(_TENSOR)),
    }
)

_MODEL: Final = _object(
    {
        "id": _TEXT,
        "object": {"const": "model"},
        "created": {**_INTEGER, "description": "Unix seconds of the deployment."},
        "owned_by": _TEXT,
    }
)

_ERROR: Final[_Schema] = {
    "description": "OpenAI's `error` object, and beside it the members of RFC 9457; both say the same.",
    **_object(
        {
            "error": _object(
                {
                    "message": {**_TEXT, "description": "What happened and what to do."},
                    "type": {"enum": sorted({kind.type for kind in ERRORS.values()})},
                    "param": {**_MAYBE_TEXT, "description": "The field at fault."},
                    "code": {"enum": sorted(ERRORS)},
                }
            ),
            "type": {**_TEXT, "format": "uri"},
            "title": _TEXT,
            "status": _INTEGER,
            "detail": _TEXT,
        }
    ),
}

SCHEMAS: Final[Mapping[str, _Schema]] = {
    "ChatCompletion": _answer("chat.completion", _choice("message", _MESSAGE)),
    "ChatCompletionChunk": _answer("chat.completion.chunk", _choice("delta", _DELTA), chunk=True),
    "Completion": _answer("text_completion", _choice("text", _TEXT)),
    "CompletionChunk": _answer("text_completion", _choice("text", _TEXT), chunk=True),
    "Prediction": _prediction("prediction"),
    "PredictionChunk": _prediction("prediction.chunk"),
    "EmbeddingList": _EMBEDDINGS,
    "InferResponse": _INFERRED,
    "Model": _MODEL,
    "ModelMetadata": _METADATA,
    "ModelList": _object(
        {
            "object": {"const": "list"},
            "data": _list({"$ref": "#/components/schemas/Model"}),
            "first_id": _MAYBE_TEXT,
            "last_id": _MAYBE_TEXT,
            "has_more": {"type": "boolean"},
        }
    ),
    "Live": _object({"live": {"type": "boolean"}}),
    "Ready": _object({"ready": {"type": "boolean"}}),
    "Server": _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
    "ModelReady": _object(
        {"name": _TEXT, "version": _TEXT, "ready": {"type": "boolean"}, "reason": _MAYBE_TEXT}
    ),
    "Error": _ERROR,
}
"""For `components.schemas`; only `ModelList` refers to another."""
