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


def test_of_a_cut_journal_the_whole_lines_are_read():
    data = bytearray(journal.blank(3))
    entries = [InFlight(Lane.DEFAULT, 7, number, 0) for number in range(3)]
    for slot, entry in enumerate(entries):
        journal.mark(memoryview(data), slot, entry)
    assert list(journal.read(bytes(data[-45:]))) == entries[1:]
    assert list(journal.read(b"OOM: " + bytes(data))) == entries


@pytest.mark.parametrize("data", [b"", b"\0" * 40, journal.blank(3), b"the model is gone\n", b"D00"])
def test_what_says_nothing(data):
    assert journal.read(data) == ()


def test_two_hundred_requests_fit_into_a_termination_message():
    assert journal.size_bytes(200) <= 4096
