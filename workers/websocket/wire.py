"""What is spoken over one WebSocket: the serializer, and the shape of the audio on the wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ipc.errors import MalformedMessage
from ipc.frames import (
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
)
from ipc.serializers import (
    FrameSerializer,
    ProtobufFrameSerializer,
    RawPcmFrameSerializer,
    audio_message,
)
from ipc.serializers.protobuf import hear
from ipc.serializers.wav import wav_header

if TYPE_CHECKING:
    from ipc.frames import Frame
    from ipc.websocket import Websocket


class Wire:
    """Messages of one format. Raises MalformedMessage for what has no form in it."""

    def __init__(self, websocket: Websocket) -> None:
        self._websocket = websocket
        self._serializer: FrameSerializer | None = None
        if websocket.wire == "protobuf":
            self._serializer = ProtobufFrameSerializer()
        elif websocket.wire == "raw_pcm":
            self._serializer = RawPcmFrameSerializer(
                hz=websocket.in_hz, channels=websocket.in_channels
            )

    def audio(self, pcm: bytes, hz: int, channels: int) -> str | bytes | None:
        """A chunk of speech."""
        if self._websocket.wav_header:
            pcm = wav_header(len(pcm), hz, channels) + pcm
        if self._websocket.wire == "protobuf":
            return audio_message.encode(pcm, hz, channels)
        return self._encode(OutputAudioRawFrame(pcm, hz, channels))

    def interruption(self) -> str | bytes | None:
        """What tells the receiver to play nothing more of what it has; None if it is not told."""
        return self._encode(InterruptionFrame()) if self._websocket.interruptions else None

    def message(self, data: Any) -> str | bytes | None:
        """An app message."""
        if self._serializer is not None:
            return self._encode(OutputTransportMessageFrame(message=data))
        if isinstance(data, str | bytes):
            return data
        try:
            return json.dumps(data)
        except (TypeError, ValueError) as error:
            raise MalformedMessage(f"that is no JSON: {error}"[:300]) from error

    def audio_in(self, message: str | bytes) -> tuple[memoryview, int, int] | None:
        """Samples, rate and channels of a message of audio; None: it is for `read` or `hear`."""
        if self._websocket.wire == "protobuf" and isinstance(message, bytes):
            return audio_message.read(message)
        return None

    def read(self, message: str | bytes) -> Frame | None:
        """The frame in a message; None when it has none."""
        return self._serializer.decode(message) if self._serializer is not None else None

    def hear(self, message: str | bytes) -> InputAudioRawFrame | str | None:
        """The audio in a message, or the text of an app message, which is not read as JSON here."""
        if self._websocket.wire == "protobuf":
            return hear(message)
        if isinstance(message, str):
            return message
        frame = self.read(message)
        return frame if isinstance(frame, InputAudioRawFrame) else None

    def _encode(self, frame: Frame) -> str | bytes | None:
        return self._serializer.encode(frame) if self._serializer is not None else None
