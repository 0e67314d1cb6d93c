"""What a function's `handler.py` may import: names here stay, the rest of Headrace may move."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from headrace.contracts.errors import InvalidRequest

__all__ = ["Context", "InvalidRequest", "Loading"]


@dataclass(frozen=True, slots=True)
class Loading:
    """Given to `load`, once for each worker.

    folder: the function's own. model_path: what `model.source` names, on this machine.
    args: `engine.args` of the manifest.
    """

    folder: Path
    model_path: Path | None
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """Given to each call.

    request_id: as in logs and answers. model: the public name that the caller used.
    state: what `load` returned.
    """

    request_id: str
    model: str
    state: Any = None
    _cancelled: Event = field(default_factory=Event)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits any more. A handler that is not async should look now and then: it cannot be
        interrupted."""
        return self._cancelled.is_set()
