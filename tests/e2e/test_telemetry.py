"""What an operator sees of requests: traces and metrics at a collector, pages for Prometheus, log lines."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.collector import Collector, collector, values
from tests.stack import Stack, wait_until

from headrace.contracts.topics import Lane, Topics
from headrace.devstack.ports import free

pytestmark = pytest.mark.timeout(180)

TOPIC = Topics().requests("echo", Lane.DEFAULT)
CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SERVER, CLIENT, PRODUCER, CONSUMER, INTERNAL = 2, 3, 4, 5, 1


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": "one two three"}]} | more


@pytest.fixture(scope="module")
def seen() -> Iterator[Collector]:
    with collector() as found:
        yield found


@pytest.fixture(scope="module")
def first_port() -> int:
    (port,) = free(1)
    return port


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, seen: Collector, first_port: int) -> Iterator[Stack]:
    settings = {
        "HEADRACE_TELEMETRY_OTLP_ENDPOINT": seen.url,
        "HEADRACE_TELEMETRY_PROMETHEUS_PORT": str(first_port),
        "HEADRACE_TELEMETRY_TRACES_PER_S": "1000",
        "HEADRACE_TELEMETRY_EXPORT_INTERVAL_S": "0.5",
        "HEADRACE_LOG_FORMAT": "json",
        "HEADRACE_LOG_LEVEL": "info",
    }
    stack = Stack(tmp_path_factory.mktemp("stack"), settings=settings)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def client(watched: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=watched.http_url, timeout=60) as client:
        yield client


def names(trace: dict[str, Any]) -> set[str]:
    return set(trace)


def wait_for_trace(seen: Collector, request_id: str, count: int) -> dict[str, tuple[str, Any]]:
    wait_until(lambda: len(seen.trace_of(request_id)) >= count, f"{count} spans of {request_id}", 20)
    return seen.trace_of(request_id)


ALL = {
    "POST /v1/chat/completions": ("headrace-gateway", SERVER),
    f"send {TOPIC}": ("headrace-gateway", PRODUCER),
    f"process {TOPIC}": ("headrace-worker", CONSUMER),
    "chat echo": ("headrace-worker", INTERNAL),
}


@pytest.mark.parametrize("stream", [False, True])
def test_one_trace_from_http_to_the_engine(client: httpx.Client, seen: Collector, *, stream: bool) -> None:
    answer = client.post("/v1/chat/completions", json=chat(stream=stream, max_tokens=2))
    trace = wait_for_trace(seen, answer.headers["x-request-id"], len(ALL))
    assert {name: (service, span.kind) for name, (service, span) in trace.items()} == ALL
    server, send, process, engine = (trace[name][1] for name in ALL)
    assert server.parent_span_id == b""
    assert [send.parent_span_id, process.parent_span_id, engine.parent_span_id] == [
        server.span_id,
        send.span_id,
        process.span_id,
    ]
    assert [(link.trace_id, link.span_id) for link in process.links] == [(send.trace_id, send.span_id)]
    assert values(server.attributes)["http.response.status_code"] == 200
    said = values(engine.attributes)
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.request.model"] == "echo"
    assert said["gen_ai.request.max_tokens"] == 2
    assert said["gen_ai.usage.input_tokens"] == 3
    assert said["gen_ai.usage.output_tokens"] == 2
    assert said["gen_ai.response.finish_reasons"] == ["length"]
    assert [event.name for event in engine.events] == (["first chunk"] if stream else [])
    assert "one two three" not in str(trace), "texts are nobody's business"


def test_a_callers_trace_goes_on(client: httpx.Client, seen: Collector) -> None:
    headers = {"traceparent": f"00-{CALLER[0]}-{CALLER[1]}-01", "tracestate": "vendor=1"}
    client.post("/v1/chat/completions", json=chat(), headers=headers)
    wait_until(lambda: len(seen.trace(CALLER[0])) == len(ALL), "the trace", 20)
    server = seen.trace(CALLER[0])["POST /v1/chat/completions"][1]
    assert server.parent_span_id.hex() == CALLER[1]
    assert {span.trace_state for _, span in seen.trace(CALLER[0]).values()} == {"vendor=1"}


def test_a_caller_who_does_not_trace_is_followed(client: httpx.Client, seen: Collector) -> None:
    trace_id = "5" * 32
    client.post("/v1/chat/completions", json=chat(), headers={"traceparent": f"00-{trace_id}-{CALLER[1]}-00"})
    nonsense = client.post("/v1/chat/completions", json=chat(), headers={"traceparent": "nonsense"})
    assert nonsense.status_code == 200
    wait_for_trace(seen, nonsense.headers["x-request-id"], len(ALL))
    assert not seen.trace(trace_id)


async def test_a_publishers_trace_goes_on(watched: Stack, seen: Collector) -> None:
    trace_id = "6" * 32
    producer = AIOKafkaProducer(bootstrap_servers=watched.kafka_bootstrap_servers)
    await producer.start()
    try:
        headers = [("traceparent", f"00-{trace_id}-{CALLER[1]}-01".encode()), ("ce_id", b"mine-1")]
        await producer.send_and_wait(TOPIC, json.dumps(chat()).encode(), headers=headers)
        await producer.send_and_wait(TOPIC, json.dumps(chat()).encode(), headers=[("ce_id", b"mine-2")])
    finally:
        await producer.stop()
    wait_until(lambda: len(seen.trace(trace_id)) == 2, "the worker's spans", 20)
    process = seen.trace(trace_id)[f"process {TOPIC}"][1]
    assert process.parent_span_id.hex() == process.links[0].span_id.hex() == CALLER[1]
    alone = wait_for_trace(seen, "mine-2", 2)
    assert alone[f"process {TOPIC}"][1].parent_span_id == b""


def test_a_refusal_has_a_span_with_its_reason(client: httpx.Client, seen: Collector) -> None:
    trace_id = "7" * 32
    headers = {"traceparent": f"00-{trace_id}-{CALLER[1]}-01"}
    assert client.post("/v1/chat/completions", json={"model": "echo"}, headers=headers).status_code == 400
    wait_until(lambda: bool(seen.trace(trace_id)), "the gateway's span", 20)
    ((_, span),) = seen.trace(trace_id).values()
    said = values(span.attributes)
    assert (said["http.response.status_code"], said["error.type"]) == (400, "invalid_request")


def test_metrics_come_to_the_collector_and_to_prometheus(
    client: httpx.Client, seen: Collector, first_port: int
) -> None:
    for stream in (False, True):
        client.post("/v1/chat/completions", json=chat(stream=stream))

    def has(service: str, name: str, **labels: str) -> bool:
        wanted = {label.replace("__", "."): value for label, value in labels.items()}
        return any(wanted.items() <= values(point.attributes).items() for point in seen.points(service, name))

    model = {"gen_ai__request__model": "echo"}
    for service, name, labels in (
        ("headrace-gateway", "http.server.request.duration", {"http__route": "/v1/chat/completions"}),
        ("headrace-worker", "gen_ai.server.request.duration", model),
        ("headrace-worker", "gen_ai.server.time_to_first_token", model),
        ("headrace-worker", "gen_ai.server.time_per_output_token", model),
        ("headrace-worker", "gen_ai.client.token.usage", model | {"gen_ai__token__type": "output"}),
        ("headrace-worker", "headrace.queue.duration", model | {"headrace__lane": "default"}),
        ("headrace-worker", "headrace.requests", model | {"headrace__outcome": "completed"}),
        ("headrace-worker", "headrace.worker.capacity", model),
        ("headrace-scaler", "headrace.workers", model | {"headrace__worker__phase": "ready"}),
        ("headrace-dispatcher", "headrace.backlog", model | {"headrace__lane": "flex"}),
    ):
        wait_until(lambda: has(service, name, **labels), f"{name} of {service}", 20)  # noqa: B023
    found: dict[str, float] = {}
    for port in range(first_port, first_port + 8):
        try:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        except httpx.ConnectError:
            continue
        for family in text_string_to_metric_families(text):
            found |= {sample.name: sample.value for sample in family.samples}
    assert found["headrace_requests_total"] >= 2
    assert {"headrace_workers", "headrace_backlog", "http_server_request_duration_seconds_count"} <= set(
        found
    )


async def test_lines_in_the_log_name_the_request(watched: Stack) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=watched.kafka_bootstrap_servers)
    await producer.start()
    try:
        body = json.dumps({"input": 1}).encode()
        headers = [("ce_id", b"mine-3"), ("ce_apipath", b"/v1/predictions")]
        await producer.send_and_wait(TOPIC, body, headers=headers)
    finally:
        await producer.stop()

    def said() -> list[str]:
        logs = [log.read_text() for log in (watched.data_dir / "logs").glob("*.log")]
        parsed = [json.loads(line) for log in logs for line in log.splitlines() if line.startswith("{")]
        return [line["message"] for line in parsed if line.get("request_id") == "mine-3"]

    wait_until(lambda: any("refused" in message for message in said()), "a line about it", 20)


def test_a_collector_that_is_away_holds_nobody_up(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    (port,) = free(1)
    settings = {
        "HEADRACE_TELEMETRY_TRACES_PER_S": "1000",
        "HEADRACE_TELEMETRY_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "HEADRACE_TELEMETRY_EXPORT_INTERVAL_S": "0.2",
    }
    stack = Stack(tmp_path_factory.mktemp("stack"), settings=settings)
    try:
        stack.start()
        with httpx.Client(base_url=stack.http_url, timeout=10) as client:
            for _ in range(20):
                assert client.post("/v1/chat/completions", json=chat()).status_code == 200
        assert stack.stop() == 0
    finally:
        stack.stop()
    logs = "".join(log.read_text() for log in (stack.data_dir / "logs").glob("*.log"))
    assert "Traceback" not in logs
