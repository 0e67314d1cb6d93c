"""What KEDA asks, by its own protocol, and what it is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.keda import Protocol

from headrace.contracts.errors import SetupError, Unavailable
from headrace.devstack.ports import HOST
from headrace.scaler.actuator import Orders
from headrace.scaler.actuators.keda.actuator import Keda
from headrace.scaler.actuators.keda.service import Server
from headrace.scaler.actuators.keda.targets import Targets
from headrace.settings import KedaSettings

_SOON_S = 10.0


@asynccontextmanager
async def connected(settings: KedaSettings, protocol: Protocol) -> AsyncIterator[Any]:
    """KEDA's client."""
    async with grpc.aio.insecure_channel(f"{HOST}:{settings.port}") as channel:
        yield protocol.stubs.ExternalScalerStub(channel)


def ref(protocol: Protocol, **metadata: str) -> Any:
    return protocol.messages.ScaledObjectRef(name="chat", namespace="models", scalerMetadata=metadata)


async def poll(client: Any, protocol: Protocol, model: str = "org/chat") -> tuple[float, bool]:
    """As KEDA polls: both calls, one after the other."""
    me = ref(protocol, model=model, scalerAddress="scaler:6000")
    spec = await client.GetMetricSpec(me, timeout=_SOON_S)
    name = spec.metricSpecs[0].metricName
    asked = protocol.messages.GetMetricsRequest(scaledObjectRef=me, metricName=name)
    (value,) = (await client.GetMetrics(asked, timeout=_SOON_S)).metricValues
    assert value.metricName == name
    assert value.metricValue == value.metricValueFloat
    return value.metricValueFloat, (await client.IsActive(me, timeout=_SOON_S)).result


async def status_of(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details() or ""


async def test_the_metric_is_a_number_of_workers(
    keda: Keda, settings: KedaSettings, protocol: Protocol
) -> None:
    await keda.act(Orders(1, targets={"org/chat": 3, "idle": 0}))
    async with connected(settings, protocol) as client:
        (spec,) = (await client.GetMetricSpec(ref(protocol, model="org/chat"))).metricSpecs
        assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == (
            "desired_workers-org--schat",
            1,
            1.0,
        )
        assert await poll(client, protocol) == (3.0, True)
        assert await poll(client, protocol, "idle") == (0.0, False)
        await keda.act(Orders(1, targets={"org/chat": 5, "idle": 0}))
        assert await poll(client, protocol) == (5.0, True)


async def test_a_model_that_wakes_up_is_pushed(
    keda: Keda, settings: KedaSettings, protocol: Protocol
) -> None:
    await keda.act(Orders(1, targets={"chat": 0}))
    async with connected(settings, protocol) as client:
        stream = client.StreamIsActive(ref(protocol, model="chat"))
        assert not (await asyncio.wait_for(stream.read(), _SOON_S)).result, "at once as it is"

        next_one = asyncio.ensure_future(stream.read())
        await keda.act(Orders(1, targets={"chat": 0, "other": 1}))
        await keda.act(Orders(1, targets={"chat": 2}))
        assert (await asyncio.wait_for(next_one, _SOON_S)).result

        last = asyncio.ensure_future(stream.read())
        await keda.act(Orders(1, targets={"chat": 3}))
        await keda.act(Orders(1, targets={"chat": 0}))
        assert not (await asyncio.wait_for(last, _SOON_S)).result, "what is still active is not said again"


async def test_streams_end_well_and_begin_again(
    keda: Keda, settings: KedaSettings, protocol: Protocol
) -> None:
    await keda.act(Orders(1, targets={"chat": 1}))
    async with connected(settings, protocol) as client:
        streams = [
            client.StreamIsActive(ref(protocol, model="chat")),
            client.StreamMetricSpec(ref(protocol, model="chat")),
        ]
        assert (await streams[0].read()).result
        assert (await streams[1].read()).metricSpecs[0].targetSizeFloat == 1.0
        await keda.stand_back()
        for stream in streams:
            assert await asyncio.wait_for(stream.read(), _SOON_S) is grpc.aio.EOF
            assert await stream.code() is grpc.StatusCode.OK, "KEDA comes again after two seconds"

        await keda.act(Orders(2, targets={"chat": 0}))
        again = client.StreamIsActive(ref(protocol, model="chat"), wait_for_ready=True)
        assert not (await asyncio.wait_for(again.read(), _SOON_S)).result


async def test_who_does_not_act_says_nothing(keda: Keda, settings: KedaSettings, protocol: Protocol) -> None:
    async with connected(settings, protocol) as client:
        for call in (client.IsActive, client.GetMetricSpec):
            code, _ = await status_of(call(ref(protocol, model="chat")))
            assert code is grpc.StatusCode.UNAVAILABLE
        await keda.act(Orders(1, targets={"chat": 1}))
        answer = await client.IsActive(ref(protocol, model="chat"), wait_for_ready=True, timeout=_SOON_S)
        assert answer.result
        await keda.stand_back()
        code, _ = await status_of(client.IsActive(ref(protocol, model="chat")))
        assert code is grpc.StatusCode.UNAVAILABLE


async def test_old_numbers_are_not_told(settings: KedaSettings, protocol: Protocol) -> None:
    now_s = [0.0]
    targets, server = Targets(lambda: now_s[0]), Server(settings)
    targets.decide({"chat": 4})
    await server.open(targets)
    try:
        async with connected(settings, protocol) as client:
            now_s[0] = 29.0
            assert await poll(client, protocol, "chat") == (4.0, True)
            now_s[0] = 31.0
            asked = protocol.messages.GetMetricsRequest(scaledObjectRef=ref(protocol, model="chat"))
            for call in (client.GetMetrics(asked), client.IsActive(ref(protocol, model="chat"))):
                code, why = await status_of(call)
                assert code is grpc.StatusCode.UNAVAILABLE
                assert "cannot read Kafka" in why
    finally:
        targets.close()
        await server.close()


async def test_a_wrong_trigger_is_told(keda: Keda, settings: KedaSettings, protocol: Protocol) -> None:
    await keda.act(Orders(1, targets={"chat": 1}))
    async with connected(settings, protocol) as client:
        code, why = await status_of(client.GetMetricSpec(ref(protocol, modell="chat")))
        assert (code, "model: NAME" in why) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        code, why = await status_of(client.IsActive(ref(protocol, model="nobody")))
        assert (code, "no model 'nobody'" in why) == (grpc.StatusCode.NOT_FOUND, True)
        code, _ = await status_of(client.StreamIsActive(ref(protocol, model="nobody")).read())
        assert code is grpc.StatusCode.NOT_FOUND


async def test_a_probe_sees_whether_the_numbers_are_of_use(settings: KedaSettings) -> None:
    now_s = [0.0]
    targets, server = Targets(lambda: now_s[0]), Server(settings)
    targets.decide({})
    await server.open(targets)
    try:
        async with grpc.aio.insecure_channel(f"{HOST}:{settings.port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(service="externalscaler"))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            now_s[0] = 31.0
            answer = await health.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    finally:
        targets.close()
        await server.close()


async def test_a_taken_port_is_told(keda: Keda, settings: KedaSettings) -> None:
    await keda.act(Orders(1))
    second = Keda(settings, dict)
    with pytest.raises(
        SetupError, match=f"Port {settings.port} on {HOST} for KEDA cannot be used .Address already in use"
    ):
        await second.start()
    with pytest.raises(Unavailable, match="HEADRACE_KEDA_PORT"):
        await second.act(Orders(1))


@pytest.fixture
def secure(settings: KedaSettings, tmp_path: Any) -> tuple[KedaSettings, trustme.CA]:
    authority = trustme.CA()
    cert = authority.issue_cert(HOST, "localhost")
    cert.private_key_pem.write_to_path(tmp_path / "key.pem")
    cert.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    files = {
        "ssl_key_file": tmp_path / "key.pem",
        "ssl_cert_file": tmp_path / "cert.pem",
        "ssl_ca_file": tmp_path / "ca.pem",
    }
    return settings.model_copy(update=files), authority


async def test_mutual_tls(secure: tuple[KedaSettings, trustme.CA], protocol: Protocol) -> None:
    settings, authority = secure
    keda = Keda(settings, dict)
    await keda.start()
    await keda.act(Orders(1, targets={"chat": 2}))
    mine = authority.issue_cert("keda.example")
    pair = (mine.private_key_pem.bytes(), mine.cert_chain_pems[0].bytes())
    strangers = (None, None)
    try:
        for (key, chain), code in ((pair, None), (strangers, grpc.StatusCode.UNAVAILABLE)):
            credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), key, chain)
            async with grpc.aio.secure_channel(f"localhost:{settings.port}", credentials) as channel:
                client = protocol.stubs.ExternalScalerStub(channel)
                if code is None:
                    assert await poll(client, protocol, "chat") == (2.0, True)
                else:
                    assert (await status_of(client.IsActive(ref(protocol, model="chat"))))[0] is code
    finally:
        await keda.stop()


async def test_files_of_tls_that_are_missing_or_wrong_are_told(
    secure: tuple[KedaSettings, trustme.CA],
) -> None:
    settings, _ = secure
    with pytest.raises(SetupError, match="needs HEADRACE_KEDA_SSL_KEY_FILE"):
        await Keda(settings.model_copy(update={"ssl_key_file": None}), dict).start()
    with pytest.raises(SetupError, match="do not hold what they should"):
        await Keda(settings.model_copy(update={"ssl_cert_file": settings.ssl_key_file}), dict).start()
    gone = settings.ssl_cert_file.with_name("gone.pem") if settings.ssl_cert_file else None
    with pytest.raises(SetupError, match=r"HEADRACE_KEDA_SSL_CERT_FILE: .*gone.pem cannot be read"):
        await Keda(settings.model_copy(update={"ssl_cert_file": gone}), dict).start()
