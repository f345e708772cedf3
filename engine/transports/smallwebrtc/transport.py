"""A pipeline's transport to one WebRTC caller, whose media a worker of the engine carries.

Everything that is documented stands here; the tracks are those of aiortc, which is loaded when
they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.transports.base import BaseTransport
from engine.transports.smallwebrtc.caller_ends import WebRTCCallerTransport
from engine.transports.smallwebrtc.client import SmallWebRTCCallbacks, SmallWebRTCClient
from engine.transports.smallwebrtc.connection import SmallWebRTCConnection
from engine.transports.smallwebrtc.input import SmallWebRTCInputTransport
from engine.transports.smallwebrtc.output import SmallWebRTCOutputTransport

if TYPE_CHECKING:
    from engine.transports.smallwebrtc.tracks import RawAudioTrack, RawVideoTrack

__all__ = [
    "RawAudioTrack",
    "RawVideoTrack",
    "SmallWebRTCCallbacks",
    "SmallWebRTCClient",
    "SmallWebRTCConnection",
    "SmallWebRTCInputTransport",
    "SmallWebRTCOutputTransport",
    "SmallWebRTCTransport",
]


def __getattr__(name: str) -> Any:
    if name in ("RawAudioTrack", "RawVideoTrack"):
        from engine.transports.smallwebrtc import tracks

        return getattr(tracks, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")


class SmallWebRTCTransport(WebRTCCallerTransport, BaseTransport):
    """The two ends of a pipeline for one caller; see `WebRTCCallerTransport`."""

    input_class = SmallWebRTCInputTransport
    output_class = SmallWebRTCOutputTransport
