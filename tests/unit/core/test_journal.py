"""What was in flight can be read after the worker is gone."""

import pytest

from headrace.contracts.topics import LANES, Lane
from headrace.core import journal
from headrace.core.journal import InFlight


def test_marked_is_read_and_cleared_is_not():
    data = bytearray(journal.blank(4))
    assert len(data) == journal.size_bytes(4)
    entries = [InFlight(lane, 999, 2**40 + n, n) for n, lane in enumerate(LANES)]
    for slot, entry in enumerate(entries):
        journal.mark(memoryview(data), slot, entry)
    assert list(journal.read(bytes(data))) == entries
    journal.clear(memoryview(data), 1)
    assert list(journal.read(bytes(data))) == [entries[0], entries[2]]


def test_more_crashes_than_a_byte_holds():
    data = bytearray(journal.blank(1))
    journal.mark(memoryview(data), 0, InFlight(Lane.FLEX, 0, 0, 300))
    assert journal.read(bytes(data))[0].crashes == 255


@pytest.mark.parametrize("data", [b"", b"HRJ1", journal.blank(3)[:-1], b"XXXX" + journal.blank(3)[4:]])
def test_what_is_no_whole_journal_says_nothing(data):
    assert journal.read(data) == ()
