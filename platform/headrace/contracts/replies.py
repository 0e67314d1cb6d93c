"""The reply record: a chunk of a stream, or the one final word on a request.

The value is the exact OpenAI chunk, response or merged error body. Of a stream, the final record
carries the whole response, so that a gap left by lost chunks can be closed.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from headrace.contracts import headers as h
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.states import FINAL, State

_TYPE_HEAD: Final = "headrace.inference."
_TYPE_TAIL: Final = ".v1"
CHUNK_TYPE: Final = f"{_TYPE_HEAD}chunk{_TYPE_TAIL}"
TYPES: Final = {state: f"{_TYPE_HEAD}{state}{_TYPE_TAIL}" for state in sorted(FINAL)}
_STATES: Final = {kind.encode(): state for state, kind in TYPES.items()}
_SEQUENCE_DIGITS: Final = 8


class ReplyHead(NamedTuple):
    """What a reply says in its headers. A tuple, because one is made for each reply.

    state: the final state; None for a chunk.
    sequence: a chunk's place from 0; on the final record, the number of chunks before it.
    run: generation and worker; chunks of different runs never mix.
    model: the public name of the model that answered.
    """

    causation_id: str
    state: State | None
    source: str
    http_status: int = 200
    sequence: int = 0
    attempt: int = 1
    run: str = ""
    model: str = ""
    correlation: tuple[h.Header, ...] = ()
    content_type: bytes = h.JSON

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after it."""
        return self.state is not None


def write(head: ReplyHead) -> h.Headers:
    """Headers for `head`."""
    causation, state, source, http_status, number, attempt, run, model, correlation, content_type = head
    sequence = f"{number:0{_SEQUENCE_DIGITS}}"
    return [
        *_shared(source, model, run, state, http_status, attempt),
        (h.CONTENT_TYPE, content_type),
        (h.ID, f"{causation}/{run}/{sequence}{'' if state is None else 'f'}".encode()),
        (h.CAUSATION_ID, causation.encode()),
        (h.SEQUENCE, sequence.encode()),
        *correlation,
    ]


@lru_cache(maxsize=256)
def _shared(
    source: str, model: str, run: str, state: State | None, http_status: int, attempt: int
) -> tuple[h.Header, ...]:
    """What most replies of one worker have in common; a tenth of its work was writing it anew."""
    kind = CHUNK_TYPE if state is None else TYPES[state]
    return (
        (h.SPEC_VERSION, b"1.0"),
        (h.SOURCE, source.encode()),
        (h.TYPE, kind.encode()),
        (h.HTTP_STATUS, str(http_status).encode()),
        (h.FINAL, b"false" if state is None else b"true"),
        (h.ATTEMPT, str(attempt).encode()),
        (h.RUN, run.encode()),
        (h.MODEL, model.encode()),
    )


def final_state(headers: dict[str, bytes]) -> State | None:
    """The final state a reply carries; None for a chunk and for anything that is no reply."""
    return _STATES.get(headers.get(h.TYPE, b""))


def read(headers: dict[str, bytes]) -> ReplyHead:
    """Read a reply's headers.

    Raises:
        InvalidRequest: it is not a reply of ours.
    """
    try:
        kind = headers[h.TYPE]
        state = None if kind == CHUNK_TYPE.encode() else _STATES[kind]
        return ReplyHead(
            causation_id=headers[h.CAUSATION_ID].decode(),
            state=state,
            source=headers.get(h.SOURCE, b"").decode(),
            http_status=int(headers.get(h.HTTP_STATUS, b"200")),
            sequence=int(headers.get(h.SEQUENCE, b"0")),
            attempt=int(headers.get(h.ATTEMPT, b"1")),
            run=headers.get(h.RUN, b"").decode(),
            model=headers.get(h.MODEL, b"").decode(),
            content_type=headers.get(h.CONTENT_TYPE, h.JSON),
        )
    except (KeyError, ValueError) as error:
        raise InvalidRequest(f"Not a reply record: {error!r}") from None
