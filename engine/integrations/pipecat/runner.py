"""`create_transport` for bots that take whatever call comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.integrations.pipecat.transport import SmallWebRTCTransport
from engine.transports.smallwebrtc.connection import SmallWebRTCConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipecat.transports.base_transport import BaseTransport


async def create_transport(
    runner_args: Any, transport_params: Mapping[str, Callable[[], Any]]
) -> BaseTransport:
    """The transport of a call, with the parameters that `transport_params` makes for its kind.

    A call that this engine carries gets our class and takes the parameters "webrtc"; any other
    gets what Pipecat would give it. Raises ValueError when there are no parameters for the kind.
    """
    connection = getattr(runner_args, "webrtc_connection", None)
    if not isinstance(connection, SmallWebRTCConnection):
        from pipecat.runner.utils import create_transport as pipecats

        return await pipecats(runner_args, dict(transport_params))
    make = transport_params.get("webrtc")
    if make is None:
        raise ValueError("transport_params has no entry for 'webrtc'")
    return SmallWebRTCTransport(connection, make())
