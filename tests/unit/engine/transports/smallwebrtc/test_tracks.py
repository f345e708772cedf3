"""RawAudioTrack and RawVideoTrack: real time without bursts, bounded queues, honest futures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from engine.transports.frames import OutputImageRawFrame
from engine.transports.smallwebrtc.images import FORMAT_CONVERSIONS
from engine.transports.smallwebrtc.tracks import MAX_IMAGES, RawAudioTrack, RawVideoTrack
from ipc.clock import ManualClock
from tests.fakes.manual_loop import ManualLoop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine, Iterator

HZ = 16_000
CHUNK = HZ // 100 * 2


class World:
    """A manual loop, and what was pulled from a track with the time of each pull."""

    def __init__(self, clock: ManualClock, loop: ManualLoop) -> None:
        self.clock = clock
        self.loop = loop
        self.pulled: list[tuple[float, Any]] = []

    def pull(self, track: Any, count: int) -> asyncio.Task[None]:
        async def pulling() -> None:
            for _ in range(count):
                frame = await track.recv()
                self.pulled.append((round(self.loop.time() * 1000 - self.began_ms, 3), frame))

        self.began_ms = self.loop.time() * 1000
        task = self.loop.create_task(pulling())
        self.loop.run()
        return task

    def pass_ms(self, count: int) -> None:
        for _ in range(count):
            self.clock.advance_ms(1)
            self.loop.run()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        task = self.loop.create_task(work)
        self.loop.run()
        return task.result()

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.pulled]


@pytest.fixture
def world() -> Iterator[World]:
    clock = ManualClock()
    with ManualLoop(clock) as loop:  # type: ignore[abstract]  # the rest is for sockets
        yield World(clock, loop)


def ramp(chunks: int) -> bytes:
    return np.arange(chunks * CHUNK // 2, dtype=np.int16).tobytes()


def test_audio_leaves_in_real_time_and_whole(world: World) -> None:
    track = RawAudioTrack(HZ)
    done = track.add_audio_bytes(ramp(5))
    world.pull(track, 7)
    assert not done.done()
    world.pass_ms(70)
    assert world.times == [0, 10, 20, 30, 40, 50, 60]
    assert done.result() is True
    got = b"".join(bytes(frame.planes[0])[:CHUNK] for _, frame in world.pulled)
    assert got == ramp(5) + bytes(2 * CHUNK)
    assert [frame.pts for _, frame in world.pulled] == [n * 160 for n in range(7)]


def test_the_clock_starts_with_the_first_pull(world: World) -> None:
    track = RawAudioTrack(HZ)
    world.pass_ms(1_000)
    world.pull(track, 5)
    world.pass_ms(50)
    assert world.times == [0, 10, 20, 30, 40]


def test_after_a_stall_nothing_leaves_in_a_burst(world: World) -> None:
    track = RawAudioTrack(HZ)
    world.pull(track, 3)
    world.pass_ms(30)
    world.pass_ms(500)
    world.pulled.clear()
    world.pull(track, 4)
    world.pass_ms(50)
    assert world.times == [0, 10, 20, 30]


def test_without_silence_it_waits_and_the_pause_shows_in_the_timestamps(world: World) -> None:
    track = RawAudioTrack(HZ, auto_silence=False)
    track.add_audio_bytes(ramp(1))
    world.pull(track, 3)
    world.pass_ms(200)
    assert world.times == [0]
    track.add_audio_bytes(ramp(2))
    world.loop.run()
    world.pass_ms(20)
    assert world.times == [0, 200, 210]
    assert [frame.pts for _, frame in world.pulled] == [0, 3200, 3360]


def test_empty_audio_is_done_at_once(world: World) -> None:
    assert RawAudioTrack(HZ).add_audio_bytes(b"").result() is True


@pytest.mark.parametrize("size", [1, CHUNK - 2, CHUNK + 1])
def test_what_is_no_multiple_of_10_ms_is_refused(world: World, size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 10ms"):
        RawAudioTrack(HZ).add_audio_bytes(bytes(size))


def test_a_rate_without_whole_10_ms_rounds_down(world: World) -> None:
    track = RawAudioTrack(11_025)
    track.add_audio_bytes(bytes(110 * 2 * 3))
    with pytest.raises(ValueError, match="multiple"):
        track.add_audio_bytes(bytes(11_025 * 2))


def test_the_queue_ends_at_10_s_and_keeps_what_it_has(world: World) -> None:
    track = RawAudioTrack(HZ)
    track.add_audio_bytes(ramp(999))
    with pytest.raises(ValueError, match="at most 10 s"):
        track.add_audio_bytes(ramp(2))
    track.add_audio_bytes(ramp(1))
    world.pull(track, 1)
    track.add_audio_bytes(ramp(1))


def test_stop_cancels_what_is_pending_and_whoever_waits(world: World) -> None:
    track = RawAudioTrack(HZ, auto_silence=False)
    waiting = world.pull(track, 1)
    track.stop()
    world.loop.run()
    assert isinstance(waiting.exception(), MediaStreamError)
    other = RawAudioTrack(HZ)
    done = other.add_audio_bytes(ramp(2))
    other.stop()
    assert done.cancelled()
    with pytest.raises(ValueError, match="stopped"):
        other.add_audio_bytes(ramp(1))


def image(shade: int, size: tuple[int, int] = (5, 3), kind: str | None = "RGB") -> Any:
    return OutputImageRawFrame(bytes([shade]) * (size[0] * size[1] * 3), size, kind)


def test_images_carry_the_time_at_which_they_came(world: World) -> None:
    track = RawVideoTrack(5, 3)
    world.pull(track, 3)
    for pause_ms in (0, 15, 66):
        world.pass_ms(pause_ms)
        track.add_video_frame(image(pause_ms))
        world.loop.run()
    assert [frame.pts for _, frame in world.pulled] == [0, 15 * 90, 81 * 90]
    shades = [frame.to_ndarray()[2, 4, 1] for _, frame in world.pulled]
    assert shades == [0, 15, 66]


def test_a_slow_receiver_gets_the_newest_images(world: World) -> None:
    track = RawVideoTrack(5, 3)
    for shade in range(20):
        track.add_video_frame(image(shade))
    world.pull(track, MAX_IMAGES)
    shades = [frame.to_ndarray()[0, 0, 0] for _, frame in world.pulled]
    assert shades == list(range(20 - MAX_IMAGES, 20))
    stamps = [frame.pts for _, frame in world.pulled]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (image(1, (3, 5)), "5x3"),
        (image(1, kind="YUV"), "YUV"),
        (OutputImageRawFrame(b"123", (5, 3), "RGB"), "45 bytes"),
    ],
)
def test_an_image_that_does_not_fit_is_refused_alone(
    world: World, frame: OutputImageRawFrame, why: str
) -> None:
    track = RawVideoTrack(5, 3)
    with pytest.raises(ValueError, match=why):
        track.add_video_frame(frame)
    track.add_video_frame(image(7))
    world.pull(track, 1)
    assert len(world.pulled) == 1


def test_the_conversions_are_opencvs() -> None:
    assert {
        "gray": cv2.COLOR_GRAY2RGB,
        "nv12": cv2.COLOR_YUV2RGB_NV12,
        "yuv420p": cv2.COLOR_YUV2RGB_I420,
        "yuvj420p": cv2.COLOR_YUV2RGB_I420,
    } == FORMAT_CONVERSIONS
