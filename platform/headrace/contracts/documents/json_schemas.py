"""JSON Schemas (2020-12) of what crosses the wire and of the manifest."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from headrace.contracts.claims import POINTER_SCHEMA
from headrace.contracts.decisions import Decision, Leader, Learned, Trusted
from headrace.contracts.documents.header_tables import REPLY_HEADERS, REQUEST_HEADERS, header_schema
from headrace.contracts.documents.responses import SCHEMAS as RESPONSES
from headrace.contracts.embeddings import EmbeddingBody
from headrace.contracts.events import (
    Cancel,
    GatewayHeartbeat,
    Handover,
    ModelDeployed,
    Obituary,
    WorkerHeartbeat,
)
from headrace.contracts.manifest import Manifest
from headrace.contracts.openai import ChatBody, CompletionBody
from headrace.contracts.predictions import PredictionBody
from headrace.contracts.tensors import InferBody

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ID_BASE_URL: Final = "https://headrace.dev/schemas/"
"""Prefix of `$id`; an identifier, nothing is fetched from it."""

MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "function": Manifest,
    "model-deployed": ModelDeployed,
    "worker-heartbeat": WorkerHeartbeat,
    "decision": Decision,
    "leader": Leader,
    "learned": Learned,
    "trusted": Trusted,
    "gateway-heartbeat": GatewayHeartbeat,
    "cancel": Cancel,
    "obituary": Obituary,
    "handover": Handover,
    "chat-body": ChatBody,
    "completion-body": CompletionBody,
    "prediction-body": PredictionBody,
    "embedding-body": EmbeddingBody,
    "infer-body": InferBody,
}


def json_schemas() -> dict[str, dict[str, Any]]:
    """The stand-alone schemas, by file stem."""
    found = {stem: model.model_json_schema() for stem, model in MODELS.items()}
    found["error-body"] = dict(RESPONSES["Error"])
    found["result-reference"] = dict(POINTER_SCHEMA)
    found["request-headers"] = header_schema(REQUEST_HEADERS)
    found["reply-headers"] = header_schema(REPLY_HEADERS)
    return {
        stem: {"$schema": DIALECT, "$id": f"{ID_BASE_URL}{stem}.schema.json", **schema}
        for stem, schema in found.items()
    }


def components(models: Iterable[type[BaseModel]]) -> dict[str, Any]:
    """The models, and what they refer to, as `components.schemas` of an API document."""
    _, document = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas: dict[str, Any] = document["$defs"]
    return schemas
