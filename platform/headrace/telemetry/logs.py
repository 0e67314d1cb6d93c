"""Logging set-up: one line a record on stderr, as text for people or JSON for collectors."""

import logging
import sys
from datetime import UTC, datetime
from typing import Final

import orjson

from headrace.settings import Settings
from headrace.telemetry.context import REQUEST_ID, TRACE

# aiokafka says at ERROR what is routine when a broker restarts, and we say it in our own words.
_QUIET: Final = {"aiokafka": logging.CRITICAL, "botocore": logging.WARNING, "httpx": logging.WARNING}


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        line = f"{when} {record.levelname.lower():7} {record.name.removeprefix('headrace.')}: "
        line += record.getMessage()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "role": self._role,
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id, trace = REQUEST_ID.get(), TRACE.get()
        if request_id is not None:
            line["request_id"] = request_id
        if trace is not None:
            line["trace_id"], line["span_id"] = trace.trace_id, trace.span_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def configure(settings: Settings, role: str) -> None:
    """Set up logging for this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(role) if settings.log_format == "json" else _Text())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
