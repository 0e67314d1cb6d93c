"""Reply headers: there and back, and what is no reply."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts import headers as h
from headrace.contracts import replies
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.replies import ReplyHead
from headrace.contracts.states import FINAL

_text = st.text(max_size=40)
_heads = st.builds(
    ReplyHead,
    causation_id=_text,
    state=st.none() | st.sampled_from(sorted(FINAL)),
    source=_text,
    http_status=st.integers(100, 599),
    sequence=st.integers(0, 10**9),
    attempt=st.integers(1, 99),
    run=_text,
    model=_text,
    correlation=st.just(()),  # echoed for the caller, not read
)


@given(head=_heads)
def test_what_is_written_is_read(head: ReplyHead) -> None:
    assert replies.read(h.as_dict(replies.write(head))) == head


def test_a_final_reply_says_so_and_echoes_what_came() -> None:
    correlation = (("kafka_correlationId", b"\xff\0"), ("correlation_id", b"7"))
    written = dict(replies.write(ReplyHead("req_1", FINAL_STATE, "/w", correlation=correlation)))
    assert written[h.FINAL] == b"true"
    assert written[h.TYPE] == b"headrace.inference.completed.v1"
    assert dict(correlation).items() <= written.items()


def test_sequences_sort_as_text() -> None:
    heads = [ReplyHead("r", None, "/w", sequence=number) for number in (0, 9, 10, 99, 100)]
    written = [dict(replies.write(head))[h.SEQUENCE] for head in heads]
    assert written == sorted(written)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {h.TYPE: b"headrace.inference.queued.v1", h.CAUSATION_ID: b"r"},
        {h.TYPE: replies.CHUNK_TYPE.encode()},
        {h.TYPE: replies.CHUNK_TYPE.encode(), h.CAUSATION_ID: b"\xff"},
        {h.TYPE: replies.CHUNK_TYPE.encode(), h.CAUSATION_ID: b"r", h.SEQUENCE: b"x"},
        {h.TYPE: replies.CHUNK_TYPE.encode(), h.CAUSATION_ID: b"r", h.HTTP_STATUS: b""},
    ],
)
def test_what_is_no_reply(wrong: dict[str, bytes]) -> None:
    with pytest.raises(InvalidRequest, match="Not a reply record"):
        replies.read(wrong)


FINAL_STATE = next(state for state in FINAL if state == "completed")
