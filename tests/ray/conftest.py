"""The cluster of all tests here."""

from collections.abc import Iterator

import pytest
from tests.ray.cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One for all tests; they may end parts of it, and `start` them again."""
    cluster = Cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
