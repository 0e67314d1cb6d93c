"""`/v1/models`, and health and metadata of the Open Inference Protocol (`/v2`)."""

import time
from collections.abc import Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace import __version__
from headrace.contracts.tensors import Signature
from headrace.gateway.directory import Directory, listings
from headrace.gateway.problems import new_request_id


def routes(directory: Directory, is_ready: Callable[[], bool]) -> list[Route]:
    """The routes. Model names hold slashes, raw or escaped, so they are matched as paths."""

    async def models(request: Request) -> Response:
        del request
        data = [shown for model in directory.models() for shown in listings(model)]
        ends = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        # Without has_more openai-python asks for pages for ever.
        page = {"object": "list", "data": data, "first_id": ends[0], "last_id": ends[1], "has_more": False}
        return _json(page)

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        found = directory.model(name)
        return _json(next(shown for shown in listings(found) if shown["id"] == name))

    async def live(request: Request) -> Response:
        del request
        return _json({"live": True})

    async def ready(request: Request) -> Response:
        del request
        return _json({"ready": is_ready()}, 200 if is_ready() else 503)

    async def server(request: Request) -> Response:
        del request
        return _json({"name": "headrace", "version": __version__, "extensions": []})

    async def model_ready(request: Request) -> Response:
        name = request.path_params["name"]
        found = directory.model(name)
        state, reason = directory.state(name, time.time())
        # Scaled to nothing is ready all the same: a request wakes it.
        told = {"name": found.name, "version": found.version, "ready": state != "failed", "reason": reason}
        response = _json(told, 503 if state == "failed" else 200)
        response.headers["x-model-state"] = state
        return response

    async def metadata(request: Request) -> Response:
        found = directory.model(request.path_params["name"])
        signature = directory.signature(found.name) or Signature(inputs=(), outputs=())
        told = {"name": found.name, "versions": [found.version], "platform": found.manifest.engine.kind}
        return _json(told | signature.model_dump())

    return [
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2", server),
        Route("/v2/models/{name:path}/ready", model_ready),
        Route("/v2/models/{name:path}", metadata),
    ]


def _json(document: Any, status: int = 200) -> Response:
    headers = {"x-request-id": new_request_id()}
    return Response(orjson.dumps(document), status, headers, media_type="application/json")
