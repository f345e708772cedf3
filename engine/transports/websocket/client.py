"""A pipeline's transport to a WebSocket server that the engine's workers dial and pace.

Everything that is documented stands here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.transports.base import BaseTransport
from engine.transports.websocket.input import WebsocketClientInputTransport
from engine.transports.websocket.output import WebsocketClientOutputTransport
from engine.transports.websocket.params import WebsocketClientCallbacks, WebsocketClientParams
from engine.transports.websocket.session import WebsocketClientSession
from ipc.errors import BackbeatError
from ipc.serializers import ProtobufFrameSerializer

if TYPE_CHECKING:
    from engine.transports.frames import OutputAudioRawFrame

__all__ = [
    "WebsocketClientCallbacks",
    "WebsocketClientInputTransport",
    "WebsocketClientOutputTransport",
    "WebsocketClientParams",
    "WebsocketClientSession",
    "WebsocketClientTransport",
]


class WebsocketClientTransport(BaseTransport):
    """The two ends of a pipeline for one server, which is dialled while they are set up.

    Events: on_connected(transport, server), on_disconnected(transport, server) when it is over
    and was not ended from here, and with `reconnect` (or when a media worker died)
    on_reconnecting(transport, server) and on_reconnected(transport, server). Handlers may take
    fewer arguments.

    A server that cannot be dialled is an error of both ends, and makes them unusable. One that is
    lost without a farewell is told upstream as an ErrorFrame; the pipeline goes on.
    """

    def __init__(self, uri: str, params: WebsocketClientParams | None = None) -> None:
        super().__init__()
        params = params or WebsocketClientParams()
        if params.serializer is None:
            params = params.model_copy(update={"serializer": ProtobufFrameSerializer()})
        self._params = params
        self._session = WebsocketClientSession(
            uri,
            params,
            WebsocketClientCallbacks(
                on_connected=self._on_connected,
                on_disconnected=self._on_disconnected,
                on_message=self._on_message,
                on_reconnecting=self._on_reconnecting,
                on_reconnected=self._on_reconnected,
            ),
            self.name,
        )
        self._input: WebsocketClientInputTransport | None = None
        self._output: WebsocketClientOutputTransport | None = None
        for event in ("on_connected", "on_disconnected", "on_reconnecting", "on_reconnected"):
            self._register_event_handler(event)

    def input(self) -> WebsocketClientInputTransport:
        """The end at which the server's audio and messages enter the pipeline."""
        if self._input is None:
            self._input = WebsocketClientInputTransport(
                self, self._session, self._params, name=self._input_name
            )
        return self._input

    def output(self) -> WebsocketClientOutputTransport:
        """The end that sends the server audio and messages."""
        if self._output is None:
            self._output = WebsocketClientOutputTransport(
                self, self._session, self._params, name=self._output_name
            )
        return self._output

    async def send_audio(self, frame: OutputAudioRawFrame) -> None:
        """Send audio as if it had come through the pipeline, if there is an output."""
        if self._output is not None:
            await self._output.send_audio(frame)

    # -- what the session tells -------------------------------------------------------------

    async def _on_connected(self, websocket: Any) -> None:
        await self._call_event_handler("on_connected", websocket)

    async def _on_disconnected(self, websocket: Any) -> None:
        end = self._output or self._input
        fault = self._session.fault
        if end is not None and fault:
            error = BackbeatError(f"the connection to the server is lost: {fault}", code=fault)
            await end.push_error(error.message, error)
        await self._call_event_handler("on_disconnected", websocket)

    async def _on_message(self, websocket: Any, message: str | bytes) -> None:
        if self._input is not None:
            await self._input.on_message(websocket, message)

    async def _on_reconnecting(self, websocket: Any) -> None:
        await self._call_event_handler("on_reconnecting", websocket)

    async def _on_reconnected(self, websocket: Any) -> None:
        await self._call_event_handler("on_reconnected", websocket)
