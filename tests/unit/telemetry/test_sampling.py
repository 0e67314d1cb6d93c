"""So many a second, and no more."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.telemetry.sampling import Budget


def test_a_pause_saves_up_one_second() -> None:
    budget = Budget(5)
    assert [budget.admit(100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [budget.admit(100.4) for _ in range(3)] == [True, True, False]
    assert sum(budget.admit(1000.0) for _ in range(20)) == 5


def test_nothing_is_nothing() -> None:
    assert not any(Budget(0).admit(float(second)) for second in range(100))


def test_less_than_one_a_second() -> None:
    budget = Budget(1 / 8)
    assert [second for second in range(1, 32) if budget.admit(float(second))] == [1, 9, 17, 25]


@given(st.lists(st.floats(0, 0.5), max_size=300), st.floats(0.5, 50))
def test_it_never_lets_through_more(pauses_s: list[float], per_s: float) -> None:
    budget, now_s, admitted = Budget(per_s), 10.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        admitted += budget.admit(now_s)
    assert admitted <= max(1.0, per_s) + (now_s - 10.0) * per_s + 1e-6
