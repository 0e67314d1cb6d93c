"""The request bodies, by path: what is checked before a request is queued."""

from collections.abc import Mapping
from typing import Final, TypeAlias

from pydantic import ValidationError

from headrace.contracts.explain import explain
from headrace.contracts.openai import ChatBody, CompletionBody
from headrace.contracts.predictions import PredictionBody
from headrace.contracts.requests import CHAT, COMPLETIONS, PREDICTIONS

TextBody: TypeAlias = ChatBody | CompletionBody
Body: TypeAlias = TextBody | PredictionBody

BODIES: Final[Mapping[str, type[ChatBody] | type[CompletionBody] | type[PredictionBody]]] = {
    CHAT: ChatBody,
    COMPLETIONS: CompletionBody,
    PREDICTIONS: PredictionBody,
}


def parse(path: str, value: bytes) -> Body:
    """Check a request body, which stays as it is on the wire.

    Raises:
        MalformedBody: not a JSON object.
        InvalidRequest: a field is missing or wrong; `param` names it, the message says what it must be.
    """
    try:
        return BODIES[path].model_validate_json(value)
    except ValidationError as error:
        raise explain(error, value) from None
