"""What the WebSocket transport is told when it is made, and whom it tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from engine.sdk import Reconnect
from engine.transports.base import TransportParams


@runtime_checkable
class Serializer(Protocol):
    """What turns frames into messages and back: a `FrameSerializer`, or what has its coroutines.

    Objects of exactly a shipped type (`ProtobufFrameSerializer`, `RawPcmFrameSerializer`, and
    Pipecat's own `ProtobufFrameSerializer`) are carried out by the worker; any other runs here.
    """

    async def setup(self, setup: Any) -> None:
        """The pipeline is set up: its FrameProcessorSetup."""

    async def serialize(self, frame: Any) -> str | bytes | None:
        """The frame as a message; None when this wire has none for it."""

    async def deserialize(self, data: str | bytes) -> Any:
        """The frame in a message, or None."""


class DialParams(BaseModel):
    """How the server is dialled, beyond what is documented.

    reconnect: a server that goes away is dialled again, in the same session, for 30 s; a
      `Reconnect` says for how long and how often.
    compression: offers permessage-deflate.
    subprotocols: offered to the server.
    open_timeout_secs: within which it must have accepted.
    max_message_bytes: of what may come.
    wire_lead_ms: how far before their time messages leave; None is one chunk.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    reconnect: bool | Reconnect = False
    compression: bool = False
    subprotocols: list[str] = Field(default_factory=list)
    open_timeout_secs: float = Field(default=10.0, gt=0, le=120)
    max_message_bytes: int = Field(default=1 << 20, ge=1, le=64 << 20)
    wire_lead_ms: int | None = Field(default=None, ge=0, le=1_000)


class WebsocketClientParams(DialParams, TransportParams):
    """Media of the transport, the server's format, and how it is dialled (see `DialParams`).

    add_wav_header: each message of audio holds a WAV file of its own.
    additional_headers: of the HTTP request that opens the connection.
    serializer: the format; None is protobuf.

    A message holds `audio_out_10ms_chunks`, 20 of them at most. `audio_out_bitrate` and
    `audio_out_auto_silence` have no effect: PCM leaves when there is any.
    """

    add_wav_header: bool = True
    additional_headers: dict[str, str] | None = None
    serializer: Serializer | None = None


class WebsocketClientCallbacks(BaseModel):
    """Who is told of a connection; each gets an object for it, a `Server`.

    on_connected: it is there.
    on_disconnected: it is gone, for good. Not after a `disconnect` from here.
    on_message: what the server sent; see `WebsocketClientSession`.
    on_reconnecting, on_reconnected: it is gone and is being dialled again; it is back.

    One that fails is logged.
    """

    on_connected: Callable[[Any], Awaitable[None]]
    on_disconnected: Callable[[Any], Awaitable[None]]
    on_message: Callable[[Any, str | bytes], Awaitable[None]]
    on_reconnecting: Callable[[Any], Awaitable[None]] | None = None
    on_reconnected: Callable[[Any], Awaitable[None]] | None = None
