"""Wire formats: golden bytes of another implementation, both directions, and garbage."""

from __future__ import annotations

import io
import json
import wave
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import ConfigError, MalformedMessage
from ipc.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    TextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
)
from ipc.serializers import FrameSerializer, ProtobufFrameSerializer, RawPcmFrameSerializer
from ipc.serializers.wav import wav_header

if TYPE_CHECKING:
    from collections.abc import Callable

# What Pipecat 1.14 makes of these frames.
GOLDEN: dict[str, tuple[Callable[[], Frame], int, str, int | None, str]] = {
    "text": (
        *(lambda: TextFrame("Grüße"), 7, "TextFrame#7", None),
        "0a180807120b546578744672616d6523371a074772c3bcc39f65",
    ),
    "empty text": (
        *(lambda: TextFrame(""), 300, "TextFrame#0", None),
        "0a1008ac02120b546578744672616d652330",
    ),
    "audio": (
        *(lambda: OutputAudioRawFrame(bytes(range(8)), 24_000, 1), 9, "OutputAudioRawFrame#3"),
        None,
        "1229080912154f7574707574417564696f5261774672616d6523331a08000102030405060720c0bb012801",
    ),
    "audio with a time": (
        *(lambda: OutputAudioRawFrame(b"\1\2\3\4", 48_000, 2), 9, "OutputAudioRawFrame#4"),
        123_456_789,
        "122a080912154f7574707574417564696f5261774672616d6523341a04010203042080f702280230959aef3a",
    ),
    "transcription": (
        lambda: TranscriptionFrame("hi", "user", "2026-01-01T00:00:00Z"),
        *(11, "TranscriptionFrame#1", None),
        "1a38080b12145472616e736372697074696f6e4672616d6523311a0268692204757365722a14323032362d"
        "30312d30315430303a30303a30305a",
    ),
    "nobody's transcription": (
        *(lambda: TranscriptionFrame("hi", "", ""), 12, "TranscriptionFrame#2", None),
        "1a1c080c12145472616e736372697074696f6e4672616d6523321a026869",
    ),
    "message": (
        lambda: OutputTransportMessageFrame(
            {"label": "rtvi-ai", "type": "x", "data": [1, 2.5, None, "ä"]}
        ),
        *(13, "M#1", None),
        "22450a437b226c6162656c223a2022727476692d6169222c202274797065223a202278222c202264617461"
        "223a205b312c20322e352c206e756c6c2c20225c7530306534225d7d",
    ),
    "urgent message": (
        *(lambda: OutputTransportMessageUrgentFrame("text"), 14, "M#2", None),
        "22080a06227465787422",
    ),
    "interruption": (
        *(InterruptionFrame, 15, "InterruptionFrame#0", None),
        "2a17080f1213496e74657272757074696f6e4672616d652330",
    ),
}


def named(case: str) -> tuple[Frame, bytes]:
    make, number, name, pts, golden = GOLDEN[case]
    frame = make()
    frame.id, frame.name, frame.pts = number, name, pts
    return frame, bytes.fromhex(golden)


@pytest.mark.parametrize("case", GOLDEN)
async def test_equal_frames_have_equal_bytes(case: str) -> None:
    frame, golden = named(case)
    assert await ProtobufFrameSerializer().serialize(frame) == golden


@pytest.mark.parametrize("case", GOLDEN)
async def test_the_bytes_of_others_are_read(case: str) -> None:
    frame, golden = named(case)
    read = await ProtobufFrameSerializer().deserialize(golden)
    assert read is not None
    if isinstance(frame, OutputAudioRawFrame):
        assert isinstance(read, InputAudioRawFrame)
        assert (read.audio, read.sample_rate) == (frame.audio, frame.sample_rate)
        assert (read.num_channels, read.pts) == (frame.num_channels, frame.pts)
    elif isinstance(frame, OutputTransportMessageFrame | OutputTransportMessageUrgentFrame):
        assert isinstance(read, InputTransportMessageFrame)
        assert read.message == frame.message
        return  # a message has no name on the wire
    else:
        assert type(read) is type(frame)
        assert getattr(read, "text", None) == getattr(frame, "text", None)
    assert (read.id, read.name) == (frame.id, frame.name)


@pytest.mark.parametrize("frame", [TTSAudioRawFrame(b"\0\0", 16_000, 1), EndFrame()])
async def test_other_types_have_no_protobuf_form(frame: Frame) -> None:
    assert await ProtobufFrameSerializer().serialize(frame) is None


@pytest.mark.parametrize(
    "message",
    ["text", b"\xff\xff", b"\x0a", "22050a037b7d7b", "1208200020c0bb0128ff"],
)
def test_garbage_is_malformed(message: Any) -> None:
    data = bytes.fromhex(message) if isinstance(message, str) and message[0] in "12" else message
    with pytest.raises(MalformedMessage):
        ProtobufFrameSerializer().decode(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_nothing_or_malformed(data: bytes) -> None:
    try:
        frame = ProtobufFrameSerializer().decode(data)
    except MalformedMessage:
        return
    assert frame is None or isinstance(frame, Frame)


def test_a_message_that_is_no_json_is_refused() -> None:
    for serializer in (ProtobufFrameSerializer(), RawPcmFrameSerializer()):
        with pytest.raises(MalformedMessage, match=r"JSON|form"):
            serializer.encode(OutputTransportMessageFrame({"a": object()}))


def test_rtvi_messages_pass_where_clients_speak_it() -> None:
    message = OutputTransportMessageFrame({"label": "rtvi-ai", "type": "bot-ready"})
    assert ProtobufFrameSerializer().encode(message)
    assert RawPcmFrameSerializer().encode(message)
    assert FrameSerializer().should_ignore_frame(message)
    params = FrameSerializer.InputParams(ignore_rtvi_messages=True)
    assert RawPcmFrameSerializer(params).encode(message) is None


def test_raw_pcm_is_bare_and_messages_are_json() -> None:
    raw = RawPcmFrameSerializer(hz=8_000, channels=2)
    assert raw.encode(OutputAudioRawFrame(b"\1\2\3\4", 8_000, 2)) == b"\1\2\3\4"
    assert json.loads(raw.encode(InterruptionFrame()) or "") == {"type": "interruption"}
    assert raw.encode(TextFrame("no")) is None
    heard = raw.decode(b"\1\2\3\4")
    assert isinstance(heard, InputAudioRawFrame)
    assert (heard.sample_rate, heard.num_channels, heard.num_frames) == (8_000, 2, 1)
    told = raw.decode('{"a": 1}')
    assert isinstance(told, InputTransportMessageFrame)
    assert told.message == {"a": 1}
    assert raw.decode(b"") is None
    for bad in (b"\1\2", "{"):
        with pytest.raises(MalformedMessage):
            raw.decode(bad)
    with pytest.raises(ConfigError):
        RawPcmFrameSerializer(hz=96_000)


async def test_a_serializer_of_ones_own_needs_only_the_documented_coroutines() -> None:
    class Shout(FrameSerializer):
        async def serialize(self, frame: Frame) -> str | bytes | None:
            return frame.text.upper() if isinstance(frame, TextFrame) else None

        async def deserialize(self, data: str | bytes) -> Frame | None:
            return TextFrame(str(data).lower())

    own = Shout()
    await own.setup(None)
    assert await own.serialize(TextFrame("hi")) == "HI"
    assert own.wire_name is None


@pytest.mark.parametrize(("hz", "channels"), [(24_000, 1), (16_000, 2)])
def test_a_header_makes_pcm_a_wav_file(hz: int, channels: int) -> None:
    pcm = bytes(range(4 * channels)) * 10
    with wave.open(io.BytesIO(wav_header(len(pcm), hz, channels) + pcm)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (hz, channels, 2)
        assert file.readframes(1000) == pcm
