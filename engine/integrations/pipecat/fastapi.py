"""A Pipecat pipeline's transport to one caller over WebSocket, in place of Pipecat's of that name.

The engine lets the caller in and a worker speaks protobuf with it, so there is no FastAPI here and
no serializer: audio and messages are those of any session.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams as PipecatParams

from engine.integrations.pipecat.input import InputTransport
from engine.integrations.pipecat.output import OutputTransport
from engine.integrations.pipecat.params import TransportParams
from engine.integrations.pipecat.transport import CallerTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pipecat.frames.frames import StartFrame

    from engine.integrations.pipecat.caller_websocket import CallerWebsocket

log = logging.getLogger(__name__)


class FastAPIWebsocketParams(TransportParams, PipecatParams):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Pipecat's parameters, and `audio_out_lead_ms`. What concerns the wire has no effect."""


class FastAPIWebsocketInputTransport(InputTransport):
    """Audio and messages of one caller, and the time that it has."""

    # Called `session_timeout` seconds after the start.
    timed_out: Callable[[], Awaitable[None]] | None = None
    _timer: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame) -> None:
        """Pass on what is said, and look at the clock."""
        await super().start(frame)
        limit_s = getattr(self._params, "session_timeout", None)
        if limit_s and self._timer is None:
            self._timer = self.create_task(self._time(limit_s), "session timeout")

    async def _let_go(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            await self.cancel_task(timer)
        await super()._let_go()

    async def _time(self, limit_s: float) -> None:
        await asyncio.sleep(limit_s)
        if self.timed_out is not None:
            await self.timed_out()


class FastAPIWebsocketOutputTransport(OutputTransport):
    """Audio and messages toward one caller; see `OutputTransport`."""


class FastAPIWebsocketTransport(CallerTransport):
    """The two ends of a pipeline for one caller.

    Events: on_client_connected(transport, websocket), on_client_disconnected(transport,
    websocket), and on_session_timeout(transport, websocket) `session_timeout` seconds after the
    start. A caller who comes back with its token within 5 s is not announced again.
    """

    input_class = FastAPIWebsocketInputTransport
    output_class = FastAPIWebsocketOutputTransport
    events = (*CallerTransport.events, "on_session_timeout")

    def __init__(
        self,
        websocket: CallerWebsocket,
        params: PipecatParams,
        input_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        super().__init__(websocket.connection, params, input_name, output_name)
        self._websocket = websocket
        self.input().timed_out = self._on_session_timeout
        serializer = getattr(params, "serializer", None)
        if serializer is not None and type(serializer) is not ProtobufFrameSerializer:
            log.warning("%s: callers speak protobuf, %s is not asked", self, serializer)

    def get_client_id(self, client: Any) -> str:
        """The id of the session."""
        return str(client.session.id)

    async def _on_client_connected(self, client: Any) -> None:
        await super()._on_client_connected(self._websocket)

    async def _on_client_disconnected(self, client: Any) -> None:
        await super()._on_client_disconnected(self._websocket)

    async def _on_session_timeout(self) -> None:
        await self._call_event_handler("on_session_timeout", self._websocket)
