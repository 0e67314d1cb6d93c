"""What workers have still to do: read from their groups' commits and from the ends of the logs."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy

from headrace.contracts.errors import SetupError, Unavailable
from headrace.contracts.topics import LANES, Lane, Topics
from headrace.core.offsets import Commit, backlog

_PATIENCE_S: Final = 10.0
_RETRY_S: Final = 0.1
_LEADERS_S: Final = 30.0
_IDLE_S: Final = 5.0
"""Commits of a group without members change only when its requests expire or are cancelled."""
_ANY_REPLICA: Final = -1
_READ_COMMITTED: Final = 1

_Part = tuple[str, int]


@dataclass(frozen=True, slots=True)
class PartitionBacklog:
    """One partition of one lane.

    requests: without a fate yet, waiting or running. lag: from the committed offset to the end of the log,
        as Kafka's own tools count it; what was finished out of order is in it. end: of the log.
    """

    model_slug: str
    lane: Lane
    partition: int
    requests: int
    lag: int
    end: int = 0


class BacklogReader:
    """Reads through an admin client; remembers where groups are coordinated.

    One request for metadata, one for each group (two the first time), two for each broker that leads.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._coordinators: dict[str, int] = {}
        self._known = _Known()

    async def follow(
        self, topics: Topics, slugs: Collection[str], live: Collection[str]
    ) -> Sequence[PartitionBacklog]:
        """All partitions of these models, again and again at little cost; raises as `read` does.

        live: those of them that have members, or had them a moment ago. The commits of others do not change,
        and are only read now and then; so are the partitions' leaders and the beginnings of the logs.
        """

        async def read() -> Sequence[PartitionBacklog]:
            await self._refresh(topics, slugs, live)
            known = self._known
            ends = await self._offsets(known.leaders, OffsetResetStrategy.LATEST)
            return _rows(topics, known.leaders, known.commits, known.starts, ends)

        return await self._insist(read)

    async def read(self, topics: Topics, model_slug: str | None = None) -> Sequence[PartitionBacklog]:
        """Every partition of the model, or of all models, by lane in order of service; empty: no such model.

        Commits are read before the ends, so that what ends meanwhile is counted and never the other way
        round: nothing waiting is missed. The end is the last stable offset: workers read nothing beyond.

        Raises:
            Unavailable: Kafka does not answer for ten seconds.
            SetupError: Kafka refuses us.
        """
        return await self._insist(partial(self._read, topics, model_slug))

    def forget(self) -> None:
        """Topics were made anew: what is known of those before them is of no use."""
        self._coordinators.clear()
        self._known = _Known()

    async def commit(self, group: str, topic: str, partition: int) -> Commit | None:
        """What the group has committed for a partition; a KafkaError when it cannot be told now."""
        try:
            found = await self._commits(group, [(topic, partition)])
        except KafkaError:
            self._coordinators.pop(group, None)
            raise
        return found.get((topic, partition))

    async def _insist(
        self, read: Callable[[], Awaitable[Sequence[PartitionBacklog]]]
    ) -> Sequence[PartitionBacklog]:
        why: KafkaError | None = None
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    try:
                        return await read()
                    except KafkaError as error:
                        if not error.retriable:
                            raise SetupError(f"Kafka refuses to tell the backlog: {error!r}") from None
                        why = error
                    self.forget()
                    await asyncio.sleep(_RETRY_S)
        except TimeoutError:
            raise Unavailable(f"Kafka did not tell the backlog within {_PATIENCE_S:g} s: {why!r}") from None

    async def _refresh(self, topics: Topics, slugs: Collection[str], live: Collection[str]) -> None:
        """What has changed, or may have."""
        known, now_s = self._known, asyncio.get_running_loop().time()
        if now_s - known.led_s > _LEADERS_S or not known.parts.keys() >= set(slugs):
            leaders = await self._leaders(topics, None)
            known.parts = _by_model(topics, leaders, slugs)
            known.leaders = {part: leaders[part] for parts in known.parts.values() for part in parts}
            known.led_s = now_s
        asked = [
            slug
            for slug in known.parts
            if slug in live or now_s - known.asked_s.get(slug, -_IDLE_S) >= _IDLE_S
        ]
        groups = (self._commits(topics.group(slug), known.parts[slug]) for slug in asked)
        for slug, found in zip(asked, await asyncio.gather(*groups), strict=True):
            for part in known.parts[slug]:
                known.commits.pop(part, None)  # with its topic, perhaps, which was made anew
            known.commits |= found
            known.asked_s[slug] = now_s
        if not known.starts.keys() >= known.leaders.keys() or now_s - known.began_s > _LEADERS_S:
            known.starts = await self._offsets(known.leaders, OffsetResetStrategy.EARLIEST)
            known.began_s = now_s

    async def _read(self, topics: Topics, model_slug: str | None) -> Sequence[PartitionBacklog]:
        leaders = await self._leaders(topics, model_slug)
        commits: dict[_Part, Commit] = {}
        groups = _by_model(topics, leaders, None)
        for found in await asyncio.gather(
            *(self._commits(topics.group(slug), parts) for slug, parts in groups.items())
        ):
            commits |= found
        starts, ends = await asyncio.gather(
            self._offsets(leaders, OffsetResetStrategy.EARLIEST),
            self._offsets(leaders, OffsetResetStrategy.LATEST),
        )
        rows = _rows(topics, leaders, commits, starts, ends)
        return sorted(rows, key=lambda row: (row.model_slug, LANES.index(row.lane), row.partition))

    async def _leaders(self, topics: Topics, model_slug: str | None) -> dict[_Part, int]:
        """The brokers to ask. All topics are listed: to name one that is missing may create it."""
        metadata = await self._raw._get_cluster_metadata()
        self._raw._client.cluster.update_metadata(metadata)
        leaders = {}
        for topic in metadata.to_object()["topics"]:
            owner = topics.parse_requests(topic["topic"])
            if owner is None or model_slug not in (None, owner[0]):
                continue
            _check(topic["error_code"], topic["topic"])
            for part in topic["partitions"]:
                _check(part["error_code"], topic["topic"])
                leaders[topic["topic"], part["partition"]] = part["leader"]
        return leaders

    async def _commits(self, group: str, parts: Iterable[_Part]) -> dict[_Part, Commit]:
        """What the group has committed. Our own request: aiokafka's takes a group's error for no commits."""
        coordinator = self._coordinators.get(group)
        if coordinator is None:
            coordinator = self._coordinators[group] = await self._raw.find_coordinator(group)
        reply = await self._raw._send_request(OffsetFetchRequest(group, _by_topic(parts)), coordinator)
        _check(reply.error_code, group)
        found = {}
        for topic, partitions in reply.topics:
            for partition, offset, metadata, code in partitions:
                _check(code, topic)
                if offset >= 0:
                    found[topic, partition] = Commit(offset, metadata or "")
        return found

    async def _offsets(self, leaders: Mapping[_Part, int], which: int) -> dict[_Part, int]:
        by_leader: dict[int, list[_Part]] = defaultdict(list)
        for part, leader in leaders.items():
            by_leader[leader].append(part)
        replies = await asyncio.gather(
            *(
                self._raw._send_request(
                    OffsetRequest(_ANY_REPLICA, _READ_COMMITTED, _by_topic(parts, which)), leader
                )
                for leader, parts in by_leader.items()
            )
        )
        found = {}
        for reply in replies:
            for topic, partitions in reply.topics:
                for partition, code, _, offset in partitions:
                    _check(code, topic)
                    found[topic, partition] = offset
        return found


@dataclass(slots=True)
class _Known:
    """What was read before, and when."""

    parts: dict[str, list[_Part]] = field(default_factory=dict)
    leaders: dict[_Part, int] = field(default_factory=dict)
    commits: dict[_Part, Commit] = field(default_factory=dict)
    starts: dict[_Part, int] = field(default_factory=dict)
    asked_s: dict[str, float] = field(default_factory=dict)
    led_s: float = -math.inf
    began_s: float = -math.inf


def _by_model(
    topics: Topics, parts: Iterable[_Part], slugs: Collection[str] | None
) -> dict[str, list[_Part]]:
    """The partitions of each model; of these, unless it is None."""
    found: dict[str, list[_Part]] = defaultdict(list)
    for part in parts:
        owner = topics.parse_requests(part[0])
        if owner is not None and (slugs is None or owner[0] in slugs):
            found[owner[0]].append(part)
    return dict(found)


def _rows(
    topics: Topics,
    parts: Iterable[_Part],
    commits: Mapping[_Part, Commit],
    starts: Mapping[_Part, int],
    ends: Mapping[_Part, int],
) -> list[PartitionBacklog]:
    found = []
    owners: dict[str, tuple[str, Lane] | None] = {}
    for part in parts:
        topic = part[0]
        if topic not in owners:
            owners[topic] = topics.parse_requests(topic)
        owner = owners[topic]
        if owner is not None:
            commit, start, end = commits.get(part), starts[part], ends[part]
            lag = max(0, end - (commit.offset if commit else start))
            requests = backlog(commit, start, end) if lag else 0
            found.append(PartitionBacklog(*owner, part[1], requests, lag, end))
    return found


def _by_topic(parts: Iterable[_Part], which: int | None = None) -> list[tuple[str, list[Any]]]:
    """Partitions as requests list them; each with `which` when it is given."""
    grouped: dict[str, list[Any]] = defaultdict(list)
    for topic, partition in parts:
        grouped[topic].append(partition if which is None else (partition, which))
    return list(grouped.items())


def _check(code: int, what: str) -> None:
    if code:
        raise for_code(code)(what)
