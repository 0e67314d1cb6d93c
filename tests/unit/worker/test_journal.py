"""The file: marks and clears by place, survives without being closed, is gone when closed."""

import errno

from headrace.contracts.topics import Lane
from headrace.core.journal import InFlight, read
from headrace.core.ports import Place
from headrace.worker.journal import Journal

LANES = {"t.default": Lane.DEFAULT, "t.flex": Lane.FLEX}


def test_what_is_in_flight_is_in_the_file(tmp_path):
    path = tmp_path / "w"
    journal = Journal(path, 2, LANES)
    journal.mark(Place("t.flex", 3, 7), crashes=1)
    journal.mark(Place("t.default", 0, 8))
    journal.mark(Place("t.default", 0, 9))  # one too many
    assert set(read(path.read_bytes())) == {InFlight(Lane.FLEX, 3, 7, 1), InFlight(Lane.DEFAULT, 0, 8, 0)}
    journal.clear(Place("t.flex", 3, 7))
    journal.clear(Place("t.default", 0, 9))
    journal.mark(Place("t.default", 0, 10))
    assert [entry.offset for entry in read(path.read_bytes())] == [8, 10]
    journal.close()
    assert not path.exists()


def test_a_file_that_cannot_go_is_emptied(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, "a mount")

    path = tmp_path / "termination-log"
    journal = Journal(path, 1, LANES)
    journal.mark(Place("t.flex", 3, 7))
    monkeypatch.setattr(type(path), "unlink", refuse)
    journal.close()
    assert path.read_bytes() == b""
