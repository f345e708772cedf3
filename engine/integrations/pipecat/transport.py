"""A Pipecat pipeline's transport to one caller, whose media a worker of the engine carries.

Constructors, methods and events are those of Pipecat's classes of the same names; neither they nor
aiortc are loaded for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pipecat.frames.frames
from pipecat.transports.base_transport import BaseTransport

from engine.integrations.pipecat.client import PipecatClient, SmallWebRTCCallbacks
from engine.integrations.pipecat.input import InputTransport, SmallWebRTCInputTransport
from engine.integrations.pipecat.output import OutputTransport, SmallWebRTCOutputTransport
from engine.transports.smallwebrtc import caller_ends

if TYPE_CHECKING:
    from engine.transports.smallwebrtc.connection import SmallWebRTCConnection

__all__ = [
    "CallerTransport",
    "SmallWebRTCInputTransport",
    "SmallWebRTCOutputTransport",
    "SmallWebRTCTransport",
]


class CallerTransport(caller_ends.CallerTransport, BaseTransport):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """The two ends of a pipeline of Pipecat's for one caller, however it came."""

    frames = pipecat.frames.frames
    input_class = InputTransport
    output_class = OutputTransport

    def _make_client(
        self, connection: SmallWebRTCConnection, callbacks: SmallWebRTCCallbacks
    ) -> PipecatClient:
        return PipecatClient(connection, callbacks, self._params)


class SmallWebRTCTransport(caller_ends.WebRTCCallerTransport, CallerTransport):
    """The two ends of a pipeline for one caller; see `WebRTCCallerTransport`."""

    input_class = SmallWebRTCInputTransport
    output_class = SmallWebRTCOutputTransport
