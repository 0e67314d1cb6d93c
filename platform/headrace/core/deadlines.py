"""Until when an answer is worth anything."""

from headrace.contracts.events import ModelDeployed
from headrace.contracts.requests import RequestHead
from headrace.core.lines import is_line
from headrace.core.ports import Record


def expires_at_s(record: Record, head: RequestHead, deployed: ModelDeployed) -> float:
    """The request's deadline in Unix seconds: its own, or its model's if that is sooner.

    A batch's line waits as long as its batch does: how many lines lie before it is not its fault.
    """
    if head.expires_at_s is not None and head.batch_id is not None and is_line(head.batch_id, head.id):
        return head.expires_at_s
    limit_s = record.timestamp_ms / 1000 + deployed.manifest.limits.deadline_s
    return limit_s if head.expires_at_s is None else min(limit_s, head.expires_at_s)
