"""What servers do that breaks the stock transport: ours beside it where both can be tried."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    ErrorFrame,
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportReadyFrame,
    TextFrame,
)
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.websocket.client import WebsocketClientTransport as Stock

from engine.integrations.pipecat import WebsocketClientParams, WebsocketClientTransport
from ipc import frames as ours
from tests.fakes.audio import pitch_hz, tone
from tests.fakes.websocket_server import FarServer
from tests.pipecat.dialled import Dialled, hears, loud_s
from tests.pipecat.site import OUT_HZ, said
from tests.support import DEADLINE_S, until

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

KINDS = pytest.mark.parametrize("kind", [WebsocketClientTransport, Stock], ids=["ours", "stock"])
HZ = 16_000
PIECE = HZ // 25
pytestmark = pytest.mark.usefixtures("found_serve")


class OwnSerializer(ProtobufFrameSerializer):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Not exactly what a worker knows, so it runs here."""


def speech(hertz: float, seconds: float) -> bytes:
    return bytes(tone(hertz, round(seconds * HZ), hz=HZ).astype(np.int16).data)


async def speak(far: FarServer, hertz: float, seconds: float) -> None:
    """As fast as the connection takes it."""
    pcm = speech(hertz, seconds)
    for at in range(0, len(pcm), 2 * PIECE):
        await far.speak(pcm[at : at + 2 * PIECE], HZ)


@KINDS
async def test_a_server_may_speak_first(kind: Any) -> None:
    async def greet(server: FarServer, _connection: ServerConnection) -> None:
        await speak(server, 700, 2.0)

    async with FarServer(greet) as far, Dialled(far.uri, kind) as call:
        await until(lambda: call.before.of(OutputTransportReadyFrame))
        if kind is Stock:  # it is deaf from then on, and takes that for the end
            await until(lambda: "on_disconnected" in call.events())
            assert not call.before.of(InputAudioRawFrame)
        else:
            await until(lambda: loud_s(call.before) >= 1.99)
            assert call.events() == ["on_connected"]


@KINDS
@pytest.mark.parametrize("message", ["some text", b"\xff\xff\xff garbage"], ids=["text", "garbage"])
async def test_one_odd_message_makes_nobody_deaf(kind: Any, message: str | bytes) -> None:
    async with FarServer() as far, Dialled(far.uri, kind) as call:
        await until(lambda: call.before.of(OutputTransportReadyFrame))
        await speak(far, 700, 1.0)
        await until(lambda: hears(call.before, 700))
        await far.connections[-1].send(message)
        await far.say(ours.TextFrame(text="and on"))
        await speak(far, 900, 1.0)
        if kind is Stock:
            await until(lambda: "on_disconnected" in call.events())
            assert not hears(call.before, 900)
        else:
            await until(lambda: hears(call.before, 900))
            await until(lambda: call.before.of(TextFrame))
            assert [frame.text for frame in call.before.of(TextFrame)] == ["and on"]
            assert call.events() == ["on_connected"]


@pytest.mark.parametrize("own", [None, OwnSerializer], ids=["worker", "bot"])
async def test_a_server_that_comes_back_is_dialled_again(own: Any) -> None:
    serializer = own() if own else None
    options: Any = {"params": WebsocketClientParams, "serializer": serializer}
    async with FarServer() as far, Dialled(far.uri, reconnect=True, **options) as call:
        await until(lambda: far.connections)
        await call.say(said(600, 1.0))
        await until(lambda: far.audio())
        await far.stop()
        await until(lambda: call.events() == ["on_connected", "on_reconnecting"])
        assert await call.transport.output().write_audio_frame(said(600, 0.04)) is False
        await far.start()
        await until(lambda: call.events()[2:] == ["on_reconnected"])
        await call.say(said(900, 2.0, OutputAudioRawFrame))
        await speak(far, 700, 1.0)
        await until(lambda: hears(call.before, 700))

        def far_hears() -> float:
            return pitch_hz(np.frombuffer(far.pcm(), np.int16)[-OUT_HZ // 2 :], OUT_HZ)

        await until(lambda: far_hears() == pytest.approx(900, rel=0.02))


async def test_nobody_there_is_an_error_and_the_pipeline_goes_on() -> None:
    async with FarServer() as far:
        await far.stop()  # and nobody else gets its port
        async with Dialled(far.uri) as call:
            errors = asyncio.Event()

            async def told(_worker: Any, frame: Any) -> None:
                assert isinstance(frame, ErrorFrame)
                errors.set()

            call.worker.add_event_handler("on_pipeline_error", told)
            await asyncio.wait_for(errors.wait(), DEADLINE_S)
            assert call.events() == []
            await call.say(said(600, 0.2))
            await until(lambda: call.before.of(OutputAudioRawFrame))
            assert not call.running.done()
            assert await call.transport.output().write_audio_frame(said(600, 0.04)) is False


async def test_two_channels_leave_at_their_speed() -> None:
    options: Any = {"audio_out_channels": 2, "audio_out_end_silence_secs": 0}
    async with FarServer() as far, Dialled(far.uri, **options) as call:
        left = tone(600, OUT_HZ, hz=OUT_HZ)
        both = np.stack((left, np.zeros(OUT_HZ, np.int16)), axis=1)
        await call.say(OutputAudioRawFrame(both.tobytes(), OUT_HZ, 2))
        await call.stop()
        await until(call.running.done)
        await until(lambda: far.closed)
        audio = far.audio()
        assert {(frame.sample_rate, frame.num_channels) for frame in audio} == {(OUT_HZ, 2)}
        samples = np.frombuffer(far.pcm(), np.int16).reshape(-1, 2)
        assert len(samples) == OUT_HZ
        # Samples as they were, with silence in the other channel.
        assert np.array_equal(samples[:, 0], left)
        assert not samples[:, 1].any()


async def test_a_servers_interruption_is_one_here() -> None:
    async with FarServer() as far, Dialled(far.uri) as call:
        await call.say(said(600, 20.0))
        await until(lambda: len(far.audio()) > 10)
        await far.say(ours.InterruptionFrame())
        await until(lambda: call.after.of(BotStoppedSpeakingFrame))
        assert len(call.before.of(InterruptionFrame)) == 1
