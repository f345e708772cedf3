"""WebSocket wire formats: frames to messages and back."""

from ipc.serializers.base import FrameSerializer
from ipc.serializers.protobuf import ProtobufFrameSerializer
from ipc.serializers.raw_pcm import RawPcmFrameSerializer

__all__ = ["FrameSerializer", "ProtobufFrameSerializer", "RawPcmFrameSerializer"]
