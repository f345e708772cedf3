"""Bare int16 PCM in binary messages; text messages are JSON.

What any program that has a WebSocket can speak without a library. Rate and channels are agreed
beforehand; an interruption is `{"type": "interruption"}`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar

from ipc.errors import ConfigError, MalformedMessage
from ipc.frames import (
    InputAudioRawFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
)
from ipc.serializers.base import MESSAGES, FrameSerializer

if TYPE_CHECKING:
    from ipc.frames import Frame

INTERRUPTION = '{"type": "interruption"}'


class RawPcmFrameSerializer(FrameSerializer):
    """PCM of `channels` at `hz`, little-endian, channels interleaved."""

    wire_name: ClassVar[str | None] = "raw_pcm"

    def __init__(
        self,
        params: FrameSerializer.InputParams | None = None,
        *,
        hz: int = 16_000,
        channels: int = 1,
    ) -> None:
        super().__init__(params or FrameSerializer.InputParams(ignore_rtvi_messages=False))
        if not 8_000 <= hz <= 48_000 or channels not in (1, 2):
            raise ConfigError(f"raw PCM has 8000 to 48000 Hz and 1 or 2 channels, not {hz}")
        self.hz = hz
        self.channels = channels

    def encode(self, frame: Frame) -> str | bytes | None:
        """Audio as it is (its rate is the caller's promise), messages as JSON text."""
        if isinstance(frame, OutputAudioRawFrame):
            return frame.audio
        if isinstance(frame, InterruptionFrame):
            return INTERRUPTION
        if not isinstance(frame, MESSAGES) or self.should_ignore_frame(frame):
            return None
        try:
            return json.dumps(frame.message)
        except (TypeError, ValueError) as error:
            raise MalformedMessage(f"{frame} is no JSON: {error}"[:300]) from error

    def decode(self, data: str | bytes) -> Frame | None:
        """Samples, or the JSON of a text message. Raises MalformedMessage."""
        if isinstance(data, str):
            try:
                return InputTransportMessageFrame(message=json.loads(data))
            except (ValueError, RecursionError) as error:
                raise MalformedMessage("a text message is not JSON") from error
        if len(data) % (2 * self.channels):
            raise MalformedMessage(f"{len(data)} bytes are no whole samples")
        if not data:
            return None
        return InputAudioRawFrame(audio=data, sample_rate=self.hz, num_channels=self.channels)
