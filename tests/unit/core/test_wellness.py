"""When a worker's canary is due, and when it has failed too often."""

from headrace.core.wellness import Wellness


def test_a_canary_is_due_when_nothing_was_answered_for_a_while():
    wellness = Wellness(60.0, 3, now_s=0.0)
    assert wellness.due_in_s(0.0) == 60.0
    wellness.answered(50.0)
    assert wellness.due_in_s(60.0) == 50.0
    assert wellness.due_in_s(120.0) == 0.0
    wellness.passed(121.0)
    assert wellness.due_in_s(121.0) == 60.0


def test_a_failed_request_is_a_reason_to_look_at_once_and_no_verdict():
    wellness = Wellness(60.0, 1, now_s=0.0)
    wellness.doubted()
    assert wellness.due_in_s(1.0) == 0.0
    assert not wellness.is_lost
    wellness.answered(1.0)
    assert wellness.due_in_s(1.0) == 0.0, "the doubt stays until a canary has been answered"
    wellness.passed(1.0)
    assert wellness.due_in_s(1.0) == 60.0


def test_doubts_do_not_make_canaries_without_end():
    wellness = Wellness(60.0, 3, now_s=0.0)
    wellness.doubted()
    wellness.passed(5.0)
    wellness.doubted()
    assert wellness.due_in_s(5.0) == 1.0


def test_only_failures_in_a_row_end_a_worker():
    wellness = Wellness(60.0, 2, now_s=0.0)
    wellness.failed(60.0)
    assert wellness.due_in_s(60.0) == 1.0
    assert not wellness.is_lost
    wellness.passed(61.0)
    wellness.failed(121.0)
    assert not wellness.is_lost
    wellness.answered(121.5)
    wellness.failed(122.0)
    assert wellness.is_lost
