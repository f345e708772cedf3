"""The input end of a transport: what the other side says and sends enters the pipeline."""

from __future__ import annotations

import pipecat.frames.frames
from pipecat.transports.base_input import BaseInputTransport

from engine.transports.base.client_end import InputEnd
from engine.transports.smallwebrtc.caller_ends import CallerInput


class InputTransport(InputEnd, BaseInputTransport):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Audio and messages of one client, which it shares with the output."""

    frames = pipecat.frames.frames


class SmallWebRTCInputTransport(CallerInput, InputTransport):
    """Audio and messages of one caller. Images of it are asked for in vain, and told so."""
