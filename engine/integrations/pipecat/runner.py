"""What a bot function is given for a call, and the transport that it makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipecat.runner.types import (
    RunnerArguments,
    SmallWebRTCRunnerArguments,
    WebSocketRunnerArguments,
)

from engine.integrations.pipecat.connection import SmallWebRTCConnection
from engine.integrations.pipecat.transport import SmallWebRTCTransport
from engine.transports.smallwebrtc.connection import SmallWebRTCConnection as AnyConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipecat.transports.base_transport import BaseTransport

    from engine.sdk import Session


def runner_arguments(session: Session) -> RunnerArguments:
    """The arguments of a bot function for a call that an engine has offered to this process."""
    given: dict[str, Any] = {"body": session.request_data, "session_id": session.id}
    if session.transport == "websocket":
        from engine.integrations.pipecat.caller_websocket import CallerWebsocket

        return WebSocketRunnerArguments(
            websocket=CallerWebsocket.of(session), transport_type="websocket", **given
        )
    return SmallWebRTCRunnerArguments(webrtc_connection=SmallWebRTCConnection.of(session), **given)


async def create_transport(
    runner_args: Any, transport_params: Mapping[str, Callable[[], Any]]
) -> BaseTransport:
    """The transport of a call, with the parameters that `transport_params` makes for its kind.

    A call that this engine carries gets our class: a caller over WebRTC with the parameters
    "webrtc", one over WebSocket with "websocket" or, where there are none, "webrtc". Any other
    call gets what Pipecat would give it. Raises ValueError for a kind without parameters.
    """
    if isinstance(runner_args, WebSocketRunnerArguments):
        from engine.integrations.pipecat.caller_websocket import CallerWebsocket
        from engine.integrations.pipecat.fastapi import FastAPIWebsocketTransport

        if isinstance(runner_args.websocket, CallerWebsocket):
            params = _params(transport_params, "websocket", "webrtc")
            return FastAPIWebsocketTransport(runner_args.websocket, params)
    connection = getattr(runner_args, "webrtc_connection", None)
    if isinstance(connection, AnyConnection):
        return SmallWebRTCTransport(connection, _params(transport_params, "webrtc"))
    from pipecat.runner.utils import create_transport as pipecats

    return await pipecats(runner_args, dict(transport_params))


def _params(transport_params: Mapping[str, Callable[[], Any]], *kinds: str) -> Any:
    for kind in kinds:
        make = transport_params.get(kind)
        if make is not None:
            return make()
    raise ValueError(f"transport_params has no entry for {kinds[0]!r}")
