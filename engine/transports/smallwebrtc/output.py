"""The output end of the transport: what the bot says leaves for the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.transports.base import BaseOutputTransport
from engine.transports.base.client_end import OutputEnd

if TYPE_CHECKING:
    from engine.transports.base import TransportParams
    from engine.transports.frames import OutputImageRawFrame
    from engine.transports.smallwebrtc.client import SmallWebRTCClient


class SmallWebRTCOutputTransport(OutputEnd, BaseOutputTransport):
    """Audio and messages toward one caller, each in its place; see `BaseOutputTransport`."""

    def __init__(self, client: SmallWebRTCClient, params: TransportParams, **kwargs: Any) -> None:
        super().__init__(client, params, **kwargs)

    async def _prepare(self, setup: Any) -> None:
        await self._client.setup(self._params, setup)

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        """Send an image; see `SmallWebRTCClient.write_video_frame`."""
        return bool(await self._client.write_video_frame(frame))
