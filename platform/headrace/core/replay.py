"""A stream read from the log, from its beginning or from where its reader had come to. Pure.

Unlike `core.reassembly`, which serves a caller who holds one connection, this one may tell its reader that
all begins anew: a newer run (a redelivery) need not say the same as the one before.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple, Self

from headrace.contracts.replies import ReplyHead
from headrace.contracts.states import State
from headrace.core.reassembly import missing, rank


class Position(NamedTuple):
    """A chunk's place: of which attempt and run, and the how manieth from 0."""

    attempt: int
    run: str
    sequence: int

    def __str__(self) -> str:
        """As `Last-Event-ID` has it."""
        return f"{self.attempt}:{self.run}:{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The position that `text` says; None when it says none."""
        attempt, _, rest = text.partition(":")
        run, _, sequence = rest.rpartition(":")
        if not (attempt.isdecimal() and sequence.isdecimal() and len(text) <= 300):
            return None
        return cls(int(attempt), run, int(sequence))


class Kind(StrEnum):
    """What a piece is."""

    CHUNK = "chunk"
    RESET = "reset"
    """Whatever came before is void: the request runs anew."""
    END = "end"


class Piece(NamedTuple):
    """What to tell the reader. `state`: at the end, how it ended; `value` is then the whole answer."""

    kind: Kind
    position: Position
    value: bytes = b""
    state: State | None = None


class Replay:
    """One reader of one stream. `take` is called with every record of it in the order of the log."""

    def __init__(self, last: Position | None = None) -> None:
        self._last = last
        self._rank = (0, 0, "") if last is None else rank(_head(last))
        self._run: str | None = None
        self._early: dict[int, bytes] = {}
        self._read: list[bytes] = []
        self._told = last is not None

    def take(self, head: ReplyHead, value: bytes) -> Iterator[Piece]:
        """What a record has to say."""
        if rank(head) < self._rank:
            return
        if head.run != self._run or head.attempt != self._rank[0]:
            yield from self._begin(head)
        if head.state is None:
            yield from self._chunk(head, value)
        else:
            yield from self.end(head, value)

    def end(self, head: ReplyHead, value: bytes) -> Iterator[Piece]:
        """The final word, from the log or from the archive: what was missing before it, and itself."""
        if self._run is None and self._told:
            # Its chunks are gone.
            yield Piece(Kind.RESET, Position(head.attempt, head.run, 0))
            self._last = None
        if head.state in (State.COMPLETED, State.INCOMPLETE) and len(self._read) < max(head.sequence, 1):
            try:
                rest = missing(self._read, value)
            except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                rest = None  # the whole answer is told all the same
            for late in rest or ():
                yield from self._give(head, late)
        place = Position(head.attempt, head.run, len(self._read))
        yield Piece(Kind.END, place, value, head.state)

    def _begin(self, head: ReplyHead) -> Iterator[Piece]:
        is_where_we_were = self._last is not None and (head.attempt, head.run) == self._last[:2]
        if self._told and not is_where_we_were:
            self._told = False
            yield Piece(Kind.RESET, Position(head.attempt, head.run, 0))
        self._run, self._rank = head.run, rank(head)
        self._read, self._early = [], {}

    def _chunk(self, head: ReplyHead, value: bytes) -> Iterator[Piece]:
        if head.sequence < len(self._read):
            return
        self._early.setdefault(head.sequence, value)
        while (ready := self._early.pop(len(self._read), None)) is not None:
            yield from self._give(head, ready)

    def _give(self, head: ReplyHead, value: bytes) -> Iterator[Piece]:
        place = Position(head.attempt, head.run, len(self._read))
        self._read.append(value)
        if self._last is None or place[:2] != self._last[:2] or place.sequence > self._last.sequence:
            self._told = True
            yield Piece(Kind.CHUNK, place, value)


def _head(position: Position) -> ReplyHead:
    return ReplyHead("", None, "", attempt=position.attempt, run=position.run)
