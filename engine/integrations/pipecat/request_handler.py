"""Offers of callers on one's own routes, answered with connections for Pipecat's pipelines."""

from __future__ import annotations

from engine.integrations.pipecat.connection import SmallWebRTCConnection
from engine.transports.smallwebrtc import request_handler
from engine.transports.smallwebrtc.connection import IceServer
from engine.transports.smallwebrtc.request_handler import (
    ConnectionMode,
    IceCandidate,
    SmallWebRTCPatchRequest,
    SmallWebRTCRequest,
)

__all__ = [
    "ConnectionMode",
    "IceCandidate",
    "IceServer",
    "SmallWebRTCPatchRequest",
    "SmallWebRTCRequest",
    "SmallWebRTCRequestHandler",
]


class SmallWebRTCRequestHandler(request_handler.SmallWebRTCRequestHandler):
    """As the documented one; its connections also serve Pipecat's own transport."""

    connection_class = SmallWebRTCConnection
