"""AsyncAPI 3.0 of the topics: for whoever publishes requests or reads results without our gateway."""

from collections.abc import Mapping
from typing import Any, Final

from headrace.contracts import headers as h
from headrace.contracts import replies, requests
from headrace.contracts.bodies import BODIES
from headrace.contracts.claims import POINTER_SCHEMA
from headrace.contracts.decisions import Decision, Leader, Learned, Trusted
from headrace.contracts.documents.header_tables import (
    DEAD_LETTER_HEADERS,
    REPLY_HEADERS,
    REQUEST_HEADERS,
    RETRY_HEADERS,
    header_schema,
)
from headrace.contracts.documents.json_schemas import components
from headrace.contracts.documents.responses import SCHEMAS
from headrace.contracts.events import (
    Cancel,
    Event,
    GatewayHeartbeat,
    Handover,
    ModelDeployed,
    Obituary,
    WorkerHeartbeat,
)
from headrace.contracts.topics import LANES, RETRY_DELAYS_S, Lane, TopicPlan, Topics

_BINDING_VERSION: Final = "0.5.0"
_PLACEHOLDER: Final = "model"
_TOPICS: Final = Topics()
_EVENTS: Final[Mapping[str, type[Event]]] = {
    "modelDeployed": ModelDeployed,
    "workerHeartbeat": WorkerHeartbeat,
    "decision": Decision,
    "leader": Leader,
    "learned": Learned,
    "trusted": Trusted,
    "gatewayHeartbeat": GatewayHeartbeat,
    "cancel": Cancel,
    "obituary": Obituary,
    "handover": Handover,
}
_ANSWERS: Final = (
    "ChatCompletion",
    "Completion",
    "Prediction",
    "EmbeddingList",
    "InferResponse",
    "Error",
    "ResultReference",
)
_CHUNKS: Final = ("ChatCompletionChunk", "CompletionChunk", "PredictionChunk")
_SHARED: Final[Mapping[str, tuple[str, tuple[str, ...], str]]] = {
    "replies": (_TOPICS.replies, ("chunk", "final"), "Answers to gateways, a partition each."),
    "results": (_TOPICS.results, ("final",), "Answers whose request names no reply topic we may use."),
    "streams": (
        _TOPICS.streams,
        ("chunk", "final"),
        "Chunks of answers that nobody waits for; partition: CRC-32 of the request id modulo 16.",
    ),
    "deadLetters": (_TOPICS.dead_letters, ("deadLetter",), "Records that could not be served."),
    **{
        f"retries{delay}": (_TOPICS.retries(delay), ("retry",), f"Requests whose next attempt is in {delay}.")
        for delay in RETRY_DELAYS_S
    },
    "control": (
        _TOPICS.control,
        ("cancel", "obituary", "handover"),
        "Cancels, keyed by request id; what workers must know of each other.",
    ),
    "workers": (_TOPICS.workers, ("workerHeartbeat", "gatewayHeartbeat"), "Who is alive, keyed by id."),
    "models": (_TOPICS.models, ("modelDeployed",), "What is deployed, keyed by model name."),
    "decisions": (_TOPICS.decisions, ("decision",), "What the scaler decided and why, keyed by model."),
    "scaler": (
        _TOPICS.scaler,
        ("leader", "learned", "trusted"),
        "Which scaler acts, keyed `leader`; what it has learned, keyed `learned/<model>`; which version was "
        "well last, keyed `trusted/<model>`.",
    ),
}
"""Topic, messages and purpose of each channel that exists once."""


def asyncapi(version: str) -> dict[str, Any]:
    """The document, with the default topic prefix."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Headrace",
            "version": version,
            "description": "The value of a request is the exact OpenAI body; every header is optional. "
            "The default topic prefix is shown; HEADRACE_KAFKA_TOPIC_PREFIX changes it.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "embedded": {
                "host": "127.0.0.1:9092",
                "protocol": "kafka",
                "description": "The default of `headrace up`",
            }
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": _messages(),
            "schemas": components([*BODIES.values(), *_EVENTS.values()])
            | dict(SCHEMAS)
            | {"ResultReference": POINTER_SCHEMA},
            "correlationIds": {name: {"location": _header(name)} for name in h.CORRELATION_NAMES},
            "replyAddresses": {name: {"location": _header(name)} for name in h.REPLY_TOPIC_NAMES},
        },
    }


def _channels() -> dict[str, Any]:
    plans = {plan.name: plan for plan in _TOPICS.shared_plans()}
    found = {_lane_channel(lane): _request_channel(lane) for lane in LANES}
    found["callerReplies"] = {
        "address": None,
        "description": "The topic that the request names; it must match HEADRACE_WORKER_REPLY_TOPICS.",
        "messages": _message_refs("chunk", "final"),
    }
    for name, (address, messages, purpose) in _SHARED.items():
        found[name] = {
            "address": address,
            "description": purpose,
            "messages": _message_refs(*messages),
            "bindings": _binding(plans[address], with_partitions=True),
        }
    return found


def _request_channel(lane: Lane) -> dict[str, Any]:
    address = _TOPICS.requests(f"{{{_PLACEHOLDER}}}", lane)
    plan = next(plan for plan in _TOPICS.request_plans("x", 1) if plan.name == _TOPICS.requests("x", lane))
    return {
        "address": address,
        "description": f"Requests of one model in lane {lane}.",
        "messages": _message_refs("request"),
        "parameters": {
            _PLACEHOLDER: {
                "description": "The model's name in lower case, '/' spelt '--s', '.' '--d' and '_' '--u'.",
                "examples": ["chat", "org--sname-1--d5"],
            }
        },
        "bindings": _binding(plan, with_partitions=False),
    }


def _binding(plan: TopicPlan, *, with_partitions: bool) -> dict[str, Any]:
    config: dict[str, Any] = {"cleanup.policy": [plan.config["cleanup.policy"]]}
    if "retention.ms" in plan.config:
        config["retention.ms"] = int(plan.config["retention.ms"])
    found: dict[str, Any] = {"topicConfiguration": config, "bindingVersion": _BINDING_VERSION}
    if with_partitions:
        found["partitions"] = plan.partitions
    return {"kafka": found}


def _operations() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for lane in LANES:
        channel = _lane_channel(lane)
        shared = {
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": [{"$ref": f"#/channels/{channel}/messages/request"}],
            "reply": {
                "address": {"$ref": f"#/components/replyAddresses/{h.REPLY_TOPIC}"},
                "channel": {"$ref": "#/channels/callerReplies"},
                "messages": [
                    {"$ref": "#/channels/callerReplies/messages/chunk"},
                    {"$ref": "#/channels/callerReplies/messages/final"},
                ],
            },
        }
        found[f"publish{lane.capitalize()}"] = _operation("send", "publisher", shared)
        found[f"serve{lane.capitalize()}"] = _operation("receive", "platform", shared)
    found["readResults"] = _simple("receive", "publisher", "results")
    found["archiveResults"] = _simple("receive", "platform", "results")
    found["writeResults"] = _simple("send", "platform", "results")
    found["readStreams"] = _simple("receive", "publisher", "streams")
    found["writeStreams"] = _simple("send", "platform", "streams")
    for name in (
        "replies",
        "deadLetters",
        *(f"retries{delay}" for delay in RETRY_DELAYS_S),
        "control",
        "workers",
        "models",
        "decisions",
        "scaler",
    ):
        found[f"write{name[0].upper()}{name[1:]}"] = _simple("send", "platform", name)
    return found


def _operation(action: str, who: str, rest: Mapping[str, Any]) -> dict[str, Any]:
    return {"action": action, "tags": [{"name": who}], **rest}


def _simple(action: str, who: str, channel: str) -> dict[str, Any]:
    return _operation(action, who, {"channel": {"$ref": f"#/channels/{channel}"}})


def _messages() -> dict[str, Any]:
    bodies = {"oneOf": [_schema(body.__name__) for body in BODIES.values()]}
    chunk_rows = header_schema(REPLY_HEADERS)
    found = {
        "request": _message(requests.TYPE, header_schema(REQUEST_HEADERS), bodies),
        "chunk": _message(replies.CHUNK_TYPE, chunk_rows, _one_of(_CHUNKS)),
        "final": _message(" | ".join(replies.TYPES.values()), chunk_rows, _one_of(_ANSWERS)),
        "deadLetter": _message(
            "headrace.dead-letter", header_schema(DEAD_LETTER_HEADERS), {"description": "The original bytes."}
        ),
        "retry": _message(requests.TYPE, header_schema((*REQUEST_HEADERS, *RETRY_HEADERS)), bodies),
    }
    for name in ("request", "chunk", "final"):
        found[name]["correlationId"] = {"$ref": f"#/components/correlationIds/{h.CORRELATION_ID}"}
    for name, event in _EVENTS.items():
        found[name] = {"name": event.__name__, "payload": _schema(event.__name__)}
    return found


def _message(name: str, headers: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "headers": dict(headers), "payload": dict(payload)}


def _message_refs(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _one_of(schemas: tuple[str, ...]) -> dict[str, Any]:
    return {"oneOf": [_schema(name) for name in schemas]}


def _schema(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _header(name: str) -> str:
    return f"$message.header#/{name}"


def _lane_channel(lane: Lane) -> str:
    return f"requests{lane.capitalize()}"
