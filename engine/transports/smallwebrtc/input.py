"""The input end of the transport: what the caller says and sends enters the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.transports.base import BaseInputTransport
from engine.transports.smallwebrtc.caller_ends import CallerInput

if TYPE_CHECKING:
    from engine.transports.base import TransportParams
    from engine.transports.smallwebrtc.client import SmallWebRTCClient


class SmallWebRTCInputTransport(CallerInput, BaseInputTransport):
    """Audio and messages of one caller. Images of it are asked for in vain, and told so."""

    def __init__(self, client: SmallWebRTCClient, params: TransportParams, **kwargs: Any) -> None:
        super().__init__(client, params, **kwargs)

    async def _prepare(self, setup: Any) -> None:
        await self._client.setup(self._params, setup)
