"""What input and output share: one connection, counted users, rates and channels, callbacks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.sdk import Session
from engine.transports.base import SoundfileMixer, TransportParams
from engine.transports.frames import (
    OutputAudioRawFrame,
    OutputImageRawFrame,
    OutputTransportMessageFrame,
    StartFrame,
)
from engine.transports.processors import BaseObject, FrameProcessorSetup, SystemClock, TaskManager
from engine.transports.smallwebrtc.client import SmallWebRTCCallbacks, SmallWebRTCClient
from ipc.errors import AlreadyAttached, ConfigError, SessionClosed, StateError
from ipc.messages import Configure
from tests.support import until
from tests.unit.engine.sdk.test_session import FakeLine, MemoryMedia

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = ("connected", "disconnected", "closed", "app-message", "track-status")


class FakeConnection(BaseObject):
    """A connection whose session lies on rings in memory: 16 kHz, mono both ways."""

    def __init__(self) -> None:
        super().__init__()
        for event in EVENTS:
            self._register_event_handler(event, sync=True)
        self.media = MemoryMedia(1000)
        self.line = FakeLine()
        self.session = Session("s_1", self.line, None)
        self.session.attach(self.media)
        self.asked: list[Any] = []
        self.sent: list[Any] = []
        self.present = False
        self.fails: Exception | None = None

    pc_id = "pc-1"

    def is_connected(self) -> bool:
        return self.present

    async def open_media(self, **shape: int) -> None:
        if self.fails is not None:
            raise self.fails
        self.asked.append(shape)

    async def connect(self) -> None:
        self.asked.append("connect")

    async def disconnect(self) -> None:
        self.asked.append("disconnect")
        self.session.ended("bot_closed")

    def send_app_message(self, message: Any) -> None:
        if self.session.closed:
            raise SessionClosed("over")
        self.sent.append(message)

    async def tell(self, event: str, *arguments: Any) -> None:
        if event == "connected":
            self.present = True
        elif event in ("disconnected", "closed"):
            self.present = False
        await self._call_event_handler(event, *arguments)


class Told:
    """Keeps what the callbacks were called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def callbacks(self, *, tracks: bool = True) -> SmallWebRTCCallbacks:
        names = ["on_app_message", "on_client_connected", "on_client_disconnected"]
        names += ["on_track_status"] if tracks else []
        return SmallWebRTCCallbacks(**{name: self._keep(name) for name in names})

    def _keep(self, name: str) -> Any:
        async def keep(*arguments: Any) -> None:
            self.calls.append((name, *arguments))

        return keep

    @property
    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


@pytest.fixture
def connection() -> Iterator[FakeConnection]:
    made = FakeConnection()
    yield made
    made.session.ended("test over")
    made.session.detach()


@pytest.fixture
def told() -> Told:
    return Told()


def client_of(connection: FakeConnection, told: Told, **options: Any) -> SmallWebRTCClient:
    stand_in: Any = connection
    return SmallWebRTCClient(stand_in, told.callbacks(**options))


async def open_client(connection: FakeConnection, told: Told, **params: Any) -> SmallWebRTCClient:
    client = client_of(connection, told)
    given = TransportParams(audio_in_enabled=True, audio_out_enabled=True, **params)
    await client.setup(given, FrameProcessorSetup(SystemClock(), TaskManager()))
    await client.connect()
    return client


@pytest.mark.parametrize("by_name", [True, False])
async def test_rates_come_from_the_parameters_or_from_either_kind_of_setup(
    connection: FakeConnection, told: Told, by_name: bool
) -> None:
    client = client_of(connection, told)
    params = TransportParams(audio_in_channels=2)
    start = StartFrame(audio_in_sample_rate=8_000, audio_out_sample_rate=22_050)
    setup = FrameProcessorSetup(
        SystemClock(), TaskManager(), audio_in_sample_rate=8_000, audio_out_sample_rate=22_050
    )
    await (client.setup(params, setup=setup) if by_name else client.setup(params, start))
    await client.connect()
    assert connection.asked == [
        {"mic_hz": 8_000, "speaker_hz": 24_000, "mic_channels": 2, "speaker_channels": 1},
        "connect",
    ]


async def test_the_connection_is_opened_once_and_closed_by_the_last_user(
    connection: FakeConnection, told: Told
) -> None:
    client = await open_client(connection, told)
    await asyncio.gather(client.connect(), client.connect())
    assert connection.asked.count("connect") == 1
    for _ in range(2):
        await client.disconnect()
        assert not client.is_closing
    await client.disconnect()
    assert client.is_closing
    await client.disconnect()
    assert connection.asked.count("disconnect") == 1


async def test_another_client_is_refused_until_the_first_has_let_go(
    connection: FakeConnection, told: Told
) -> None:
    first = await open_client(connection, told)
    with pytest.raises(AlreadyAttached):
        await open_client(connection, told)
    await first.disconnect()
    assert connection.asked.count("disconnect") == 1


async def test_without_a_setup_nothing_is_connected(connection: FakeConnection, told: Told) -> None:
    client = client_of(connection, told)
    with pytest.raises(StateError):
        await client.connect()
    with pytest.raises(ConfigError) as refused:
        await client.setup(TransportParams(audio_out_sample_rate=11_025), StartFrame())
    assert refused.value.code == "rate"


async def test_a_caller_who_left_before_the_bot_came_is_no_failure(
    connection: FakeConnection, told: Told
) -> None:
    connection.fails = SessionClosed("left")
    client = await open_client(connection, told)
    assert [frame async for frame in client.read_audio_frame()] == []
    assert await client.write_audio_frame(OutputAudioRawFrame(bytes(640), 16_000, 1)) is False
    await client.disconnect()


async def test_coming_and_going_are_told_in_pairs_and_not_what_we_did_ourselves(
    connection: FakeConnection, told: Told
) -> None:
    client = await open_client(connection, told)
    for event in ("connected", "connected", "disconnected", "connected", "disconnected", "closed"):
        await connection.tell(event)
    came, gone = "on_client_connected", "on_client_disconnected"
    assert told.names == [came, gone, came, gone]
    await connection.tell("connected")
    await client.disconnect()
    await connection.tell("disconnected")
    await connection.tell("closed")
    assert told.names[4:] == [came]


@pytest.mark.parametrize("late", [True, False])
async def test_a_caller_who_never_came_is_told_gone_once(
    connection: FakeConnection, told: Told, late: bool
) -> None:
    if late:
        connection.fails = SessionClosed("left")
    client = await open_client(connection, told)
    for _ in range(2):
        await connection.tell("closed")
    assert told.names == ["on_client_disconnected"]
    await client.disconnect()


async def test_messages_and_tracks_are_told(connection: FakeConnection, told: Told) -> None:
    await open_client(connection, told)
    await connection.tell("app-message", {"a": 1})
    for index, enabled in ((0, False), (1, True), (7, True)):
        await connection.tell("track-status", index, enabled)
    assert told.calls == [
        ("on_app_message", {"a": 1}, "pc-1"),
        ("on_track_status", "microphone", False),
        ("on_track_status", "camera", True),
    ]


async def test_the_fourth_callback_may_be_missing(connection: FakeConnection, told: Told) -> None:
    client_of(connection, told, tracks=False)
    await connection.tell("track-status", 0, False)
    assert told.calls == []


async def test_audio_comes_in_at_the_rate_and_with_the_channels_asked_for(
    connection: FakeConnection, told: Told
) -> None:
    client = await open_client(connection, told, audio_in_sample_rate=24_000, audio_in_channels=2)
    connection.media.worker.write_mic(memoryview(np.full(3200, 500, np.int16).tobytes()))
    connection.session.look()
    frames = client.read_audio_frame()
    first = await anext(frames)
    second = await anext(frames)
    assert (first.sample_rate, first.num_channels) == (24_000, 2)
    samples = np.frombuffer(second.audio, np.int16).reshape(-1, 2)
    assert (samples[:, 0] == samples[:, 1]).all()
    assert second.pts is not None
    assert first.pts is not None
    assert second.pts > first.pts >= 0
    await frames.aclose()


async def test_who_begins_to_listen_after_the_end_hears_nothing(
    connection: FakeConnection, told: Told
) -> None:
    client = await open_client(connection, told)
    connection.session.ended("gone")
    connection.session.detach()
    assert [frame async for frame in client.read_audio_frame()] == []


async def test_a_frame_of_another_kind_is_made_to_fit(
    connection: FakeConnection, told: Told
) -> None:
    client = await open_client(connection, told, audio_out_sample_rate=16_000)
    connection.present = True
    stereo = np.array([[100, 300]] * 320, np.int16)
    assert await client.write_audio_frame(OutputAudioRawFrame(stereo.tobytes(), 16_000, 2))
    ring = connection.media.ring
    written = np.frombuffer(bytes(ring.speaker.view(0, 320)), np.int16)
    assert set(written.tolist()) == {200}
    with pytest.raises(ConfigError):
        await client.write_audio_frame(OutputAudioRawFrame(b"odd", 16_000, 1))


async def test_only_what_was_given_is_configured(connection: FakeConnection, told: Told) -> None:
    await open_client(connection, told)
    assert connection.line.asked == []
    await connection.session.configure(bitrate_bps=32_000)
    other = FakeConnection()
    await open_client(other, told, audio_out_bitrate=64_000, audio_out_auto_silence=False)
    (configured,) = other.line.asked
    assert isinstance(configured, Configure)
    assert configured.codec is not None
    assert (configured.codec.bitrate_bps, configured.codec.silence) == (64_000, False)
    other.session.ended("test over")
    other.session.detach()


async def test_a_sound_file_of_the_default_destination_is_the_workers(
    connection: FakeConnection, told: Told
) -> None:
    mixer = SoundfileMixer(sound_files={"a": "a.wav"}, default_sound="a", volume=0.2, mixing=False)
    client = await open_client(connection, told)
    assert await client.take_mixer(mixer, "stage") is False
    assert await client.take_mixer(mixer, None) is True
    (configured,) = connection.line.asked
    assert isinstance(configured, Configure)
    sound: Any = configured.mixer
    assert sound.path.endswith("a.wav")
    assert (sound.volume, sound.loop, sound.mixing) == (0.2, True, False)


async def test_after_the_end_messages_are_dropped_and_writes_say_no(
    connection: FakeConnection, told: Told
) -> None:
    client = await open_client(connection, told)
    await client.send_message(OutputTransportMessageFrame({"n": 1}))
    connection.session.ended("gone")
    await client.send_message(OutputTransportMessageFrame({"n": 2}))
    assert await client.write_audio_frame(OutputAudioRawFrame(bytes(640), 24_000, 1)) is False
    await client.disconnect()
    await client.send_message(OutputTransportMessageFrame({"n": 3}))
    assert connection.sent == [{"n": 1}]


async def test_video_waits_for_its_time_and_bad_images_are_refused(
    connection: FakeConnection, told: Told
) -> None:
    client = await open_client(connection, told, video_out_width=2, video_out_height=1)
    assert await client.write_video_frame(OutputImageRawFrame(bytes(6), (2, 1), "RGB")) is False
    for wrong in (
        OutputImageRawFrame(bytes(6), (1, 2), "RGB"),
        OutputImageRawFrame(bytes(5), (2, 1), "RGB"),
        OutputImageRawFrame(bytes(6), (2, 1), "CMYK"),
    ):
        with pytest.raises(ValueError, match=r"image|RGB"):
            await client.write_video_frame(wrong)
    with pytest.raises(ValueError, match="window"):
        await anext(client.read_video_frame("window"))
    images = asyncio.create_task(anext(client.read_video_frame("camera"), None))
    assert not client.video_source_enabled("camera")
    connection.session.ended("gone")
    await until(images.done)
    assert images.result() is None


async def test_audio_has_a_way_out_only_where_audio_goes(
    connection: FakeConnection, told: Told
) -> None:
    client = await open_client(connection, told, video_out_destinations=["screen"])
    assert client.playout(None) is not None
    assert client.playout("screen") is None
    frame = OutputAudioRawFrame(bytes(640), 24_000, 1)
    frame.transport_destination = "screen"
    assert await client.write_audio_frame(frame) is False
