"""Lines for collectors say whose request it is."""

import json
import logging
from contextvars import copy_context

import pytest

from headrace.contracts.tracing import TraceContext
from headrace.settings import Settings
from headrace.telemetry.context import REQUEST_ID, TRACE
from headrace.telemetry.logs import configure


@pytest.fixture(autouse=True)
def root():
    """The root logger as it was."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:], logger.level = handlers, level


def test_a_line_of_json_names_its_request(capsys):
    configure(Settings(log_format="json"), "worker")

    def work():
        REQUEST_ID.set("req_1")
        TRACE.set(TraceContext("a" * 32, "b" * 16, sampled=True))
        logging.getLogger("headrace.worker.loop").info("said %d", 7)

    copy_context().run(work)
    logging.getLogger("headrace.worker.loop").warning("before")
    mine, other = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    del mine["time"]
    assert mine == {
        "level": "info",
        "role": "worker",
        "logger": "headrace.worker.loop",
        "message": "said 7",
        "request_id": "req_1",
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
    }
    assert not {"request_id", "trace_id"} & other.keys()


def test_an_exception_is_one_line_too(capsys):
    configure(Settings(log_format="json"), "gateway")
    try:
        int("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exception"]
