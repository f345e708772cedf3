"""The short way for audio makes and reads what the serializer does, and leaves it all else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import MalformedMessage
from ipc.frames import InputAudioRawFrame, InterruptionFrame, OutputAudioRawFrame, TextFrame
from ipc.serializers import ProtobufFrameSerializer, audio_message
from ipc.serializers import backbeat_frames_pb2 as wire

if TYPE_CHECKING:
    from ipc.frames import Frame

SERIALIZER = ProtobufFrameSerializer()
NUMBERS = st.sampled_from([1, 127, 128, 16_383, 16_384, 2**32 - 1, 2**63])


@pytest.mark.parametrize("size", [2, 126, 128, 1_920, 20_000, 300_000])
@pytest.mark.parametrize(("hz", "channels"), [(8_000, 1), (24_000, 1), (48_000, 2)])
def test_a_message_is_the_serializers_to_the_byte(size: int, hz: int, channels: int) -> None:
    pcm = bytes(range(256)) * (size // 256) + bytes(size % 256)
    made = audio_message.encode(pcm, hz, channels)
    # A frame that is made now has the next number of all, and the next name of its kind.
    frame = OutputAudioRawFrame(pcm, hz, channels)
    kind, _, count = frame.name.partition("#")
    frame.id, frame.name = frame.id - 1, f"{kind}#{int(count) - 1}"
    assert made == SERIALIZER.encode(frame)


@given(NUMBERS, st.text(max_size=40), st.binary(max_size=400), NUMBERS, st.integers(0, 3), NUMBERS)
def test_what_is_read_is_what_the_serializer_reads(
    number: int, name: str, pcm: bytes, hz: int, channels: int, pts: int
) -> None:
    message = wire.Frame()
    part = message.audio
    part.id, part.name, part.audio = number, name, pcm
    part.sample_rate, part.num_channels = hz % (1 << 32), channels
    if pts > 16_384:
        part.pts = pts
    _agree(message.SerializeToString())


@given(st.binary(max_size=80))
def test_garbage_is_left_to_the_serializer(data: bytes) -> None:
    _agree(data)


# One for all examples: each message carries another number, and now and then a longer one.
WHOLE = audio_message.encode(bytes(40), 24_000, 1)


@given(st.data())
def test_a_damaged_message_is_sound_to_both_or_left(data: Any) -> None:
    whole = bytearray(WHOLE)
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    _agree(bytes(whole[: data.draw(st.integers(place, len(whole)))]))


def _agree(data: bytes) -> None:
    found = audio_message.read(data)
    if found is None:
        return
    pcm, hz, channels = found
    frame = SERIALIZER.decode(data)
    assert isinstance(frame, InputAudioRawFrame)
    assert (bytes(pcm), hz, channels) == (frame.audio, frame.sample_rate, frame.num_channels)


def test_plain_audio_of_any_peer_takes_the_short_way() -> None:
    theirs = wire.Frame()
    theirs.audio.audio, theirs.audio.sample_rate, theirs.audio.num_channels = bytes(640), 16_000, 1
    found = audio_message.read(theirs.SerializeToString())
    assert found is not None
    assert (bytes(found[0]), *found[1:]) == (bytes(640), 16_000, 1)
    assert audio_message.read(audio_message.encode(bytes(1_920), 24_000, 1)) is not None


@pytest.mark.parametrize("frame", [TextFrame("hi"), InterruptionFrame()])
def test_other_messages_do_not(frame: Frame) -> None:
    data = SERIALIZER.encode(frame)
    assert data is not None
    assert audio_message.read(data) is None


def test_half_a_sample_is_for_the_serializer_to_refuse() -> None:
    data = audio_message.encode(bytes(41), 24_000, 1)
    assert audio_message.read(data) is None
    with pytest.raises(MalformedMessage):
        SERIALIZER.decode(data)
