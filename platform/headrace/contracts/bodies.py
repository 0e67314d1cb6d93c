"""The request bodies, by path: what is checked before a request is queued."""

from collections.abc import Mapping
from typing import Final, TypeAlias

from pydantic import ValidationError

from headrace.contracts import embeddings, responses
from headrace.contracts.embeddings import EmbeddingBody
from headrace.contracts.explain import explain
from headrace.contracts.openai import ChatBody, CompletionBody
from headrace.contracts.predictions import PredictionBody
from headrace.contracts.requests import CHAT, COMPLETIONS, EMBEDDINGS, INFER, PREDICTIONS, RESPONSES
from headrace.contracts.responses import ResponseBody
from headrace.contracts.tensors import InferBody

TextBody: TypeAlias = ChatBody | CompletionBody
Body: TypeAlias = TextBody | ResponseBody | PredictionBody | EmbeddingBody | InferBody

BODIES: Final[Mapping[str, type[Body]]] = {
    CHAT: ChatBody,
    COMPLETIONS: CompletionBody,
    RESPONSES: ResponseBody,
    PREDICTIONS: PredictionBody,
    EMBEDDINGS: EmbeddingBody,
    INFER: InferBody,
}
_SHAPES: Final[Mapping[str, Mapping[str, str]]] = {EMBEDDINGS: embeddings.SHAPES, RESPONSES: responses.SHAPES}


def parse(path: str, value: bytes) -> Body:
    """Check a request body, which stays as it is on the wire.

    Raises:
        MalformedBody: not a JSON object.
        InvalidRequest: a field is missing or wrong; `param` names it, the message says what it must be.
    """
    try:
        body = BODIES[path].model_validate_json(value)
    except ValidationError as error:
        raise explain(error, value, _SHAPES.get(path, {})) from None
    if isinstance(body, InferBody):
        body.check()
    return body
