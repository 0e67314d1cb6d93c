"""Viewers of streams: each sees its own from the beginning, whoever else looks on."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from headrace.contracts import headers as h
from headrace.contracts.topics import stream_partition
from headrace.core.ports import Place, Record
from headrace.core.streams import Span
from headrace.gateway.streams import Streams, Viewer


class Log:
    """A topic whose partitions are lists; `poll` gives what lies behind where it was told to read."""

    def __init__(self) -> None:
        self.records: dict[int, list[Record]] = {}
        self.at: dict[int, int] = {}
        self.before_poll_ends = lambda: None

    def write(self, name: str, value: bytes) -> None:
        partition = stream_partition(name.encode())
        there = self.records.setdefault(partition, [])
        place = Place("streams", partition, len(there))
        there.append(Record(place, None, value, {h.CAUSATION_ID: name.encode()}, 0))

    async def span(self, partition: int, since_s: float) -> Span:
        return Span(0, len(self.records.get(partition, ())))

    async def end(self, partition: int) -> int:
        return len(self.records.get(partition, ()))

    def read_from(self, partition: int, offset: int) -> None:
        self.at[partition] = offset

    def leave(self, partition: int) -> None:
        del self.at[partition]

    async def poll(self, timeout_s: float) -> Sequence[Record]:
        found = []
        for partition, offset in list(self.at.items()):
            new = self.records.get(partition, [])[offset:]
            self.at[partition] = offset + len(new)
            found += new
        await asyncio.sleep(0)
        self.before_poll_ends()
        return found


def twins() -> tuple[str, str]:
    """Two requests whose streams share a partition."""
    names = [f"req_{number}" for number in range(100)]
    first = names[0]
    return first, next(
        n for n in names[1:] if stream_partition(n.encode()) == stream_partition(first.encode())
    )


async def values(viewer: Viewer) -> list[bytes]:
    found = []
    while records := await viewer.next(0.05):
        found += [record.value or b"" for record in records]
    return found


async def test_everybody_has_all_of_their_own_once() -> None:
    log, (one, other) = Log(), twins()
    streams = Streams(log)
    following = asyncio.create_task(streams.follow())
    for number in range(3):
        log.write(one, b"one %d" % number)
        log.write(other, b"other %d" % number)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(streams.watch(one, 0))
        assert not first.has_caught_up
        assert await values(first) == [b"one 0", b"one 1", b"one 2"]
        assert first.has_caught_up
        # Whoever comes later makes the reader go back; the first has nothing twice.
        second = await stack.enter_async_context(streams.watch(other, 0))
        third = await stack.enter_async_context(streams.watch(one, 0))
        log.write(one, b"one 3")
        assert await values(first) == [b"one 3"]
        assert await values(second) == [b"other 0", b"other 1", b"other 2"]
        assert await values(third) == [b"one 0", b"one 1", b"one 2", b"one 3"]
    assert log.at == {}, "nobody looks, nothing is read"
    following.cancel()


async def test_what_was_read_and_not_yet_given_out_is_not_caught_up_with() -> None:
    log, (one, _) = Log(), twins()
    streams = Streams(log)
    following = asyncio.create_task(streams.follow())
    log.write(one, b"one 0")
    log.write(one, b"one 1")
    async with streams.watch(one, 0) as viewer:
        assert await values(viewer) == [b"one 0", b"one 1"]
        log.write(one, b"one 2")
        await streams.extend(viewer)
        while viewer._next < 3:  # it is read, but nobody has asked for it
            await asyncio.sleep(0)
        assert not viewer.has_caught_up
        assert await values(viewer) == [b"one 2"]
        assert viewer.has_caught_up
    following.cancel()


async def test_a_batch_read_before_the_reader_went_back_is_not_taken_for_what_comes_after() -> None:
    log, (one, other) = Log(), twins()
    streams = Streams(log)
    following = asyncio.create_task(streams.follow())
    for number in range(5):
        log.write(other, b"other %d" % number)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(streams.watch(one, 0))
        assert await values(first) == []
        log.write(one, b"late")
        second: list[Viewer] = []
        joining: list[asyncio.Task[Viewer]] = []

        def join() -> None:
            # While a batch from the end is on its way, somebody wants the beginning.
            if not joining:
                watching = stack.enter_async_context(streams.watch(other, 0))
                joining.append(asyncio.create_task(watching))

        log.before_poll_ends = join
        assert await values(first) == [b"late"]
        second.append(await joining[0])
        assert await values(second[0]) == [b"other %d" % number for number in range(5)]
    following.cancel()


async def test_an_empty_partition_has_been_read() -> None:
    streams = Streams(Log())
    async with streams.watch("req_1", 0) as viewer:
        assert viewer.has_caught_up
