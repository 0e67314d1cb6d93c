"""Events that came twice under one id, as far as one worker can tell. Pure.

A publisher that heard nothing of its event may publish it again. Whoever waits at a reply topic gets an
answer to each; of a job there is one result, so there need be only one run.
"""

from collections import OrderedDict
from typing import Final

from headrace.contracts.requests import RequestHead
from headrace.core.ports import Place

MAX_REMEMBERED: Final = 10_000


class Duplicates:
    """The jobs that this worker has begun lately."""

    def __init__(self) -> None:
        self._begun: OrderedDict[tuple[str, str, int], Place] = OrderedDict()

    def is_one(self, head: RequestHead, place: Place) -> bool:
        """Whether the job was begun from another record; if not, it is from now on.

        Another attempt is a run of its own, and the same record may come again after a rebalance.
        """
        if not head.is_kept:
            return False
        key = head.source, head.id, head.attempt
        first = self._begun.setdefault(key, place)
        if len(self._begun) > MAX_REMEMBERED:
            self._begun.popitem(last=False)
        return first != place
