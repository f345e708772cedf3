"""What the two ends of a Pipecat transport share: our client, in Pipecat's frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipecat.frames.frames import InputAudioRawFrame

from engine.integrations.pipecat.params import for_engine
from engine.transports.smallwebrtc.client import SmallWebRTCCallbacks, SmallWebRTCClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["PipecatClient", "SmallWebRTCCallbacks"]


class PipecatClient(SmallWebRTCClient):
    """One caller, for the input and the output of a transport."""

    async def setup(self, _params: Any, frame: Any = None, *, setup: Any = None) -> None:
        """Take Pipecat's parameters and its setup. Raises ConfigError(`rate`) and ValueError."""
        await super().setup(for_engine(_params), frame or setup)

    async def read_audio_frame(self) -> AsyncGenerator[Any, None]:
        """What the caller says, 20 ms a frame, until the call ends; silence while it is muted."""
        async for heard in super().read_audio_frame():
            frame = InputAudioRawFrame(heard.audio, heard.sample_rate, heard.num_channels)
            frame.pts = heard.pts
            yield frame
