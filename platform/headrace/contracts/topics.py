"""Topic names, slugs, lanes, partitions and retention.

The control plane creates every topic (auto-creation stays off), with the plans made here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from zlib import crc32

from headrace.contracts.errors import InvalidRequest


class Lane(StrEnum):
    """OpenAI's service tiers, as topics. The order is the order of service."""

    PRIORITY = "priority"
    DEFAULT = "default"
    FLEX = "flex"


LANES: Final = tuple(Lane)
REPLY_PARTITIONS: Final = 64
STREAM_PARTITIONS: Final = 16
MAX_NAME_CHARS: Final = 128

# Alphanumeric runs joined by single separators: "--" never occurs in a name, so it can introduce an escape.
_NAME: Final = re.compile(r"[A-Za-z0-9]+(?:[-._/][A-Za-z0-9]+)*")
_ESCAPES: Final = {"/": "--s", ".": "--d", "_": "--u"}
_UNESCAPES: Final = {escape: char for char, escape in _ESCAPES.items()}
_ESCAPED: Final = re.compile("|".join(_UNESCAPES))

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS


def slug(model: str) -> str:
    """Return the model's name as topics spell it: `[a-z0-9-]`, reversible but for case.

    `org/name-1.5` becomes `org--sname-1--d5`. Two names that differ only in case share a slug, so
    deploying refuses the second.

    Raises:
        InvalidRequest: the name is not made of letters and digits joined by single `-`, `.`, `_` or `/`.
    """
    if len(model) > MAX_NAME_CHARS or not _NAME.fullmatch(model):
        raise InvalidRequest(
            f"Model name {model[:MAX_NAME_CHARS]!r} is not allowed: use letters and digits joined by "
            f"single '-', '.', '_' or '/', at most {MAX_NAME_CHARS} characters",
            param="model",
        )
    return "".join(_ESCAPES.get(char, char) for char in model.lower())


def unslug(text: str) -> str:
    """Return the lower-case name that `slug` made `text` from."""
    return _ESCAPED.sub(lambda match: _UNESCAPES[match[0]], text)


def stream_partition(request_id: bytes) -> int:
    """Where in `streams` a request's chunks are; everybody must come to the same."""
    return crc32(request_id) % STREAM_PARTITIONS


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it should be created."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Topics:
    """Every topic of one installation; `prefix` keeps two of them apart on one cluster."""

    prefix: str = "headrace."

    @property
    def replies(self) -> str:
        """Answers to gateways; a gateway reads one partition, without a group."""
        return f"{self.prefix}replies"

    @property
    def results(self) -> str:
        """Final results of asynchronous work, and of publishers who named no reply topic."""
        return f"{self.prefix}results"

    @property
    def streams(self) -> str:
        """Chunks of asynchronous streams, which callers may take up anywhere and again."""
        return f"{self.prefix}streams"

    @property
    def dead_letters(self) -> str:
        """Records that could not be served, with the reason."""
        return f"{self.prefix}dead-letters"

    def retries(self, delay: str) -> str:
        """Requests that wait for their next attempt; `delay` is a key of `RETRY_DELAYS_S`."""
        return f"{self.prefix}retries.{delay}"

    @property
    def control(self) -> str:
        """Cancels, obituaries and hand-overs between workers; keyed, the latest word counts."""
        return f"{self.prefix}control"

    @property
    def workers(self) -> str:
        """Heartbeats of workers and gateways."""
        return f"{self.prefix}workers"

    @property
    def models(self) -> str:
        """What is deployed, keyed by model name."""
        return f"{self.prefix}models"

    @property
    def decisions(self) -> str:
        """What the scaler decided, and why."""
        return f"{self.prefix}decisions"

    @property
    def scaler(self) -> str:
        """What the scaler has learned; who owns its one partition is the one that acts."""
        return f"{self.prefix}scaler"

    def requests(self, model_slug: str, lane: Lane) -> str:
        """The topic of one model's lane."""
        return f"{self.prefix}requests.{model_slug}.{lane}"

    def group(self, model_slug: str) -> str:
        """The consumer group of a model's workers."""
        return f"{self.prefix}workers.{model_slug}"

    def is_internal(self, topic: str) -> bool:
        """Whether the topic is one of ours, which no caller may name as its reply topic."""
        return topic.startswith((self.prefix, "__"))

    def is_shared(self, topic: str) -> bool:
        """Whether the topic exists once per installation, so that it can only be away for a while."""
        return any(plan.name == topic for plan in self.shared_plans())

    def parse_requests(self, topic: str) -> tuple[str, Lane] | None:
        """The slug and lane of a request topic; None for any other topic."""
        head = f"{self.prefix}requests."
        if not topic.startswith(head):
            return None
        model_slug, _, lane = topic.removeprefix(head).rpartition(".")
        return (model_slug, Lane(lane)) if model_slug and lane in LANES else None

    def shared_plans(self) -> tuple[TopicPlan, ...]:
        """Topics that exist once per installation."""
        return (
            TopicPlan(self.replies, REPLY_PARTITIONS, _delete(15 * _MINUTE_MS, 5 * _MINUTE_MS)),
            TopicPlan(self.results, 8, _delete(_DAY_MS)),
            TopicPlan(self.streams, STREAM_PARTITIONS, _delete(STREAM_RETENTION_MS)),
            TopicPlan(self.dead_letters, 4, _delete(30 * _DAY_MS, _DAY_MS)),
            *(TopicPlan(self.retries(delay), 4, _delete(_DAY_MS)) for delay in RETRY_DELAYS_S),
            # A cancel must outlive the request that it is for; older words are of no use to anybody.
            TopicPlan(self.control, 1, _COMPACT_AND_DELETE | {"retention.ms": str(8 * _DAY_MS)}),
            TopicPlan(self.workers, 1, _COMPACT | {"delete.retention.ms": str(10 * _MINUTE_MS)}),
            TopicPlan(self.models, 1, _COMPACT),
            TopicPlan(self.decisions, 1, _delete(7 * _DAY_MS, _DAY_MS)),
            TopicPlan(self.scaler, 1, _COMPACT),
        )

    def request_plans(self, model_slug: str, partitions: int) -> tuple[TopicPlan, ...]:
        """The lanes of one model. A foreign publisher cannot backdate a record: times are the log's."""
        stamped = {"message.timestamp.type": "LogAppendTime"}
        return tuple(
            TopicPlan(
                self.requests(model_slug, lane),
                partitions,
                _delete(REQUEST_RETENTION_MS[lane], 10 * _MINUTE_MS) | stamped,
            )
            for lane in LANES
        )


REQUEST_RETENTION_MS: Final[Mapping[Lane, int]] = {
    Lane.PRIORITY: _HOUR_MS,
    Lane.DEFAULT: 6 * _HOUR_MS,
    Lane.FLEX: 7 * _DAY_MS,
}

STREAM_RETENTION_MS: Final = 6 * _HOUR_MS
"""As long as a stream can be taken up again; after it the whole answer still can be had."""

RETRY_DELAYS_S: Final[Mapping[str, float]] = {"5s": 5.0, "30s": 30.0, "5m": 300.0}
"""The retry topics: records wait in order, so each topic has one delay."""

_COMPACT_AND_DELETE: Final = {"cleanup.policy": "compact,delete", "segment.ms": str(10 * _MINUTE_MS)}
_COMPACT: Final = {"cleanup.policy": "compact", "segment.ms": str(10 * _MINUTE_MS)}


def _delete(retention_ms: int, segment_ms: int = 10 * _MINUTE_MS) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(retention_ms),
        "segment.ms": str(segment_ms),
    }
