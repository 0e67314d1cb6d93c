"""The ASGI application: which path is whose."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from headrace.contracts.errors import HeadraceError
from headrace.contracts.requests import INFER, INFER_URL, PATHS
from headrace.core.addresses import Rules
from headrace.gateway.callers import Callers
from headrace.gateway.catalog import routes
from headrace.gateway.directory import Directory
from headrace.gateway.inference import History, Inference, InferenceParts, Keeps, is_infer
from headrace.gateway.problems import on_error, on_http_exception, on_refusal, refuse
from headrace.gateway.resends import Resends
from headrace.gateway.submit import Submitter
from headrace.settings import GatewaySettings
from headrace.telemetry.gateway import GatewayTelemetry


class Front:
    """The ASGI application: the paths that carry the load at once, all others by Starlette.

    Starlette's two exception middlewares, router and wrapped `send` cost an inference request an eighth of
    the gateway's time (profiled at 64 at once); these paths need none of them.
    """

    def __init__(
        self, inference: Mapping[str, Inference], infer: Inference, rest: Starlette, callers: Callers
    ) -> None:
        self._inference = inference
        self._infer = infer
        self._rest = rest
        self._callers = callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._inference.get(scope["path"])
            if endpoint is None and is_infer(scope["path"]):
                endpoint = self._infer
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        if scope["type"] == "http":
            # Here for all of them, so that no route can forget it.
            try:
                await self._callers.check(scope["path"], scope["headers"])
            except HeadraceError as error:
                await refuse(send, error)
                return
        await self._rest(scope, receive, send)


_STRICT = Rules()


@dataclass(frozen=True, slots=True)
class More:
    """What needs a database: requests whose answers are kept, and paths beside those of inference."""

    callers: Callers
    rules: Rules = _STRICT
    kept: Keeps | None = None
    routes: Sequence[Route] = ()
    history: History | None = None


def application(
    settings: GatewaySettings,
    submitter: Submitter,
    directory: Directory,
    is_ready: Callable[[], bool],
    telemetry: GatewayTelemetry | None = None,
    more: More | None = None,
) -> Front:
    """Everything this gateway serves. Without `more`, nothing that needs a database."""
    more = more or More(Callers(settings))
    resends = Resends(asyncio.get_running_loop().time)
    telemetry = telemetry or GatewayTelemetry()
    parts = InferenceParts(submitter, more.callers, more.kept, resends, more.rules, telemetry, more.history)
    inference = {path: Inference(path, parts) for path in PATHS if path != INFER}
    infer = Inference(INFER, parts)
    # Listed again, so that Starlette answers other methods with 405.
    listed = [Route(path, endpoint, methods=["POST"]) for path, endpoint in inference.items()]
    listed.append(Route(INFER_URL.replace("{model}", "{name:path}"), infer, methods=["POST"]))
    rest = Starlette(
        routes=[*listed, *more.routes, *routes(directory, is_ready)],
        exception_handlers={HTTPException: on_http_exception, HeadraceError: on_refusal, Exception: on_error},
    )
    # A redirect has no request id, and no client of an API expects one.
    rest.router.redirect_slashes = False
    return Front(inference, infer, rest, more.callers)
