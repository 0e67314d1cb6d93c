"""`/v1/webhook_endpoints`, as OpenAI's client manages them, and the log of deliveries."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Protocol, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.contracts.errors import BodyTooLarge, InvalidRequest, UnknownWebhook
from headrace.contracts.explain import explain
from headrace.core import addresses
from headrace.core.addresses import Rules
from headrace.core.webhooks import (
    EVENTS,
    SECRET_BYTES,
    About,
    Attempt,
    Delivery,
    Endpoint,
    delivery,
    hint,
    new_secret,
    signed,
)
from headrace.gateway.callers import Caller, Callers
from headrace.gateway.pages import asked as wanted
from headrace.gateway.pages import listing
from headrace.gateway.problems import new_request_id

URL: Final = "/v1/webhook_endpoints"
DELIVERIES_URL: Final = "/v1/webhook_deliveries"
SECRET_URL: Final = "/v1/webhook_secret"  # noqa: S105  # a path
_DAY_S: Final = 86_400.0
_MAX_BODY_BYTES: Final = 65_536


class WebhookStore(Protocol):
    """Endpoints and deliveries; see `store.webhooks.Webhooks`."""

    async def add(self, endpoint: Endpoint) -> Endpoint: ...  # noqa: D102

    async def change(self, endpoint: Endpoint) -> bool: ...  # noqa: D102

    async def get(self, tenant: str, endpoint_id: str) -> Endpoint | None: ...  # noqa: D102

    async def page(self, tenant: str, limit: int, after: str | None) -> list[Endpoint]: ...  # noqa: D102

    async def remove(self, tenant: str, endpoint_id: str) -> bool: ...  # noqa: D102

    async def delivery(self, tenant: str, delivery_id: str) -> Delivery | None: ...  # noqa: D102

    async def deliveries(  # noqa: D102
        self, tenant: str, endpoint_id: str | None, limit: int, after: str | None
    ) -> list[Delivery]: ...

    async def attempts(self, delivery_id: str) -> list[Attempt]: ...  # noqa: D102

    async def replay(self, tenant: str, delivery_id: str, now_s: float) -> bool: ...  # noqa: D102

    async def secret_of_urls(self, tenant: str, fresh: str, now_s: float) -> Endpoint: ...  # noqa: D102


class Sends(Protocol):
    """Sends a body; see `hooks.sender.Sender`."""

    async def send(self, number: int, url: str, headers: dict[str, str], body: bytes) -> Attempt:
        """The attempt, whatever came of it."""
        ...


@dataclass(frozen=True, slots=True)
class WebhookParts:
    """What these paths work with."""

    callers: Callers
    store: Callable[[], WebhookStore]
    sender: Sends
    rules: Rules


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_T = TypeVar("_T", bound=_Body)


class NewEndpoint(_Body):
    """Body of `POST /v1/webhook_endpoints`."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    url: str
    event_types: Annotated[list[str], Field(min_length=1, max_length=len(EVENTS))]


class ChangedEndpoint(_Body):
    """Body of `POST /v1/webhook_endpoints/{id}`."""

    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    url: str | None = None
    event_types: Annotated[list[str], Field(min_length=1, max_length=len(EVENTS))] | None = None


class Rotation(_Body):
    """Body of `…/rotate_secret`."""

    keep_old_secret_active_for_24_hours: bool = False


class Trial(_Body):
    """Body of `…/test`."""

    event_type: str


def routes(parts: WebhookParts) -> list[Route]:
    """The routes."""
    here, one, log = _Webhooks(parts), f"{URL}/{{id}}", f"{DELIVERIES_URL}/{{id}}"
    return [
        Route("/v1/webhook_event_types", here.event_types, methods=["GET"]),
        Route(URL, here.page, methods=["GET"]),
        Route(URL, here.create, methods=["POST"]),
        Route(one, here.one, methods=["GET"]),
        Route(one, here.change, methods=["POST"]),
        Route(one, here.delete, methods=["DELETE"]),
        Route(f"{one}/rotate_secret", here.rotate, methods=["POST"]),
        Route(f"{one}/test", here.test, methods=["POST"]),
        Route(f"{one}/deliveries", here.deliveries, methods=["GET"]),
        Route(DELIVERIES_URL, here.deliveries, methods=["GET"]),
        Route(log, here.delivery, methods=["GET"]),
        Route(f"{log}/replay", here.replay, methods=["POST"]),
        Route(SECRET_URL, here.secret, methods=["GET"]),
        Route(f"{SECRET_URL}/rotate", here.rotate_own, methods=["POST"]),
    ]


class _Webhooks:
    def __init__(self, parts: WebhookParts) -> None:
        self._parts = parts

    async def event_types(self, request: Request) -> Response:
        self._parts.callers.of(request)
        return _json({"object": "list", "data": list(EVENTS)})

    async def page(self, request: Request) -> Response:
        caller, asked = self._parts.callers.of(request), wanted(request)
        found = await self._parts.store().page(caller.tenant, asked.limit, asked.after)
        return _json(listing([_shown(endpoint) for endpoint in found], asked.limit))

    async def create(self, request: Request) -> Response:
        caller = self._parts.callers.of(request)
        body = await _read(request, NewEndpoint)
        self._check(body.url, body.event_types)
        endpoint = Endpoint(
            id=f"we_{secrets.token_hex(16)}",
            tenant=caller.tenant,
            name=body.name,
            url=body.url,
            events=tuple(dict.fromkeys(body.event_types)),
            secret=new_secret(secrets.token_bytes(SECRET_BYTES)),
            created_at_s=time.time(),
        )
        await self._parts.store().add(endpoint)
        return _json(_shown(endpoint) | {"signing_secret": endpoint.secret})

    async def one(self, request: Request) -> Response:
        return _json(_shown(await self._endpoint(request)))

    async def change(self, request: Request) -> Response:
        """What is named changes; an endpoint that was switched off is tried again."""
        endpoint, body = await self._endpoint(request), await _read(request, ChangedEndpoint)
        changed = replace(
            endpoint,
            name=body.name or endpoint.name,
            url=body.url or endpoint.url,
            events=tuple(dict.fromkeys(body.event_types or endpoint.events)),
            enabled=True,
            disabled_reason=None,
        )
        self._check(changed.url, changed.events)
        await self._parts.store().change(changed)
        return _json(_shown(changed))

    async def delete(self, request: Request) -> Response:
        endpoint = await self._endpoint(request)
        await self._parts.store().remove(endpoint.tenant, endpoint.id)
        return _json({"id": endpoint.id, "object": "webhook_endpoint.deleted", "deleted": True})

    async def rotate(self, request: Request) -> Response:
        return await self._rotate(request, await self._endpoint(request))

    async def rotate_own(self, request: Request) -> Response:
        return await self._rotate(request, await self._own(self._parts.callers.of(request)))

    async def secret(self, request: Request) -> Response:
        """What signs deliveries to the URLs that the caller's requests name."""
        return _json(
            {
                "object": "webhook_secret",
                "signing_secret": (await self._own(self._parts.callers.of(request))).secret,
            }
        )

    async def test(self, request: Request) -> Response:
        """One attempt, now; it is in no log."""
        endpoint, body = await self._endpoint(request), await _read(request, Trial)
        _check_events([body.event_type], "event_type")
        now_s = time.time()
        about = About(endpoint.tenant, body.event_type, f"test_{secrets.token_hex(8)}", now_s, now_s)
        made = delivery(about, endpoint.url, endpoint.id)
        headers = signed(made, endpoint.secrets(now_s), now_s)
        attempt = await self._parts.sender.send(1, made.url, headers, made.body)
        if attempt.http_status is None:
            raise InvalidRequest(f"The endpoint gave no answer: {attempt.error}", param="url")
        return _json(
            {
                "object": "webhook_endpoint.test",
                "webhook_endpoint_id": endpoint.id,
                "event_type": body.event_type,
                "success": True,
                "status_code": attempt.http_status,
            }
        )

    async def deliveries(self, request: Request) -> Response:
        """To an endpoint, or to the URLs that the caller's requests have named."""
        caller, asked = self._parts.callers.of(request), wanted(request)
        endpoint_id = (await self._endpoint(request)).id if "id" in request.path_params else None
        store = self._parts.store()
        found = await store.deliveries(caller.tenant, endpoint_id, asked.limit, asked.after)
        return _json(listing([_told(each) for each in found], asked.limit))

    async def delivery(self, request: Request) -> Response:
        found = await self._delivery(request)
        tries = [attempt._asdict() for attempt in await self._parts.store().attempts(found.id)]
        shown = [{name: value for name, value in each.items() if name != "retry_after_s"} for each in tries]
        return _json(_told(found) | {"attempts": shown})

    async def replay(self, request: Request) -> Response:
        found = await self._delivery(request)
        await self._parts.store().replay(found.tenant, found.id, time.time())
        return _json(_told(await self._delivery(request)))

    async def _rotate(self, request: Request, endpoint: Endpoint) -> Response:
        body = await _read(request, Rotation)
        now_s = time.time()
        keeps = body.keep_old_secret_active_for_24_hours
        rotated = replace(
            endpoint,
            secret=new_secret(secrets.token_bytes(SECRET_BYTES)),
            old_secret=endpoint.secret if keeps else None,
            old_until_s=now_s + _DAY_S if keeps else None,
        )
        await self._parts.store().change(rotated)
        if not rotated.url:
            return _json({"object": "webhook_secret", "signing_secret": rotated.secret})
        return _json(_shown(rotated) | {"signing_secret": rotated.secret})

    async def _own(self, caller: Caller) -> Endpoint:
        fresh = new_secret(secrets.token_bytes(SECRET_BYTES))
        return await self._parts.store().secret_of_urls(caller.tenant, fresh, time.time())

    async def _endpoint(self, request: Request) -> Endpoint:
        caller, name = self._parts.callers.of(request), request.path_params["id"]
        found = await self._parts.store().get(caller.tenant, name)
        if found is None or not found.url:
            raise UnknownWebhook(f"There is no webhook endpoint '{name[:100]}'", param="id")
        return found

    async def _delivery(self, request: Request) -> Delivery:
        caller, name = self._parts.callers.of(request), request.path_params["id"]
        found = await self._parts.store().delivery(caller.tenant, name)
        if found is None:
            raise UnknownWebhook(f"There is no webhook delivery '{name[:100]}'", param="id")
        return found

    def _check(self, url: str, events: Any) -> None:
        try:
            addresses.target(url, self._parts.rules)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, param="url") from None
        _check_events(events, "event_types")


def _check_events(events: Any, param: str) -> None:
    unknown = [name for name in events if name not in EVENTS]
    if unknown:
        raise InvalidRequest(
            f"There is no event '{unknown[0][:100]}'; there are {', '.join(EVENTS)}", param=param
        )


async def _read(request: Request, kind: type[_T]) -> _T:
    value = await request.body()
    if len(value) > _MAX_BODY_BYTES:
        raise BodyTooLarge(f"The body is over {_MAX_BODY_BYTES} bytes")
    try:
        return kind.model_validate_json(value or b"{}")
    except ValidationError as error:
        raise explain(error, value, {}) from None


def _shown(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "object": "webhook_endpoint",
        "created_at": int(endpoint.created_at_s),
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": list(endpoint.events),
        "signing_secret_hint": hint(endpoint.secret),
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason,
    }


def _told(each: Delivery) -> dict[str, Any]:
    return {
        "id": each.id,
        "object": "webhook_delivery",
        "webhook_endpoint_id": each.endpoint_id,
        "url": each.url,
        "type": each.type,
        "subject": each.subject_id,
        "status": each.state.value,
        "attempt_count": each.attempts,
        "created_at": int(each.created_at_s),
        "next_attempt_at": None if each.next_at_s is None else int(each.next_at_s),
        "finished_at": None if each.finished_at_s is None else int(each.finished_at_s),
    }


def _json(document: dict[str, Any]) -> Response:
    headers = {"x-request-id": new_request_id()}
    return Response(orjson.dumps(document), 200, headers, media_type="application/json")
