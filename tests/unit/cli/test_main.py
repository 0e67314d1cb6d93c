"""The command as a process."""

import os
import signal

import pytest

from headrace.cli import main


def test_the_first_process_of_a_container_ends_by_sigterm_before_it_has_begun(monkeypatch):
    me, before = os.getpid(), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(main.os, "getpid", lambda: 1)
    monkeypatch.setattr(main, "app", lambda: os.kill(me, signal.SIGTERM))
    try:
        with pytest.raises(SystemExit) as ended:
            main.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
