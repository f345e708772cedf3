"""Pipecat pipelines on this engine: one import changes, and the media leaves the bot's process.

Needs Pipecat 1.14 (extra `pipecat`). Three transports of Pipecat's have their media in the engine's
workers: `SmallWebRTCTransport`, `FastAPIWebsocketTransport` for callers over WebSocket, and
`WebsocketClientTransport`, which dials a server. `SmallWebRTCConnection` also serves Pipecat's own
transport of that name. `create_transport` takes the place of that in `pipecat.runner.utils`.
"""

import importlib
from typing import Any

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
    "FastAPIWebsocketInputTransport",
    "FastAPIWebsocketOutputTransport",
    "FastAPIWebsocketParams",
    "FastAPIWebsocketTransport",
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
    "WebsocketClientCallbacks",
    "WebsocketClientInputTransport",
    "WebsocketClientOutputTransport",
    "WebsocketClientParams",
    "WebsocketClientSession",
    "WebsocketClientTransport",
    "create_transport",
]


# Loaded with what they are for: Pipecat's own of these names load FastAPI and `websockets`.
_LATER = {"FastAPIWebsocket": "fastapi", "WebsocketClient": "websocket"}


def __getattr__(name: str) -> Any:
    module = next((_LATER[start] for start in _LATER if name.startswith(start)), None)
    if module is None or name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
