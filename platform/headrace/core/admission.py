"""May this request run on this model? Asked by the gateway before it queues, and by the worker for all.

Direct publishers pass no gateway, so the worker cannot rely on its answer.
"""

from headrace.contracts.bodies import Body
from headrace.contracts.errors import BodyTooLarge, InvalidRequest, Overloaded, UnknownModel, UnknownPath
from headrace.contracts.events import ModelDeployed
from headrace.contracts.predictions import PredictionBody
from headrace.contracts.requests import CHAT, RESPONSES
from headrace.contracts.topics import Lane

_LANES = {"priority": Lane.PRIORITY, "flex": Lane.FLEX}


def check_path(deployed: ModelDeployed, path: str) -> None:
    """Refuse what the model does not do."""
    serves = deployed.manifest.serves
    if (CHAT if path == RESPONSES else path) not in serves:
        raise UnknownPath(f"Model '{deployed.name}' does not serve {path}; it serves {', '.join(serves)}")


def check_size(deployed: ModelDeployed, size_bytes: int) -> None:
    """Refuse a body over the model's limit."""
    limit = deployed.manifest.limits.max_body_bytes
    if size_bytes > limit:
        raise BodyTooLarge(f"The body has {size_bytes} bytes; model '{deployed.name}' takes up to {limit}")


def check_body(deployed: ModelDeployed, body: Body) -> None:
    """Refuse a request for more tokens than the model's limit, and an input that is not as it says."""
    if isinstance(body, PredictionBody):
        takes = deployed.manifest.takes
        fault = None if takes is None else takes.fault(body.input, of="input")
        if fault is not None:
            raise InvalidRequest(fault[1], param=fault[0])
    limit = deployed.manifest.limits.max_tokens
    if limit is not None and (body.token_limit or 0) > limit:
        raise InvalidRequest(
            f"'max_tokens' is {body.token_limit}; model '{deployed.name}' generates up to {limit}",
            param="max_tokens",
        )


def adapter(deployed: ModelDeployed, model: str | None) -> str | None:
    """The adapter that a body's `model` names, as `NAME:ADAPTER`.

    Another name is no error here: a direct publisher has chosen the model by its topic.

    Raises:
        UnknownModel: the model has no such adapter.
    """
    name, colon, found = (model or "").partition(":")
    if not colon or name != deployed.name:
        return None
    known = deployed.manifest.adapters
    if found not in known:
        choice = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise UnknownModel(f"Model '{name}' has no adapter '{found[:64]}'; {choice}", param="model")
    return found


def check_load(waiting: int, limit: int) -> None:
    """Refuse when a gateway holds as many callers as it may."""
    if waiting >= limit:
        raise Overloaded(f"This gateway holds {waiting} requests, as many as it may: try again in a moment")


def lane(body: Body) -> Lane:
    """The lane that a body's `service_tier` asks for."""
    return _LANES.get(body.service_tier or "", Lane.DEFAULT)
