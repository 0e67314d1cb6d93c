"""Which part of a list is asked for."""

from typing import Final, NamedTuple

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100


class PageQuery(NamedTuple):
    """What follows `after` (an id; None: from the beginning), at most `limit` of it; the newest first."""

    after: str | None = None
    limit: int = DEFAULT_LIMIT
    ascending: bool = False
