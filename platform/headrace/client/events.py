"""Server-sent events, read from lines. No IO.

Source: the HTML Standard, "Server-sent events"; of it what a server of ours sends.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson


class Event(NamedTuple):
    """What happened to a job.

    kind: `status` (data: the job), `chunk` (as a stream of its path has them), `reset` (all chunks so far are
    void), or the final status (data: the job). id: behind which a reader can go on. The server's `error`
    is raised, not given.
    """

    kind: str
    data: Any
    id: str | None = None


class EventLines:
    """Makes events of lines. `last_id`: of the last event that had one."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self._fields: dict[str, str] = {}

    def take(self, line: str) -> Iterator[Event]:
        """One line, without its end."""
        if line.startswith(":"):
            return
        if line:
            name, _, value = line.partition(":")
            self._fields[name] = value.removeprefix(" ")
            return
        fields, self._fields = self._fields, {}
        if "data" in fields:
            self.last_id = fields.get("id", self.last_id)
            yield Event(fields.get("event", "message"), orjson.loads(fields["data"]), fields.get("id"))

    def begin(self) -> None:
        """A new connection: what was left of the one before is void."""
        self._fields = {}
