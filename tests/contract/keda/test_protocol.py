"""Our tables beside KEDA's own protocol: the same on the wire."""

from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from tests.keda import Protocol

from headrace.scaler.actuators.keda.messages import EXTERNAL_SCALER, HEALTH, classes


def described(file) -> descriptor_pb2.FileDescriptorProto:
    found = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(found)
    return found


def fields(message):
    """Each field as the wire knows it, with nested messages."""
    mine = {each.name: (each.number, each.label, each.type, each.type_name) for each in message.field}
    nested = {each.name: (fields(each), each.options.map_entry) for each in message.nested_type}
    return mine, nested


def test_every_message_is_keda_s(protocol: Protocol) -> None:
    theirs = described(protocol.messages.DESCRIPTOR)
    made = classes(EXTERNAL_SCALER)
    ours = described(next(iter(made.values())).DESCRIPTOR.file)
    assert (ours.package, ours.syntax) == (theirs.package, theirs.syntax)
    assert {each.name: fields(each) for each in ours.message_type} == {
        each.name: fields(each) for each in theirs.message_type
    }


def test_every_method_is_keda_s(protocol: Protocol) -> None:
    (theirs,) = described(protocol.messages.DESCRIPTOR).service
    assert theirs.name == EXTERNAL_SCALER.service
    assert {
        each.name: (each.input_type, each.output_type, each.server_streaming) for each in theirs.method
    } == {
        name: (f".externalscaler.{method.request}", f".externalscaler.{method.response}", method.is_stream)
        for name, method in EXTERNAL_SCALER.methods.items()
    }
    assert not any(each.client_streaming for each in theirs.method)


def test_health_is_that_of_grpc() -> None:
    made = classes(HEALTH)
    asked = made["HealthCheckRequest"](service="a").SerializeToString()
    assert health_pb2.HealthCheckRequest.FromString(asked).service == "a"
    for name, number in health_pb2.HealthCheckResponse.ServingStatus.items():
        told = made["HealthCheckResponse"](status=number).SerializeToString()
        assert health_pb2.HealthCheckResponse.FromString(told).status == getattr(
            health_pb2.HealthCheckResponse, name
        )
    assert HEALTH.full_name == health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
