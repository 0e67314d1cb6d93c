"""Ids of the requests that the lines of a batch become.

They say which line of which batch they are, so that a batch that is queued twice, because its dispatcher
died, still has one result a line. They begin as gateways' ids do, so that no stranger can use them.
"""

import re
from typing import Final

from headrace.contracts import ids

BATCH_PREFIX: Final = "batch_"
_LINE: Final = re.compile(r"(?a:\d{1,9})")


def request_id(batch_id: str, line: int) -> str:
    """The id of a line, counted from 0."""
    return f"{ids.PREFIX}{batch_id}-{line}"


def line_of(batch_id: str, request_id: str) -> int | None:
    """Which line of the batch the request is; None when it is none."""
    head = f"{ids.PREFIX}{batch_id}-"
    text = request_id.removeprefix(head)
    if not batch_id.startswith(BATCH_PREFIX) or not request_id.startswith(head) or not _LINE.fullmatch(text):
        return None
    return int(text)


def is_line(batch_id: str, request_id: str) -> bool:
    """Whether the request is a line of the batch."""
    return line_of(batch_id, request_id) is not None
