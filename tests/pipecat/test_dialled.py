"""Pipelines that dial another Pipecat: on our transport, and where it says so on the stock one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport
from pipecat.transports.websocket.client import WebsocketClientTransport as Stock

from engine.integrations.pipecat import WebsocketClientParams, WebsocketClientTransport
from engine.transports.websocket import session
from ipc import frames
from tests.fakes.websocket_server import FarServer
from tests.pipecat.dialled import Dialled, Far, heard, hears, loud_s
from tests.pipecat.site import OUT_HZ, said
from tests.support import DEADLINE_S, until

if TYPE_CHECKING:
    from pipecat.frames.frames import Frame

KINDS = pytest.mark.parametrize("kind", [WebsocketClientTransport, Stock], ids=["ours", "stock"])
pytestmark = pytest.mark.usefixtures("found_serve")


class OwnSerializer(ProtobufFrameSerializer):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """Not exactly what a worker knows, so it runs here."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[type[Frame]] = []
        self.set_up = 0

    async def setup(self, setup: Any) -> None:
        self.set_up += 1

    async def serialize(self, frame: Frame) -> str | bytes | None:
        self.sent.append(type(frame))
        return await super().serialize(frame)  # type: ignore[no-any-return]


SERIALIZERS = pytest.mark.parametrize("own", [None, OwnSerializer], ids=["worker", "bot"])


def test_the_transport_is_one_of_pipecats() -> None:
    transport = WebsocketClientTransport("ws://localhost:1/")
    assert isinstance(transport, BaseTransport)
    assert isinstance(transport.input(), BaseInputTransport)
    assert isinstance(transport.output(), BaseOutputTransport)
    assert WebsocketClientTransport.__name__ == Stock.__name__


@SERIALIZERS
async def test_speech_goes_both_ways_at_its_pitch(own: Any) -> None:
    serializer = own() if own else None
    async with Far() as far, Dialled(far.uri, echoes=True, serializer=serializer) as call:
        await until(lambda: far.calls)
        await far.call.say(said(700, 20.0))
        await until(lambda: hears(call.before, 700))
        await until(lambda: hears(far.call.before, 700))
        assert {frame.sample_rate for frame in far.call.before.of(InputAudioRawFrame)} == {OUT_HZ}
        assert call.events() == ["on_connected"]
        if serializer is not None:
            assert serializer.set_up == 1
        else:
            rates = {frame.sample_rate for frame in call.before.of(InputAudioRawFrame)}
            assert rates == {16_000}


async def flows(call: Dialled) -> None:
    """Return when some of the speech has just left and more of it is queued."""
    playout = call.transport.output().playout(None)

    def left() -> int:
        return int(playout.written - playout.unsent)

    def queued() -> bool:
        return bool(playout.unsent > 0.2 * OUT_HZ)

    await until(queued)
    before = left()
    await until(lambda: queued() and left() > before)


@SERIALIZERS
async def test_an_interruption_ends_what_is_said_and_the_far_end_is_told(
    own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long it takes the far end to send it back.
    monkeypatch.setattr(session, "ANSWER_S", 2 * DEADLINE_S)
    serializer = own() if own else None
    async with Far() as far, Dialled(far.uri, serializer=serializer) as call:
        await call.say(said(600, 20.0))
        await until(lambda: far.calls and hears(far.call.before, 600))
        await flows(call)  # a far end that has nothing left to play is told nothing
        await call.interrupt()
        await until(lambda: call.after.of(BotStoppedSpeakingFrame))
        await until(lambda: far.call.after.of(InterruptionFrame))
        before = loud_s(far.call.before)
        await call.say(said(900, 2.0), TTSStoppedFrame())
        await until(lambda: hears(far.call.before, 900))
        assert before < 15
        assert len(far.call.before.of(InterruptionFrame)) == 1
        # The far end has sent one back, as its kind does: that is no second interruption.
        assert not call.before.of(InterruptionFrame)
        seen = far.call.before.seen
        told = next(at for at, frame in enumerate(seen) if isinstance(frame, InterruptionFrame))
        # What was said before it ended with it, but for what it has overtaken in the queues there.
        after = [frame for frame in seen[told:] if isinstance(frame, InputAudioRawFrame)]
        assert sum(frame.num_frames for frame in after) / OUT_HZ < 4


@SERIALIZERS
async def test_an_end_is_heard_to_the_last_sample(own: Any) -> None:
    serializer = own() if own else None
    async with Far() as far:
        options: Any = {"audio_out_end_silence_secs": 0, "serializer": serializer}
        async with Dialled(far.uri, **options) as call:
            # Of the plain kind: no TTSStoppedFrame says that the rest of a chunk is all there is.
            await call.say(said(600, 1.01, OutputAudioRawFrame))
            await call.stop()
            await until(call.running.done)
            await until(lambda: far.call.events()[1:])
            await until(lambda: len(heard(far.call.before)) / OUT_HZ == pytest.approx(1.04))
            assert loud_s(far.call.before) >= 1.0
            # Whoever ends it knows.
            assert call.events() == ["on_connected"]


async def test_a_cancelled_pipeline_says_no_more() -> None:
    async with Far() as far, Dialled(far.uri) as call:
        await call.say(said(600, 20.0))
        await until(lambda: far.calls and hears(far.call.before, 600))
        await call.worker.cancel()
        await until(call.running.done)
        await until(lambda: far.call.events()[1:])
        assert loud_s(far.call.before) < 15


async def test_clients_get_ready_by_rtvi() -> None:
    ready = {"version": "2.2.0", "about": {"library": "test", "library_version": "1"}}
    message: Any = {"id": "a1", "label": "rtvi-ai", "type": "client-ready", "data": ready}
    async with Far() as far, Dialled(far.uri) as call:
        await call.say(OutputTransportMessageUrgentFrame(message=message))
        await until(lambda: far.calls and far.call.before.of(InputTransportMessageFrame))
        assert far.call.before.of(InputTransportMessageFrame)[0].message == message

        def answers() -> list[Any]:
            messages = [each.message for each in call.before.of(InputTransportMessageFrame)]
            return [each for each in messages if each.get("type") == "bot-ready"]

        await until(answers)
        assert answers()[0]["id"] == "a1"


async def test_a_message_in_the_speech_leaves_in_its_place() -> None:
    # As they came: in a pipeline there it would overtake speech that waits in a queue.
    async with FarServer() as far, Dialled(far.uri) as call:
        message: Any = OutputTransportMessageFrame(message={"here": "x" * 60_000})
        await call.say(said(600, 1.0), message, said(600, 9.0), TTSStoppedFrame())

        def told() -> list[int]:
            found = far.frames()
            kind = frames.InputTransportMessageFrame
            return [at for at, frame in enumerate(found) if isinstance(frame, kind)]

        await until(told)
        before = far.frames()[: told()[0]]
        audio = [each for each in before if isinstance(each, frames.InputAudioRawFrame)]
        assert 1.0 <= sum(each.num_frames for each in audio) / OUT_HZ < 9.0


@SERIALIZERS
async def test_speaking_and_recorders_follow_what_has_left(own: Any) -> None:
    serializer = own() if own else None
    async with Far() as far, Dialled(far.uri, serializer=serializer) as call:

        def passed_s() -> float:
            return float(sum(f.num_frames for f in call.after.of(TTSAudioRawFrame)) / OUT_HZ)

        for turn in (1, 2):
            await call.say(said(600, 1.0), TTSStoppedFrame())
            await until(lambda: len(call.after.of(BotStoppedSpeakingFrame)) == turn)  # noqa: B023
            # All of it has left. In the queues of processors, what is of the system goes first:
            # it may have overtaken the last of the speech.
            await until(lambda: passed_s() == pytest.approx(turn))  # noqa: B023
            await until(lambda: loud_s(far.call.before) >= turn - 0.03)  # noqa: B023
        assert len(call.after.of(BotStartedSpeakingFrame)) == 2


@KINDS
async def test_a_server_that_goes_away_is_told_of_and_the_pipeline_goes_on(kind: Any) -> None:
    async with Far() as far, Dialled(far.uri, kind) as call:
        await until(lambda: far.calls and far.call.before.seen)
        await call.say(said(600, 5.0))
        await until(lambda: hears(far.call.before, 600))
        await far.call.worker.cancel()
        await until(lambda: len(call.events()) == 2)
        assert call.events() == ["on_connected", "on_disconnected"]
        assert not call.running.done()
        assert await call.transport.output().write_audio_frame(said(600, 0.04)) is False
        assert call.transport.output().is_usable


async def test_our_parameters_are_pipecats_and_more() -> None:
    async with (
        Far() as far,
        Dialled(far.uri, params=WebsocketClientParams, audio_out_lead_ms=100) as call,
    ):
        await call.say(said(600, 20.0))
        await until(lambda: far.calls and hears(far.call.before, 600))
        speech: Any = call.transport.session
        assert speech.queued * 1000 / speech.speaker_hz <= 140
