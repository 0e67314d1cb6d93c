"""`/v1/embeddings` as OpenAI has it: texts in, vectors out.

Source: the OpenAI API reference for `/v1/embeddings`. Its own client asks for base64 unless told otherwise.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from headrace.contracts.errors import InvalidRequest

MAX_INPUTS: Final = 2048
SHAPES: Final[Mapping[str, str]] = {
    "input": f"a string, a list of token ids, or a list of up to {MAX_INPUTS} strings or lists of token ids, "
    "none of them empty",
}

_Text = Annotated[str, Field(min_length=1)]
_Tokens = Annotated[list[Annotated[int, Field(ge=0, strict=True)]], Field(min_length=1)]


class EmbeddingBody(BaseModel):
    """Body of `/v1/embeddings`. Its answers are never streamed."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str | None = None
    input: (
        _Text
        | _Tokens
        | Annotated[list[_Text], Field(min_length=1, max_length=MAX_INPUTS)]
        | Annotated[list[_Tokens], Field(min_length=1, max_length=MAX_INPUTS)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None

    @property
    def inputs(self) -> Sequence[str | Sequence[int]]:
        """Each a text or token ids, whichever way they were sent."""
        return [self.input] if self._is_one else self.input  # type: ignore[list-item,return-value]  # see there

    def field(self, number: int) -> str:
        """What the caller calls the `number`th input."""
        return "input" if self._is_one else f"input.{number}"

    @property
    def _is_one(self) -> bool:
        return isinstance(self.input, str) or isinstance(self.input[0], int)

    @property
    def stream(self) -> None:
        """There is none."""

    @property
    def token_limit(self) -> None:
        """Nothing is generated."""

    @property
    def wants_usage_chunk(self) -> bool:
        """There is none."""
        return False


def embedding(index: int, vector: Sequence[float] | bytes) -> dict[str, Any]:
    """One entry of the answer; as bytes (32-bit floats, little-endian) it becomes base64."""
    shown = base64.b64encode(vector).decode() if isinstance(vector, bytes) else vector
    return {"object": "embedding", "index": index, "embedding": shown}


def response(model: str, data: Sequence[Mapping[str, Any]], prompt_tokens: int) -> dict[str, Any]:
    """The whole answer."""
    used = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return {"object": "list", "data": list(data), "model": model, "usage": used}


def check_dimensions(body: EmbeddingBody, width: int, *, may_shorten: bool) -> int:
    """How many of a vector's `width` numbers the caller gets.

    Raises:
        InvalidRequest: more than there are, or fewer from a model whose vectors cannot be shortened.
    """
    wanted = body.dimensions or width
    if wanted > width or (wanted < width and not may_shorten):
        fewer = "up to " if may_shorten else ""
        raise InvalidRequest(
            f"'dimensions' is {wanted}; this model gives {fewer}{width} numbers", param="dimensions"
        )
    return wanted
