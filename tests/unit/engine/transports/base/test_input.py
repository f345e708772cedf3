"""The input end: what the caller sends enters the pipeline, filtered, in order and bounded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from engine.transports.base import BaseAudioFilter, BaseInputTransport, TransportParams
from engine.transports.base.input import MAX_FRAMES
from engine.transports.frames import (
    CancelFrame,
    EndFrame,
    FilterControlFrame,
    FilterEnableFrame,
    Frame,
    InputAudioRawFrame,
    InputImageRawFrame,
    InputTransportStartAudioStreamingFrame,
    StartFrame,
    StopFrame,
    TextFrame,
    UserImageRequestFrame,
)
from engine.transports.processors import (
    FrameDirection,
    FrameProcessorSetup,
    SystemClock,
    TaskManager,
)
from ipc.errors import StateError
from tests.support import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DOWN = FrameDirection.DOWNSTREAM


class FakeInput(BaseInputTransport):
    def __init__(self, params: TransportParams) -> None:
        super().__init__(params)
        self.pushed: list[Frame] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def push_frame(
        self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> None:
        if isinstance(frame, InputAudioRawFrame):
            await self.gate.wait()
        self.pushed.append(frame)

    @property
    def heard(self) -> list[bytes]:
        return [frame.audio for frame in self.pushed if isinstance(frame, InputAudioRawFrame)]


class Marking(BaseAudioFilter):
    """Puts a letter before each piece; holds the empty ones back."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    async def start(self, sample_rate: int) -> None:
        self.told.append(sample_rate)

    async def stop(self) -> None:
        self.told.append("stop")

    async def process_frame(self, frame: FilterControlFrame) -> None:
        self.told.append(frame)

    async def filter(self, audio: bytes) -> bytes:
        if audio == b"bad!":
            raise ValueError("bad audio")
        return b"" if audio == b"none" else b"f-" + audio


Make = "Callable[..., FakeInput]"


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., FakeInput]]:
    made: list[FakeInput] = []

    def make(**params: Any) -> FakeInput:
        made.append(FakeInput(TransportParams(audio_in_enabled=True, **params)))
        return made[-1]

    yield make
    for each in made:
        each.gate.set()
        await each.cleanup()


async def set_up(transport: FakeInput) -> FakeInput:
    await transport.setup(FrameProcessorSetup(SystemClock(), TaskManager()))
    return transport


async def started(transport: FakeInput) -> FakeInput:
    await set_up(transport)
    await transport.process_frame(StartFrame(), DOWN)
    transport.pushed.clear()
    return transport


def said(text: bytes) -> InputAudioRawFrame:
    return InputAudioRawFrame(text, 16_000, 1)


async def test_audio_passes_the_filter_in_order(make: Callable[..., FakeInput]) -> None:
    marking = Marking()
    transport = await started(make(audio_in_filter=marking))
    for text in (b"one!", b"none", b"bad!", b"two!"):
        await transport.push_audio_frame(said(text))
    await until(lambda: len(transport.heard) == 2)
    assert transport.heard == [b"f-one!", b"f-two!"]
    await transport.process_frame(frame := FilterEnableFrame(False), DOWN)
    assert marking.told == [16_000, frame]
    await transport.cleanup()
    assert marking.told[-1] == "stop"


async def test_what_comes_before_the_start_is_kept_and_follows_it(
    make: Callable[..., FakeInput],
) -> None:
    transport = await set_up(make())
    for number in range(MAX_FRAMES + 10):
        await transport.push_audio_frame(said(b"%04d" % number))
    await transport.process_frame(StartFrame(), DOWN)
    await until(lambda: len(transport.heard) == MAX_FRAMES)
    assert isinstance(transport.pushed[0], StartFrame)
    assert transport.heard[0] == b"0010"


async def test_who_pushes_more_than_is_worked_off_waits(make: Callable[..., FakeInput]) -> None:
    transport = await started(make())
    transport.gate.clear()

    async def push() -> None:
        for number in range(MAX_FRAMES + 50):
            await transport.push_audio_frame(said(b"%04d" % number))

    pushing = asyncio.create_task(push())
    await until(lambda: len(transport._audio_in) == MAX_FRAMES)
    assert not pushing.done()
    transport.gate.set()
    await pushing
    await until(lambda: len(transport.heard) == MAX_FRAMES + 50)
    assert transport.heard == [b"%04d" % number for number in range(MAX_FRAMES + 50)]


@pytest.mark.parametrize("end", [EndFrame, CancelFrame, StopFrame])
async def test_who_waits_to_push_goes_on_at_the_end(
    make: Callable[..., FakeInput], end: type[Frame]
) -> None:
    transport = await started(make())
    transport.gate.clear()

    async def push() -> None:
        for _ in range(MAX_FRAMES + 2):
            await transport.push_audio_frame(said(b"none"))

    pushing = asyncio.create_task(push())
    await until(lambda: len(transport._audio_in) == MAX_FRAMES)
    await transport.process_frame(end(), DOWN)
    await pushing
    transport.gate.set()


async def test_a_stop_holds_the_input_until_the_next_start(make: Callable[..., FakeInput]) -> None:
    transport = await started(make(video_in_enabled=True))
    image = InputImageRawFrame(b"", (0, 0), "RGB")
    await transport.process_frame(StopFrame(), DOWN)
    await transport.push_audio_frame(said(b"gone"))
    await transport.push_video_frame(image)
    await transport.process_frame(StartFrame(), DOWN)
    await transport.push_video_frame(image)
    await transport.push_audio_frame(said(b"here"))
    await until(lambda: transport.heard)
    assert transport.heard == [b"here"]
    assert transport.pushed.count(image) == 1


async def test_without_passthrough_audio_is_only_filtered(make: Callable[..., FakeInput]) -> None:
    transport = await started(make(audio_in_passthrough=False, audio_in_filter=Marking()))
    frame = said(b"one!")
    await transport.push_audio_frame(frame)
    await until(lambda: frame.audio == b"f-one!")
    assert transport.heard == []


async def test_audio_may_wait_for_the_word_to_stream(make: Callable[..., FakeInput]) -> None:
    transport = await started(make(audio_in_stream_on_start=False))
    await transport.push_audio_frame(said(b"gone"))
    await transport.process_frame(InputTransportStartAudioStreamingFrame(), DOWN)
    await transport.push_audio_frame(said(b"here"))
    await until(lambda: transport.heard)
    assert transport.heard == [b"here"]


async def test_audio_from_upstream_takes_the_same_way(make: Callable[..., FakeInput]) -> None:
    transport = await started(make(audio_in_filter=Marking()))
    await transport.process_frame(said(b"raw!"), DOWN)
    await transport.process_frame(text := TextFrame("rest"), DOWN)
    await until(lambda: transport.heard)
    assert transport.heard == [b"f-raw!"]
    assert text in transport.pushed


async def test_nothing_passes_that_is_not_enabled() -> None:
    transport = await started(FakeInput(TransportParams()))
    await transport.push_audio_frame(said(b"gone"))
    await transport.push_video_frame(InputImageRawFrame(b"", (0, 0), "RGB"))
    assert transport.pushed == []
    assert transport._audio_task is None
    await transport.cleanup()


async def test_a_second_setup_is_refused(make: Callable[..., FakeInput]) -> None:
    transport = make()
    assert transport.sample_rate == 0
    await set_up(transport)
    with pytest.raises(StateError):
        await set_up(transport)
    assert transport.sample_rate == 16_000


async def test_image_requests_that_nothing_answers_are_answered() -> None:
    answers: list[Any] = []

    async def answer(result: Any) -> None:
        answers.append(result)

    transport = FakeInput(TransportParams())
    requests = [UserImageRequestFrame("u", result_callback=answer), UserImageRequestFrame("u")]
    await transport._answer_image_requests(requests, "no video")
    assert answers == [{"error": "no video"}]


def test_capabilities_say_what_is_taken() -> None:
    bare = BaseInputTransport(TransportParams()).capabilities
    assert (bare.audio_in, bare.video_in, bare.screen_in) == (False, False, False)
    seeing = BaseInputTransport(TransportParams(video_in_enabled=True)).capabilities
    assert (seeing.video_in, seeing.screen_in) == (True, None)
