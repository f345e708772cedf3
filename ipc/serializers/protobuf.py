"""Frames as protobuf messages: what Pipecat's WebSocket clients and servers speak.

For equal frames the bytes are equal to theirs: exact types only, fields that are empty left
out, `id` and `name` included.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from google.protobuf.message import DecodeError

from ipc.errors import MalformedMessage
from ipc.frames import (
    InputAudioRawFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    TextFrame,
    TranscriptionFrame,
)
from ipc.serializers import backbeat_frames_pb2 as wire
from ipc.serializers.base import MESSAGES, FrameSerializer

if TYPE_CHECKING:
    from ipc.frames import Frame

# Frames that have a message, by their exact type, and the fields that go into it.
_IDENTITY = ("id", "name")
_FIELDS: dict[type[Frame], tuple[str, tuple[str, ...]]] = {
    TextFrame: ("text", (*_IDENTITY, "text")),
    OutputAudioRawFrame: ("audio", (*_IDENTITY, "audio", "sample_rate", "num_channels", "pts")),
    TranscriptionFrame: ("transcription", (*_IDENTITY, "text", "user_id", "timestamp")),
    InterruptionFrame: ("interruption", _IDENTITY),
}
MAX_CHANNELS = 2


class ProtobufFrameSerializer(FrameSerializer):
    """Protobuf; RTVI messages pass, for these are the connections that carry them."""

    wire_name: ClassVar[str | None] = "protobuf"

    def __init__(self, params: FrameSerializer.InputParams | None = None) -> None:
        super().__init__(params)
        self._params.ignore_rtvi_messages = False

    def encode(self, frame: Frame) -> bytes | None:
        """The frame as protobuf; None for types that the schema does not have.

        Raises MalformedMessage for a value that does not fit, such as a message that is no JSON.
        """
        message = wire.Frame()
        try:
            if isinstance(frame, MESSAGES):
                if self.should_ignore_frame(frame):
                    return None
                message.message.data = json.dumps(frame.message)
            else:
                known = _FIELDS.get(type(frame))
                if known is None:
                    return None
                part = getattr(message, known[0])
                for name in known[1]:
                    if value := getattr(frame, name):
                        setattr(part, name, value)
        except (TypeError, ValueError) as error:
            raise MalformedMessage(f"{frame} has no protobuf form: {error}"[:300]) from error
        return message.SerializeToString()

    def decode(self, data: str | bytes) -> Frame | None:
        """The frame in a protobuf message; None for an empty one. Raises MalformedMessage."""
        kind, part = _parse(data)
        return None if kind is None else _read(kind, part)


def hear(data: str | bytes) -> InputAudioRawFrame | str | None:
    """The audio in a message, or the JSON text of an app message as it is; None for all else.

    For whoever must not spend the time to read the JSON. Raises MalformedMessage.
    """
    kind, part = _parse(data)
    if kind == "message":
        text: str = part.data
        return text
    frame = _read(kind, part) if kind == "audio" else None
    return frame if isinstance(frame, InputAudioRawFrame) else None


def _parse(data: str | bytes) -> tuple[str | None, Any]:
    """Which part a protobuf message has, and the part."""
    if isinstance(data, str):
        raise MalformedMessage("a text message is not protobuf")
    try:
        message = wire.Frame.FromString(data)
    except DecodeError as error:
        raise MalformedMessage("these bytes are not protobuf") from error
    kind = message.WhichOneof("frame")
    return kind, None if kind is None else getattr(message, kind)


def _read(kind: str, part: Any) -> Frame:
    if kind == "message":
        try:
            return InputTransportMessageFrame(message=json.loads(part.data))
        except (ValueError, RecursionError) as error:
            raise MalformedMessage("a message frame does not hold JSON") from error
    frame: Frame
    if kind == "audio":
        _check_audio(part)
        frame = InputAudioRawFrame(
            audio=part.audio, sample_rate=part.sample_rate, num_channels=part.num_channels
        )
        frame.pts = part.pts or None
    elif kind == "text":
        frame = TextFrame(text=part.text)
    elif kind == "transcription":
        frame = TranscriptionFrame(text=part.text, user_id=part.user_id, timestamp=part.timestamp)
    else:
        frame = InterruptionFrame()
    if part.id:
        frame.id = part.id
    if part.name:
        frame.name = part.name
    return frame


def _check_audio(part: Any) -> None:
    channels = part.num_channels
    if not 1 <= channels <= MAX_CHANNELS or not part.sample_rate:
        raise MalformedMessage(f"audio of {channels} channels at {part.sample_rate} Hz")
    if len(part.audio) % (2 * channels):
        raise MalformedMessage(f"{len(part.audio)} bytes are no whole samples")
