"""What a request, a token read and a token written each take of a worker's slots. Pure.

Learned by least squares over what workers say, in which older words fade. What has never varied alone cannot
be told apart: where every request has as many tokens as the others, a request costs what its tokens cost, and
a token read costs a tenth of one written. That is as good as anything as long as they stay alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

_MEMORY: Final = 1000.0
"""Requests: what was so many ago counts for a third."""
_LEAST: Final = 30.0
_APART: Final = 0.005
"""Of a quantity's square so much must vary by itself."""
READ_TOKEN: Final = 0.1
"""A token read beside one written. Published speeds of engines for the two differ by ten and more."""


class Cost(NamedTuple):
    """Seconds of a slot, up to a factor that all three share."""

    request: float = 0.0
    token_in: float = READ_TOKEN
    token_out: float = 1.0

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """A request's."""
        return self.request + self.token_in * tokens_in + self.token_out * tokens_out


class Spent(NamedTuple):
    """Requests, what they had of each, and how long they were in their slots, summed."""

    requests: int
    tokens_in: int
    tokens_out: int
    slot_s: float


@dataclass(frozen=True, slots=True)
class Costs:
    """products: sums of the products of written, read, one and seconds, of each with each."""

    cost: Cost = field(default_factory=Cost)
    requests: float = 0.0
    products: tuple[tuple[float, ...], ...] = ((0.0,) * 4,) * 4

    def learned(self, spent: Spent) -> "Costs":
        """With a word more."""
        if not spent.requests:
            return self
        kept = math.exp(-spent.requests / _MEMORY)
        values = (spent.tokens_out, spent.tokens_in, spent.requests, spent.slot_s)
        products = tuple(
            tuple(kept * old + one * other / spent.requests for old, other in zip(row, values, strict=True))
            for row, one in zip(self.products, values, strict=True)
        )
        now = replace(self, requests=kept * self.requests + spent.requests, products=products)
        found = _solved(products) if now.requests >= _LEAST else None
        return now if found is None else replace(now, cost=found)


def _solved(products: Sequence[Sequence[float]]) -> Cost | None:
    """The cost that fits best, with none below nothing; None where too little has varied."""
    kept: list[int] = []
    for one in range(3):
        if _is_apart(products, kept, one):
            kept.append(one)
    if len(kept) < 2:
        return None
    while True:
        found = dict(zip(kept, _fit(products, kept), strict=True))
        lowest = min(kept, key=lambda n: found[n] * math.sqrt(products[n][n]))
        if found[lowest] >= 0:
            return Cost(found.get(2, 0.0), found.get(1, 0.0), found.get(0, 0.0))
        # Left alone, a quantity costs more than nothing: all that is summed is positive.
        kept.remove(lowest)


def _is_apart(products: Sequence[Sequence[float]], others: Sequence[int], one: int) -> bool:
    """Whether a quantity has varied beside the others."""
    square = products[one][one]
    if square <= 0:
        return False
    explained = 0.0
    if others:
        fit = _fit(products, others, one)
        explained = sum(value * products[n][one] for n, value in zip(others, fit, strict=True))
    return square - explained > _APART * square


def _fit(products: Sequence[Sequence[float]], kept: Sequence[int], of: int = 3) -> list[float]:
    """Solve the normal equations by elimination; the quantities have varied apart."""
    rows = [[*(products[n][m] for m in kept), products[n][of]] for n in kept]
    for at, row in enumerate(rows):
        for below in rows[at + 1 :]:
            factor = below[at] / row[at]
            for n in range(at, len(row)):
                below[n] -= factor * row[n]
    found = [0.0] * len(rows)
    for at in reversed(range(len(rows))):
        row = rows[at]
        known = sum(row[n] * found[n] for n in range(at + 1, len(rows)))
        found[at] = (row[-1] - known) / row[at]
    return found
