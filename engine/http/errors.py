"""Errors as HTTP answers: `{"code", "detail"}` with the status that stands for their class.

Routes translate their own errors, so that they answer alike in any application they are
mounted into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from ipc.errors import (
    AuthError,
    BackbeatError,
    BotError,
    ConfigError,
    LimitError,
    NegotiationError,
    ProtocolError,
    RateLimited,
    SessionNotFound,
    StateError,
    WorkerError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

# The first class that fits decides; from the special to the general.
STATUSES: tuple[tuple[type[BackbeatError], int], ...] = (
    (AuthError, 401),
    (RateLimited, 429),
    (LimitError, 503),
    (SessionNotFound, 404),
    (StateError, 409),
    (ConfigError, 400),
    (ProtocolError, 400),
    (NegotiationError, 400),
    (BotError, 503),
    (WorkerError, 503),
)


class CodedRoute(APIRoute):
    """A route whose BackbeatErrors become answers."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, with the translation around it."""
        handle = super().get_route_handler()

        async def translated(request: Request) -> Response:
            try:
                return await handle(request)
            except BackbeatError as error:
                return body(status_of(error), error.code, error.message)

        return translated


def status_of(error: BackbeatError) -> int:
    """The HTTP status that stands for an error."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


def body(status: int, code: str, detail: object) -> JSONResponse:
    """An error as an answer."""
    return JSONResponse({"code": code, "detail": detail}, status_code=status)
