"""Until when an answer is worth anything."""

from headrace.contracts.events import ModelDeployed
from headrace.contracts.requests import RequestHead
from headrace.contracts.topics import LANES, REQUEST_RETENTION_MS, Lane
from headrace.core.lines import is_line
from headrace.core.ports import Record


def patience_s(lane: Lane) -> float:
    """How long a job may wait and run at most: nine tenths of what its lane keeps records for."""
    return 0.9 * REQUEST_RETENTION_MS[lane] / 1000


def expires_at_s(record: Record, head: RequestHead, deployed: ModelDeployed) -> float:
    """The request's deadline in Unix seconds: its own, if that is sooner than its model's or its lane's.

    The model's is for those who wait. A job may lie in its lane for long, a batch's line for as long as its
    batch says; see `run_until_s`.
    """
    if head.expires_at_s is not None and head.batch_id is not None and is_line(head.batch_id, head.id):
        return head.expires_at_s
    if head.is_kept:
        lane = record.place.topic.rpartition(".")[2]
        limit_s = patience_s(Lane(lane) if lane in LANES else Lane.DEFAULT)
    else:
        limit_s = deployed.manifest.limits.deadline_s
    end_s = record.timestamp_ms / 1000 + limit_s
    return end_s if head.expires_at_s is None else min(end_s, head.expires_at_s)


def run_until_s(expires_s: float, head: RequestHead, deployed: ModelDeployed, now_s: float) -> float:
    """Until when a request that starts now may run: a job as long as somebody would wait for it."""
    return min(expires_s, now_s + deployed.manifest.limits.deadline_s) if head.is_kept else expires_s
