"""The two ends of a transport that share one client: when each connects, listens and lets go.

Mixins, to stand before the base of an input or an output: ours, or that of another framework with
the same methods and with frames of the same names. What a client is stands in `Client`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from engine.transports import frames
from engine.transports.base.attachment import Attachment, Shared
from ipc.errors import BackbeatError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator

    from engine.transports.base.mixer import BaseAudioMixer
    from engine.transports.base.playout import Playout

# What a mixin stands before is known only where it does.
_Base: Any = object


class Client(Shared, Protocol):
    """Whatever carries a transport's media."""

    def read_audio_frame(self) -> AsyncGenerator[Any, None]:
        """What the other side says, until the end."""
        ...

    def playout(self, destination: str | None) -> Playout | None:
        """The way of a destination's audio to the other side."""
        ...

    async def take_mixer(self, mixer: BaseAudioMixer, destination: str | None) -> bool:
        """Whether a worker plays this background."""
        ...

    async def write_audio_frame(self, frame: Any) -> bool:
        """Send audio; returns when unsent audio is within the lead."""
        ...

    async def send_message(self, frame: Any) -> None:
        """Send an app message."""
        ...


class ClientEnd(_Base):  # type: ignore[misc]  # see `_Base`
    """The life of one end."""

    def __init__(self, client: Any, params: Any, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self._client = client
        self._attachment = Attachment(client)

    async def setup(self, setup: Any) -> None:
        """Connect."""
        await super().setup(setup)
        await self._prepare(setup)
        await self._attachment.take()  # after a StopFrame it still is

    async def _prepare(self, setup: Any) -> None:
        """Tell the client of the pipeline; both ends do so."""
        await self._client.prepare(setup)

    async def start(self, frame: Any) -> None:
        """Begin."""
        await super().start(frame)
        await self._open()
        await self.set_transport_ready(frame)

    async def _open(self) -> None:
        """What comes before the end is ready."""

    async def stop(self, frame: Any) -> None:
        """End; an output sends what is queued before, and waits until it has left."""
        await super().stop(frame)
        await self._let_go()

    async def cancel(self, frame: Any) -> None:
        """End at once."""
        await super().cancel(frame)
        await self._let_go()

    async def _let_go(self) -> None:
        await self._attachment.let_go()


class InputEnd(ClientEnd):
    """What the other side says and sends enters the pipeline."""

    # The module of the frames that are made here.
    frames: Any = frames
    _reader: asyncio.Task[None] | None = None

    async def cleanup(self) -> None:
        """Let go of the client. Safe to call twice."""
        await self._let_go()
        await super().cleanup()

    async def start(self, frame: Any) -> None:
        """Pass on what is said."""
        await super().start(frame)
        self._read()

    async def _let_go(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await self.cancel_task(reader)
        await super()._let_go()

    def _read(self) -> None:
        if self._reader is None and self._params.audio_in_enabled:
            self._reader = self.create_task(self._read_audio(), "audio of the other side")

    async def _read_audio(self) -> None:
        async for frame in self._client.read_audio_frame():
            await self.push_audio_frame(frame)

    async def push_app_message(self, message: Any) -> None:
        """Tell the pipeline, both ways, what the other side has sent."""
        await self.broadcast_frame(self.frames.InputTransportMessageFrame, message=message)


class OutputEnd(ClientEnd):
    """What the bot says leaves for the other side."""

    async def cleanup(self) -> None:
        """Let go of the client. Safe to call twice."""
        await super().cleanup()
        await self._let_go()

    def playout(self, destination: str | None) -> Playout | None:
        """The way of a destination's audio: a session's speaker ring, or a part of it."""
        found: Playout | None = self._client.playout(destination)
        return found

    async def take_mixer(self, mixer: BaseAudioMixer, destination: str | None) -> bool:
        """Whether a worker plays the sound of a file; also if it cannot read it, which is told."""
        try:
            return bool(await self._client.take_mixer(mixer, destination))
        except BackbeatError as error:
            await self.push_error(f"the background is not heard: {error.message}", error)
            return True

    async def send_message(self, frame: Any) -> None:
        """Send an app message. Raises ProtocolError for what it cannot hold."""
        await self._client.send_message(frame)

    async def write_audio_frame(self, frame: Any) -> bool:
        """Send audio; see the client's method of this name."""
        return bool(await self._client.write_audio_frame(frame))
