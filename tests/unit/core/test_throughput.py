"""Whether more workers have brought more."""

import random

from headrace.core.throughput import Throughput


class Site:
    """Workers that are always full, and do so many requests a second together."""

    def __init__(self):
        self.throughput = Throughput()
        self.now_s = 0.0
        self.done = 0.0

    def run(self, warm, per_s, seconds, *, is_full=True):
        for _ in range(int(seconds)):
            self.now_s += 1.0
            self.done += per_s
            self.throughput.tell(warm, int(self.done), self.now_s, is_full=is_full)
        return self.throughput.enough


def test_twice_as_many_that_do_no_more_are_enough():
    site = Site()
    assert site.run(2, 5.0, 120) is None
    assert site.run(4, 5.2, 50) is None
    assert site.run(4, 5.2, 20) == 2
    assert site.run(4, 5.2, 600) == 2


def test_twice_as_many_that_do_more_are_not():
    site = Site()
    for warm in (2, 4, 8, 16):
        assert site.run(warm, 2.5 * warm, 200) is None
    # From there on nothing is gained.
    assert site.run(24, 40.0, 200) == 16


def test_a_few_more_need_many_requests_to_tell():
    site = Site()
    site.run(10, 1.0, 600)
    assert site.run(11, 1.0, 600) is None
    site = Site()
    site.run(10, 100.0, 600)
    assert site.run(11, 100.0, 600) == 10


def test_small_steps_add_up():
    site = Site()
    site.run(4, 10.0, 100)
    for warm in (5, 6, 7):
        assert site.run(warm, 10.0, 30) is None
    assert site.run(8, 10.0, 100) == 4


def test_it_is_forgotten_when_nothing_waits_or_fewer_are_left_or_after_a_while():
    for calm in (
        lambda site: site.run(4, 5.0, 1, is_full=False),
        lambda site: site.run(1, 5.0, 1),
        lambda site: site.run(4, 5.0, 901),
    ):
        site = Site()
        site.run(2, 5.0, 120)
        assert site.run(4, 5.0, 120) == 2
        assert calm(site) is None


def test_workers_that_are_not_full_prove_nothing():
    site = Site()
    site.run(2, 5.0, 120, is_full=False)
    assert site.run(4, 5.0, 500) is None


def test_chance_is_not_taken_for_a_limit():
    for seed in range(100):
        chance = random.Random(seed)
        site = Site()
        for warm in (2, 3, 4, 6, 8, 12):
            for _ in range(400):
                done = sum(chance.random() < 0.5 for _ in range(warm))
                assert site.run(warm, done, 1) is None
