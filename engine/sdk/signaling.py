"""What a bot does for the caller's connection of a session: offers, candidates, media.

The engine answers offers and makes rings; which caller an answer is for is the bot's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Protocol

import msgspec

from ipc.errors import AlreadyAttached, BackbeatError, BotError, SessionClosed
from ipc.messages import Candidates, Configure, Message, OpenMedia, Placed, Renegotiate

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from engine.sdk.media import Media
    from ipc.codec import Codec
    from ipc.messages import Candidate
    from ipc.sound_file import SoundFile

log = logging.getLogger("backbeat.bot")

REQUEST_DEADLINE_S = 5.0
# For what takes the engine more than one step.
MEDIA_DEADLINE_S = 15.0


class Line(Protocol):
    """The way to the engine."""

    async def request(self, message: Message, *, timeout_s: float) -> Message:
        """Ask the engine."""
        ...

    def notify(self, message: Message) -> bool:
        """Tell the engine."""
        ...


class Signaling:
    """The part of a `Session` that its caller's offers and its rings go through."""

    def __init__(self, session_id: str, line: Line, pc_id: str, shape: OpenMedia) -> None:
        self.id = session_id
        # Names the caller's peer connection; a restart by the bot changes it.
        self.pc_id = pc_id
        self.closed = False
        self.close_reason = ""
        # How the speech is encoded; `configure` changes it.
        self.codec: Codec = shape.codec
        # What the worker plays under it.
        self.mixer: SoundFile | None = None
        # Whether rings are asked for now.
        self.awaits_media = False
        self._line = line
        self._media: Media | None = None
        self._shape = shape
        self._moving: asyncio.Task[None] | None = None

    async def add_candidates(self, candidates: Sequence[Candidate]) -> None:
        """Trickled candidates of the caller. Raises SessionClosed, SdpRejected, WorkerError."""
        self._check_open()
        found = Candidates(session=self.id, candidates=[*candidates])
        await self._line.request(found, timeout_s=REQUEST_DEADLINE_S)

    async def renegotiate(self, sdp: str, *, restart: bool = False) -> tuple[str, str]:
        """Answer a further offer of the caller: the SDP answer and the connection's id.

        With `restart` the caller comes on a new peer connection, which has a new id, and the
        session goes on there: bot, queued speech, marks and track status stay as they are.
        Raises SessionClosed, NegotiationError, WorkerError.
        """
        self._check_open()
        placed = await self._line.request(
            Renegotiate(session=self.id, sdp=sdp, restart=restart), timeout_s=MEDIA_DEADLINE_S
        )
        if not isinstance(placed, Placed):
            raise BotError("the engine's reply carries no answer")
        self.pc_id = placed.pc_id
        return placed.sdp, placed.pc_id

    async def open_media(
        self,
        *,
        mic_hz: int | None = None,
        speaker_hz: int | None = None,
        mic_channels: int | None = None,
        speaker_channels: int | None = None,
        codec: Codec | None = None,
    ) -> None:
        """Make the rings of a session that the bot has placed; what is not named is the bot's.

        Returns when samples may flow, for the rest of the session. Raises AlreadyAttached,
        ConfigError, SessionClosed, WorkerError; after a failure it may be tried again.
        """
        self._check_open()
        if self._media is not None or self.awaits_media:
            raise AlreadyAttached("the session has its media, or is about to")
        named = {
            "mic_hz": mic_hz,
            "speaker_hz": speaker_hz,
            "mic_channels": mic_channels,
            "speaker_channels": speaker_channels,
        }
        changes = {name: value for name, value in named.items() if value is not None}
        shape = msgspec.structs.replace(self._shape, codec=codec or self.codec, **changes)
        await self._ask_for_media(shape)
        self._shape, self.codec = shape, shape.codec

    def media_moved(self) -> None:
        """Another worker carries the session: have rings that go on where the last ones ended."""
        if self._media is not None and not self.closed:
            self._move_by(self._move(self._media))

    def _move_by(self, work: Coroutine[None, None, None]) -> None:
        if self._moving is not None:
            self._moving.cancel()
        self._moving = asyncio.create_task(work, name="media moves")

    async def _move(self, media: Media) -> None:
        shape = msgspec.structs.replace(
            self._shape,
            codec=self.codec,
            mic_base=media.ring.mic_written,
            speaker_base=media.ring.speaker_sent,
        )
        try:
            await self._ask_for_media(shape)
            if self.mixer is not None:  # the new worker knows nothing of it
                again = Configure(session=self.id, mixer=self.mixer)
                await self._line.request(again, timeout_s=REQUEST_DEADLINE_S)
        except BackbeatError as error:  # the engine decides what becomes of the session
            log.warning("session %s has no media: %s", self.id, error.message)

    async def _ask_for_media(self, shape: OpenMedia) -> None:
        self.awaits_media = True
        try:
            await self._line.request(shape, timeout_s=MEDIA_DEADLINE_S)
        finally:
            self.awaits_media = False
        self._check_open()

    async def _stay(self) -> None:
        """Move no more."""
        if self._moving is not None:
            self._moving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._moving

    def _check_open(self) -> None:
        if self.closed:
            raise SessionClosed(f"the session ended: {self.close_reason}")
