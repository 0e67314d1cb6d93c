"""How many partitions a model gets."""

import pytest

from headrace.cli.deployer import partitions_for


@pytest.mark.parametrize(
    ("max_workers", "least", "number"),
    [
        (0, 4, 4),
        (1, 4, 4),
        (2, 4, 4),
        (3, 4, 12),
        (6, 4, 12),
        (7, 4, 24),
        (10, 60, 60),
        (50, 4, 120),
        (900, 4, 1800),
    ],
)
def test_twice_the_workers_of_a_composite_number(max_workers, least, number):
    assert partitions_for(max_workers, least) == number
