"""Pipecat pipelines on this engine: one import changes, and the media leaves the bot's process.

Needs Pipecat 1.14 (extra `pipecat`). `SmallWebRTCTransport` is a transport of Pipecat's with its
media in the engine's workers; `SmallWebRTCConnection` also serves Pipecat's own transport of that
name. `create_transport` takes the place of the one in `pipecat.runner.utils`.
"""

from engine.integrations.pipecat.check import check

check()

from engine.integrations.pipecat.connection import SmallWebRTCConnection  # noqa: E402
from engine.integrations.pipecat.params import TransportParams  # noqa: E402
from engine.integrations.pipecat.request_handler import (  # noqa: E402
    ConnectionMode,
    IceCandidate,
    IceServer,
    SmallWebRTCPatchRequest,
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)
from engine.integrations.pipecat.runner import create_transport  # noqa: E402
from engine.integrations.pipecat.transport import (  # noqa: E402
    SmallWebRTCInputTransport,
    SmallWebRTCOutputTransport,
    SmallWebRTCTransport,
)

__all__ = [
    "ConnectionMode",
    "IceCandidate",
    "IceServer",
    "SmallWebRTCConnection",
    "SmallWebRTCInputTransport",
    "SmallWebRTCOutputTransport",
    "SmallWebRTCPatchRequest",
    "SmallWebRTCRequest",
    "SmallWebRTCRequestHandler",
    "SmallWebRTCTransport",
    "TransportParams",
    "create_transport",
]
