"""A group of workers against a naive model: rebalances, deaths and hand-overs at any moment."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.core.ports import Place
from headrace.core.share import HOLD_S, Share

PARTS = [("t", 0), ("t", 1), ("t", 2)]


class Group(RuleBasedStateMachine):
    """Workers share three partitions; the shell's work is played here."""

    def __init__(self):
        super().__init__()
        self.log = dict.fromkeys(PARTS, 0)
        self.commits = {}
        self.shares = {}
        self.running = {}  # worker -> places
        self.position = {}  # worker, part -> offset
        self.done = set()
        self.runs = {}
        self.coming = {}  # worker -> parts, between the beginning and the end of a rebalance
        self.mail = []  # what was said on `control`, for all
        self.now_s = 1000.0
        self.born = 0
        self.lossless = True

    @initialize()
    def begin(self):
        self.join()

    @rule(part=st.sampled_from(PARTS))
    def publish(self, part):
        self.log[part] += 1

    @precondition(lambda self: len(self.shares) < 4)
    @rule()
    def join(self):
        self.born += 1
        name = f"w{self.born}"
        share = self.shares[name] = Share(name)
        self.running[name] = set()
        for event in self.mail:
            self.hear(share, event)
        self.rebalance(list(self.shares))
        self.arrive_all()

    @rule(data=st.data())
    def move(self, data):
        """Any rebalance: each partition to any worker."""
        owners = data.draw(st.lists(st.sampled_from(sorted(self.shares)), min_size=3, max_size=3))
        self.rebalance(sorted(self.shares), owners)

    def rebalance(self, workers, owners=None):
        owners = owners or [workers[n % len(workers)] for n in range(3)]
        self.arrive_all()
        for name, share in self.shares.items():
            self.commits.update(share.leaving(self.now_s))
            self.coming[name] = [part for part, owner in zip(PARTS, owners, strict=True) if owner == name]

    @precondition(lambda self: self.coming)
    @rule(data=st.data())
    def arrive(self, data):
        """One worker hears what is its own now; others run on meanwhile, and some have begun to read."""
        self.assign(data.draw(st.sampled_from(sorted(self.coming))))

    def arrive_all(self):
        for name in sorted(self.coming):
            self.assign(name)

    def assign(self, name):
        parts, share = self.coming.pop(name), self.shares[name]
        had = set(share.trackers)
        fresh = {part: self.commits.get(part) for part in parts if part not in had}
        for part, commit in fresh.items():
            self.position[name, part] = commit.offset if commit else 0
        for part, offset in share.assign(parts, fresh, self.now_s).items():
            self.position[name, part] = offset

    @rule(data=st.data())
    def poll(self, data):
        name = data.draw(st.sampled_from(sorted(self.shares)))
        self.read(name, data.draw(st.integers(1, 3)))

    def read(self, name, count):
        if name in self.coming:
            return
        share = self.shares[name]
        for part, offset in share.reread().items():
            self.position[name, part] = offset
        for part, tracker in share.trackers.items():
            start = self.position[name, part]
            end = min(self.log[part], start + count)
            for offset in range(start, end):
                if tracker.start(offset):
                    place = Place(*part, offset)
                    self.running[name].add(place)
                    self.runs[place] = self.runs.get(place, 0) + 1
                    if self.lossless:
                        assert self.runs[place] == 1, f"{place} was redone without a death"
            self.position[name, part] = max(start, end)

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    def finish(self, data):
        name = data.draw(st.sampled_from(sorted(n for n, places in self.running.items() if places)))
        place = data.draw(st.sampled_from(sorted(self.running[name])))
        self.running[name].remove(place)
        self.done.add(place)
        self.shares[name].complete(place)

    @rule(data=st.data())
    def tick(self, data):
        name = data.draw(st.sampled_from(sorted(self.shares)))
        self.step(name)

    def step(self, name):
        share = self.shares[name]
        if name not in self.coming:
            self.commits.update(share.changed())
        for event in share.reports(self.now_s):
            self.mail.append(event)
            for other in self.shares.values():
                self.hear(other, event)

    @precondition(lambda self: len(self.shares) > 1)
    @rule(data=st.data(), obituary=st.booleans())
    def kill(self, data, obituary):
        name = data.draw(st.sampled_from(sorted(self.shares)))
        self.lossless = False  # what it ran must be redone
        del self.shares[name], self.running[name]
        self.coming.pop(name, None)
        if obituary:
            self.mail.append(name)
            for share in self.shares.values():
                share.buried(name)
        self.rebalance(sorted(self.shares))

    @rule()
    def time_passes(self):
        self.now_s += 1.0
        for name in self.shares:
            self.step(name)  # so that no living holder is late
        for share in self.shares.values():
            share.expire(self.now_s)

    @staticmethod
    def hear(share, event):
        if isinstance(event, str):
            share.buried(event)
        else:
            share.told(event)

    @invariant()
    def nothing_unfinished_is_committed(self):
        for part, commit in self.commits.items():
            assert all(Place(*part, offset) in self.done for offset in range(commit.offset))

    @invariant()
    def nothing_is_taken_for_skipped(self):
        assert {share.skipped for share in self.shares.values()} <= {0}

    def teardown(self):
        """Whatever happened: in the end everything is done, and committed."""
        if not self.shares:
            return
        self.arrive_all()
        for _ in range(int(HOLD_S) + 2):
            for name in sorted(self.shares):
                self.read(name, 10_000)
                for place in sorted(self.running[name]):
                    self.running[name].remove(place)
                    self.done.add(place)
                    self.shares[name].complete(place)
            self.time_passes()
        for name in self.shares:
            self.step(name)
        for part, end in self.log.items():
            assert {Place(*part, n) for n in range(end)} <= self.done
            if end:
                assert self.commits[part].offset == end


TestGroup = Group.TestCase
TestGroup.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_what_was_finished_while_the_partition_was_away_is_not_redone():
    """It comes back before anybody has heard of it."""
    share = Share("w1")
    share.assign([PARTS[0]], {PARTS[0]: None}, 0.0)
    assert share.trackers[PARTS[0]].start(0)
    commit = share.leaving(0.0)[PARTS[0]]
    share.assign([], {}, 0.0)
    share.complete(Place("t", 0, 0))
    share.assign([PARTS[0]], {PARTS[0]: commit}, 1.0)
    assert share.reread() == {}
    assert not share.trackers[PARTS[0]].start(0)
    assert share.changed()[PARTS[0]].offset == 1


def test_an_old_word_of_the_same_second_frees_nothing():
    """Found by the machine above: lost, told, had again and lost again, faster than the clock ticks."""
    part, first, second = PARTS[0], Share("w1"), Share("w2")
    first.assign([part], {part: None}, 0.5)
    first.trackers[part].start(0)
    held = first.leaving(0.5)[part]
    first.assign([], {}, 0.5)
    first.complete(Place("t", 0, 0))
    for event in first.reports(0.6):
        second.told(event)
    second.assign([part], {part: held}, 0.6)
    done = second.leaving(0.7)[part]
    assert done.offset == 1
    second.assign([], {}, 0.7)
    first.assign([part], {part: done}, 0.7)
    assert first.trackers[part].start(1)
    held = first.leaving(0.8)[part]
    first.assign([], {}, 0.8)
    second.assign([part], {part: held}, 0.8)
    assert second.reread() == {}
    assert not second.trackers[part].start(1), "it still runs at its first holder"
    first.complete(Place("t", 0, 1))
    for event in first.reports(0.9):
        second.told(event)
    assert second.changed()[part].offset == 2


def test_what_is_passed_over_is_committed_before_the_request_behind_it_is_done():
    share = Share("w")
    share.assign([("t", 0)], {("t", 0): None}, 0.0)
    tracker = share.trackers["t", 0]
    tracker.start(0)
    share.complete(Place("t", 0, 0))
    assert {part: commit.offset for part, commit in share.changed().items()} == {("t", 0): 1}
    tracker.start(3)  # behind two markers
    assert share.skipped == 2
    assert {part: commit.offset for part, commit in share.changed().items()} == {("t", 0): 3}
    assert share.changed() == {}
