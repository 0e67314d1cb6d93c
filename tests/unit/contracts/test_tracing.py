"""Trace context: what is valid goes on, what is not begins anew."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts import tracing
from headrace.contracts.headers import as_dict
from headrace.contracts.tracing import TraceContext

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("03", True), ("02", False), ("ff", True)]
)
def test_the_last_bit_says_whether_it_is_traced(flags: str, sampled: bool) -> None:
    parent = f"00-{TRACE}-{SPAN}-{flags}".encode()
    assert tracing.read(parent, b"a=1") == TraceContext(TRACE, SPAN, sampled, b"a=1")


def test_a_later_version_may_say_more() -> None:
    assert tracing.read(f"cc-{TRACE}-{SPAN}-01-what-the-future-is-like".encode()) is not None


@pytest.mark.parametrize(
    "parent",
    [
        None,
        b"",
        b"nonsense",
        f"00-{TRACE}-{SPAN}-01-more".encode(),
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{TRACE.upper()}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f" 00-{TRACE}-{SPAN}-01".encode(),
        b"\xff" * 55,
    ],
)
def test_what_is_not_valid_is_as_if_it_were_not_there(parent: bytes | None) -> None:
    assert tracing.read(parent, b"a=1") is None


def test_a_state_that_is_too_long_is_left_out() -> None:
    found = tracing.read(f"00-{TRACE}-{SPAN}-01".encode(), b"a=" + b"x" * 600)
    assert found is not None
    assert found.state == b""


ids = st.tuples(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1))


@given(ids, st.booleans(), st.sampled_from([b"", b"vendor=1"]))
def test_what_is_written_is_read(numbers: tuple[int, int], sampled: bool, state: bytes) -> None:
    context = TraceContext(f"{numbers[0]:032x}", f"{numbers[1]:016x}", sampled, state)
    headers = as_dict(tracing.write(context))
    assert tracing.read(headers["traceparent"], headers.get("tracestate")) == context
