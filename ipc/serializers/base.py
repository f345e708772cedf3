"""What a serializer is: frames to WebSocket messages and back.

The core (`encode`, `decode`) is synchronous, so that a worker can run it in its slots; the
documented coroutines (`serialize`, `deserialize`) stand on it. A serializer of one's own may
override either pair; whichever object is not of a type shipped here runs in the bot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ipc.frames import (
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
)

if TYPE_CHECKING:
    from ipc.frames import Frame

RTVI_LABEL = "rtvi-ai"
MESSAGES = (OutputTransportMessageFrame, OutputTransportMessageUrgentFrame)


class FrameSerializer:
    """Base of all serializers."""

    # The name under which a worker knows this exact type; None runs it in the bot.
    wire_name: ClassVar[str | None] = None

    @dataclass(kw_only=True)
    class InputParams:
        """RTVI messages are for clients that speak RTVI; a telephone line does not."""

        ignore_rtvi_messages: bool = True

    def __init__(self, params: InputParams | None = None) -> None:
        self._params = params or FrameSerializer.InputParams()

    def should_ignore_frame(self, frame: Frame) -> bool:
        """Whether this message is not for this kind of wire."""
        message: Any = getattr(frame, "message", None)
        return (
            self._params.ignore_rtvi_messages
            and isinstance(frame, MESSAGES)
            and isinstance(message, dict)
            and message.get("label") == RTVI_LABEL
        )

    async def setup(self, setup: Any) -> None:
        """Called once with a FrameProcessorSetup (or a StartFrame) before anything else."""

    async def serialize(self, frame: Frame) -> str | bytes | None:
        """The frame as a message; None when this wire has none for it."""
        return self.encode(frame)

    async def deserialize(self, data: str | bytes) -> Frame | None:
        """The frame in a message; None when there is none. Raises MalformedMessage."""
        return self.decode(data)

    def encode(self, frame: Frame) -> str | bytes | None:
        """The frame as a message; None when this wire has none for it."""
        raise NotImplementedError

    def decode(self, data: str | bytes) -> Frame | None:
        """The frame in a message; None when there is none. Raises MalformedMessage."""
        raise NotImplementedError
