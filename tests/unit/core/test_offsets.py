"""Offsets: the tracker against a naive model, and the commit's metadata."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.core.offsets import (
    MAX_METADATA_CHARS,
    MAX_SPAN,
    Commit,
    Hold,
    Progress,
    Tracker,
    backlog,
    decode,
    encode,
)


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


def test_what_reading_passed_at_the_end_is_done():
    tracker = Tracker()
    for offset in (0, 1):
        tracker.start(offset)
    tracker.complete(0)
    assert not tracker.passed(2)
    assert not tracker.passed(5)  # aborted, and a marker; 1 still runs
    assert tracker.skipped == 3
    tracker.complete(1)
    assert tracker.watermark == 5
    assert tracker.passed(7)
    assert tracker.commit() == Commit(7, "")


def test_what_was_given_up_is_not_forgotten_by_what_is_read_next():
    tracker = Tracker()
    tracker.start(0)
    tracker.put_back(0)
    tracker.start(1)
    tracker.passed(3)
    tracker.complete(1)
    assert tracker.watermark == 0
    assert tracker.reread() == 0
    assert tracker.start(0)


def test_a_log_that_begins_later_than_the_commit():
    tracker = Tracker(Commit(10, ""))
    assert tracker.start(50)
    assert tracker.watermark == 50
    tracker.complete(50)
    assert tracker.commit() == Commit(51, "")


def test_owed_offsets_that_retention_removed_are_given_up():
    tracker = Tracker(Commit(0, encode(0, Progress(frozenset({1, 3})))))  # 0 and 2 are owed
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
    assert decode(Commit(3, "written by somebody else")) == Progress()
    assert decode(Commit(3, "2:*;*")) == Progress()


def test_the_largest_span_fits():
    """Also with what a worker may have fetched beyond it, and with a full engine's holds beside it."""
    done = frozenset(range(1, MAX_SPAN + 1024, 2))
    hold = Hold("w-0123456789ab", 1_800_000_000, frozenset(range(0, 1200, 2)))
    worst = encode(0, Progress(done, (hold,)))
    assert 0 < len(worst) <= MAX_METADATA_CHARS
    read = decode(Commit(0, worst))
    assert read.done == done
    assert read.holds == (hold,)


@given(
    st.frozensets(st.integers(0, MAX_SPAN * 3)),
    st.lists(st.frozensets(st.integers(0, 10**6)), max_size=20),
)
def test_metadata_never_exceeds_the_limit_and_claims_nothing_untrue(done, held):
    holds = tuple(Hold(f"w-{n}", 5.0, frozenset(o + 7 for o in one)) for n, one in enumerate(held))
    text = encode(7, Progress(frozenset(n + 7 for n in done), tuple(holds)))
    assert len(text) <= MAX_METADATA_CHARS
    read = decode(Commit(7, text))
    assert read.done <= {n + 7 for n in done}


def test_what_was_lost_is_left_to_its_holder_until_it_is_done_or_free():
    old = Tracker()
    for offset in range(6):
        old.start(offset)
    for offset in (0, 3):
        old.complete(offset)
    old.put_back(5)
    commit = old.commit(Hold("old", 100.0, frozenset()))
    new = Tracker(commit)
    assert new.held == {1, 2, 4}
    assert [offset for offset in range(1, 8) if new.start(offset)] == [5, 6, 7]
    assert not new.told(Hold("old", 110.0, frozenset({2, 4})), {1})
    assert new.watermark == 2
    assert not new.expire(109.0)
    assert not new.told(Hold("old", 110.5, frozenset({4})), ()), "perhaps of an earlier time"
    assert new.told(Hold("old", 113.0, frozenset({4})), ())  # 2 was aborted
    assert new.reread() == 2
    assert [offset for offset in range(2, 8) if new.start(offset)] == [2]
    assert new.free("old")
    assert new.start(8)  # fetched before reading goes back
    assert new.reread() == 4
    assert [offset for offset in range(4, 9) if new.start(offset)] == [4]
    for offset in range(2, 9):
        new.complete(offset)
    assert new.commit() == Commit(9, "")


def test_a_partition_that_comes_back_goes_on_with_what_still_runs_here():
    old = Tracker()
    for offset in range(4):
        old.start(offset)
    old.complete(1)
    commit = old.commit(Hold("me", 100.0, frozenset()))
    back = Tracker(commit, mine=old.running)
    assert back.held == frozenset()
    assert [offset for offset in range(6) if back.start(offset)] == [4, 5]


def test_backlog_is_what_has_no_fate():
    assert backlog(None, 0, 5) == 5
    assert backlog(Commit(2, encode(2, Progress(frozenset({3, 4})))), 0, 10) == 6
    assert backlog(Commit(2, encode(2, Progress(frozenset({3, 4})))), 4, 10) == 5
    assert backlog(Commit(7, ""), 0, 7) == 0


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
        self.skipped = 0  # by trackers of before

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

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def give_up(self, data):
        offset = data.draw(st.sampled_from(sorted(self.running)))
        self.tracker.put_back(offset)
        self.running.remove(offset)

    @rule()
    def go_back(self):
        start = self.tracker.reread()
        if start is not None:
            self.read = next((i for i, offset in enumerate(self.log) if offset >= start), len(self.log))

    @precondition(lambda self: self.read == len(self.log))
    @rule(gap=st.integers(0, 3))
    def pass_markers(self, gap):
        self.next_offset += gap
        self.tracker.passed(self.next_offset)

    @rule()
    def rebalance_kept(self):
        start = self.tracker.resume()
        self.read = next((i for i, offset in enumerate(self.log) if offset >= start), len(self.log))

    @rule()
    def aiokafka_goes_back_to_the_commit(self):
        start = self.tracker.commit().offset
        self.read = next((i for i, offset in enumerate(self.log) if offset >= start), len(self.log))

    @rule()
    def restart(self):
        commit = self.tracker.commit()
        self.skipped += self.tracker.skipped
        self.tracker = Tracker(commit)
        self.running.clear()
        self.read = next((i for i, offset in enumerate(self.log) if offset >= commit.offset), len(self.log))

    @invariant()
    def nothing_unfinished_is_committed(self):
        commit = self.tracker.commit()
        finished = decode(commit).done & set(self.log)
        assert finished <= self.done
        assert all(offset in self.done for offset in self.log if offset < commit.offset)

    @invariant()
    def what_is_committed_was_done_or_skipped(self):
        commit = self.tracker.commit()
        committed = commit.offset + len(decode(commit).done)
        assert committed == len(self.done) + self.skipped + self.tracker.skipped

    @invariant()
    def the_unfinished_are_in_flight(self):
        assert self.tracker.running == self.running

    def teardown(self):
        """Everything that was written ends done, whatever happened before."""
        self.restart()
        while self.read < len(self.log):
            self.poll()
        for offset in sorted(self.running):
            self.tracker.complete(offset)
            self.done.add(offset)
        assert self.done == set(self.log)
        self.tracker.passed(self.next_offset)
        assert self.tracker.commit() == Commit(self.next_offset, "")


TestTracker = TrackerMachine.TestCase
