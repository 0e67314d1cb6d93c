"""How long each number of workers is kept."""

from headrace.core.lulls import Lulls


def fed(*needed, every_s=1.0):
    lulls, now_s = Lulls(), 0.0
    for number in needed:
        now_s += every_s
        lulls = lulls.told(number, now_s)
    return lulls, now_s


def waves(times, of, low_s, high_s=5):
    return ([*([of] * high_s), *([1] * low_s)]) * times


def test_what_is_needed_is_kept():
    lulls, now_s = fed(3, 3, 3)
    assert lulls.kept(3, 30.0, now_s + 1e6) == 3


def test_of_what_has_hardly_been_seen_nothing_is_known():
    lulls, now_s = fed(*waves(3, 5, 300))
    assert lulls.kept(5, 30.0, now_s) == 5, "two lulls are too few"
    assert lulls.kept(8, 30.0, now_s) == 8, "as many were never needed"


def test_those_that_are_never_needed_again_soon_go_after_ten_seconds():
    lulls, now_s = fed(*waves(4, 5, 300), *([5] * 5), *([1] * 9))
    assert lulls.kept(5, 30.0, now_s) == 5
    assert lulls.kept(5, 30.0, now_s + 3.0) == 1


def test_those_that_are_soon_needed_again_stay_until_then():
    lulls, now_s = fed(*waves(4, 5, 25), *([5] * 5), *([1] * 24))
    assert lulls.kept(5, 30.0, now_s) == 5
    assert lulls.kept(5, 30.0, now_s + 10.0) == 1
    assert lulls.kept(5, 1.0, now_s) == 1, "where a restart costs nothing, they go at once"


def test_each_number_has_its_own():
    # The second is needed again after half a minute, the third after many.
    turn = [*([3] * 2), *([1] * 30), *([2] * 2)]
    lulls, now_s = fed(*((turn + [1, 1, 2] * 100) * 4), 3, 3, *([1] * 12))
    assert lulls.kept(3, 40.0, now_s) == 2


def test_a_moment_is_no_lull():
    lulls, _ = fed(*([4, 1] * 100))
    assert lulls.levels[3].lengths_s == ()


def test_the_latest_count():
    lulls, _ = fed(*waves(100, 2, 20))
    assert lulls.levels[1].lengths_s == (20.0,) * 32


def test_those_of_before_count_and_none_goes_on():
    before, _ = fed(*waves(4, 5, 300), *([5] * 5))
    lulls = Lulls.after(before.lengths_s).told(1, 9000.0)
    assert lulls.lengths_s == before.lengths_s
    assert lulls.kept(5, 30.0, 1e6) == 5, "since when four are too many is not known"
    lulls = lulls.told(5, 9100.0)
    assert lulls.lengths_s == before.lengths_s, "nor for how long they were"
    lulls = lulls.told(1, 9200.0)
    assert lulls.kept(5, 30.0, 9205.0) == 5
    assert lulls.kept(5, 30.0, 9211.0) == 1
