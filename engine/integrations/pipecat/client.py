"""What the two ends of a Pipecat transport share: our clients, in Pipecat's frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipecat.frames.frames import InputAudioRawFrame

from engine.integrations.pipecat.params import for_engine
from engine.transports.smallwebrtc.client import SmallWebRTCCallbacks, SmallWebRTCClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from engine.transports.smallwebrtc.connection import SmallWebRTCConnection

__all__ = ["PipecatClient", "SmallWebRTCCallbacks"]


class PipecatClient(SmallWebRTCClient):
    """One caller, for the input and the output of a transport."""

    def __init__(
        self, webrtc_connection: SmallWebRTCConnection, callbacks: SmallWebRTCCallbacks, params: Any
    ) -> None:
        super().__init__(webrtc_connection, callbacks)
        self._given = params

    async def prepare(self, setup: Any) -> None:
        """Take the pipeline's setup. Raises ConfigError(`rate`) and ValueError."""
        await self.setup(for_engine(self._given), setup)

    async def read_audio_frame(self) -> AsyncGenerator[Any, None]:
        """What the caller says, 20 ms a frame, until the call ends; silence while it is muted."""
        async for heard in super().read_audio_frame():
            frame = InputAudioRawFrame(heard.audio, heard.sample_rate, heard.num_channels)
            frame.pts = heard.pts
            yield frame
