"""The output end of the transport: what the bot says leaves for the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.transports.base import BaseOutputTransport
from engine.transports.websocket.server_ends import ServerOutput

if TYPE_CHECKING:
    from engine.transports.base import BaseTransport
    from engine.transports.websocket.params import WebsocketClientParams
    from engine.transports.websocket.session import WebsocketClientSession


class WebsocketClientOutputTransport(ServerOutput, BaseOutputTransport):
    """Audio and messages toward a server, each in its place; see `BaseOutputTransport`."""

    def __init__(
        self,
        transport: BaseTransport,
        session: WebsocketClientSession,
        params: WebsocketClientParams,
        **kwargs: Any,
    ) -> None:
        super().__init__(transport, session, params, **kwargs)
