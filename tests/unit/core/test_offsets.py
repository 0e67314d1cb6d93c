"""Offsets: the tracker against a naive model, and the commit's metadata."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.core.offsets import MAX_METADATA_CHARS, MAX_SPAN, Commit, Tracker, decode, encode


def test_watermark_waits_for_the_oldest():
    tracker = Tracker()
    for offset in range(3):
        assert tracker.start(offset)
    tracker.complete(2)
    tracker.complete(1)
    assert tracker.watermark == 0
    assert tracker.span == 3
    tracker.complete(0)
    assert tracker.watermark == 3
    assert tracker.commit() == Commit(3, "")


def test_a_restart_redoes_only_what_was_not_finished():
    tracker = Tracker()
    for offset in range(6):
        tracker.start(offset)
    for offset in (1, 2, 4):
        tracker.complete(offset)
    restarted = Tracker(tracker.commit())
    assert [offset for offset in range(8) if restarted.start(offset)] == [0, 3, 5, 6, 7]


def test_a_running_offset_is_not_started_twice():
    tracker = Tracker()
    assert tracker.start(0)
    assert not tracker.start(0)


def test_gaps_count_as_done():
    tracker = Tracker()
    tracker.start(0)
    tracker.start(5)  # 1 to 4 were transaction markers or compacted away
    tracker.complete(0)
    assert tracker.watermark == 5
    tracker.complete(5)
    assert tracker.watermark == 6


def test_a_log_that_begins_later_than_the_commit():
    tracker = Tracker(Commit(10, ""))
    assert tracker.start(50)
    assert tracker.watermark == 50
    tracker.complete(50)
    assert tracker.commit() == Commit(51, "")


def test_owed_offsets_that_retention_removed_are_given_up():
    tracker = Tracker(Commit(0, encode(0, [1, 3])))  # 0 and 2 are owed
    assert tracker.start(2)
    tracker.complete(2)
    assert tracker.commit() == Commit(4, "")


def test_nothing_read_commits_nothing_new():
    assert Tracker(Commit(7, "")).commit() == Commit(7, "")


def test_completing_the_unknown_is_harmless():
    tracker = Tracker()
    tracker.complete(99)
    assert tracker.watermark == 0


def test_unreadable_metadata_says_nothing():
    assert decode(Commit(3, "written by somebody else")) == frozenset()
    assert decode(Commit(3, "1:***")) == frozenset()


def test_the_largest_span_fits():
    worst = encode(0, range(1, MAX_SPAN + 1))
    assert 0 < len(worst) <= MAX_METADATA_CHARS
    assert len(decode(Commit(0, worst))) == MAX_SPAN


class TrackerMachine(RuleBasedStateMachine):
    """A log with gaps, read in order, finished in any order, restarted and re-read at any time."""

    def __init__(self):
        super().__init__()
        self.tracker = Tracker()
        self.log: list[int] = []
        self.next_offset = 0
        self.read = 0  # index into the log
        self.running: set[int] = set()
        self.done: set[int] = set()
        self.runs: dict[int, int] = {}

    @rule(gap=st.integers(0, 3))
    def append(self, gap):
        self.next_offset += gap
        self.log.append(self.next_offset)
        self.next_offset += 1

    @precondition(lambda self: self.read < len(self.log))
    @rule()
    def poll(self):
        offset = self.log[self.read]
        self.read += 1
        if self.tracker.start(offset):
            assert offset not in self.running
            assert offset not in self.done
            self.running.add(offset)
            self.runs[offset] = self.runs.get(offset, 0) + 1
        else:
            assert offset in self.running or offset in self.done

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data):
        offset = data.draw(st.sampled_from(sorted(self.running)))
        self.tracker.complete(offset)
        self.running.remove(offset)
        self.done.add(offset)

    @rule()
    def rebalance_kept(self):
        start = self.tracker.next_unseen
        self.read = next((i for i, offset in enumerate(self.log) if offset >= start), len(self.log))

    @rule()
    def aiokafka_goes_back_to_the_commit(self):
        start = self.tracker.commit().offset
        self.read = next((i for i, offset in enumerate(self.log) if offset >= start), len(self.log))

    @rule()
    def restart(self):
        commit = self.tracker.commit()
        self.tracker = Tracker(commit)
        self.running.clear()
        self.read = next((i for i, offset in enumerate(self.log) if offset >= commit.offset), len(self.log))

    @invariant()
    def nothing_unfinished_is_committed(self):
        commit = self.tracker.commit()
        finished = decode(commit) & set(self.log)
        assert finished <= self.done
        assert all(offset in self.done for offset in self.log if offset < commit.offset)

    @invariant()
    def the_unfinished_are_in_flight(self):
        assert self.tracker.in_flight == len(self.running)

    def teardown(self):
        """Everything that was written ends done, whatever happened before."""
        self.restart()
        while self.read < len(self.log):
            self.poll()
        for offset in sorted(self.running):
            self.tracker.complete(offset)
            self.done.add(offset)
        assert self.done == set(self.log)
        assert self.tracker.commit() == Commit(self.log[-1] + 1 if self.log else 0, "")


TestTracker = TrackerMachine.TestCase
