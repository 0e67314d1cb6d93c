"""The gRPC server that KEDA asks: how many workers a model is to have."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc

from headrace.contracts.errors import HeadraceError, InvalidRequest, SetupError, Unavailable, UnknownModel
from headrace.contracts.topics import slug
from headrace.scaler.actuators.keda.messages import (
    EXTERNAL_SCALER,
    HEALTH,
    NOT_SERVING,
    SERVING,
    Method,
    Protocol,
    classes,
)
from headrace.scaler.actuators.keda.targets import Targets
from headrace.settings import KedaSettings

_GRACE_S: Final = 2.0
_OPTIONS: Final = (("grpc.so_reuseport", 0),)
"""Else two servers share a port, and nobody is told."""
_STATUS: Final = {
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    UnknownModel: grpc.StatusCode.NOT_FOUND,
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
}


def metric_name(model: str) -> str:
    """What KEDA calls the number of this model's workers."""
    return f"desired_workers-{slug(model)}"


class Answers:
    """What is answered to each method."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._messages = classes(EXTERNAL_SCALER)
        self._health = classes(HEALTH)

    def handlers(self) -> list[Any]:
        """Both services, for a server."""
        scaler = {
            "IsActive": self.is_active,
            "StreamIsActive": self.stream_is_active,
            "GetMetricSpec": self.get_metric_spec,
            "StreamMetricSpec": self.stream_metric_spec,
            "GetMetrics": self.get_metrics,
        }
        return [
            _service(EXTERNAL_SCALER, self._messages, scaler),
            _service(HEALTH, self._health, {"Check": self.check}),
        ]

    async def is_active(self, ref: Any) -> Any:
        """Whether the model is to have workers."""
        return self._messages["IsActiveResponse"](result=self._number(ref) > 0)

    async def stream_is_active(self, ref: Any) -> AsyncIterator[Any]:
        """The same now, and each time that it becomes otherwise."""
        said: bool | None = None
        while not self._targets.is_closed:
            turned = self._targets.turned
            is_active = self._number(ref) > 0
            if is_active is not said:
                said = is_active
                yield self._messages["IsActiveResponse"](result=is_active)
            await turned.wait()

    async def get_metric_spec(self, ref: Any) -> Any:
        """The metric is a number of workers, so each of them stands for one."""
        self._number(ref)
        spec = self._messages["MetricSpec"](
            metricName=metric_name(_model(ref)), targetSize=1, targetSizeFloat=1.0
        )
        return self._messages["GetMetricSpecResponse"](metricSpecs=[spec])

    async def stream_metric_spec(self, ref: Any) -> AsyncIterator[Any]:
        """The same, which never changes."""
        yield await self.get_metric_spec(ref)
        while not self._targets.is_closed:
            await self._targets.turned.wait()

    async def get_metrics(self, request: Any) -> Any:
        """How many workers the model is to have."""
        ref = request.scaledObjectRef
        number = self._number(ref)
        value = self._messages["MetricValue"](
            metricName=metric_name(_model(ref)), metricValue=number, metricValueFloat=float(number)
        )
        return self._messages["GetMetricsResponse"](metricValues=[value])

    async def check(self, _: Any) -> Any:
        """Whether the numbers are of use, whichever service is meant."""
        status = SERVING if self._targets.are_fresh else NOT_SERVING
        return self._health["HealthCheckResponse"](status=status)

    def _number(self, ref: Any) -> int:
        return self._targets.of(_model(ref))


class Server:
    """Serves while it is open."""

    def __init__(self, settings: KedaSettings) -> None:
        self._settings = settings
        self._raw: Any = None

    @property
    def is_open(self) -> bool:
        """Whether somebody can connect."""
        return self._raw is not None

    async def open(self, targets: Targets) -> None:
        """Listen.

        Raises:
            SetupError: the port is taken, or a file of TLS cannot be read.
        """
        address = _free(self._settings.host, self._settings.port)
        credentials = _credentials(self._settings)
        raw = grpc.aio.server(options=_OPTIONS)
        raw.add_generic_rpc_handlers(Answers(targets).handlers())
        try:
            if credentials is None:
                raw.add_insecure_port(address)
            else:
                raw.add_secure_port(address, credentials)
        except RuntimeError as error:
            files = "HEADRACE_KEDA_SSL_CERT_FILE, _KEY_FILE and _CA_FILE do not hold what they should"
            raise SetupError(f"KEDA cannot be served: {error if credentials is None else files}") from None
        await raw.start()
        self._raw = raw

    async def close(self) -> None:
        """Let nobody in; streams have a moment to end."""
        if self._raw is not None:
            raw, self._raw = self._raw, None
            await raw.stop(_GRACE_S)


def _model(ref: Any) -> str:
    model = ref.scalerMetadata.get("model")
    if not model:
        raise InvalidRequest("The trigger's metadata must say which model it is for: 'model: NAME'")
    return str(model)


def _free(host: str, port: int) -> str:
    """The address, of which gRPC would tell less when it is taken."""
    family, address = (
        (socket.AF_INET6, f"[{host}]:{port}") if ":" in host else (socket.AF_INET, f"{host}:{port}")
    )
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SetupError(
                f"Port {port} on {host} for KEDA cannot be used ({error.strerror}): choose another by "
                "HEADRACE_KEDA_PORT, or HEADRACE_KEDA_HOST"
            ) from None
    return address


def _credentials(settings: KedaSettings) -> Any:
    """Of TLS, with `ssl_ca_file` of mutual TLS; None without."""
    if settings.ssl_cert_file is None and settings.ssl_key_file is None and settings.ssl_ca_file is None:
        return None
    pair = (
        _read("HEADRACE_KEDA_SSL_KEY_FILE", settings.ssl_key_file),
        _read("HEADRACE_KEDA_SSL_CERT_FILE", settings.ssl_cert_file),
    )
    authority = settings.ssl_ca_file and _read("HEADRACE_KEDA_SSL_CA_FILE", settings.ssl_ca_file)
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)


def _read(setting: str, path: Path | None) -> bytes:
    if path is None:
        raise SetupError(f"TLS for KEDA needs {setting}, too")
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise SetupError(f"{setting}: {path} cannot be read: {error.strerror}") from None


def _service(protocol: Protocol, messages: dict[str, Any], answers: dict[str, Callable[[Any], Any]]) -> Any:
    handlers = {name: _handler(protocol.methods[name], messages, each) for name, each in answers.items()}
    return grpc.method_handlers_generic_handler(protocol.full_name, handlers)


def _handler(method: Method, messages: dict[str, Any], answer: Callable[[Any], Any]) -> Any:
    make = grpc.unary_stream_rpc_method_handler if method.is_stream else grpc.unary_unary_rpc_method_handler
    return make(
        _each(answer) if method.is_stream else _one(answer),
        request_deserializer=messages[method.request].FromString,
        response_serializer=messages[method.response].SerializeToString,
    )


def _one(answer: Callable[[Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def told(request: Any, context: Any) -> Any:
        try:
            return await answer(request)
        except HeadraceError as error:
            await _abort(context, error)

    return told


def _each(answer: Callable[[Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def told(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for each in answer(request):
                yield each
        except HeadraceError as error:
            await _abort(context, error)

    return told


async def _abort(context: Any, error: HeadraceError) -> None:
    await context.abort(_STATUS.get(type(error), grpc.StatusCode.INTERNAL), error.message)
