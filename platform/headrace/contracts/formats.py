"""The form in which a caller wants its answer: the media types that a function offers, and the choice.

Source of the choice: RFC 9110 section 12.5.1 (`Accept`); of `select`: RFC 6901 (JSON Pointer).
"""

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints

from headrace.contracts.errors import NotAcceptable

JSON: Final = "application/json"
TEXT: Final = "text/plain"
CSV: Final = "text/csv"
NPY: Final = "application/x-npy"
SAFETENSORS: Final = "application/vnd.safetensors"
_TYPES: Final = r"^(application/([\w.-]+\+)?json|application/(x-npy|vnd\.safetensors)|text/plain|text/csv)$"
_MAX_ACCEPT_CHARS: Final = 1_000


class Format(BaseModel):
    """A form of the answer.

    type: `application/json` or any `…+json`, `text/plain`, `text/csv`, or for tensors `application/x-npy`
        (one) and `application/vnd.safetensors` (several, by name).
    select: JSON Pointer to the part of the answer that is given; empty for all of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Annotated[str, StringConstraints(pattern=_TYPES)]
    select: Annotated[str, StringConstraints(pattern=r"^(/([^~/]|~[01])*)*$", max_length=500)] = ""

    @property
    def content_type(self) -> bytes:
        """As a header says it."""
        return (f"{self.type}; charset=utf-8" if self.type.startswith("text/") else self.type).encode()

    @property
    def is_plain(self) -> bool:
        """Whether it is the answer as the engine made it."""
        return self.type == JSON and not self.select


PLAIN: Final = Format(type=JSON)


def choose(accept: str | None, offered: Sequence[Format]) -> Format:
    """What the caller likes best of what is offered; of equals the first offered.

    accept: as in HTTP; None or what is no list of media types means anything.

    Raises:
        NotAcceptable: nothing of it is offered.
    """
    if len(offered) == 1 and offered[0].is_plain:
        return offered[0]  # who offers no choice is asked for none: many clients send a list of their own
    likes = _likes(accept)
    if not likes:
        return offered[0]
    best = max(offered, key=lambda each: _liking(each.type, likes))
    if _liking(best.type, likes) <= 0:
        types = ", ".join(each.type for each in offered)
        raise NotAcceptable(f"This model answers as {types}; Accept asks for {accept!r}", param="Accept")
    return best


def _likes(accept: str | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in (accept or "")[:_MAX_ACCEPT_CHARS].split(","):
        kind, *parameters = [piece.strip().lower() for piece in part.split(";")]
        if "/" in kind:
            quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
            try:
                found[kind] = float(quality)
            except ValueError:
                found[kind] = 1.0
    return found


def _liking(kind: str, likes: dict[str, float]) -> float:
    """The most specific entry counts."""
    for name in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        if name in likes:
            return likes[name]
    return 0.0
