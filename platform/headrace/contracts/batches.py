"""The bodies that create batches and say when files expire."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.contracts.explain import explain
from headrace.contracts.requests import CHAT, COMPLETIONS, EMBEDDINGS, PREDICTIONS

ENDPOINTS: Final = (CHAT, COMPLETIONS, EMBEDDINGS, PREDICTIONS)
"""What a batch may do."""
DEFAULT_WINDOW: Final = "24h"
MAX_PAIRS: Final = 16
MAX_NAME_CHARS: Final = 64
MAX_VALUE_CHARS: Final = 512
_SHAPES: Final = {
    "metadata": f"at most {MAX_PAIRS} pairs of strings, names up to {MAX_NAME_CHARS} characters and values "
    f"up to {MAX_VALUE_CHARS}",
    "output_expires_after": 'an object such as {"anchor": "created_at", "seconds": 86400}; 3600 to 2592000',
    "seconds": "a whole number from 3600 to 2592000",
}


class ExpiresAfter(BaseModel):
    """When a file expires, from its creation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


class BatchBody(BaseModel):
    """What creates a batch. `completion_window`: hours or days, such as `24h` or `7d`, up to a week."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_file_id: str = Field(min_length=1, max_length=256)
    endpoint: str
    completion_window: str | None = Field(default=None, max_length=16)
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


def parse(value: bytes) -> BatchBody:
    """Check the body that creates a batch; all but what only the core knows.

    Raises:
        MalformedBody: not a JSON object.
        InvalidRequest: a field is missing, wrong or unknown; `param` names it.
    """
    try:
        return BatchBody.model_validate_json(value)
    except ValidationError as error:
        raise explain(error, value, _SHAPES) from None
