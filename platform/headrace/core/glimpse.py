"""What a few of the requests that wait say of all: how large they are, and until when they are wanted. Pure.

Requests are served in their order: one that is due needs all that stands before it to be done as well,
whenever that is due itself.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from headrace.contracts import requests
from headrace.contracts.errors import InvalidRequest
from headrace.contracts.events import ModelDeployed
from headrace.contracts.topics import LANES, Lane
from headrace.core.deadlines import expires_at_s
from headrace.core.ports import Record
from headrace.core.sizing import Due

_MAX_TOKENS: Final = re.compile(rb'"max_(?:completion_|output_)?tokens"\s*:\s*(\d{1,9})\b')
"""Within a JSON string every quote is escaped, so that what is found is a key."""
_NEAR: Final = 1.1
"""Deadlines that lie so near to one another are taken for the first of them."""


class Span(NamedTuple):
    """What lies in a partition from the first request without a fate on: `requests` up to `end` have none."""

    topic: str
    partition: int
    begin: int
    end: int
    requests: int


class Seen(NamedTuple):
    """One that waits. before: the share of its lane that stands before it. body_bytes: of its body.

    at_s, expires_at_s: when it came, and until when it is wanted (Unix time). max_tokens: if it says so.
    """

    lane: Lane
    before: float
    at_s: float
    expires_at_s: float
    body_bytes: int
    max_tokens: int | None = None


def seen(record: Record, before: float, deployed: ModelDeployed) -> Seen | None:
    """What a record says; None when it cannot be read, so that it will be set aside."""
    lane = record.place.topic.rpartition(".")[2]
    try:
        head = requests.read(record.headers, default_id="")
    except InvalidRequest:
        return None
    if lane not in LANES:
        return None
    value = record.value or b""
    limit = _MAX_TOKENS.search(value)
    return Seen(
        Lane(lane),
        before,
        record.timestamp_ms / 1000,
        expires_at_s(record, head, deployed),
        len(value),
        None if limit is None else int(limit[1]),
    )


@dataclass(frozen=True, slots=True)
class Glimpse:
    """All that wait, as the few stand for them.

    at_s: when they were looked at. size: of one, beside what requests cost on the average. oldest_s: when the
    oldest came. steps: until when which share of all work must be done, both rising. tokens: of one.
    """

    at_s: float
    size: float = 1.0
    tokens: float = 0.0
    oldest_s: float | None = None
    steps: tuple[tuple[float, float], ...] = ()

    def due(self, work_s: float, now_s: float) -> list[Due]:
        """Deadlines to come, when all that waits is so much work."""
        return [Due(end_s - now_s, share * work_s) for end_s, share in self.steps if end_s > now_s]


Measure = Callable[[Seen], tuple[float, float]]
"""How large a request is beside the average, and its tokens."""


def glimpse(few: Sequence[Seen], waiting: Mapping[Lane, int], measure: Measure, now_s: float) -> Glimpse:
    """What `few` say of all that wait, of which there are so many in each lane."""
    number = Counter(each.lane for each in few)
    weights = {lane: waiting.get(lane, 0) / count for lane, count in number.items()}
    # Lower lanes get a tenth of the starts meanwhile; here they wait for those above them.
    ordered = sorted(few, key=lambda each: (LANES.index(each.lane), each.before))
    sizes = [measure(each) for each in ordered]
    count = sum(weights[each.lane] for each in ordered)
    if not count:
        return Glimpse(now_s)
    done, ends = 0.0, []
    for each, (size, _) in zip(ordered, sizes, strict=True):
        done += weights[each.lane] * size
        ends.append((each.expires_at_s, done))
    pairs = list(zip(ordered, sizes, strict=True))
    return Glimpse(
        now_s,
        size=done / count,
        tokens=sum(weights[each.lane] * tokens for each, (_, tokens) in pairs) / count,
        oldest_s=min(each.at_s for each in few),
        steps=tuple((end_s, work / done) for end_s, work in _steps(ends, now_s)) if done else (),
    )


def _steps(ends: Sequence[tuple[float, float]], now_s: float) -> list[tuple[float, float]]:
    """Only deadlines before which more must be done than before all earlier ones."""
    found: list[tuple[float, float]] = []
    for end_s, work in sorted(ends):
        if found and work <= found[-1][1]:
            continue
        if found and end_s - now_s <= _NEAR * (found[-1][0] - now_s):
            found[-1] = (found[-1][0], work)
        else:
            found.append((end_s, work))
    return found
