"""What workers have still to do: read from their groups' commits and from the ends of the logs."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from aiokafka.errors import KafkaError, LeaderNotAvailableError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy

from headrace.contracts.errors import SetupError, Unavailable
from headrace.contracts.topics import LANES, Lane, Topics
from headrace.core.offsets import Commit, backlog

_PATIENCE_S: Final = 10.0
_RETRY_S: Final = 0.1
_SETTLE_S: Final = 2.0
"""What is wrong with one model only has so long to pass."""
_LEADERS_S: Final = 30.0
_LACKING_S: Final = 1.0
"""The same while something is wrong with a model, or its topics are not there."""
_IDLE_S: Final = 5.0
"""Commits of a group without members change only when its requests expire or are cancelled."""
_ANY_REPLICA: Final = -1
_READ_COMMITTED: Final = 1

_Part = tuple[str, int]
_Faults = dict[str, KafkaError]
"""Why models could not be read, by slug."""
_BEATS: Final = ""
"""As the slug of the heartbeats' topic."""
_T = TypeVar("_T")


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


@dataclass(frozen=True, slots=True)
class Backlog:
    """What could be read. faults: why the others could not, by slug; they have no rows.

    is_deaf: whether the heartbeats' topic cannot be read either, so that silence says nothing of workers.
    """

    rows: Sequence[PartitionBacklog]
    faults: Mapping[str, str] = field(default_factory=dict)
    is_deaf: bool = False


class BacklogReader:
    """Reads through an admin client; remembers where groups are coordinated.

    One request for metadata, one for each group (two the first time), two for each broker that leads.
    What is wrong with one model's topics, or its group, is that model's fault alone: others are read.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._coordinators: dict[str, int] = {}
        self._known = _Known()
        self._faulty: frozenset[str] = frozenset()

    async def follow(self, topics: Topics, slugs: Collection[str], live: Collection[str]) -> Backlog:
        """All partitions of these models, again and again at little cost; raises as `read` does.

        live: those of them that have members, or had them a moment ago. The commits of others do not change,
        and are only read now and then; so are the partitions' leaders and the beginnings of the logs.
        A fault that may pass has a moment to do so, and only then: later calls do not wait for it again.
        """

        async def read() -> tuple[list[PartitionBacklog], _Faults]:
            known, faults = self._known, await self._refresh(topics, slugs, live)
            leaders = known.well(faults)
            ends = await self._offsets(topics, leaders | known.beats, OffsetResetStrategy.LATEST, faults)
            known.is_lacking = bool(faults) or not known.parts.keys() >= set(slugs)
            return _rows(topics, known.well(faults), known.commits, known.starts, ends), faults

        rows, faults = await self._settle(read, self._faulty)
        self._faulty = frozenset(faults)
        is_deaf = faults.pop(_BEATS, None) is not None
        return Backlog(rows, _told(faults), is_deaf)

    async def read(self, topics: Topics, model_slug: str | None = None) -> Backlog:
        """Every partition of the model, or of all models, by lane in order of service; empty: no such model.

        Commits are read before the ends, so that what ends meanwhile is counted and never the other way
        round: nothing waiting is missed. The end is the last stable offset: workers read nothing beyond.
        A fault that may pass, as while a group is loaded, has a moment to do so.

        Raises:
            Unavailable: Kafka does not answer for ten seconds.
            SetupError: Kafka refuses us.
        """
        rows, faults = await self._settle(partial(self._read, topics, model_slug), ())
        rows.sort(key=lambda row: (row.model_slug, LANES.index(row.lane), row.partition))
        return Backlog(rows, _told(faults))

    def forget(self) -> None:
        """What is known is of no use: topics were made anew, or others lead now."""
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

    async def _settle(
        self, read: Callable[[], Awaitable[tuple[list[PartitionBacklog], _Faults]]], old: Collection[str]
    ) -> tuple[list[PartitionBacklog], _Faults]:
        """Read until no fault may pass by itself but the old ones; for a moment."""
        loop, rest_s = asyncio.get_running_loop(), _RETRY_S
        end_s = loop.time() + _SETTLE_S
        while True:
            rows, faults = await self._insist(read)
            may_pass = any(error.retriable for slug, error in faults.items() if slug not in old)
            if not may_pass or loop.time() + rest_s > end_s:
                return rows, faults
            self._known.led_s = -math.inf
            await asyncio.sleep(rest_s)
            rest_s *= 2

    async def _insist(self, read: Callable[[], Awaitable[_T]]) -> _T:
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
            self.forget()  # a broker that hangs may lead no longer
            raise Unavailable(f"Kafka did not tell the backlog within {_PATIENCE_S:g} s: {why!r}") from None

    async def _refresh(self, topics: Topics, slugs: Collection[str], live: Collection[str]) -> _Faults:
        """What has changed, or may have; why it cannot be told of some."""
        known, now_s = self._known, asyncio.get_running_loop().time()
        old_s = _LACKING_S if known.is_lacking else _LEADERS_S
        if now_s - known.led_s > old_s or not known.slugs >= set(slugs):
            known.unled = {}
            leaders = await self._leaders(topics, None, known.unled)
            known.parts = _by_model(topics, leaders, slugs)
            known.leaders = {part: leaders[part] for parts in known.parts.values() for part in parts}
            known.beats = {part: leader for part, leader in leaders.items() if part[0] == topics.workers}
            known.slugs, known.led_s = frozenset(slugs), now_s
        faults = {slug: error for slug, error in known.unled.items() if slug in slugs or slug == _BEATS}
        asked = [
            slug
            for slug in known.parts
            if slug not in faults and (slug in live or now_s - known.asked_s.get(slug, -_IDLE_S) >= _IDLE_S)
        ]
        groups = (self._commits_of(topics, slug, known.parts[slug], faults) for slug in asked)
        for slug, found in zip(asked, await asyncio.gather(*groups), strict=True):
            for part in known.parts[slug]:
                known.commits.pop(part, None)  # with its topic, perhaps, which was made anew
            known.commits |= found
            known.asked_s[slug] = -math.inf if slug in faults else now_s
        leaders = known.well(faults)
        if now_s - known.began_s > _LEADERS_S:
            known.starts, known.began_s = {}, now_s
        unknown = {part: leader for part, leader in leaders.items() if part not in known.starts}
        known.starts |= await self._offsets(topics, unknown, OffsetResetStrategy.EARLIEST, faults)
        return faults

    async def _read(self, topics: Topics, model_slug: str | None) -> tuple[list[PartitionBacklog], _Faults]:
        faults: _Faults = {}
        leaders = await self._leaders(topics, model_slug, faults)
        groups = _by_model(topics, leaders, None)
        commits: dict[_Part, Commit] = {}
        for found in await asyncio.gather(
            *(self._commits_of(topics, slug, parts, faults) for slug, parts in groups.items())
        ):
            commits |= found
        leaders = {part: leaders[part] for slug in groups if slug not in faults for part in groups[slug]}
        starts, ends = await asyncio.gather(
            self._offsets(topics, leaders, OffsetResetStrategy.EARLIEST, faults),
            self._offsets(topics, leaders, OffsetResetStrategy.LATEST, faults),
        )
        well = [part for slug in groups if slug not in faults for part in groups[slug]]
        faults.pop(_BEATS, None)
        return _rows(topics, well, commits, starts, ends), faults

    async def _leaders(self, topics: Topics, model_slug: str | None, faults: _Faults) -> dict[_Part, int]:
        """The brokers to ask. All topics are listed: to name one that is missing may create it."""
        metadata = await self._raw._get_cluster_metadata()
        self._raw._client.cluster.update_metadata(metadata)
        leaders = {}
        for topic in metadata.to_object()["topics"]:
            name = topic["topic"]
            slug = _slug(topics, name)
            if (slug == _BEATS and name != topics.workers) or model_slug not in (None, slug):
                continue
            _note(faults, slug, topic["error_code"], name)
            for part in topic["partitions"]:
                is_led = part["leader"] >= 0
                code = part["error_code"] or (0 if is_led else LeaderNotAvailableError.errno)
                _note(faults, slug, code, f"{name}-{part['partition']}")
                if is_led:
                    leaders[name, part["partition"]] = part["leader"]
        return leaders

    async def _commits_of(
        self, topics: Topics, slug: str, parts: Iterable[_Part], faults: _Faults
    ) -> dict[_Part, Commit]:
        """What the model's group has committed; none when it is at fault."""
        group = topics.group(slug)
        try:
            return {} if slug in faults else await self._commits(group, parts)
        except KafkaError as error:
            self._coordinators.pop(group, None)
            faults.setdefault(slug, error)
            return {}

    async def _commits(self, group: str, parts: Iterable[_Part]) -> dict[_Part, Commit]:
        """What the group has committed. Our own request: aiokafka's takes a group's error for no commits."""
        coordinator = self._coordinators.get(group)
        if coordinator is None:
            coordinator = self._coordinators[group] = await self._raw.find_coordinator(group)
        reply = await self._raw._send_request(OffsetFetchRequest(group, _by_topic(parts)), coordinator)
        _check(reply.error_code, f"group {group}")
        found = {}
        for topic, partitions in reply.topics:
            for partition, offset, metadata, code in partitions:
                _check(code, topic)
                if offset >= 0:
                    found[topic, partition] = Commit(offset, metadata or "")
        return found

    async def _offsets(
        self, topics: Topics, leaders: Mapping[_Part, int], which: int, faults: _Faults
    ) -> dict[_Part, int]:
        """Of all partitions whose leaders tell."""
        by_leader: dict[int, list[_Part]] = defaultdict(list)
        for part, leader in leaders.items():
            by_leader[leader].append(part)
        found: dict[_Part, int] = {}

        async def ask(leader: int, parts: Sequence[_Part]) -> None:
            request = OffsetRequest(_ANY_REPLICA, _READ_COMMITTED, _by_topic(parts, which))
            try:
                reply = await self._raw._send_request(request, leader)
            except KafkaError as error:
                for topic, _ in parts:
                    faults.setdefault(_slug(topics, topic), error)
                return
            for topic, partitions in reply.topics:
                for partition, code, _, offset in partitions:
                    if code:
                        _note(faults, _slug(topics, topic), code, f"{topic}-{partition}")
                    else:
                        found[topic, partition] = offset

        await asyncio.gather(*(ask(leader, parts) for leader, parts in by_leader.items()))
        return found


@dataclass(slots=True)
class _Known:
    """What was read before, and when.

    slugs: who was asked for. unled: what was wrong with leaders. beats: the heartbeats' partitions, and who
    leads them. is_lacking: whether some model could not be read.
    """

    slugs: frozenset[str] = frozenset()
    parts: dict[str, list[_Part]] = field(default_factory=dict)
    leaders: dict[_Part, int] = field(default_factory=dict)
    unled: _Faults = field(default_factory=dict)
    beats: dict[_Part, int] = field(default_factory=dict)
    is_lacking: bool = False
    commits: dict[_Part, Commit] = field(default_factory=dict)
    starts: dict[_Part, int] = field(default_factory=dict)
    asked_s: dict[str, float] = field(default_factory=dict)
    led_s: float = -math.inf
    began_s: float = -math.inf

    def well(self, faults: Collection[str]) -> dict[_Part, int]:
        """The partitions of models without a fault, and who leads them."""
        if not faults:
            return self.leaders
        well = (parts for slug, parts in self.parts.items() if slug not in faults)
        return {part: self.leaders[part] for parts in well for part in parts}


def _slug(topics: Topics, topic: str) -> str:
    """Whose it is."""
    owner = topics.parse_requests(topic)
    return _BEATS if owner is None else owner[0]


def _note(faults: _Faults, slug: str, code: int, what: str) -> None:
    """What came first stands."""
    if code:
        faults.setdefault(slug, for_code(code)(what))


def _told(faults: _Faults) -> dict[str, str]:
    """In words."""
    return {slug: _in_words(error) for slug, error in faults.items()}


def _in_words(error: KafkaError) -> str:
    what = " ".join(map(str, error.args))
    if isinstance(error, LeaderNotAvailableError):
        return f"{what} has no leader"
    return ": ".join(filter(None, (what, type(error).__name__)))


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
            if commit is not None and commit.offset > end:
                commit = None  # of a log that is no more: workers will read all of this one
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
