"""What each kind of token costs, from workers' words."""

import random

import pytest

from headrace.core.costs import READ_TOKEN, Cost, Costs, Spent


def heard(words):
    found = Costs()
    for word in words:
        found = found.learned(word)
    return found.cost


def word(requests, tokens_in, tokens_out, cost):
    return Spent(
        requests, tokens_in, tokens_out,
        cost.request * requests + cost.token_in * tokens_in + cost.token_out * tokens_out,
    )  # fmt: skip


def mixed(cost, seed=1, count=300):
    chance = random.Random(seed)
    return [
        word(chance.randint(1, 4), chance.randint(10, 2000), chance.randint(5, 200), cost)
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    "cost", [Cost(0.2, 0.001, 0.02), Cost(0.0, 0.002, 0.03), Cost(0.5, 0.0, 0.0), Cost(0.0, 0.0, 0.04)]
)
def test_what_varies_apart_is_told_apart(cost):
    found = heard(mixed(cost))
    assert found.of(100, 10) == pytest.approx(cost.of(100, 10), rel=1e-3)
    assert found.of(2000, 200) == pytest.approx(cost.of(2000, 200), rel=1e-3)


def test_requests_that_are_alike_say_nothing():
    assert heard([word(n, 100 * n, 20 * n, Cost(0.1, 0.01, 0.1)) for n in range(1, 50)]) == Cost()
    assert Cost() == (0.0, READ_TOKEN, 1.0)


def test_few_words_say_nothing():
    assert heard(mixed(Cost(0.0, 0.002, 0.03))[:3]) == Cost()
    assert heard([Spent(0, 0, 0, 0.0)]) == Cost()


def test_prompts_that_vary_while_answers_do_not():
    chance = random.Random(2)
    cost = Cost(0.0, 0.002, 0.01)
    found = heard([word(1, chance.randint(10, 1000), 20, cost) for _ in range(100)])
    assert found.token_in == pytest.approx(0.002)
    assert found.of(500, 20) == pytest.approx(cost.of(500, 20))


def test_a_model_that_writes_nothing():
    chance = random.Random(3)
    found = heard([word(1, chance.randint(10, 1000), 0, Cost(0.1, 0.002, 0.0)) for _ in range(100)])
    assert (found.request, found.token_in) == (pytest.approx(0.1), pytest.approx(0.002))


def test_noise_makes_no_cost_less_than_nothing():
    chance = random.Random(4)
    words = [each._replace(slot_s=each.slot_s * chance.uniform(0.3, 1.7)) for each in mixed(Cost(0.3, 0, 0))]
    found = heard(words)
    assert min(found) >= 0
    assert found.of(500, 50) == pytest.approx(0.3, rel=0.5)


def test_what_was_long_ago_fades():
    found = heard([*mixed(Cost(0.0, 0.001, 0.01)), *mixed(Cost(0.0, 0.01, 0.01), seed=5, count=2500)])
    assert found.token_in == pytest.approx(0.01, rel=0.05)
