"""A Pipecat pipeline's transport to a WebSocket server that a worker of the engine dials.

Constructor, methods and events are those of Pipecat's class of the same name, and parameters and
serializers may be Pipecat's own. Exactly its protobuf serializer runs in the worker; any other
runs here, and the worker paces what it makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pipecat.frames.frames
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.base_transport import BaseTransport
from pipecat.transports.websocket.client import WebsocketClientParams as PipecatParams

from engine.integrations.pipecat.input import InputTransport
from engine.integrations.pipecat.output import OutputTransport
from engine.integrations.pipecat.params import TransportParams, shared
from engine.transports.websocket import client as documented
from engine.transports.websocket.client import WebsocketClientCallbacks
from engine.transports.websocket.params import DialParams
from engine.transports.websocket.server_ends import ServerInput, ServerOutput
from ipc.errors import BackbeatError

if TYPE_CHECKING:
    from engine.sdk import WebsocketSession

__all__ = [
    "WebsocketClientCallbacks",
    "WebsocketClientInputTransport",
    "WebsocketClientOutputTransport",
    "WebsocketClientParams",
    "WebsocketClientSession",
    "WebsocketClientTransport",
]

DIALLED = ("add_wav_header", "additional_headers", *DialParams.model_fields)
EVENTS = ("on_connected", "on_disconnected", "on_reconnecting", "on_reconnected")


class WebsocketClientParams(TransportParams, PipecatParams, DialParams):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Pipecat's parameters, `audio_out_lead_ms`, and how a server is dialled, and again."""


class WebsocketClientSession(documented.WebsocketClientSession):
    """The connection, for the input and the output of a transport. In Pipecat's frames."""

    frames = pipecat.frames.frames

    def __init__(
        self,
        uri: str,
        params: PipecatParams,
        callbacks: WebsocketClientCallbacks,
        transport_name: str,
    ) -> None:
        """Raises pydantic's ValidationError, a ValueError, for what cannot be."""
        serializer = params.serializer or ProtobufFrameSerializer()
        given = documented.WebsocketClientParams(**shared(params, *DIALLED), serializer=serializer)
        super().__init__(uri, given, callbacks, transport_name)

    def _reader(self) -> Any:
        return self._params.serializer


class WebsocketClientInputTransport(ServerInput, InputTransport):
    """What the server says and sends enters the pipeline."""

    def __init__(
        self, transport: WebsocketClientTransport, session: WebsocketClientSession, params: Any
    ) -> None:
        super().__init__(transport, session, params)


class WebsocketClientOutputTransport(ServerOutput, OutputTransport):
    """What the bot says leaves for the server, at the pace of a worker."""

    frames = pipecat.frames.frames

    def __init__(
        self, transport: WebsocketClientTransport, session: WebsocketClientSession, params: Any
    ) -> None:
        super().__init__(transport, session, params)


class WebsocketClientTransport(BaseTransport):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """The two ends of a pipeline for one WebSocket server, which is dialled at its setup.

    Events: on_connected(transport, websocket), on_disconnected(transport, websocket), the latter
    once, when the server has left and is not dialled again; not when the pipeline ends. With
    `WebsocketClientParams(reconnect=True)` also on_reconnecting and on_reconnected. A server
    that is lost without a farewell is told upstream as an ErrorFrame too; the pipeline goes on.
    """

    def __init__(self, uri: str, params: PipecatParams | None = None) -> None:
        super().__init__()
        self._params = params or WebsocketClientParams()
        self._session = WebsocketClientSession(
            uri,
            self._params,
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
        for event in EVENTS:
            self._register_event_handler(event)

    @property
    def session(self) -> WebsocketSession | None:
        """The session of the bot SDK beneath, for statistics and settings; None before setup."""
        return self._session.session

    def input(self) -> WebsocketClientInputTransport:
        """The end at which what the server says and sends enters the pipeline."""
        if self._input is None:
            self._input = WebsocketClientInputTransport(self, self._session, self._params)
        return self._input

    def output(self) -> WebsocketClientOutputTransport:
        """The end that sends the server audio and messages."""
        if self._output is None:
            self._output = WebsocketClientOutputTransport(self, self._session, self._params)
        return self._output

    # -- what the session tells -------------------------------------------------------------

    async def _on_connected(self, websocket: Any) -> None:
        await self._call_event_handler("on_connected", websocket)

    async def _on_disconnected(self, websocket: Any) -> None:
        end, fault = self._output or self._input, self._session.fault
        if end is not None and fault:
            error = BackbeatError(f"the connection to the server is lost: {fault}", code=fault)
            await end.push_error(error.message, error)
        await self._call_event_handler("on_disconnected", websocket)

    async def _on_reconnecting(self, websocket: Any) -> None:
        await self._call_event_handler("on_reconnecting", websocket)

    async def _on_reconnected(self, websocket: Any) -> None:
        await self._call_event_handler("on_reconnected", websocket)

    async def _on_message(self, websocket: Any, message: str | bytes) -> None:
        if self._input is not None:
            await self._input.on_message(websocket, message)
