"""A stream read from the log: whole, from anywhere, and through a newer run."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.openai import Shape
from headrace.contracts.replies import ReplyHead
from headrace.contracts.requests import CHAT
from headrace.contracts.states import State
from headrace.core.replay import Kind, Piece, Position, Replay

WORDS = ["one ", "two ", "three ", "four "]
SHAPE = Shape(request_id="req_1", path=CHAT, model="m", created_s=7)
CHUNKS = [
    *(orjson.dumps(SHAPE.chunk(word, first=index == 0)) for index, word in enumerate(WORDS)),
    orjson.dumps(SHAPE.chunk(None, "stop")),
]
WHOLE = orjson.dumps(SHAPE.response("".join(WORDS), "stop", {"total_tokens": 4}))


def head(sequence: int = 0, *, run: str = "1:w", attempt: int = 1, state: State | None = None) -> ReplyHead:
    return ReplyHead("req_1", state, "/w", sequence=sequence, run=run, attempt=attempt)


def end(run: str = "1:w", chunks: int = len(CHUNKS)) -> tuple[ReplyHead, bytes]:
    return head(chunks, run=run, state=State.COMPLETED), WHOLE


def records(run: str = "1:w") -> list[tuple[ReplyHead, bytes]]:
    return [*((head(number, run=run), value) for number, value in enumerate(CHUNKS)), end(run)]


def read(replay: Replay, *taken: tuple[ReplyHead, bytes]) -> list[Piece]:
    return [piece for record in taken for piece in replay.take(*record)]


def text(pieces: list[Piece]) -> str:
    chunks = [orjson.loads(piece.value) for piece in pieces if piece.kind is Kind.CHUNK]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def test_the_whole_stream_and_its_end() -> None:
    pieces = read(Replay(), *records())
    assert [piece.value for piece in pieces[:-1]] == CHUNKS
    assert pieces[-1] == Piece(Kind.END, Position(1, "1:w", len(CHUNKS)), WHOLE, State.COMPLETED)


@given(had=st.integers(0, len(CHUNKS) - 1))
def test_it_goes_on_behind_any_chunk(had: int) -> None:
    first = read(Replay(), *records())[: had + 1]
    last = Position.parse(str(first[-1].position))
    assert last == first[-1].position
    rest = read(Replay(last), *records())
    assert [piece.value for piece in first + rest[:-1]] == CHUNKS
    assert Kind.RESET not in {piece.kind for piece in rest}


@given(order=st.permutations(range(len(CHUNKS))), twice=st.booleans())
def test_order_and_repetition_do_not_matter(order: list[int], *, twice: bool) -> None:
    stream = records()
    taken = [stream[number] for number in order] * (1 + twice)
    assert text(read(Replay(), *taken, stream[-1])) == "".join(WORDS)


def test_a_newer_run_voids_what_was_told_and_an_older_one_is_nothing() -> None:
    pieces = read(Replay(), *records("1:a")[:2], *records("2:b"), *records("1:a"))
    assert [piece.kind for piece in pieces[:3]] == [Kind.CHUNK, Kind.CHUNK, Kind.RESET]
    assert text(pieces[3:]) == "".join(WORDS)
    assert [piece.kind for piece in pieces].count(Kind.END) == 1


def test_a_run_that_told_nothing_leaves_no_trace() -> None:
    late = head(1, run="1:a"), CHUNKS[1]
    assert Kind.RESET not in {piece.kind for piece in read(Replay(), late, *records("2:b"))}


def test_who_had_an_older_run_is_told_that_it_is_void() -> None:
    pieces = read(Replay(Position(1, "1:a", 1)), *records("1:a")[:2], *records("2:b"))
    assert [piece.kind for piece in pieces[:2]] == [Kind.RESET, Kind.CHUNK]
    assert text(pieces) == "".join(WORDS)


def test_who_had_the_newer_run_is_spared_the_older_one() -> None:
    pieces = read(Replay(Position(1, "2:b", 1)), *records("1:a")[:3], *records("2:b"))
    assert Kind.RESET not in {piece.kind for piece in pieces}
    assert text(pieces) == "".join(WORDS[2:])


def test_a_second_attempt_is_newer_whatever_its_generation() -> None:
    again = [(head(n, run="1:b", attempt=2), value) for n, value in enumerate(CHUNKS)]
    pieces = read(Replay(), *records("9:a")[:1], *again)
    assert [piece.kind for piece in pieces[:2]] == [Kind.CHUNK, Kind.RESET]


def test_what_was_lost_comes_with_the_end() -> None:
    stream = records()
    pieces = read(Replay(), stream[0], *stream[2:])
    assert text(pieces) == "".join(WORDS)
    assert pieces[-1].kind is Kind.END


def test_a_stream_whose_chunks_are_gone_is_told_from_the_archive() -> None:
    archived = head(state=State.COMPLETED, run="")
    new = list(Replay().end(archived, WHOLE))
    assert text(new) == "".join(WORDS)
    assert new[-1].kind is Kind.END
    late = list(Replay(Position(1, "1:w", 1)).end(archived, WHOLE))
    assert late[0].kind is Kind.RESET
    assert text(late) == "".join(WORDS)


def test_an_end_without_an_answer() -> None:
    failed = head(state=State.FAILED), b'{"error": {}}'
    assert read(Replay(), failed) == [Piece(Kind.END, Position(1, "1:w", 0), b'{"error": {}}', State.FAILED)]


def test_positions_that_are_none() -> None:
    for wrong in ("", "7", "a:b:c", "1:run", "1:run:x", "x" * 400):
        assert Position.parse(wrong) is None
