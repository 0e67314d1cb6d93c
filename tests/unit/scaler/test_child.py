"""Why a worker process ended; its life is in tests/contract/actuators."""

import signal

import pytest

from headrace.contracts.events import BURIED, ENGINE_DIED
from headrace.scaler.actuator import Cause
from headrace.scaler.actuators.child import judged


@pytest.mark.parametrize(
    ("exit_code", "cause", "word"),
    [
        (0, Cause.ASKED, "ended"),
        (1, Cause.FAILED, "exit code 1"),
        (ENGINE_DIED, Cause.CRASHED, "engine died"),
        (BURIED, Cause.KILLED, "took it for dead"),
        (-signal.SIGKILL, Cause.KILLED, "signal 9"),
        (-signal.SIGTERM, Cause.KILLED, "signal 15"),
        (-signal.SIGINT, Cause.FAILED, "signal 2"),
        (-signal.SIGSEGV, Cause.CRASHED, "signal 11"),
        (-signal.SIGABRT, Cause.CRASHED, "signal 6"),
    ],
)
def test_how_a_process_ended_says_who_is_to_blame(exit_code, cause, word):
    found, reason = judged(exit_code)
    assert found is cause
    assert word in reason


def test_who_was_told_to_end_before_it_had_begun_has_done_so():
    assert judged(-signal.SIGTERM, is_stopping=True)[0] is Cause.ASKED
    assert judged(-signal.SIGKILL, is_stopping=True)[0] is Cause.KILLED
