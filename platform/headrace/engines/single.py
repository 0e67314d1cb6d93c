"""What engines refuse that give one answer to a request. Pure."""

from headrace.contracts.bodies import Body, TextBody
from headrace.contracts.errors import InvalidRequest, UnknownPath
from headrace.contracts.openai import ChatBody
from headrace.contracts.predictions import PredictionBody


def check_single(body: Body) -> TextBody:
    """Refuse a request for several answers, and one that is not about text.

    A call is one slot of the engine; the worker counts on that when it decides what to take.
    """
    if isinstance(body, PredictionBody):
        raise UnknownPath("This engine answers chats and completions only")
    if (body.n or 1) > 1:
        raise InvalidRequest(
            "This model gives one choice: send the request several times instead of 'n'", param="n"
        )
    if not isinstance(body, ChatBody) and not isinstance(body.prompt, str) and len(body.prompt) > 1:
        raise InvalidRequest("This model takes one prompt: send a request for each", param="prompt")
    return body
