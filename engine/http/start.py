"""Calls that are announced before they are made: `POST /start`, then `/sessions/{id}/...`.

What Pipecat's runner and its JavaScript clients do: the start names a transport and gives data
for the bot, its answer says where the call's signaling goes, or its WebSocket. No bot is asked
before the caller comes.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.access import without_port
from engine.http import offer
from engine.http.errors import CodedRoute
from engine.http.parts import Parts
from engine.issued import Issued
from ipc.errors import (
    BackbeatError,
    ConfigError,
    MalformedMessage,
    MessageTooLarge,
    SessionNotFound,
)
from ipc.wire import check_data

if TYPE_CHECKING:
    from collections.abc import Callable

# A page that is left open may call again much later.
REMEMBERED_S = 3600.0
MAX_REMEMBERED = 4096
# Calls that nobody has made yet: so many of one client, and none that is this young makes room.
MAX_OF_ONE = 512
KEPT_S = 300.0
MAX_BODY_BYTES = 16 * 1024
# What the JavaScript client is given when it asks for servers and none are configured.
PUBLIC_STUN = {"urls": ["stun:stun.l.google.com:19302"]}
SIGNALING = "/sessions/{session_id}/{path:path}"
# Methods that no client needs there; the runner that ours stands in for answers them, too.
OTHERS = ["GET", "PUT", "DELETE"]


class StartRequest(BaseModel):
    """What a call will be. Fields of other runners are ignored."""

    model_config = ConfigDict(extra="ignore")

    transport: str = "webrtc"
    enableDefaultIceServers: bool | None = None
    body: Any = Field(None, description="data for the bot, as `request_data` of an offer")


class IceConfig(BaseModel):
    """A part of the client's RTCConfiguration."""

    iceServers: list[dict[str, Any]]


class StartAnswer(BaseModel):
    """Where the call's signaling goes: `/sessions/{sessionId}/api/offer`."""

    sessionId: str
    iceConfig: IceConfig | None = None


class WebsocketAnswer(BaseModel):
    """Where a WebSocket caller goes, and the token that lets it in once.

    Nothing else: what a client is given here it passes on as its own parameters.
    """

    wsUrl: str
    token: str


class Status(BaseModel):
    """Whether calls are taken, and how they may come."""

    status: Literal["ready", "not ready"]
    transports: list[str]


class Started:
    """The data of calls that were announced, by the id that their callers know.

    Those that were made stay for another hour after their last request; who is beyond the
    bound and was silent for longest goes first.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        # As JSON: as objects it may take twenty times the room.
        self._announced: Issued[str] = Issued(
            MAX_REMEMBERED, MAX_OF_ONE, kept_s=KEPT_S, lasts_s=REMEMBERED_S, now_s=now_s
        )
        self._made: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def add(self, data: Any, client: str) -> str:
        """Remember a call's data; its id. Raises RateLimited or LimitError."""
        return self._announced.add(client, json.dumps(data))

    def get(self, session_id: str) -> Any:
        """The call's data. Raises SessionNotFound."""
        packed = self._announced.get(session_id)
        if packed is None:
            when_s, packed = self._made.get(session_id, (0.0, None))
            if packed is None or when_s < self._now_s() - REMEMBERED_S:
                raise SessionNotFound("no call was started under this id, or it is too long ago")
        return json.loads(packed)

    def made(self, session_id: str) -> None:
        """An offer under this id was answered."""
        announced = self._announced.take(session_id)
        packed = announced.value if announced else self._made.pop(session_id, (0.0, None))[1]
        if packed is not None:
            self._made[session_id] = (self._now_s(), packed)
            if len(self._made) > MAX_REMEMBERED:
                self._made.popitem(last=False)


def router(parts: Parts) -> APIRouter:
    """The routes of announced calls."""
    routes = APIRouter(tags=["signaling"], route_class=CodedRoute)
    started = Started()

    @routes.post("/start", response_model_exclude_none=True)
    async def start(request: Request, response: Response) -> StartAnswer | WebsocketAnswer:
        """Announce a call. The body may be empty; `transport` is `webrtc` or `websocket`."""
        asked = _parsed(await request.body())
        transports = _transports(parts)
        if asked.transport not in transports:
            raise ConfigError(
                f"calls come by {' or '.join(transports)} here, not by {asked.transport[:50]!r}",
                code="transport",
            )
        check_data(asked.body)
        client = request.client.host if request.client else ""
        if len(json.dumps(asked.body)) > MAX_BODY_BYTES:
            raise MessageTooLarge(f"`body` is at most {MAX_BODY_BYTES // 1024} KiB of JSON")
        if asked.transport == "websocket":
            callers = parts.sessions.callers
            response.headers["Cache-Control"] = "no-store"
            host = without_port(request.headers.get("host", "localhost"))
            return WebsocketAnswer(
                wsUrl=callers.url(request.url.scheme, host),
                token=callers.issue(asked.body, client),
            )
        servers = [one.as_w3c() for one in parts.sessions.ice_servers]
        if not servers and asked.enableDefaultIceServers:
            servers = [PUBLIC_STUN]
        config = IceConfig(iceServers=servers) if servers else None
        return StartAnswer(sessionId=started.add(asked.body, client), iceConfig=config)

    @routes.post(SIGNALING, operation_id="offer_to_session")
    @routes.patch(SIGNALING, operation_id="candidates_to_session")
    @routes.api_route(SIGNALING, methods=OTHERS, include_in_schema=False)
    async def session(session_id: str, path: str, request: Request, response: Response) -> Any:
        """The signaling of an announced call; any path but `api/offer` is an empty 200."""
        data = started.get(session_id)
        if not path.endswith("api/offer") or request.method not in ("POST", "PATCH"):
            return Response()
        body = await request.body()
        try:
            if request.method == "PATCH":
                return await offer.take_candidates(
                    parts, offer.CandidatesRequest.model_validate_json(body)
                )
            asked = offer.OfferRequest.model_validate_json(body)
        except ValidationError as error:
            raise MalformedMessage(_problems(error), code="invalid_request") from error
        if asked.request_data is None:
            asked.request_data = data
        answer = await offer.answer(parts, asked, response)
        started.made(session_id)
        return answer

    @routes.get("/status")
    async def status(response: Response) -> Status:
        """Whether a call that came now would be taken; see `/health/ready` for why not."""
        return Status(
            status="not ready" if _refuses(parts) else "ready", transports=_transports(parts)
        )

    return routes


def _transports(parts: Parts) -> list[str]:
    return ["webrtc", "websocket"] if parts.sessions.callers.port else ["webrtc"]


def _refuses(parts: Parts) -> bool:
    try:
        return bool(parts.sessions.not_ready())
    except BackbeatError:
        return True


def _parsed(body: bytes) -> StartRequest:
    """What is no JSON object counts as an empty one. Raises ConfigError for wrong fields."""
    try:
        given = json.loads(body or b"{}")
    except (ValueError, RecursionError):  # also what is nested too deep to be read
        given = {}
    try:
        return StartRequest.model_validate(given if isinstance(given, dict) else {})
    except ValidationError as error:
        raise ConfigError(_problems(error), code="invalid_request") from error


def _problems(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}"
        for problem in error.errors()
    )[:300]
