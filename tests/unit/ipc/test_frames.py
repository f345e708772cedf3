from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from ipc import frames
from ipc.frames import (
    AudioFrame,
    AudioRawFrame,
    ControlFrame,
    DataFrame,
    Frame,
    ImageRawFrame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    OutputImageRawFrame,
    SpriteFrame,
    StartFrame,
    SystemFrame,
    UserImageRawFrame,
    UserImageRequestFrame,
)

BASE = ["id", "name", "pts", "metadata", "transport_source", "transport_destination"]
IMAGE = ["image", "size", "format"]
REQUEST = ["user_id", "text", "append_to_context"]
# Class, its bases, and the fields that the documents name beside those of every frame.
DOCUMENTED: dict[str, tuple[tuple[type, ...], list[str]]] = {
    "StartFrame": ((SystemFrame,), ["audio_in_sample_rate", "audio_out_sample_rate"]),
    "CancelFrame": ((SystemFrame,), []),
    "EndFrame": ((ControlFrame,), []),
    "InputAudioRawFrame": ((AudioRawFrame, SystemFrame), ["audio", "sample_rate", "num_channels"]),
    "OutputAudioRawFrame": ((AudioRawFrame, DataFrame), ["audio", "sample_rate", "num_channels"]),
    "InputImageRawFrame": ((ImageRawFrame, SystemFrame), IMAGE),
    "OutputImageRawFrame": ((ImageRawFrame, DataFrame), IMAGE),
    "UserImageRawFrame": ((ImageRawFrame, SystemFrame), [*IMAGE, *REQUEST, "request"]),
    "UserImageRequestFrame": ((SystemFrame,), [*REQUEST, "video_source", "result_callback"]),
    "SpriteFrame": ((DataFrame,), ["images"]),
    "InputTransportMessageFrame": ((SystemFrame,), ["message"]),
    "OutputTransportMessageFrame": ((DataFrame,), ["message"]),
    "OutputTransportMessageUrgentFrame": ((SystemFrame,), ["message"]),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_frames_have_their_fields_and_kind(name: str) -> None:
    bases, wanted = DOCUMENTED[name]

    cls = getattr(frames, name)

    assert issubclass(cls, (Frame, *bases))
    assert all(issubclass(cls, base) for base in bases)
    assert {*BASE, *wanted} <= {field.name for field in fields(cls)}


def test_frames_are_numbered_and_named_after_their_class() -> None:
    first, other, second = StartFrame(), frames.EndFrame(), StartFrame()

    assert first.id < other.id < second.id
    name, _, number = first.name.partition("#")
    assert name == "StartFrame"
    assert second.name == f"StartFrame#{int(number) + 1}"
    assert other.name.startswith("EndFrame#")


def test_frames_begin_without_time_source_or_destination() -> None:
    frame = frames.EndFrame()

    assert (frame.pts, frame.transport_source, frame.transport_destination) == (None, None, None)
    assert frame.metadata == {}
    assert frame.metadata is not frames.EndFrame().metadata


@pytest.mark.parametrize("cls", [InputAudioRawFrame, OutputAudioRawFrame])
@pytest.mark.parametrize("channels", [1, 2])
def test_audio_frames_count_samples_per_channel(
    cls: type[InputAudioRawFrame], channels: int
) -> None:
    frame = cls(audio=bytes(640), sample_rate=16_000, num_channels=channels)

    assert frame.num_frames == 320 // channels
    assert frame.name.startswith(cls.__name__)


def test_audio_frames_take_the_documented_positions() -> None:
    frame = OutputAudioRawFrame(b"\0\0", 24_000, 1)

    assert (frame.audio, frame.sample_rate, frame.num_channels) == (b"\0\0", 24_000, 1)


def test_image_frames_take_the_documented_positions() -> None:
    image = OutputImageRawFrame(b"\1\2\3", (1, 1), "RGB")

    sprite = SpriteFrame([image])

    assert (image.image, image.size, image.format) == (b"\1\2\3", (1, 1), "RGB")
    assert sprite.images == [image]


def test_an_image_of_a_user_carries_the_request_that_it_answers() -> None:
    asked = UserImageRequestFrame(user_id="u", text="what is this?", append_to_context=True)

    given = UserImageRawFrame(
        image=b"", size=(0, 0), format="RGB", user_id="u", text=asked.text, request=asked
    )

    assert given.request is asked
    assert given.text == "what is this?"


def test_default_rates_of_a_pipeline_are_the_documented_ones() -> None:
    start = StartFrame()

    assert (start.audio_in_sample_rate, start.audio_out_sample_rate) == (16_000, 24_000)


def test_an_sdk_frame_shows_its_samples_without_a_copy() -> None:
    buffer = bytearray(np.array([1, -2, 3, -4], np.int16).tobytes())
    mono = AudioFrame(memoryview(buffer), 8_000, 1, cursor=100)
    stereo = AudioFrame(memoryview(buffer), 8_000, 2, cursor=100, lost=7)

    buffer[0] = 9

    assert mono.samples.tolist() == [9, -2, 3, -4]
    assert stereo.samples.tolist() == [[9, -2], [3, -4]]
    assert (mono.count, stereo.count) == (4, 2)
    assert (mono.duration_ms, stereo.duration_ms) == (0.5, 0.25)
    assert (mono.lost, stereo.lost) == (0, 7)


def test_an_sdk_frame_cannot_be_changed() -> None:
    frame = AudioFrame(b"", 8_000, 1, 0)

    with pytest.raises(FrozenInstanceError):
        frame.cursor = 1  # type: ignore[misc]  # that is the point
