"""OpenAPI 3.1 of the gateway: a contract with every HTTP client, held against its routes by a test."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

import orjson

from headrace.contracts.bodies import BODIES
from headrace.contracts.documents import batches, jobs, responses_api, webhooks
from headrace.contracts.documents.json_schemas import components
from headrace.contracts.documents.operations import PARAMETERS, answers, ref, request_id, sse
from headrace.contracts.documents.responses import SCHEMAS
from headrace.contracts.errors import ERRORS, ErrorKind, error_body
from headrace.contracts.requests import CHAT, COMPLETIONS, EMBEDDINGS, INFER_URL, PREDICTIONS, RESPONSES

_INFERENCE_CODES: Final = (
    "invalid_request",
    "malformed_body",
    "context_length_exceeded",
    "model_not_found",
    "response_not_found",
    "path_not_found",
    "method_not_allowed",
    "body_too_large",
    "wrong_content_type",
    "idempotency_key_reused",
    "overloaded",
    "internal_error",
    "engine_failed",
    "unavailable",
    "request_expired",
)
_TERMS: Final = (
    ("prefer", "RFC 7240: `respond-async` makes it a job; `wait=SECONDS` does if it takes longer."),
    ("headrace-webhook", "A URL that is told how it ended; the answer is kept."),
    ("cancel-after", "Give up after so long: 90s, 5m, 1h."),
    ("idempotency-key", "Makes all requests with it one, for a day; its answer is kept."),
)
_NGINX_STATUS: Final = {499: "Client closed request"}


def openapi(version: str) -> dict[str, Any]:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headrace",
            "version": version,
            "summary": "OpenAI's API in front of Apache Kafka",
            "description": "Unmodified OpenAI clients work with `base_url=http://HOST:PORT/v1`.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8080", "description": "The default of `headrace up`"}],
        "paths": _paths() | dict(batches.PATHS),
        "components": {
            "schemas": components(BODIES.values())
            | dict(SCHEMAS)
            | jobs.SCHEMAS
            | webhooks.SCHEMAS
            | responses_api.SCHEMAS
            | dict(batches.SCHEMAS),
            "responses": _error_responses(),
            "headers": {
                "RequestId": {
                    "description": "Id of the request, also in logs, records and the response's `id`.",
                    "schema": {"type": "string"},
                }
            },
            "parameters": dict(PARAMETERS) | dict(batches.PARAMETERS),
        },
    }


def _paths() -> dict[str, Any]:
    model = {"parameters": [{"$ref": "#/components/parameters/Model"}]}
    return {
        CHAT: {"post": _inference("createChatCompletion", "Answer a chat", "Chat", "ChatCompletion")},
        COMPLETIONS: {"post": _inference("createCompletion", "Continue a text", "Completion", "Completion")},
        RESPONSES: {"post": _inference("createResponse", "Make a Response", "Response", "Response")},
        PREDICTIONS: {"post": _inference("createPrediction", "Run a function", "Prediction", "Prediction")},
        EMBEDDINGS: {"post": _whole("createEmbedding", "Embed texts", "Embedding", "EmbeddingList")},
        INFER_URL: {
            **model,
            "post": _whole("modelInfer", "Run a model on tensors", "Infer", "InferResponse"),
        },
        "/v1/models": {"get": _read("listModels", "The deployed models", "ModelList", ())},
        "/v1/models/{model}": {
            **model,
            "get": _read("retrieveModel", "One deployed model", "Model", ("model_not_found",)),
        },
        "/v2": {"get": _read("serverMetadata", "Which server this is", "Server", ())},
        "/v2/health/live": {"get": _read("serverLive", "Whether the gateway runs", "Live", ())},
        "/v2/health/ready": {"get": _probe("serverReady", "Whether it takes requests", "Ready")},
        "/v2/models/{model}": {
            **model,
            "get": _read(
                "modelMetadata", "What a model takes and gives", "ModelMetadata", ("model_not_found",)
            ),
        },
        "/v2/models/{model}/ready": {**model, "get": _model_ready()},
        **jobs.paths(),
        **responses_api.paths(),
        **webhooks.paths(),
    }


def _inference(operation_id: str, summary: str, body: str, answer: str) -> dict[str, Any]:
    operation = _whole(operation_id, summary, body, answer)
    told = operation["responses"]["200"]
    told["description"] = "The answer; with `stream` true, chunks and then `data: [DONE]`."
    told["content"]["text/event-stream"] = {"schema": sse({"anyOf": [ref(f"{answer}Chunk"), ref("Error")]})}
    return operation


def _whole(operation_id: str, summary: str, body: str, answer: str) -> dict[str, Any]:
    """An inference path whose answers are never streamed."""
    return {
        "operationId": operation_id,
        "summary": summary,
        "description": "Leaving cancels the request. Fields that are not listed reach the engine untouched.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ref(f"{body}Body")}},
        },
        "parameters": [_header(*each) for each in _TERMS],
        "responses": answers(answer, _INFERENCE_CODES) | {"202": jobs.accepted()},
    }


def _header(name: str, meaning: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": meaning, "schema": {"type": "string"}}


def _read(operation_id: str, summary: str, answer: str, codes: Iterable[str]) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "summary": summary,
        "responses": answers(answer, (*codes, "internal_error")),
    }


def _probe(operation_id: str, summary: str, answer: str) -> dict[str, Any]:
    probe = _read(operation_id, summary, answer, ())
    probe["responses"]["503"] = {**probe["responses"]["200"], "description": "Not now."}
    return probe


def _model_ready() -> dict[str, Any]:
    probe = _probe("modelReady", "Whether the model can serve; one scaled to nothing can", "ModelReady")
    probe["responses"]["404"] = {"$ref": "#/components/responses/Error404"}
    for status in ("200", "503"):
        answer = probe["responses"][status]
        answer["headers"] = answer["headers"] | {
            "x-model-state": {
                "description": "Whether a worker is ready (warm), would have to start (cold), or cannot.",
                "schema": {"type": "string"},
            }
        }
    return probe


def _error_responses() -> dict[str, Any]:
    """One response for each status of the error table, with an example for each code."""
    by_status: dict[int, list[ErrorKind]] = {}
    for kind in ERRORS.values():
        by_status.setdefault(kind.http_status, []).append(kind)
    return {
        f"Error{status}": {
            "description": _NGINX_STATUS.get(status) or HTTPStatus(status).phrase,
            "headers": request_id(),
            "content": {
                "application/json": {
                    "schema": ref("Error"),
                    "examples": {kind.code: {"value": _example(kind)} for kind in kinds},
                }
            },
        }
        for status, kinds in by_status.items()
    }


def _example(kind: ErrorKind) -> Any:
    return orjson.loads(error_body(kind, f"{kind.title}: what happened and what to do"))
