"""Telemetry for a process, as its settings want it."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from headrace import __version__
from headrace.contracts.errors import SetupError
from headrace.settings import TelemetrySettings
from headrace.telemetry.instruments import Gathering
from headrace.telemetry.sampling import Budget
from headrace.telemetry.spans import Tracer
from headrace.telemetry.telemetry import OFF, Telemetry

_SPANS_S: Final = 5.0
"""The longest that a span waits to be sent."""


@contextmanager
def opened(settings: TelemetrySettings, role: str, instance: str | None = None) -> Iterator[Telemetry]:
    """What the process measures with, until the block ends; what is left is sent then.

    instance: the worker's or gateway's own id.

    Raises:
        SetupError: a library is missing, or no port is free.
    """
    if not settings.is_on:
        yield OFF
        return
    with ExitStack() as stack:
        try:
            telemetry = _open(settings, role, instance or f"{socket.gethostname()}-{os.getpid()}", stack)
        except ModuleNotFoundError as error:
            raise SetupError(
                f"Telemetry needs {error.name}: install it with pip install 'headrace[telemetry]', or unset "
                "HEADRACE_TELEMETRY_OTLP_ENDPOINT and HEADRACE_TELEMETRY_PROMETHEUS_PORT"
            ) from None
        yield telemetry


def _open(settings: TelemetrySettings, role: str, instance: str, stack: ExitStack) -> Telemetry:
    gathering = Gathering(role)
    if settings.prometheus_port is not None:
        from headrace.telemetry.scrapes import serve  # noqa: PLC0415  # an extra

        stack.callback(serve(settings.prometheus_host, settings.prometheus_port, gathering))
    tracer = None
    if settings.otlp_endpoint is not None:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # an extra, and 20 MB

        from headrace.telemetry import otlp  # noqa: PLC0415

        resource = Resource.create(
            {
                "service.namespace": "headrace",
                "service.name": f"headrace-{role}",
                "service.version": __version__,
                "service.instance.id": instance,
            }
        )
        otlp.quieten()
        # A POST costs some 10 ms of CPU, so not for every few spans.
        interval_s = min(settings.export_interval_s, _SPANS_S)
        provider = otlp.provider(settings.otlp_endpoint, resource, interval_s)
        tracer = Tracer(provider, Budget(settings.traces_per_s))
        pusher = otlp.MetricsPusher(gathering, resource, settings.otlp_endpoint, settings.export_interval_s)
        stack.callback(otlp.end, provider, pusher)
    return Telemetry(is_on=True, instruments=gathering, tracer=tracer)
