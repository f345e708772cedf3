"""When the bot speaks, by what has really been played.

Speech synthesis says itself when an utterance ends. In a continuous stream silence does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.transports import frames
from engine.transports.processors import FrameDirection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.transports.frames import Frame, OutputAudioRawFrame

log = logging.getLogger(__name__)

STOP_S = 0.35
# For speech whose end nobody tells.
STOP_FALLBACK_S = 3.0
PERIOD_S = 0.2
# Of 32767: what codecs make of digital silence stays below it.
SILENCE_LEVEL = 20


def is_silence(audio: bytes) -> bool:
    """Whether int16 samples are as good as silent."""
    samples = np.frombuffer(audio, np.int16)
    return len(samples) == 0 or (
        int(samples.max()) <= SILENCE_LEVEL and int(samples.min()) >= -SILENCE_LEVEL
    )


class Speaking:
    """Whether the bot speaks at one destination. `push` sends a frame one way."""

    # What it deals in. Another framework's, of the same names, take their place in a subclass.
    frames: Any = frames
    directions: Any = FrameDirection

    def __init__(
        self, push: Callable[[Frame, FrameDirection], Awaitable[None]], destination: str | None
    ) -> None:
        self._push = push
        self._destination = destination
        self.active = False
        self._synthesized = False
        self._silent_s = 0.0
        self._heard_at = self._tell_at = 0.0

    def is_speech(self, frame: Frame) -> bool:
        """Whether a frame may be speech at all."""
        kinds = (self.frames.TTSAudioRawFrame, self.frames.SpeechOutputAudioRawFrame)
        return isinstance(frame, kinds)

    async def begins(self, frame: OutputAudioRawFrame) -> None:
        """The first sample of a frame has left."""
        if isinstance(frame, self.frames.TTSAudioRawFrame):
            self._synthesized = True
            await self._start()
        elif isinstance(frame, self.frames.SpeechOutputAudioRawFrame) and not is_silence(
            frame.audio
        ):
            await self._start()

    async def heard(self, frame: OutputAudioRawFrame) -> None:
        """All of a frame has left."""
        await self.begins(frame)
        if not self.is_speech(frame):
            return
        self._heard_at = now = _now()
        if isinstance(frame, self.frames.SpeechOutputAudioRawFrame):
            if is_silence(frame.audio):
                self._silent_s += frame.num_frames / frame.sample_rate
                if self._silent_s >= STOP_S:
                    await self.stop()
            else:
                self._silent_s = 0.0
        if self.active and now >= self._tell_at:
            self._tell_at = now + PERIOD_S
            await self._tell(self.frames.BotSpeakingFrame)

    async def utterance_ended(self) -> None:
        """All of an utterance of speech synthesis has left."""
        if self._synthesized:
            await self.stop()

    @property
    def overdue_s(self) -> float | None:
        """Seconds until it counts as over though nobody said so; None while it does not speak."""
        return self._heard_at + STOP_FALLBACK_S - _now() if self.active else None

    async def stop(self) -> None:
        """It ends now, if it is under way."""
        if self.active:
            self.active = self._synthesized = False
            self._silent_s = 0.0
            log.debug("the bot stopped speaking (%s)", self._destination)
            await self._tell(self.frames.BotStoppedSpeakingFrame)

    async def _start(self) -> None:
        if not self.active:
            self.active = True
            self._silent_s = 0.0
            self._heard_at = self._tell_at = _now()
            log.debug("the bot started speaking (%s)", self._destination)
            await self._tell(self.frames.BotStartedSpeakingFrame)

    async def _tell(self, kind: type[Frame]) -> None:
        """Both ways, as a pair."""
        down, up = kind(), kind()
        for frame, sibling in ((down, up), (up, down)):
            frame.transport_destination = self._destination
            frame.broadcast_sibling_id = sibling.id
        await self._push(down, self.directions.DOWNSTREAM)
        await self._push(up, self.directions.UPSTREAM)


def _now() -> float:
    return asyncio.get_running_loop().time()
