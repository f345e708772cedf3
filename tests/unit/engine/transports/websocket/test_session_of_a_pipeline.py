"""A documented session under a transport: what runs where, audio both ways, messages."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.transports.base import SoundfileMixer
from engine.transports.frames import (
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    TextFrame,
)
from engine.transports.processors import FrameProcessorSetup, SystemClock, TaskManager
from engine.transports.websocket.client import WebsocketClientParams, WebsocketClientSession
from ipc.errors import ConfigError
from ipc.media_stream import PAUSE, TEXT, Kind
from ipc.messages import Configure, OpenMedia, SendMessage, SendRaw
from ipc.serializers import FrameSerializer, ProtobufFrameSerializer, RawPcmFrameSerializer
from tests.support import until
from tests.unit.engine.sdk.test_session import MemoryMedia
from tests.unit.engine.transports.websocket.dialled_world import URI

if TYPE_CHECKING:
    from engine.transports.frames import Frame
    from tests.unit.engine.transports.websocket.dialled_world import World

HZ = 16_000


class Own(FrameSerializer):
    """A format of the bot's own: JSON, and audio of less than 10 ms has no message."""

    def __init__(self) -> None:
        super().__init__()
        self.setups: list[Any] = []
        self.audio: list[OutputAudioRawFrame] = []

    async def setup(self, setup: Any) -> None:
        self.setups.append(setup)

    def encode(self, frame: Frame) -> str | None:
        if isinstance(frame, OutputAudioRawFrame):
            self.audio.append(frame)
            return json.dumps({"audio": len(frame.audio)}) if frame.num_frames >= 160 else None
        return json.dumps({"kind": type(frame).__name__})

    def decode(self, data: str | bytes) -> Frame | None:
        return TextFrame(json.loads(data)["text"])


def spoken(ms: float, hz: int = HZ) -> OutputAudioRawFrame:
    return OutputAudioRawFrame(bytes(2 * round(hz * ms / 1000)), hz, 1)


async def test_a_shipped_format_runs_in_the_worker_and_has_rings_at_the_start(
    world: World,
) -> None:
    client = await world.of_pipeline(audio_in_channels=2, audio_out_10ms_chunks=2)
    (dial,) = world.dials
    assert isinstance(dial["serializer"], ProtobufFrameSerializer)
    assert (dial["media"], dial["chunk_ms"], dial["wav_header"], dial["out_hz"]) == (
        False,
        20,
        True,
        0,
    )
    await client.open_media()
    (asked,) = world.line.asked
    assert isinstance(asked, OpenMedia)
    assert (asked.mic_hz, asked.mic_channels, asked.speaker_hz) == (HZ, 2, HZ)
    await client.disconnect()


async def test_another_pipeline_may_have_other_rates(world: World) -> None:
    client = await world.of_pipeline(audio_out_sample_rate=None)
    await client.disconnect()
    world.media.close()
    world.media = MemoryMedia(1000)
    setup = FrameProcessorSetup(
        SystemClock(), TaskManager(), audio_in_sample_rate=8_000, audio_out_sample_rate=8_000
    )
    await client.prepare(setup)
    await client.connect()
    await client.open_media()
    (asked,) = world.line.asked
    assert isinstance(asked, OpenMedia)
    assert (asked.mic_hz, asked.speaker_hz) == (8_000, 8_000)
    await client.disconnect()


async def test_a_rate_that_no_ring_has_is_that_of_the_wire(world: World) -> None:
    client = await world.of_pipeline(audio_out_sample_rate=22_050)
    assert world.dials[0]["out_hz"] == 22_050
    asked: Any = world.line.asked[0]
    assert asked.speaker_hz == 24_000
    await client.disconnect()
    with pytest.raises(ConfigError):
        await world.of_pipeline(audio_in_sample_rate=11_025)


@pytest.mark.parametrize(("given", "header"), [({}, False), ({"add_wav_header": True}, True)])
async def test_bare_samples_have_a_header_only_where_one_is_asked_for(
    world: World, given: dict[str, bool], header: bool
) -> None:
    client = await world.of_pipeline(serializer=RawPcmFrameSerializer(), **given)
    assert world.dials[0]["wav_header"] is header
    await client.disconnect()


async def test_samples_go_into_the_ring_and_are_refused_at_the_end(world: World) -> None:
    client = await world.of_pipeline()
    assert await client.write_audio_frame(spoken(40)) is True
    assert world.media.ring.speaker_written == 640
    playout = client.playout(None)
    assert playout is not None
    assert playout.written == 640
    assert client.playout("elsewhere") is None
    world.leaves()
    assert await client.write_audio_frame(spoken(40)) is False
    await until(lambda: world.homes == 0)
    assert client.playout(None) is None


async def test_what_is_heard_comes_at_the_rate_asked_for(world: World) -> None:
    client = await world.of_pipeline(audio_in_sample_rate=22_050)
    world.media.worker.write_mic(memoryview(np.full(3200, 500, np.int16).tobytes()))
    world.session.look()
    frames = client.read_audio_frame()
    first = await anext(frames)
    assert (first.sample_rate, first.num_channels) == (22_050, 1)
    await frames.aclose()
    await client.disconnect()


async def test_while_it_is_dialled_again_nothing_is_kept_and_writes_take_their_time(
    world: World,
) -> None:
    client = await world.of_pipeline(reconnect=True)
    assert await client.write_audio_frame(spoken(200))
    world.session.caller_disconnected("server_left")
    await until(lambda: "on_reconnecting" in world.names())
    assert world.session.queued == 0
    began = asyncio.get_running_loop().time()
    assert await client.write_audio_frame(spoken(20)) is False
    assert asyncio.get_running_loop().time() - began >= 0.019
    world.session.caller_connected(True)
    await until(lambda: "on_reconnected" in world.names())
    assert await client.write_audio_frame(spoken(20)) is True
    await client.disconnect()


async def test_a_workers_death_loses_nothing_that_is_queued(world: World) -> None:
    client = await world.of_pipeline()
    assert await client.write_audio_frame(spoken(200))
    world.session.caller_disconnected("worker_died")
    await until(lambda: "on_reconnecting" in world.names())
    assert world.session.queued == 3200
    await client.disconnect()


async def test_messages_of_a_shipped_format_are_made_by_the_worker(world: World) -> None:
    client = await world.of_pipeline()
    await client.send_message(OutputTransportMessageFrame({"a": 1}))
    sent = world.line.notified
    assert [m.data for m in sent if isinstance(m, SendMessage)] == [{"a": 1}]
    world.leaves()
    await client.send_message(OutputTransportMessageFrame({"late": 1}))
    assert len(sent) == 1


async def test_rtvi_messages_stay_here_where_the_format_ignores_them(world: World) -> None:
    silent = RawPcmFrameSerializer(FrameSerializer.InputParams(ignore_rtvi_messages=True))
    client = await world.of_pipeline(serializer=silent)
    await client.send_message(OutputTransportMessageFrame({"label": "rtvi-ai"}))
    assert world.line.notified == []
    await client.disconnect()


async def test_garbage_is_no_frame_and_is_logged_ever_more_rarely(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    client = await world.of_pipeline()
    good = ProtobufFrameSerializer().encode(OutputTransportMessageFrame({"a": 1}))
    assert good is not None
    found = await client.frame_of(good)
    assert isinstance(found, InputTransportMessageFrame)
    for _ in range(7):
        assert await client.frame_of("text") is None
        assert await client.frame_of(b"\xff garbage") is None
    assert len(caplog.records) == 4
    await client.disconnect()


async def test_the_answer_to_an_interruption_is_none(world: World) -> None:
    client = await world.of_pipeline()
    message = ProtobufFrameSerializer().encode(InterruptionFrame())
    assert message is not None

    async def comes() -> bool:
        return isinstance(await client.frame_of(message), InterruptionFrame)

    assert await comes()
    client.interrupted()
    client.interrupted()
    assert [await comes() for _ in range(3)] == [False, False, True]
    client.interrupted()
    client._answer_until = asyncio.get_running_loop().time()
    assert await comes()
    assert await comes()
    await client.disconnect()


async def test_anothers_serializer_of_our_format_makes_frames_of_ours(world: World) -> None:
    async def nothing(_self: object, _what: object) -> None:
        raise AssertionError("its frames are of no use here")

    coroutines = dict.fromkeys(("setup", "serialize", "deserialize"), nothing)
    theirs = type(
        "ProtobufFrameSerializer",
        (),
        {"__module__": "pipecat.serializers.protobuf", **coroutines},
    )
    client = await world.of_pipeline(serializer=theirs())
    good = ProtobufFrameSerializer().encode(OutputTransportMessageFrame({"a": 1}))
    assert good is not None
    assert isinstance(await client.frame_of(good), InputTransportMessageFrame)
    await client.disconnect()


async def test_a_sound_file_is_the_workers_unless_messages_are_made_here(world: World) -> None:
    mixer = SoundfileMixer(sound_files={"a": "a.wav"}, default_sound="a")
    client = await world.of_pipeline()
    assert await client.take_mixer(mixer, None) is True
    assert await client.take_mixer(mixer, "stage") is False
    assert [type(m) for m in world.line.asked] == [OpenMedia, Configure]
    await client.disconnect()
    other = await world.of_pipeline(serializer=Own())
    assert await other.take_mixer(mixer, None) is False
    await other.disconnect()


# -- a serializer of the bot's own --------------------------------------------------------------


async def test_an_own_serializer_is_set_up_once_and_every_message_is_told(world: World) -> None:
    own = Own()
    client = WebsocketClientSession(
        URI, WebsocketClientParams(serializer=own), world.callbacks(), "t"
    )
    setup = FrameProcessorSetup(SystemClock(), TaskManager())
    for _ in range(2):
        await client.prepare(setup)
    assert own.setups == [setup]
    await client.connect()
    await client.prepare(FrameProcessorSetup(SystemClock(), TaskManager()))
    assert own.setups == [setup]
    await client.open_media()
    assert world.dials[0]["serializer"] is None
    world.says(b"audio or not")
    await until(world.messages)
    assert [frame async for frame in client.read_audio_frame()] == []
    found = await client.frame_of('{"text": "hi"}')
    assert isinstance(found, TextFrame)
    await client.disconnect()


async def test_its_audio_leaves_as_messages_with_their_time_and_a_header(world: World) -> None:
    own = Own()
    client = await world.of_pipeline(serializer=own, audio_out_10ms_chunks=6)
    assert await client.write_audio_frame(spoken(60)) is True
    assert own.audio[0].audio[:4] == b"RIFF"
    (sent,) = world.stream.of(Kind.MESSAGE)
    assert (sent.arg, sent.flags) == (60_000, TEXT)
    assert json.loads(bytes(sent.payload)) == {"audio": 44 + 2 * 960}
    playout = client.playout(None)
    assert playout is not None
    assert playout.written == 960
    assert not playout.has_left(960)
    world.stream.plays()
    assert await playout.wait(960) is True
    await client.disconnect()


async def test_audio_without_a_message_takes_its_time_all_the_same(world: World) -> None:
    client = await world.of_pipeline(serializer=Own(), add_wav_header=False)
    assert await client.write_audio_frame(spoken(5)) is True
    (sent,) = world.stream.of(Kind.MESSAGE)
    assert (sent.arg, sent.flags, bytes(sent.payload)) == (5_000, PAUSE, b"")
    await client.disconnect()


async def test_a_flush_cuts_and_sends_what_the_format_has_for_it_once(world: World) -> None:
    client = await world.of_pipeline(serializer=Own(), add_wav_header=False)
    playout = client.playout(None)
    assert playout is not None
    playout.flush()
    assert await client.write_audio_frame(spoken(40))
    playout.flush()
    playout.flush()
    assert await client.write_audio_frame(spoken(40))
    said = [json.loads(bytes(frame.payload)) for frame in world.stream.of(Kind.MESSAGE)]
    assert said == [{"audio": 1280}, {"kind": "InterruptionFrame"}, {"audio": 1280}]
    assert await playout.wait(640) is False
    await client.disconnect()


async def test_audio_that_a_flush_overtakes_in_its_serializer_is_never_sent(world: World) -> None:
    slow = asyncio.Event()
    asked: list[Frame] = []

    class Slow(Own):
        async def serialize(self, frame: Frame) -> str | bytes | None:
            asked.append(frame)
            await slow.wait()
            return self.encode(frame)

    client = await world.of_pipeline(serializer=Slow())
    writing = asyncio.create_task(client.write_audio_frame(spoken(40)))
    playout = client.playout(None)
    assert playout is not None
    await until(lambda: asked)
    playout.flush()
    slow.set()
    assert await writing is False
    assert world.stream.of(Kind.MESSAGE) == []
    await client.disconnect()


async def test_its_messages_are_sent_as_it_makes_them(world: World) -> None:
    client = await world.of_pipeline(serializer=Own())
    await client.send_message(OutputTransportMessageFrame({"a": 1}))
    (sent,) = [m for m in world.line.asked if isinstance(m, SendRaw)]
    assert json.loads(sent.data) == {"kind": "OutputTransportMessageFrame"}
    await client.disconnect()


async def test_destinations_are_summed_into_messages(world: World) -> None:
    client = await world.of_pipeline(
        serializer=Own(), audio_out_destinations=["music"], add_wav_header=False
    )
    music = spoken(20)
    music.transport_destination = "music"
    assert await client.write_audio_frame(music) is True
    await until(lambda: world.stream.of(Kind.MESSAGE))
    assert client.playout("nowhere") is None
    nowhere = spoken(20)
    nowhere.transport_destination = "nowhere"
    assert await client.write_audio_frame(nowhere) is False
    await client.disconnect()
