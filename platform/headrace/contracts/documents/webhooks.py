"""Webhooks in the OpenAPI document."""

from typing import Any, Final

from headrace.contracts.documents.operations import PAGE, a_list, answers, obj, parameter, ref

_ALWAYS: Final = ("internal_error", "unavailable")
_FINDS: Final = ("webhook_not_found", *_ALWAYS)
_READS: Final = ("invalid_request", "malformed_body", "body_too_large", *_FINDS)
_TEXT: Final = {"type": "string"}
_MAYBE: Final = {"type": ["string", "null"]}
_TIME: Final = {"type": "integer", "description": "Unix seconds."}
_MAYBE_TIME: Final = {"type": ["integer", "null"], "description": "Unix seconds."}
_EVENTS: Final = {"type": "array", "items": _TEXT, "minItems": 1}
_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 128}
_URL: Final = {**_TEXT, "description": "https, and a public address unless the installation allows others."}

_ENDPOINT: Final[dict[str, dict[str, Any]]] = {
    "id": _TEXT,
    "object": {"const": "webhook_endpoint"},
    "created_at": _TIME,
    "name": _TEXT,
    "url": _TEXT,
    "event_types": _EVENTS,
    "signing_secret_hint": _TEXT,
    "enabled": {"type": "boolean"},
    "disabled_reason": _MAYBE,
}
_DELIVERY: Final[dict[str, dict[str, Any]]] = {
    "id": {**_TEXT, "description": "Also the header `webhook-id` of every attempt."},
    "object": {"const": "webhook_delivery"},
    "webhook_endpoint_id": {**_MAYBE, "description": "Null for a URL that a request named."},
    "url": _TEXT,
    "type": _TEXT,
    "subject": {**_TEXT, "description": "The job, response or batch that it tells of."},
    "status": {"enum": ["pending", "delivered", "failed"]},
    "attempt_count": {"type": "integer"},
    "created_at": _TIME,
    "next_attempt_at": _MAYBE_TIME,
    "finished_at": _MAYBE_TIME,
}
_ATTEMPT: Final = obj(
    {
        "number": {"type": "integer"},
        "at_s": {"type": "number", "description": "Unix seconds."},
        "duration_ms": {"type": "number"},
        "http_status": {"type": ["integer", "null"]},
        "error": _MAYBE,
    }
)
SCHEMAS: Final[dict[str, Any]] = {
    "WebhookEndpoint": obj(_ENDPOINT),
    "WebhookEndpointWithSecret": obj({**_ENDPOINT, "signing_secret": _TEXT}),
    "WebhookEndpointList": a_list("WebhookEndpoint"),
    "WebhookEndpointDeleted": obj(
        {"id": _TEXT, "object": {"const": "webhook_endpoint.deleted"}, "deleted": {"const": True}}
    ),
    "WebhookEndpointTest": obj(
        {
            "object": {"const": "webhook_endpoint.test"},
            "webhook_endpoint_id": _TEXT,
            "event_type": _TEXT,
            "success": {"const": True},
            "status_code": {"type": "integer"},
        }
    ),
    "WebhookEventTypeList": obj({"object": {"const": "list"}, "data": {"type": "array", "items": _TEXT}}),
    "WebhookDelivery": obj(_DELIVERY),
    "WebhookDeliveryList": a_list("WebhookDelivery"),
    "WebhookDeliveryLog": obj({**_DELIVERY, "attempts": {"type": "array", "items": _ATTEMPT}}),
    "WebhookSecret": obj({"object": {"const": "webhook_secret"}, "signing_secret": _TEXT}),
    "NewWebhookEndpoint": obj({"name": _NAME, "url": _URL, "event_types": _EVENTS}),
    "ChangedWebhookEndpoint": obj(
        {"name": _NAME, "url": _URL, "event_types": _EVENTS}, optional=("name", "url", "event_types")
    ),
    "WebhookRotation": obj(
        {"keep_old_secret_active_for_24_hours": {"type": "boolean", "default": False}},
        optional=("keep_old_secret_active_for_24_hours",),
    ),
    "WebhookTrial": obj({"event_type": _TEXT}),
}


def paths() -> dict[str, Any]:
    """The paths."""
    here, log = "/v1/webhook_endpoints", "/v1/webhook_deliveries"
    one = {"parameters": [parameter("Id")]}
    listing = {"parameters": [parameter(name) for name in PAGE]}
    return {
        "/v1/webhook_event_types": {
            "get": _plain("listWebhookEventTypes", "What can be told", "WebhookEventTypeList", _ALWAYS)
        },
        here: {
            "get": _plain(
                "listWebhookEndpoints", "The caller's", "WebhookEndpointList", ("invalid_request", *_ALWAYS)
            )
            | listing,
            "post": _asks("createWebhookEndpoint", "Be told of events", "NewWebhookEndpoint", "WithSecret"),
        },
        f"{here}/{{id}}": {
            **one,
            "get": _plain("retrieveWebhookEndpoint", "One of them", "WebhookEndpoint", _FINDS),
            "post": _asks("updateWebhookEndpoint", "Change it", "ChangedWebhookEndpoint", ""),
            "delete": _plain("deleteWebhookEndpoint", "Forget it", "WebhookEndpointDeleted", _FINDS),
        },
        f"{here}/{{id}}/rotate_secret": {
            **one,
            "post": _asks("rotateWebhookSecret", "A new secret", "WebhookRotation", "WithSecret"),
        },
        f"{here}/{{id}}/test": {
            **one,
            "post": _asks("testWebhookEndpoint", "Send one event now", "WebhookTrial", "Test"),
        },
        f"{here}/{{id}}/deliveries": {
            **one,
            "get": _plain(
                "listEndpointDeliveries",
                "What it was told",
                "WebhookDeliveryList",
                ("invalid_request", *_FINDS),
            )
            | listing,
        },
        log: {
            "get": _plain(
                "listUrlDeliveries",
                "What URLs that requests named were told",
                "WebhookDeliveryList",
                ("invalid_request", *_ALWAYS),
            )
            | listing
        },
        f"{log}/{{id}}": {
            **one,
            "get": _plain("retrieveWebhookDelivery", "With every attempt", "WebhookDeliveryLog", _FINDS),
        },
        f"{log}/{{id}}/replay": {
            **one,
            "post": _plain("replayWebhookDelivery", "Try it once more", "WebhookDelivery", _FINDS),
        },
        "/v1/webhook_secret": {
            "get": _plain(
                "retrieveWebhookSecret", "What signs for URLs of requests", "WebhookSecret", _ALWAYS
            )
        },
        "/v1/webhook_secret/rotate": {
            "post": {
                **_plain("rotateOwnWebhookSecret", "A new one", "WebhookSecret", _READS),
                "requestBody": _body("WebhookRotation", required=False),
            }
        },
    }


def _plain(operation_id: str, summary: str, schema: str, codes: tuple[str, ...]) -> dict[str, Any]:
    return {"operationId": operation_id, "summary": summary, "responses": answers(schema, codes)}


def _asks(operation_id: str, summary: str, body: str, answer: str) -> dict[str, Any]:
    asked = _plain(operation_id, summary, f"WebhookEndpoint{answer}", _READS)
    return {**asked, "requestBody": _body(body, required=body != "WebhookRotation")}


def _body(schema: str, *, required: bool) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": ref(schema)}}}
