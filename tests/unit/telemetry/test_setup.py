"""Telemetry as the settings want it."""

import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress

import pytest

from headrace.contracts.errors import SetupError
from headrace.settings import TelemetrySettings
from headrace.telemetry import metrics
from headrace.telemetry.setup import opened
from headrace.telemetry.telemetry import OFF


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:  # ours
        return response.read().decode()


def test_off_is_nothing() -> None:
    with opened(TelemetrySettings(), "worker") as telemetry:
        assert telemetry is OFF


def test_off_imports_nothing() -> None:
    code = (
        "import sys\n"
        "import headrace.gateway.app, headrace.worker.app, headrace.scaler.app, headrace.dispatcher.app\n"
        "sys.exit(any(name.startswith(('opentelemetry', 'prometheus_client')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def two_free_ports() -> int:
    """The first of two that follow one another; whatever else runs here has others."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with suppress(OSError):
                second.bind(("127.0.0.1", port + 1))
                return port
    pytest.fail("no two free ports")


def test_each_process_of_a_machine_takes_the_next_port() -> None:
    port = two_free_ports()
    settings = TelemetrySettings(prometheus_port=port)
    with opened(settings, "gateway") as one, opened(settings, "scaler") as two:
        one.instruments.series(metrics.HTTP_DURATION, "/v1/x", "200").observe(0.1)
        two.instruments.series(metrics.WORKERS, "chat", "ready").set(3)
        assert 'http_route="/v1/x"' in scrape(port)
        assert 'headrace_workers{gen_ai_request_model="chat"' in scrape(port + 1)
    with opened(settings, "gateway"):  # the ports are free again
        assert "headrace_gateway_waiting" in scrape(port)


def test_an_address_that_is_not_ours_is_told() -> None:
    settings = TelemetrySettings(prometheus_port=1024, prometheus_host="192.0.2.1")
    with pytest.raises(SetupError, match="HEADRACE_TELEMETRY_PROMETHEUS_PORT"), opened(settings, "gateway"):
        pass


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "headrace.telemetry.scrapes", raising=False)
    settings = TelemetrySettings(prometheus_port=0)
    with pytest.raises(SetupError, match=r"headrace\[telemetry\]"), opened(settings, "gateway"):
        pass
