"""A model's requests while it has no worker: which have ended all the same, past their deadline or cancelled.

Pure: records and times come in, what is to be answered and committed goes out.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from headrace.contracts import requests
from headrace.contracts.errors import HeadraceError, InvalidRequest, RequestCancelled, RequestExpired
from headrace.contracts.events import ModelDeployed
from headrace.contracts.requests import RequestHead
from headrace.contracts.states import State
from headrace.core.cancels import Cancels
from headrace.core.deadlines import expires_at_s
from headrace.core.identity import Trust, believed
from headrace.core.letters import full
from headrace.core.offsets import MAX_SPAN, Commit, Tracker
from headrace.core.ports import Place, Record

Part = tuple[str, int]

MAX_WAITING: Final = 20_000
"""Requests of a lane looked at and still waiting; what lies beyond is looked at when some have ended."""


class Waiting(NamedTuple):
    """A request that waits for a worker."""

    place: Place
    head: RequestHead
    expires_at_s: float
    trusted: bool


class Ended(NamedTuple):
    """A request that will not run."""

    waiting: Waiting
    state: State
    error: HeadraceError


class Vacancy:
    """One model without workers. `commits`: of all its partitions."""

    def __init__(self, deployed: ModelDeployed, commits: Mapping[Part, Commit | None], trust: Trust) -> None:
        self._deployed = deployed
        self._trust = trust
        self._trackers = {part: Tracker(commit) for part, commit in commits.items()}
        self._commits = {part: commit or Commit(0, "") for part, commit in commits.items()}
        self._waiting: dict[Place, Waiting] = {}
        self._counts: Counter[str] = Counter()

    def is_still(self, commits: Mapping[Part, Commit | None]) -> bool:
        """Whether the commits are those that we know, so that nobody has worked meanwhile."""
        return {part: commit or Commit(0, "") for part, commit in commits.items()} == self._commits

    def positions(self, now_s: float) -> dict[Part, int]:
        """Where to read on, in partitions that are to be read. Holds of workers that are gone end."""
        for tracker in self._trackers.values():
            tracker.expire(now_s)
            tracker.reread()
        return {part: each.resume() for part, each in self._trackers.items() if self._has_room(part)}

    def take(self, record: Record) -> None:
        """Look at a record. What cannot be read is left to a worker, which sets it aside."""
        place = record.place
        tracker = self._trackers[place.topic, place.partition]
        # Room is only made between two readings: what follows a record that found none finds none either.
        if not self._has_room((place.topic, place.partition)) or not tracker.start(place.offset):
            return
        trusted = self._trust.judge(record.headers, self._deployed.slug)
        try:
            head = believed(requests.read(record.headers, default_id=full(place)), trusted=trusted)
        except InvalidRequest:
            return
        end_s = expires_at_s(record, head, self._deployed)
        self._waiting[place] = Waiting(place, head, end_s, trusted)
        self._counts[place.topic] += 1

    def ended(self, now_s: float, cancels: Cancels) -> list[Ended]:
        """Those that are to be answered now."""
        found = []
        for waiting in self._waiting.values():
            if cancels.has(waiting.head.id, waiting.head.batch_id, trusted=waiting.trusted):
                cancelled = RequestCancelled("The request was cancelled")
                found.append(Ended(waiting, State.CANCELLED, cancelled))
            elif waiting.expires_at_s <= now_s:
                late = RequestExpired("The request's deadline passed before a worker could start it")
                found.append(Ended(waiting, State.EXPIRED, late))
        return found

    def settled(self, waiting: Waiting) -> None:
        """It was answered."""
        del self._waiting[waiting.place]
        self._counts[waiting.place.topic] -= 1
        self._trackers[waiting.place.topic, waiting.place.partition].complete(waiting.place.offset)

    def changed(self) -> dict[Part, Commit]:
        """What is to be committed."""
        now = {part: tracker.commit() for part, tracker in self._trackers.items()}
        return {part: commit for part, commit in now.items() if commit != self._commits[part]}

    def committed(self, commits: Mapping[Part, Commit]) -> None:
        """It was."""
        self._commits.update(commits)

    def _has_room(self, part: Part) -> bool:
        return self._counts[part[0]] < MAX_WAITING and self._trackers[part].span < MAX_SPAN
