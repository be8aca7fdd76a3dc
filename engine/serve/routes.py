"""HTTP routes: the FastAPI application, with every error as problem details (RFC 9457).

Input: a Gateway, the API keys. Output: an ASGI application with its OpenAPI page at /docs, wrapped in `engine.serve.middleware`,
which checks key and body size first. Independent of stages and of Ray.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from engine.answer import api
from engine.answer.resolve import UnknownPlaylist, UnknownTrack
from engine.serve.batching import Overloaded
from engine.serve.gateway import Gateway, TooSlow
from engine.serve.middleware import ARRIVED, LOG_FIELDS, Middleware
from engine.serve.problems import MEDIA_TYPE, REQUEST_ID, problem
from engine.serve.telemetry import Telemetry
from features.domain import SegueError

LOG = logging.getLogger("segue")
API_VERSION = "1"
MOST_ERRORS = 10
"""Of a body, that are listed; the others are counted."""
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": api.Problem, "description": description, "content": {MEDIA_TYPE: {}}}
    for status, description in {
        400: "The body cannot be read.",
        401: "An API key is needed.",
        404: "No such playlist or track.",
        413: "The body is too large.",
        422: "The body is not valid.",
        429: "Too many requests are waiting; try again after Retry-After seconds.",
        504: "No answer in time.",
    }.items()
}
_KINDS: dict[type[SegueError], tuple[int, str]] = {
    UnknownPlaylist: (404, "unknown-playlist"),
    UnknownTrack: (404, "unknown-track"),
    Overloaded: (429, "overloaded"),
    TooSlow: (504, "too-slow"),
}


def web_app(
    current: Callable[[], Gateway], keys: tuple[str, ...] = (), echo_request_id: bool = True, telemetry: Telemetry | None = None
) -> ASGIApp:
    """`current`: the gateway of the active model; a request keeps the gateway it began with.

    `keys`: a request without one of them is refused; without keys every request is accepted. `echo_request_id`: see Middleware.
    """
    app = FastAPI(title="Segue", summary="What comes next?", version=API_VERSION, redoc_url=None)
    _add_error_handlers(app)
    _add_query_routes(app, current)
    _add_state_routes(app, current)
    return Middleware(app, keys, echo_request_id=echo_request_id, telemetry=telemetry)


def _add_query_routes(app: FastAPI, current: Callable[[], Gateway]) -> None:
    ranked = APIRouter(route_class=_admitted(current))

    @ranked.post("/v1/recommend", response_model=api.Recommended, responses=_PROBLEMS)
    async def recommend(body: api.Recommend, request: Request) -> Response:
        """The tracks that continue some tracks, a known playlist or a title."""
        return _logged(request, await current().recommend(body, _id_of(request), request.scope[ARRIVED]))

    @ranked.post("/v1/rank", response_model=api.Recommended, responses=_PROBLEMS)
    async def rank(body: api.Rank, request: Request) -> Response:
        """The given candidates in the order in which they continue the tracks."""
        return _logged(request, await current().rank(body, _id_of(request), request.scope[ARRIVED]))

    app.include_router(ranked)

    @app.post("/v1/similar", response_model=api.Nearest, responses=_PROBLEMS)
    async def similar(body: api.Similar, request: Request) -> Response:
        """The nearest tracks of one track: by the playlists they share, or by content for a track that is in no playlist."""
        return _json(await current().similar(body, _id_of(request), request.scope[ARRIVED]))

    @app.get("/v1/tracks", response_model=api.Found, responses=_PROBLEMS)
    async def tracks(
        request: Request,
        q: Annotated[str, Query(min_length=1, max_length=200, description="Words of a title, an artist or an id.")],
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> Response:
        """The tracks whose title, artist or id contain every word, the most popular first."""
        return _json(await current().search(q, limit, request.scope[ARRIVED]))


def _admitted(current: Callable[[], Gateway]) -> type[APIRoute]:
    """Routes whose body is parsed only when the queue has room."""

    class AdmittedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def admit_and_handle(request: Request) -> Response:
                await current().admission.enter()
                return await handle(request)

            return admit_and_handle

    return AdmittedRoute


def _add_state_routes(app: FastAPI, current: Callable[[], Gateway]) -> None:
    @app.get("/v1/model", responses=_PROBLEMS)
    async def model() -> Response:
        """The manifest of the active model."""
        return _json(current().manifest)

    @app.get("/healthz", response_model=api.Alive)
    async def healthz() -> Response:
        """Whether this process is alive."""
        return _json(api.Alive())

    @app.get("/readyz", response_model=api.Ready, responses={503: {"model": api.Ready}})
    async def readyz() -> Response:
        """Whether every stage answers; each is called now."""
        ready = await current().ready()
        return _json(ready, 200 if ready.ready else 503)


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(SegueError)
    async def segue_error(request: Request, error: SegueError) -> Response:
        status, kind = next((_KINDS[one] for one in type(error).__mro__ if one in _KINDS), (422, "bad-request"))
        return problem(request.scope, status, kind, str(error))

    @app.exception_handler(RequestValidationError)
    async def bad_body(request: Request, error: RequestValidationError) -> Response:
        all_errors = error.errors()
        errors = [{"at": ".".join(str(part) for part in one["loc"]), "message": one["msg"]} for one in all_errors[:MOST_ERRORS]]
        first = f"{errors[0]['at']}: {errors[0]['message']}" if errors else "not valid"
        more = f" (and {len(all_errors) - 1} more)" if len(all_errors) > 1 else ""
        return problem(request.scope, 422, "bad-request", first + more, errors)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        return problem(request.scope, error.status_code, "http", str(error.detail))

    @app.exception_handler(Exception)
    async def internal_error(request: Request, error: Exception) -> Response:
        LOG.error("request %s failed", request.scope[REQUEST_ID], exc_info=error)
        return problem(request.scope, 500, "internal", "An internal error; the log has it under this request_id.")


def _id_of(request: Request) -> str:
    return str(request.scope[REQUEST_ID])


def _logged(request: Request, answer: api.Recommended) -> Response:
    """The response, with further fields for the access log."""
    request.scope[LOG_FIELDS] = {"model": answer.model.version, "tracks": len(answer.tracks), "degraded": answer.degraded}
    return _json(answer)


def _json(answer: BaseModel, status: int = 200) -> Response:
    """Serialised by pydantic, without a second validation."""
    return Response(answer.model_dump_json(), status, media_type="application/json")
