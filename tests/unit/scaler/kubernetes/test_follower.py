"""Orders of events that a real API server does not give on demand; the rest is in tests/kubernetes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from headrace.contracts.errors import Unavailable
from headrace.scaler.actuators.kubernetes.cluster import DEPLOYMENTS
from headrace.scaler.actuators.kubernetes.follower import Follower
from headrace.scaler.actuators.kubernetes.objects import Deployment


def deployment(name: str, revision: int, replicas: int = 0) -> Deployment:
    return Deployment(name, revision, "chat", name, epoch=1, template="t", replicas=replicas)


class Script:
    """In place of the API server: what lists and watches give, one after the other."""

    def __init__(self) -> None:
        self.lists: asyncio.Queue[tuple[dict[str, Deployment], int] | None] = asyncio.Queue()
        self.changes: asyncio.Queue[tuple[Deployment, bool] | None] = asyncio.Queue()
        self.watched_from: list[int] = []

    def holds(self, revision: int, *found: Deployment) -> None:
        self.lists.put_nowait(({each.name: each for each in found}, revision))

    async def list(self, _: object) -> tuple[dict[str, Deployment], int]:
        answer = await self.lists.get()
        if answer is None:
            raise Unavailable("no list")
        return answer

    async def watch(self, _: object, revision: int) -> AsyncIterator[tuple[Deployment, bool]]:
        self.watched_from.append(revision)
        while True:
            change = await self.changes.get()
            if change is None:
                raise Unavailable("too old resource version")
            yield change


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def follower(script: Script) -> AsyncIterator[Follower[Deployment]]:
    def changed(before: Deployment | None, after: Deployment | None) -> None:
        follower.told.append((before, after))

    follower = Follower(script, DEPLOYMENTS, changed)
    follower.told = []
    script.holds(10, deployment("a", 5), deployment("b", 7))
    await follower.start()
    yield follower
    await follower.stop()


async def until(is_so) -> None:
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_it_lists_and_goes_on_from_there(script, follower):
    assert set(follower.found) == {"a", "b"}
    script.changes.put_nowait((deployment("c", 11), False))
    script.changes.put_nowait((deployment("a", 12), True))
    await until(lambda: set(follower.found) == {"b", "c"})
    assert script.watched_from == [10]
    assert follower.told[-1] == (deployment("a", 12), None), "as it was last"


async def test_what_is_older_than_our_own_write_says_nothing(script, follower):
    written = deployment("a", 20, replicas=3)
    follower.put(written)
    script.changes.put_nowait((deployment("a", 15, replicas=1), False))
    script.changes.put_nowait((deployment("c", 21), False))
    await until(lambda: "c" in follower.found)
    assert follower.found["a"] == written
    # A list that was made before the write knows neither of it nor of what it made.
    follower.put(deployment("d", 22))
    script.holds(19, deployment("a", 15))
    script.changes.put_nowait(None)
    await until(lambda: "b" not in follower.found)
    assert follower.found["a"] == written
    assert set(follower.found) == {"a", "c", "d"}


async def test_the_end_of_one_is_not_the_end_of_its_namesake(script, follower):
    # Deleted and made anew by us before the watch has told of either.
    follower.put(deployment("a", 20, replicas=3))
    script.changes.put_nowait((deployment("a", 19), True))
    script.changes.put_nowait((deployment("c", 21), False))
    await until(lambda: "c" in follower.found)
    assert follower.found["a"].replicas == 3


async def test_a_watch_that_goes_back_too_far_begins_with_a_list(script, follower):
    script.changes.put_nowait(None)
    script.holds(30, deployment("a", 5))
    await until(lambda: script.watched_from == [10, 30])
    assert set(follower.found) == {"a"}
    follower.check()


async def test_doubt_lasts_until_the_next_list(script, follower):
    follower.check()
    follower.doubt()
    with pytest.raises(Unavailable, match="the deployments of the cluster are not known now"):
        follower.check()
    script.lists.put_nowait(None)
    await until(script.lists.empty)
    with pytest.raises(Unavailable):
        follower.check()
    script.holds(40, deployment("z", 33))
    await until(lambda: set(follower.found) == {"z"})
    follower.check()
