"""The FastAPI application: routes, error bodies, limits, and the one gate before them.

Every request passes `Gate` first, whatever route it is for: that is the place where
authorization is decided. What is refused behind it a page may read, as its origin allows.
Errors leave as `{"code", "detail"}`.
"""

from __future__ import annotations

import traceback
from pathlib import Path

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import engine
from engine.access import LOOPBACK_ORIGIN, Access
from engine.http import health, offer, start, stats
from engine.http.errors import body, status_of
from engine.http.parts import Parts
from ipc.errors import AuthError, BackbeatError

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 256 * 1024
WEB = Path(__file__).resolve().parent.parent / "web"
# What may be fetched is what lies there: no path is built from a request.
WEB_FILES = {path.name: path for path in WEB.glob("*.*") if path.name != "index.html"}
CONTENT_SECURITY_POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"


def build(
    parts: Parts,
    *,
    allowed_hosts: list[str],
    allowed_origins: list[str],
    loopback: bool,
) -> FastAPI:
    """The application over an engine's parts.

    `allowed_hosts` are the names that a request may be for, `allowed_origins` the sites whose
    pages may call; empty allows every one, but on `loopback` only pages from this machine.
    """
    app = FastAPI(title="Backbeat", version=engine.__version__, redoc_url=None)
    app.include_router(router(parts, loopback=loopback))
    _serve_playground(app)
    app.add_exception_handler(BackbeatError, _failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    # What is added last is met first: a request passes the gate, CORS, the catch, the limit,
    # its route. Starlette's own answer to a fault is made outside of them all.
    app.add_middleware(BodyLimit)
    app.add_middleware(Faults)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=allowed_origins or ([] if loopback else ["*"]),
        allow_origin_regex=LOOPBACK_ORIGIN if loopback else None,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["Server-Timing"],
    )
    app.add_middleware(Gate, access=Access(allowed_hosts, allowed_origins, loopback=loopback))
    return app


def router(parts: Parts, *, loopback: bool) -> APIRouter:
    """The routes for callers and operators, without the page."""
    routes = APIRouter()
    routes.include_router(offer.router(parts))
    routes.include_router(start.router(parts))
    routes.include_router(stats.router(parts, loopback=loopback))
    routes.include_router(health.router(parts))
    return routes


class Gate:
    """What every request passes first: authorization."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or answer it."""
        if scope["type"] == "websocket":  # none is served; a new route must pass here first
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            authorize(scope, self._access)
        except AuthError as error:
            await body(403, error.code, error.message)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class Faults:
    """Answers for a route that failed: a page may read that, as any other answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, and answer 500 for what nobody expected."""
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            if begun or scope["type"] != "http":  # the server ends the connection
                raise
            route = getattr(scope.get("route"), "path", "")
            log.error(
                "http_failed",
                method=scope["method"],
                route=route,
                exception=traceback.format_exc(),
            )
            detail = "the engine failed here; its log says how"
            await body(500, "internal", detail)(scope, receive, send)


class BodyLimit:
    """How long the body of a request may be, and may say to be."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or answer it."""
        if scope["type"] != "http":  # the gate lets nothing else by but the lifespan
            await self._app(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise HTTPException(413, f"a body is at most {MAX_BODY_BYTES // 1024} KiB")
            return message

        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > MAX_BODY_BYTES:
            detail = f"a body is at most {MAX_BODY_BYTES // 1024} KiB"
            await body(413, "body_too_large", detail)(scope, receive, send)
            return
        await self._app(scope, limited, send)


def authorize(scope: Scope, access: Access) -> None:
    """Decide whether a request may reach its route. Raises AuthError.

    Nobody needs credentials yet. What is refused is a page of another site whose name was made
    to point to this machine (DNS rebinding): an engine on loopback serves loopback names only.
    """
    access.check_host(dict(scope["headers"]).get(b"host", b"").decode("latin-1"))


def _serve_playground(app: FastAPI) -> None:
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"}

    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(WEB / "index.html", headers=headers)

    @app.get("/web/{name}", include_in_schema=False)
    async def asset(name: str) -> FileResponse:
        if name not in WEB_FILES:
            raise HTTPException(404, "no such file")
        return FileResponse(WEB_FILES[name], headers=headers)


async def _failed(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BackbeatError)  # noqa: S101 - registered for this class
    return body(status_of(error), error.code, error.message)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    problems = [
        {"loc": [str(part) for part in problem["loc"]], "msg": problem["msg"]}
        for problem in error.errors()
    ]
    return body(422, "invalid_request", problems)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    codes = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
    return body(error.status_code, codes.get(error.status_code, "http"), error.detail)
