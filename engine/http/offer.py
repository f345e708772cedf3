"""Signaling for WebRTC callers: `POST` and `PATCH /api/offer`.

The shape that Pipecat's JavaScript client and development runner use, with camel case also
accepted and null media ids allowed.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import AliasChoices, BaseModel, Field

from engine.http.errors import CodedRoute
from engine.http.parts import Parts
from ipc import messages
from ipc.clock import NS_PER_MS


class OfferRequest(BaseModel):
    """A caller's SDP offer."""

    sdp: str
    type: Literal["offer"]
    pc_id: str | None = None
    restart_pc: bool | None = None
    request_data: Any = Field(
        None, validation_alias=AliasChoices("request_data", "requestData"), title="Request data"
    )


class OfferAnswer(BaseModel):
    """The engine's SDP answer and the id to name the connection by."""

    sdp: str
    type: Literal["answer"] = "answer"
    pc_id: str


class IceCandidate(BaseModel):
    """One candidate; an empty string ends them."""

    candidate: str = Field(max_length=2048)
    sdp_mid: str | None = Field(None, validation_alias=AliasChoices("sdp_mid", "sdpMid"))
    sdp_mline_index: int | None = Field(
        None, validation_alias=AliasChoices("sdp_mline_index", "sdpMLineIndex")
    )


class CandidatesRequest(BaseModel):
    """Candidates that a caller found after its offer."""

    pc_id: str
    candidates: list[IceCandidate] = Field(max_length=256)


class IceServers(BaseModel):
    """What a browser's `RTCPeerConnection` takes as its configuration."""

    iceServers: list[dict[str, Any]]


class Success(BaseModel):
    """The candidates were taken."""

    status: Literal["success"] = "success"


async def answer(parts: Parts, request: OfferRequest, response: Response) -> OfferAnswer:
    """Begin or renegotiate a call; the header `Server-Timing` tells how long that took."""
    began_ns = time.monotonic_ns()
    sdp, pc_id = await parts.sessions.offer(
        request.sdp,
        pc_id=request.pc_id,
        restart=bool(request.restart_pc),
        request_data=request.request_data,
    )
    took_ms = (time.monotonic_ns() - began_ns) / NS_PER_MS
    response.headers["Server-Timing"] = f"answer;dur={took_ms:.2f}"
    return OfferAnswer(sdp=sdp, pc_id=pc_id)


async def take_candidates(parts: Parts, request: CandidatesRequest) -> Success:
    """Add trickled candidates to a call."""
    candidates = [
        messages.Candidate(
            candidate=given.candidate,
            sdp_mid=given.sdp_mid,
            sdp_mline_index=given.sdp_mline_index,
        )
        for given in request.candidates
    ]
    await parts.sessions.add_candidates(request.pc_id, candidates)
    return Success()


def router(parts: Parts) -> APIRouter:
    """The signaling routes over an engine's sessions."""
    routes = APIRouter(tags=["signaling"], route_class=CodedRoute)

    @routes.post("/api/offer")
    async def offer(request: OfferRequest, response: Response) -> OfferAnswer:
        """Begin a call, or renegotiate the one that `pc_id` names.

        The header `Server-Timing` tells how long the engine took.
        """
        return await answer(parts, request, response)

    @routes.patch("/api/offer")
    async def candidates(request: CandidatesRequest) -> Success:
        """Add trickled candidates to a call."""
        return await take_candidates(parts, request)

    @routes.get("/api/ice-servers")
    async def ice_servers(response: Response) -> IceServers:
        """The STUN and TURN servers for a caller's `RTCPeerConnection`, credentials included."""
        response.headers["Cache-Control"] = "no-store"
        return IceServers(iceServers=[one.as_w3c() for one in parts.sessions.ice_servers])

    return routes
