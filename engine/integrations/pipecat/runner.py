"""What a bot function is given for a call, and the transport that it makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipecat.runner.types import SmallWebRTCRunnerArguments

from engine.integrations.pipecat.connection import SmallWebRTCConnection
from engine.integrations.pipecat.transport import SmallWebRTCTransport
from engine.transports.smallwebrtc.connection import SmallWebRTCConnection as AnyConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipecat.transports.base_transport import BaseTransport

    from engine.sdk import Session


def runner_arguments(session: Session) -> SmallWebRTCRunnerArguments:
    """The arguments of a bot function for a call that an engine has offered to this process."""
    return SmallWebRTCRunnerArguments(
        webrtc_connection=SmallWebRTCConnection.of(session),
        body=session.request_data,
        session_id=session.id,
    )


async def create_transport(
    runner_args: Any, transport_params: Mapping[str, Callable[[], Any]]
) -> BaseTransport:
    """The transport of a call, with the parameters that `transport_params` makes for its kind.

    A call that this engine carries gets our class and takes the parameters "webrtc"; any other
    gets what Pipecat would give it. Raises ValueError when there are no parameters for the kind.
    """
    connection = getattr(runner_args, "webrtc_connection", None)
    if not isinstance(connection, AnyConnection):
        from pipecat.runner.utils import create_transport as pipecats

        return await pipecats(runner_args, dict(transport_params))
    make = transport_params.get("webrtc")
    if make is None:
        raise ValueError("transport_params has no entry for 'webrtc'")
    return SmallWebRTCTransport(connection, make())
