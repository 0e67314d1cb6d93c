"""A worker's share of its group, through rebalances: what it has, and what it lost but still runs.

Pure: partitions are (topic, partition) pairs, time is given. The shell polls, commits and publishes.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from headrace.contracts.events import Handover
from headrace.core.offsets import Commit, Hold, Tracker
from headrace.core.ports import Place

Part = tuple[str, int]

HOLD_S: Final = 10.0
"""What a worker runs of a lost partition is free after so long without a word from it."""
RENEW_S: Final = 3.0
_WORDS: Final = 20_000
_REPORT_S: Final = 60.0
"""After a lost partition's last request is done, its report is kept so long for repetition."""


@dataclass(slots=True)
class _Lost:
    """Requests of a lost partition that run on here. `told_s`: when that was last said."""

    running: set[int]
    done: set[int] = field(default_factory=set)
    told_s: float = 0.0
    changed: bool = True


class Share:
    """The partitions of one worker."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._lost: dict[Part, _Lost] = {}
        self._dead: set[str] = set()
        self._dirty: set[Part] = set()
        # What ran when a rebalance began, and is committed as held.
        self._leaving: dict[Part, frozenset[int]] = {}
        # The latest word of others on partitions that they have lost, for whoever has these next.
        self._words: dict[tuple[str, Part], Handover] = {}
        self.trackers: dict[Part, Tracker] = {}
        self._skipped = 0
        # Of each tracker, when commits were asked for last.
        self._skips: dict[Part, int] = {}

    @property
    def skipped(self) -> int:
        """Offsets that were passed over, as of all partitions that it ever had."""
        return self._skipped + sum(tracker.skipped for tracker in self.trackers.values())

    def assign(
        self, parts: Collection[Part], commits: Mapping[Part, Commit | None], now_s: float
    ) -> dict[Part, int]:
        """A rebalance is over; returns where to go on reading in partitions that stayed.

        commits: of the partitions that are new. What is still running of others is theirs no more.
        """
        for part in self.trackers.keys() - set(parts):
            self._skipped += self.trackers[part].skipped
            self._lose(part, self.trackers.pop(part))
        self._leaving.clear()
        kept = {part: self.trackers[part] for part in parts if part in self.trackers}
        fresh: dict[Part, Tracker] = {}
        for part in parts:
            if part not in kept:
                lost = self._lost.pop(part, None)
                tracker = fresh[part] = Tracker(commits.get(part), lost.running if lost else ())
                if lost is not None:
                    # What we finished meanwhile is done, whether or not anybody has heard of it.
                    tracker.told(Hold(self._worker, math.inf, frozenset(lost.running)), lost.done)
                for word in [word for (_, about), word in self._words.items() if about == part]:
                    tracker.told(_hold(word), set(word.done))
                for worker in (*self._dead, self._worker):
                    tracker.free(worker)  # what we hold ourselves and do not run was aborted
                tracker.expire(now_s)
        self.trackers = kept | fresh
        # Written when they were about to be lost: holds of ours that must not outlive us.
        self._dirty = set(self.trackers)
        return {part: tracker.resume() for part, tracker in kept.items()}

    def _lose(self, part: Part, tracker: Tracker) -> None:
        """The partition is another's; what was held when it was committed last is ours to report."""
        held = self._leaving.get(part, frozenset())
        done = {offset for offset in held if tracker.is_done(offset)}
        if held or tracker.running:
            self._lost[part] = _Lost(set(tracker.running), done)

    def complete(self, place: Place) -> None:
        """The request's fate is durable."""
        part = (place.topic, place.partition)
        lost = self._lost.get(part)
        if lost is not None and place.offset in lost.running:
            lost.running.remove(place.offset)
            lost.done.add(place.offset)
            lost.changed = True
        elif part in self.trackers:
            self.trackers[part].complete(place.offset)
            self._dirty.add(part)

    def abort(self, place: Place) -> None:
        """The request stopped without a fate: somebody else must run it."""
        part = (place.topic, place.partition)
        lost = self._lost.get(part)
        if lost is not None and place.offset in lost.running:
            lost.running.remove(place.offset)
            lost.changed = True
        elif part in self.trackers:
            self.trackers[part].put_back(place.offset)

    def begin_anew(self, part: Part, offset: int) -> None:
        """The partition's log is another one, and begins at `offset`: what was done was of the old one."""
        self._skipped += self.trackers[part].skipped
        self.trackers[part] = Tracker(Commit(offset, ""))
        self._dirty.add(part)

    def passed(self, part: Part, position: int) -> None:
        """Everything below `position` was read, and given to the tracker where there was anything."""
        if self.trackers[part].passed(position):
            self._dirty.add(part)

    def changed(self) -> dict[Part, Commit]:
        """What has changed since the last call and is to be committed."""
        skips = {part: tracker.skipped for part, tracker in self.trackers.items()}
        # What is passed over is committed at once, not with the next request that is done.
        dirty = self._dirty | {part for part, number in skips.items() if number != self._skips.get(part, 0)}
        self._dirty, self._skips = set(), skips
        return {part: self.trackers[part].commit() for part in dirty if part in self.trackers}

    def leaving(self, now_s: float) -> dict[Part, Commit]:
        """What to commit when a rebalance begins: any partition may be lost, so what runs is held."""
        hold = Hold(self._worker, now_s + HOLD_S, frozenset())
        self._dirty.clear()
        self._leaving = {part: tracker.running for part, tracker in self.trackers.items()}
        return {part: tracker.commit(hold) for part, tracker in self.trackers.items()}

    def again(self, parts: Iterable[Part]) -> None:
        """These could not be committed: they are to be committed later."""
        self._dirty.update(parts)

    def buried(self, worker: str) -> bool:
        """A worker is dead; whether something is free to be read again."""
        self._dead.add(worker)
        return sum(tracker.free(worker) for tracker in self.trackers.values()) > 0

    def told(self, event: Handover) -> bool:
        """A holder's word; whether something is free to be read again."""
        if event.worker == self._worker:
            return False
        part = (event.topic, event.partition)
        self._words.pop((event.worker, part), None)
        self._words[event.worker, part] = event
        if len(self._words) > _WORDS:
            del self._words[next(iter(self._words))]
        tracker = self.trackers.get(part)
        if tracker is None:
            return False
        self._dirty.add(part)
        return tracker.told(_hold(event), set(event.done))

    def expire(self, now_s: float) -> bool:
        """Time passes; whether something is free to be read again."""
        return sum(tracker.expire(now_s) for tracker in self.trackers.values()) > 0

    def reread(self) -> dict[Part, int]:
        """Where reading goes back to, for what has become free."""
        found = {part: tracker.reread() for part, tracker in self.trackers.items()}
        return {part: offset for part, offset in found.items() if offset is not None}

    def reports(self, now_s: float) -> list[Handover]:
        """What is to be said now about lost partitions."""
        events = []
        for (topic, partition), lost in list(self._lost.items()):
            if lost.changed or (lost.running and now_s - lost.told_s >= RENEW_S):
                lost.changed, lost.told_s = False, now_s
                events.append(
                    Handover(
                        worker=self._worker,
                        topic=topic,
                        partition=partition,
                        done=tuple(sorted(lost.done)),
                        running=tuple(sorted(lost.running)),
                        until_s=now_s + HOLD_S,
                    )
                )
            elif not lost.running and now_s - lost.told_s > _REPORT_S:
                del self._lost[topic, partition]
        return events


def _hold(event: Handover) -> Hold:
    return Hold(event.worker, event.until_s, frozenset(event.running))
