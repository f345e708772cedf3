"""The two ends of the transport in a pipeline: what goes where, and how it begins and ends."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from engine.transports.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    StopFrame,
    TextFrame,
)
from engine.transports.processors import FrameDirection, FrameProcessor, Pipeline, PipelineTask
from engine.transports.websocket.client import WebsocketClientParams, WebsocketClientTransport
from ipc.errors import DialFailed
from ipc.messages import CloseSession, SendMessage
from ipc.serializers import FrameSerializer, ProtobufFrameSerializer
from tests.support import until
from tests.unit.engine.transports.websocket.dialled_world import URI

if TYPE_CHECKING:
    from tests.unit.engine.transports.websocket.dialled_world import World


class Tap(FrameProcessor):
    """Keeps what passes, and passes it on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Frame, FrameDirection]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.seen.append((frame, direction))
        await self.push_frame(frame, direction)

    def of(self, kind: type[Frame]) -> list[Any]:
        return [frame for frame, _ in self.seen if isinstance(frame, kind)]


class Speaking(FrameSerializer):
    """Texts `audio` and `text N` are what they say."""

    async def deserialize(self, data: str | bytes) -> Frame | None:
        return (
            InputAudioRawFrame(bytes(640), 16_000, 1) if data == "audio" else TextFrame(str(data))
        )


class Running:
    """`async with Running(...) as it`: a pipeline of input, tap, output."""

    def __init__(self, **params: Any) -> None:
        given = {"audio_in_enabled": True, "audio_out_enabled": True, **params}
        given.setdefault("audio_out_sample_rate", 16_000)
        self.transport = WebsocketClientTransport(URI, WebsocketClientParams(**given))
        self.tap = Tap()
        self.events: list[tuple[Any, ...]] = []
        for event in ("on_connected", "on_disconnected", "on_reconnecting", "on_reconnected"):
            self.transport.add_event_handler(event, self._keeper(event))
        ends = [self.transport.input(), self.tap, self.transport.output()]
        self.task = PipelineTask(Pipeline(ends), cancel_on_idle_timeout=False)

    def _keeper(self, event: str) -> Any:
        def keep(transport: Any, server: Any) -> None:
            self.events.append((event, transport is self.transport, str(server)[:2]))

        return keep

    def names(self) -> list[str]:
        return [event[0] for event in self.events]

    async def __aenter__(self) -> Running:
        self.running = asyncio.create_task(self.task.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.task.cancel()
        await asyncio.wait((self.running,), timeout=10)


def message(frame: Frame) -> bytes:
    data = ProtobufFrameSerializer().encode(frame)
    assert data is not None
    return data


async def test_both_ends_share_one_connection_and_the_last_one_ends_it(world: World) -> None:
    async with Running() as it:
        await until(lambda: it.names() == ["on_connected"])
        assert it.events == [("on_connected", True, "ws")]
        assert len(world.dials) == 1
        await it.task.queue_frame(EndFrame())
        # The input has let go; what is said is still on its way.
        await until(lambda: world.media.worker.speaker_waiting() > 0)
        assert not world.session.closed
        while not it.running.done():
            world.media.sends(world.media.worker.speaker_waiting())
            world.session.look()
            await asyncio.wait((it.running,), timeout=0.01)
        closes = [m for m in world.line.asked if isinstance(m, CloseSession)]
        assert len(closes) == 1
    assert world.homes == 0
    assert it.names() == ["on_connected"]


async def test_a_cancel_waits_for_nothing_and_nobody_is_told(world: World) -> None:
    async with Running() as it:
        await until(lambda: it.names())
        await it.task.queue_frame(OutputAudioRawFrame(bytes(32_000), 16_000, 1))
        await until(lambda: world.media.ring.speaker_written > 0)
        await it.task.cancel()
        await until(it.running.done)
    assert world.session.close_reason == "bot_closed"
    assert it.names() == ["on_connected"]


async def test_what_the_server_says_before_the_start_waits_for_it(world: World) -> None:
    async def greet(*_: object) -> None:
        world.media.hear(640)
        world.says(message(OutputTransportMessageFrame({"n": 1})), "garbage", b"\xff\xff")
        world.says(message(TextFrame("hello")))

    it = Running()
    it.transport._session._callbacks.on_connected = greet
    async with it:
        await until(lambda: it.tap.of(TextFrame))
        assert [f.message for f in it.tap.of(InputTransportMessageFrame)] == [{"n": 1}]
        assert [f.text for f in it.tap.of(TextFrame)] == ["hello"]
        await until(lambda: sum(f.num_frames for f in it.tap.of(InputAudioRawFrame)) == 640)


@pytest.mark.parametrize("enabled", [True, False])
async def test_audio_is_passed_on_also_where_it_is_not_enabled(world: World, enabled: bool) -> None:
    async with Running(audio_in_enabled=enabled) as it:
        await until(lambda: world.sessions)
        world.media.hear(640)
        world.session.look()
        await until(lambda: sum(f.num_frames for f in it.tap.of(InputAudioRawFrame)) == 640)


async def test_an_own_serializer_reads_everything_in_order(world: World) -> None:
    async with Running(serializer=Speaking()) as it:
        await until(lambda: it.names())
        world.says("text 1", "audio", "text 2")
        await until(lambda: len(it.tap.of(TextFrame)) == 2)
        assert [frame.text for frame in it.tap.of(TextFrame)] == ["text 1", "text 2"]
        await until(lambda: it.tap.of(InputAudioRawFrame))


async def test_messages_follow_the_audio_before_them(world: World) -> None:
    async with Running() as it:
        await until(lambda: it.names())
        await it.task.queue_frames(
            [
                OutputAudioRawFrame(bytes(2 * 3200), 16_000, 1),
                OutputTransportMessageFrame({"said": 1}),
            ]
        )
        await until(lambda: world.media.ring.speaker_written == 3200)
        assert world.line.notified == []
        world.media.sends(3200)
        world.session.look()
        await until(lambda: world.line.notified)
        (sent,) = world.line.notified
        assert isinstance(sent, SendMessage)
        assert sent.data == {"said": 1}


async def test_an_interruption_that_comes_back_interrupts_nothing(world: World) -> None:
    async with Running() as it:
        await until(lambda: it.names())
        await it.task.queue_frame(InterruptionFrame())
        await until(lambda: it.tap.of(InterruptionFrame))
        await it.task.queue_frame(TextFrame("behind it"))
        await until(lambda: it.tap.of(TextFrame))
        world.says(message(InterruptionFrame()), message(TextFrame("next")))
        await until(lambda: len(it.tap.of(TextFrame)) == 2)
        assert len(it.tap.of(InterruptionFrame)) == 1


async def test_a_server_that_cannot_be_dialled_is_an_error_of_the_pipeline(world: World) -> None:
    world.fails = DialFailed("nobody answers within 10 s", code="dial_timeout", retryable=True)
    it = Running()
    errors: list[ErrorFrame] = []
    for end in (it.transport.input(), it.transport.output()):
        end.add_event_handler("on_error", lambda _end, error: errors.append(error))
    async with it:
        await until(lambda: len(errors) == 2)
        assert {error.exception.code for error in errors} == {"dial_timeout"}  # type: ignore[union-attr]
        assert not it.transport.output().is_usable
        assert it.events == []
        assert len(world.dials) == 1
        # It goes on without a connection.
        await it.task.queue_frame(OutputAudioRawFrame(bytes(640), 16_000, 1))
        await it.task.queue_frame(EndFrame())
        await until(it.running.done)


@pytest.mark.parametrize(
    ("reason", "faults"), [("server_left", 0), ("slow_reader", 1), ("connection_lost", 1)]
)
async def test_a_connection_that_ends_is_told_and_the_pipeline_goes_on(
    world: World, reason: str, faults: int
) -> None:
    errors: list[ErrorFrame] = []
    it = Running()
    it.transport.output().add_event_handler("on_error", lambda _end, error: errors.append(error))
    async with it:
        await until(lambda: it.names())
        world.leaves(reason)
        await until(lambda: it.names() == ["on_connected", "on_disconnected"])
        assert len(errors) == faults
        assert all(reason in error.error for error in errors)
        await it.task.queue_frame(OutputAudioRawFrame(bytes(640), 16_000, 1))
        await it.task.queue_frame(TextFrame("still here"))
        await until(lambda: it.tap.of(TextFrame))
        assert it.transport.output().is_usable


async def test_a_reconnection_is_told(world: World) -> None:
    async with Running(reconnect=True) as it:
        await until(lambda: it.names())
        world.session.caller_disconnected("connection_lost")
        world.session.caller_connected(True)
        await until(lambda: len(it.names()) == 3)
        assert it.names()[1:] == ["on_reconnecting", "on_reconnected"]


async def test_after_a_stop_the_connection_is_there_for_the_next_task(world: World) -> None:
    async with Running() as it:
        await until(lambda: it.names())
        await it.task.queue_frame(StopFrame())
        await until(it.running.done)
        assert not world.session.closed
        it.tap.seen.clear()
        ends = [it.transport.input(), it.tap, it.transport.output()]
        again = PipelineTask(Pipeline(ends), cancel_on_idle_timeout=False)
        running = asyncio.create_task(again.run())
        await until(lambda: it.tap.seen)
        world.says(message(TextFrame("again")))
        await until(lambda: it.tap.of(TextFrame))
        await again.cancel()
        await asyncio.wait((running,), timeout=10)
    assert len(world.dials) == 1
    assert world.homes == 0


async def test_an_input_that_is_in_no_pipeline_keeps_no_message(world: World) -> None:
    transport = WebsocketClientTransport(URI)
    transport.input()
    tap = Tap()
    task = PipelineTask(Pipeline([tap, transport.output()]), cancel_on_idle_timeout=False)
    gone: list[Any] = []
    transport.add_event_handler("on_disconnected", lambda: gone.append(1))
    running = asyncio.create_task(task.run())
    await until(lambda: world.sessions and tap.seen)
    world.says(message(TextFrame("nobody")))
    world.leaves()
    await until(lambda: gone)
    await task.cancel()
    await asyncio.wait((running,), timeout=10)


def test_protobuf_is_spoken_where_nothing_is_said() -> None:
    params = WebsocketClientParams()
    transport = WebsocketClientTransport(URI, params)
    assert isinstance(transport._params.serializer, ProtobufFrameSerializer)
    assert params.serializer is None
    assert json.dumps(params.additional_headers) == "null"
