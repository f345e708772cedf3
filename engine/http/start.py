"""Calls that are announced before they are made: `POST /start`, then `/sessions/{id}/...`.

What Pipecat's runner and its JavaScript clients do: the start names a transport and gives data
for the bot, its answer says where the call's signaling goes, or its WebSocket. No bot is asked
before the caller comes.
"""

from __future__ import annotations

import itertools
import json
import secrets
import time
from collections import OrderedDict
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.access import without_port
from engine.http import offer
from engine.http.errors import CodedRoute
from engine.http.parts import Parts
from ipc.errors import (
    BackbeatError,
    ConfigError,
    MalformedMessage,
    MessageTooLarge,
    SessionNotFound,
)
from ipc.wire import check_data

# A page that is left open may call again much later; what is older or beyond goes first.
REMEMBERED_S = 3600.0
MAX_REMEMBERED = 4096
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
    """The data of calls that were announced, by the id that their callers know."""

    def __init__(self) -> None:
        # As JSON: as objects it may take twenty times the room.
        self._data: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def add(self, data: Any) -> str:
        """Remember a call's data; its id."""
        session_id = secrets.token_urlsafe(24)
        self._put(session_id, json.dumps(data))
        return session_id

    def get(self, session_id: str) -> Any:
        """The call's data, which stays for another hour. Raises SessionNotFound."""
        entry = self._data.pop(session_id, None)
        if entry is None or entry[0] < time.monotonic() - REMEMBERED_S:
            raise SessionNotFound("no call was started under this id, or it is too long ago")
        self._put(session_id, entry[1])
        return json.loads(entry[1])

    def _put(self, session_id: str, data: str) -> None:
        now_s = time.monotonic()
        self._data[session_id] = (now_s, data)
        for when_s, _ in list(itertools.islice(self._data.values(), 2)):  # the oldest stand first
            if when_s < now_s - REMEMBERED_S or len(self._data) > MAX_REMEMBERED:
                self._data.popitem(last=False)


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
        if len(json.dumps(asked.body)) > MAX_BODY_BYTES:
            raise MessageTooLarge(f"`body` is at most {MAX_BODY_BYTES // 1024} KiB of JSON")
        if asked.transport == "websocket":
            callers = parts.sessions.callers
            response.headers["Cache-Control"] = "no-store"
            host = without_port(request.headers.get("host", "localhost"))
            return WebsocketAnswer(
                wsUrl=callers.url(request.url.scheme, host), token=callers.issue(asked.body)
            )
        servers = [one.as_w3c() for one in parts.sessions.ice_servers]
        if not servers and asked.enableDefaultIceServers:
            servers = [PUBLIC_STUN]
        config = IceConfig(iceServers=servers) if servers else None
        return StartAnswer(sessionId=started.add(asked.body), iceConfig=config)

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
        return await offer.answer(parts, asked, response)

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
