"""The input end of the transport: what the server says and sends enters the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.transports.base import BaseInputTransport
from engine.transports.websocket.server_ends import ServerInput

if TYPE_CHECKING:
    from engine.transports.base import BaseTransport
    from engine.transports.websocket.params import WebsocketClientParams
    from engine.transports.websocket.session import WebsocketClientSession


class WebsocketClientInputTransport(ServerInput, BaseInputTransport):
    """Audio, messages and whatever else a server's format has frames for; see `ServerInput`."""

    def __init__(
        self,
        transport: BaseTransport,
        session: WebsocketClientSession,
        params: WebsocketClientParams,
        **kwargs: Any,
    ) -> None:
        super().__init__(transport, session, params, **kwargs)
