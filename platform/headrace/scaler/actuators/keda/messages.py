"""What KEDA and its external scalers say to each other, as tables.

From the protocol of KEDA 2.21 (`pkg/scalers/externalscaler/externalscaler.proto` of its Go module), and
from `grpc.health.v1`, by which Kubernetes asks whether somebody serves. Classes are built when they are
needed, in a pool of their own: a program may load the compiled protocols beside them.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


class Field(NamedTuple):
    """A field of a message. type: a scalar's name, `map` of strings to strings, or a message's name."""

    name: str
    number: int
    type: str
    is_repeated: bool = False


class Method(NamedTuple):
    """What a service answers to. is_stream: any number of answers to one request."""

    request: str
    response: str
    is_stream: bool = False


class Protocol(NamedTuple):
    """A service, and the messages that it needs."""

    package: str
    service: str
    messages: Mapping[str, tuple[Field, ...]]
    methods: Mapping[str, Method]

    @property
    def full_name(self) -> str:
        """The service's name on the wire."""
        return f"{self.package}.{self.service}"


EXTERNAL_SCALER: Final = Protocol(
    "externalscaler",
    "ExternalScaler",
    {
        "ScaledObjectRef": (
            Field("name", 1, "string"),
            Field("namespace", 2, "string"),
            Field("scalerMetadata", 3, "map"),
        ),
        "IsActiveResponse": (Field("result", 1, "bool"),),
        "MetricSpec": (
            Field("metricName", 1, "string"),
            Field("targetSize", 2, "int64"),
            Field("targetSizeFloat", 3, "double"),
        ),
        "GetMetricSpecResponse": (Field("metricSpecs", 1, "MetricSpec", is_repeated=True),),
        "GetMetricsRequest": (
            Field("scaledObjectRef", 1, "ScaledObjectRef"),
            Field("metricName", 2, "string"),
        ),
        "MetricValue": (
            Field("metricName", 1, "string"),
            Field("metricValue", 2, "int64"),
            Field("metricValueFloat", 3, "double"),
        ),
        "GetMetricsResponse": (Field("metricValues", 1, "MetricValue", is_repeated=True),),
    },
    {
        "IsActive": Method("ScaledObjectRef", "IsActiveResponse"),
        "StreamIsActive": Method("ScaledObjectRef", "IsActiveResponse", is_stream=True),
        "GetMetricSpec": Method("ScaledObjectRef", "GetMetricSpecResponse"),
        "GetMetrics": Method("GetMetricsRequest", "GetMetricsResponse"),
        "StreamMetricSpec": Method("ScaledObjectRef", "GetMetricSpecResponse", is_stream=True),
    },
)

HEALTH: Final = Protocol(
    "grpc.health.v1",
    "Health",
    {
        "HealthCheckRequest": (Field("service", 1, "string"),),
        # An enum there, which is a number on the wire.
        "HealthCheckResponse": (Field("status", 1, "int32"),),
    },
    {"Check": Method("HealthCheckRequest", "HealthCheckResponse")},
)

SERVING: Final = 1
NOT_SERVING: Final = 2

_SCALARS: Final = ("string", "bool", "int32", "int64", "double")


def classes(protocol: Protocol) -> dict[str, Any]:
    """The protocol's messages by name, as protobuf classes."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{protocol.service}.proto", package=protocol.package, syntax="proto3"
    )
    for name, fields in protocol.messages.items():
        _describe(file.message_type.add(name=name), fields, f".{protocol.package}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{protocol.package}.{name}"))
        for name in protocol.messages
    }


def _describe(message: Any, fields: tuple[Field, ...], package: str) -> None:
    kinds = descriptor_pb2.FieldDescriptorProto
    for each in fields:
        field = message.field.add(name=each.name, number=each.number)
        field.label = kinds.LABEL_REPEATED if each.is_repeated else kinds.LABEL_OPTIONAL
        if each.type in _SCALARS:
            field.type = kinds.Type.Value(f"TYPE_{each.type.upper()}")
            continue
        field.type = kinds.TYPE_MESSAGE
        field.type_name = f"{package}.{each.type}"
        if each.type == "map":
            entry = f"{each.name[0].upper()}{each.name[1:]}Entry"
            _describe(
                message.nested_type.add(name=entry, options={"map_entry": True}),
                (Field("key", 1, "string"), Field("value", 2, "string")),
                package,
            )
            field.label = kinds.LABEL_REPEATED
            field.type_name = f"{package}.{message.name}.{entry}"
