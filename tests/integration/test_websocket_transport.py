"""The documented WebSocket transport against a real server, its media in a real worker."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.transports import home
from engine.transports.base import SoundfileMixer
from engine.transports.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    KeypadEntry,
    OutputAudioRawFrame,
    OutputDTMFUrgentFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    TTSAudioRawFrame,
)
from engine.transports.processors import TaskManager
from engine.transports.websocket import connection
from engine.transports.websocket.client import (
    WebsocketClientCallbacks,
    WebsocketClientParams,
    WebsocketClientSession,
)
from ipc.serializers import FrameSerializer
from tests.fakes.audio import tone, write_wav
from tests.fakes.dialling_pipeline import DiallingPipeline
from tests.fakes.transport_site import OUT_HZ, said, speech
from tests.fakes.websocket_server import FarServer, deaf
from tests.support import pattern, standing_still, until

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection

    from tests.fakes.serve import ServeProcess

HZ = 16_000
pytestmark = pytest.mark.usefixtures("found_serve")


def plain(pcm: bytes, hz: int = OUT_HZ, channels: int = 1) -> OutputAudioRawFrame:
    return OutputAudioRawFrame(pcm, hz, channels)


def heard_s(call: DiallingPipeline) -> float:
    """How much of the server's audio has passed."""
    return float(sum(f.num_frames for f in call.before.of(InputAudioRawFrame)) / HZ)


def lasted_s(far: FarServer) -> float:
    """From its first message to its last."""
    return (far.times_ns[-1] - far.times_ns[0]) / 1e9


async def test_audio_goes_both_ways_to_the_sample_and_the_end_comes_behind_it() -> None:
    spoken = pattern(0, OUT_HZ)
    async with FarServer() as far:
        call = DiallingPipeline(far.uri, audio_out_end_silence_secs=1)
        async with call:
            heard = pattern(0, HZ // 2)
            await far.speak(heard, HZ)
            frames = call.before.seen
            await until(lambda: heard_s(call) == 0.5, what="the audio")
            got = b"".join(f.audio for f in frames if isinstance(f, InputAudioRawFrame))
            assert got == heard
            await call.say(plain(spoken), EndFrame())
            await call.ends()
        await until(lambda: far.closed)
        assert far.closed[0][0] == 1000
        pcm = far.pcm()
        assert pcm[: len(spoken)] == spoken
        assert pcm[len(spoken) :] == bytes(2 * OUT_HZ)
        assert {len(frame.audio) for frame in far.audio()} == {2 * OUT_HZ * 40 // 1000}
        assert lasted_s(far) > 0.5, "the silence has left at once"
        assert call.events == ["on_connected"]
        assert sum(f.num_frames for f in call.after.of(OutputAudioRawFrame)) == OUT_HZ


async def test_stereo_and_a_header_in_each_message_at_its_speed() -> None:
    spoken = pattern(0, OUT_HZ // 2, 2)
    async with FarServer() as far:
        params: dict[str, Any] = {"audio_out_channels": 2, "add_wav_header": True}
        pipeline = DiallingPipeline(far.uri, audio_out_10ms_chunks=2, **params)
        async with pipeline as call:
            with standing_still() as still:
                await call.say(said(np.frombuffer(spoken, np.int16), channels=2))
                await until(lambda: len(far.audio()) == 25)
            frames = far.audio()
            assert {frame.audio[:4] for frame in frames} == {b"RIFF"}
            assert b"".join(frame.audio[44:] for frame in frames) == spoken
            assert {frame.num_channels for frame in frames} == {2}
            # What comes while nobody reads is read at once.
            assert lasted_s(far) + sum(still) > 0.1


async def test_what_the_server_says_first_is_heard_and_garbage_ends_nothing() -> None:
    async def greet(server: FarServer, connection: ServerConnection) -> None:
        await server.speak(pattern(0, HZ // 4), HZ)
        await connection.send("some text")
        await connection.send(b"\xff\xff garbage")
        await server.say(OutputTransportMessageFrame(message={"hello": 1}))

    async with FarServer(greet) as far, DiallingPipeline(far.uri, echoes=True) as call:
        await until(lambda: call.before.of(InputTransportMessageFrame))
        await until(lambda: heard_s(call) == 0.24, what="its audio")
        await call.say(
            OutputTransportMessageUrgentFrame({"now": 1}), OutputTransportMessageFrame({"then": 1})
        )
        await until(lambda: len([f for f in far.frames() if _message(f)]) == 2)
        assert [_message(f) for f in far.frames() if _message(f)] == [{"now": 1}, {"then": 1}]
        assert call.errors == []


def _message(frame: Frame | None) -> Any:
    return frame.message if isinstance(frame, InputTransportMessageFrame) else None


async def test_an_interruption_cuts_and_tells_the_server() -> None:
    async with FarServer() as far, DiallingPipeline(far.uri) as call:
        await call.say(said(speech(600, 10.0)))
        await until(lambda: len(far.audio()) >= 10)
        await call.interrupt(InterruptionFrame())
        await until(lambda: any(isinstance(f, InterruptionFrame) for f in far.frames()))
        kinds = [type(frame) for frame in far.frames()]
        before = kinds.index(InterruptionFrame)
        again = pattern(0, OUT_HZ // 5)
        await call.say(plain(again))
        await until(lambda: far.pcm().endswith(again))
        # Nothing of what was cut came behind the interruption.
        assert b"".join(f.audio for f in far.frames()[before + 1 :] if _audio(f)) == again  # type: ignore[union-attr]
        assert len(call.after.of(TTSAudioRawFrame)) <= before


def _audio(frame: Frame | None) -> bool:
    return isinstance(frame, InputAudioRawFrame)


class Hexadecimal(FrameSerializer):
    """A format that no worker knows: JSON with the samples in hexadecimal."""

    async def serialize(self, frame: Frame) -> str | None:
        if isinstance(frame, OutputAudioRawFrame):
            return json.dumps({"audio": frame.audio.hex()})
        return json.dumps({"kind": type(frame).__name__})

    async def deserialize(self, data: str | bytes) -> Frame | None:
        found = json.loads(data)
        if "audio" in found:
            return InputAudioRawFrame(bytes.fromhex(found["audio"]), HZ, 1)
        return InputTransportMessageFrame(found)


async def test_a_serializer_of_ones_own_is_paced_and_cut_by_the_worker() -> None:
    spoken = pattern(0, OUT_HZ // 2)
    async with FarServer() as far, DiallingPipeline(far.uri, serializer=Hexadecimal()) as call:
        server = far.connections[0]
        await server.send(json.dumps({"audio": pattern(0, HZ).hex()}))
        await server.send("no JSON")
        await server.send(json.dumps({"hello": 1}))
        await until(lambda: call.before.of(InputTransportMessageFrame))
        await until(lambda: call.before.of(InputAudioRawFrame))
        with standing_still() as still:
            await call.say(plain(spoken))
            await until(lambda: len(far.messages) == 13, what="its messages")
        texts = [json.loads(message) for message in far.messages]
        assert b"".join(bytes.fromhex(each["audio"]) for each in texts) == spoken
        assert lasted_s(far) + sum(still) > 0.1, "nothing paced it"
        await call.say(said(speech(600, 5.0)))
        await until(lambda: len(far.messages) > 20)
        await call.interrupt(InterruptionFrame())
        await until(lambda: json.loads(far.messages[-1]) == {"kind": "InterruptionFrame"})


async def test_a_sound_file_plays_in_the_worker_under_and_after_speech(tmp_path: Path) -> None:
    write_wav(tmp_path / "hum.wav", tone(1500, 48_000))
    mixer = SoundfileMixer(
        sound_files={"hum": str(tmp_path / "hum.wav")}, default_sound="hum", volume=0.5
    )
    async with FarServer() as far, DiallingPipeline(far.uri, audio_out_mixer=mixer) as call:
        await until(lambda: level(far, 1500) > -24, what="the background")
        await call.say(said(speech(600, 2.0)))
        await until(lambda: min(level(far, 600), level(far, 1500)) > -24, what="both")
        assert mixer._samples == {}, "nothing was loaded here"
        await call.interrupt(InterruptionFrame())
        await until(lambda: level(far, 600) < -50 and level(far, 1500) > -24, what="the rest")


async def test_with_a_serializer_of_ones_own_background_keys_and_destinations_are_heard(
    tmp_path: Path,
) -> None:
    write_wav(tmp_path / "hum.wav", tone(1500, 48_000))
    mixer = SoundfileMixer(
        sound_files={"hum": str(tmp_path / "hum.wav")}, default_sound="hum", volume=0.5
    )
    params: dict[str, Any] = {"audio_out_mixer": mixer, "audio_out_destinations": ["music"]}
    far = FarServer()
    call: DiallingPipeline
    async with far, DiallingPipeline(far.uri, serializer=Hexadecimal(), **params) as call:
        await until(lambda: level(far, 1500) > -24, what="the background")
        music = speech(600, 4.0)
        await call.say(said(music, OutputAudioRawFrame, destination="music"))
        await until(lambda: min(level(far, 600), level(far, 1500)) > -24, what="both")
        await call.say(OutputDTMFUrgentFrame(buttons=[KeypadEntry.FIVE]))
        await until(lambda: heard_key(far), what="the key")
        assert len(samples(far)) / OUT_HZ < lasted_s(far) + 2.0


def samples(far: FarServer) -> np.ndarray[Any, Any]:
    """All that a server was sent."""
    pcm = b"".join(
        bytes.fromhex(json.loads(message)["audio"])
        for message in far.messages
        if isinstance(message, str) and "audio" in message
    )
    return np.frombuffer(pcm or far.pcm(), np.int16)


def heard_key(far: FarServer) -> bool:
    """Whether a server was sent the tones of 5 in any 100 ms."""
    pieces = samples(far)
    starts = range(0, len(pieces) - OUT_HZ // 10, OUT_HZ // 50)
    cuts = (pieces[start : start + OUT_HZ // 10] for start in starts)
    return any(min(level_in(piece, 770), level_in(piece, 1336)) > -30 for piece in cuts)


def level(far: FarServer, hertz: int) -> float:
    """Of a tone in the last 100 ms that a server was sent, in dB below full scale."""
    return level_in(samples(far)[-OUT_HZ // 10 :], hertz)


def level_in(last: np.ndarray[Any, Any], hertz: int) -> float:
    """The same in these samples."""
    if len(last) < OUT_HZ // 10:
        return -99.0
    window = np.hanning(len(last))
    spectrum = np.abs(np.fft.rfft(last / 32768 * window)) / window.sum() * 2
    at = round(hertz * len(last) / OUT_HZ)
    return float(20 * np.log10(max(spectrum[at - 1 : at + 2].max(), 1e-9)))


async def test_a_server_that_goes_away_is_dialled_again() -> None:
    async with FarServer() as far, DiallingPipeline(far.uri, reconnect=True) as call:
        await call.say(said(speech(600, 1.0)))
        await until(lambda: len(far.audio()) > 5)
        await far.stop()
        await until(lambda: call.events == ["on_connected", "on_reconnecting"])
        assert not call.transport._session.is_connected
        await far.start()
        await until(lambda: call.events[-1] == "on_reconnected")
        far.messages.clear()
        again = pattern(0, OUT_HZ // 5)
        await call.say(plain(again))
        await until(lambda: far.pcm().endswith(again))
        assert call.errors == []


async def test_a_server_that_leaves_is_told_and_the_pipeline_goes_on() -> None:
    async with FarServer() as far, DiallingPipeline(far.uri) as call:
        await far.connections[0].close(4001, "enough")
        await until(lambda: call.events == ["on_connected", "on_disconnected"])
        await call.say(plain(pattern(0, OUT_HZ)), EndFrame())
        await call.ends()
        assert call.errors == []


async def test_a_server_that_reads_nothing_is_given_up_with_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The worker gives it up after half a second. On a machine that stands still the bot's own
    # limit would else be over as well.
    monkeypatch.setattr(connection, "GIVE_UP_EARLY_S", 29.5)
    async with FarServer(deaf) as far:
        call = DiallingPipeline(
            far.uri, audio_out_channels=2, audio_out_write_timeout_secs=30, serializer=Flood()
        )
        async with call:
            await call.say(said(np.zeros(2 * 10 * OUT_HZ, np.int16), channels=2))
            await until(lambda: "on_disconnected" in call.events)
            await until(lambda: call.errors, what="the error")
            assert [error.exception.code for error in call.errors] == ["slow_reader"]  # type: ignore[union-attr]
            assert call.transport.output().is_usable


class Flood(Hexadecimal):
    """Messages so large that no socket holds many."""

    async def serialize(self, frame: Frame) -> str | None:
        return "x" * 800_000 if isinstance(frame, OutputAudioRawFrame) else None


async def test_a_server_that_cannot_be_dialled_is_an_error_of_the_pipeline() -> None:
    async with FarServer() as far:
        uri = far.uri
    async with DiallingPipeline(uri) as call:
        await until(lambda: call.errors, what="the error")
        assert {error.exception.code for error in call.errors} == {"dial_refused"}  # type: ignore[union-attr]
        assert call.events == []
        await call.say(EndFrame())
        await call.ends()


async def test_a_session_alone_exchanges_raw_messages(found_serve: ServeProcess) -> None:
    told: list[tuple[Any, ...]] = []

    def keep(name: str) -> Any:
        async def keeper(*arguments: Any) -> None:
            told.append((name, *arguments))

        return keeper

    names = ("on_connected", "on_disconnected", "on_message")
    async with FarServer() as far:
        client = WebsocketClientSession(
            far.uri,
            WebsocketClientParams(additional_headers={"X-Who": "bot"}),
            WebsocketClientCallbacks(**{name: keep(name) for name in names}),
            "test",
        )
        await client.setup(TaskManager())
        await client.connect()
        server = told[0][1]
        assert far.connections[0].request is not None
        assert far.connections[0].request.headers["X-Who"] == "bot"
        assert server.remote_address[1] == far.port
        assert await client.send("text")
        assert await server.send(b"\x00\x01")
        await until(lambda: far.messages == ["text", b"\x00\x01"])
        for number in range(1000):
            await far.connections[0].send(b"%d" % number)
        await until(lambda: len(told) == 1001, what="all of its messages")
        assert [message for _, _, message in told[1:]] == [b"%d" % n for n in range(1000)]
        await client.disconnect()
        assert not client.is_connected
        assert not await client.send("late")
        await until(lambda: far.closed)
        assert told[-1][0] == "on_message"
        await asyncio.gather(client.connect(), client.connect())
        await far.stop()
        await until(lambda: told[-1][0] == "on_disconnected")
    await home.end_all()


async def test_the_example_says_back_what_it_hears_until_the_server_leaves() -> None:
    from engine.examples.websocket_client import main

    async with FarServer() as far:
        running = asyncio.create_task(main(far.uri))
        await until(lambda: far.connections)
        await far.speak(pattern(0, HZ // 2), HZ)
        await until(lambda: len(far.audio()) > 6)
        await far.connections[0].close()
        await until(running.done)
        assert running.exception() is None
    await home.end_all()
