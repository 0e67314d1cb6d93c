"""`/v1/predictions`: any JSON in, any JSON out, for functions that are no language models.

The caller's data is in `input`, the function's in `output`; what they look like is the function's to say, as
JSON Schemas in its manifest (`parameters`, `result`).
"""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

_OBJECT: Final = "prediction"


class PredictionBody(BaseModel):
    """Body of `/v1/predictions`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str | None = None
    input: Any
    stream: bool | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None

    @property
    def token_limit(self) -> None:
        """Nothing is counted in tokens."""

    @property
    def wants_usage_chunk(self) -> bool:
        """There is none."""
        return False


class Prediction:
    """Builds the responses to one request: `response` for the whole, `chunk` for a piece of a stream."""

    def __init__(self, *, request_id: str, model: str, created_s: int) -> None:
        self._head = {
            "id": f"pred-{request_id.removeprefix('req_')}",
            "object": _OBJECT,
            "created": created_s,
            "model": model,
        }
        self._chunk_head = self._head | {"object": f"{_OBJECT}.chunk"}

    def response(self, output: object) -> dict[str, Any]:
        """The whole answer."""
        return self._head | {"output": output}

    def chunk(self, piece: object) -> dict[str, Any]:
        """A piece of the answer; the whole is the list of all pieces, or their text when all are text."""
        return self._chunk_head | {"output": piece}


def whole(pieces: list[Any]) -> Any:
    """What the pieces of a stream come to."""
    return "".join(pieces) if pieces and all(isinstance(each, str) for each in pieces) else pieces
