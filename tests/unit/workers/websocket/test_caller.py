"""The leg of a caller who came over WebSocket: in, lost, back, replaced, gone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest
from websockets.frames import Close, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from ipc.clock import ManualClock
from ipc.frames import InputAudioRawFrame, OutputAudioRawFrame, TextFrame
from ipc.frames import OutputTransportMessageFrame as Outgoing
from ipc.serializers import ProtobufFrameSerializer
from ipc.websocket import Websocket
from tests.fakes.rings import rings
from tests.fakes.websocket_wire import FakeTransport, client_frame, frames_of
from tests.support import until
from workers.websocket.caller import CallerPeer
from workers.websocket.caller_receiver import CallerReceiver
from workers.websocket.connection import Connection
from workers.websocket.reading import Reading
from workers.websocket.wire import Wire

if TYPE_CHECKING:
    from workers.websocket.sockets import Drained, Sockets

PROTOBUF = Websocket(uri="ws://caller/", out_hz=24_000, out_channels=1, interruptions=False)
RAW = Websocket(uri="ws://caller/", wire="raw_pcm")


class Setup:
    """A leg, the connections of its caller, and slots that a test runs."""

    def __init__(self, websocket: Websocket = PROTOBUF) -> None:
        self.clock = ManualClock()
        self.states: list[tuple[str, str]] = []
        self.messages: list[str | bytes] = []
        self.waiting: dict[Drained, None] = {}
        self.reading = Reading()
        self.peer = CallerPeer(
            websocket,
            cast("Sockets", self),
            self.clock,
            on_state=lambda peer, state: self.states.append((state, peer.fault)),
            on_mic=lambda: None,
            on_message=lambda data, _cursor: self.messages.append(data),
        )

    def add(self, connection: Drained) -> None:
        self.waiting[connection] = None

    def slot(self) -> None:
        waiting, self.waiting = self.waiting, {}
        for connection in waiting:
            connection.drain(self.clock.now_ns())

    def come(self) -> tuple[Connection, FakeTransport]:
        connection = Connection(
            ServerProtocol(state=OPEN),
            cast("Sockets", self),
            self.clock,
            ping_interval_s=2,
            ping_timeout_s=3,
            close_timeout_s=0.01,
            data_is_life=True,
        )
        transport = FakeTransport()
        connection.connection_made(transport)
        self.peer.take(connection)
        return connection, transport


def encoded(frame: Any) -> bytes:
    data = ProtobufFrameSerializer().encode(frame)
    assert data is not None
    return data


async def test_a_caller_who_says_goodbye_has_left_for_good() -> None:
    for close in (Close(1000, ""), Close(1001, ""), Close(4000, "mine")):
        setup = Setup()
        connection, _ = setup.come()
        connection.data_received(client_frame(Opcode.CLOSE, close.serialize()))
        setup.slot()
        assert setup.states == [("connected", ""), ("closed", "caller_left")]
        await setup.peer.close()


async def test_a_browser_that_gives_no_reason_has_left_too() -> None:
    setup = Setup()
    connection, _ = setup.come()
    connection.data_received(client_frame(Opcode.CLOSE, b""))
    setup.slot()
    assert setup.states[-1] == ("closed", "caller_left")
    await setup.peer.close()


async def test_a_broken_connection_is_lost_and_the_caller_may_come_back() -> None:
    setup = Setup()
    connection, _ = setup.come()
    connection.connection_lost(None)
    setup.slot()
    assert setup.states[-1] == ("lost", "connection_lost")
    assert setup.peer.connection is None
    second, _ = setup.come()
    assert setup.states[-1] == ("connected", "")
    assert setup.peer.connection is second
    await setup.peer.close()


async def test_who_breaks_the_protocol_is_not_waited_for() -> None:
    setup = Setup()
    connection, _ = setup.come()
    connection.data_received(b"\xff\xff nonsense")
    setup.slot()
    assert setup.states[-1] == ("closed", "protocol_error")
    await setup.peer.close()


async def test_a_second_connection_takes_the_place_of_the_first() -> None:
    setup = Setup()
    first, before = setup.come()
    second, _ = setup.come()
    assert setup.peer.connection is second
    await until(lambda: before.aborted)
    (close,) = frames_of(before)
    assert Close.parse(close.data) == Close(1000, "replaced")
    first.connection_lost(None)
    assert [state for state, _ in setup.states] == ["connected", "connected"]
    await setup.peer.close()


@pytest.mark.parametrize(
    ("reason", "code"),
    [("engine_stopped", 1012), ("engine_gone", 1012), ("bot_closed", 1000), ("no_bot", 1013)],
)
async def test_the_close_code_says_why_the_call_ends(reason: str, code: int) -> None:
    setup = Setup()
    _, transport = setup.come()
    setup.peer.farewell = reason
    await setup.peer.close()
    (close,) = frames_of(transport)
    assert Close.parse(close.data) == Close(code, reason)
    assert transport.aborted


async def test_who_was_admitted_and_never_came_is_lost() -> None:
    setup = Setup()
    setup.peer.never_came()
    assert setup.states == [("lost", "connection_lost")]
    setup = Setup()
    setup.come()
    setup.peer.never_came()
    assert setup.states == [("connected", "")]
    await setup.peer.close()


async def test_a_silent_caller_is_lost_within_5_s_and_one_who_speaks_is_not() -> None:
    setup = Setup()
    connection, _ = setup.come()
    said = client_frame(Opcode.BINARY, encoded(OutputAudioRawFrame(bytes(640), 16_000, 1)))
    for _ in range(100):  # 10 s without an answer to a ping
        setup.clock.advance_ms(100)
        connection.data_received(said)
        setup.slot()
        connection.keep_alive(setup.clock.now_ns())
    assert setup.states == [("connected", "")]
    for _ in range(50):
        setup.clock.advance_ms(100)
        connection.keep_alive(setup.clock.now_ns())
    assert setup.states[-1] == ("lost", "ping_timeout")
    await setup.peer.close()


def receiver(websocket: Websocket) -> tuple[CallerReceiver, list[str | bytes]]:
    texts: list[str | bytes] = []
    made = CallerReceiver(
        ManualClock(), Wire(websocket), lambda: None, lambda data, _cursor: texts.append(data)
    )
    made.ring = rings(16_000)[0]
    return made, texts


def test_only_audio_and_the_texts_of_messages_are_taken_from_protobuf() -> None:
    made, texts = receiver(PROTOBUF)
    made.take(encoded(OutputAudioRawFrame(bytes(640), 16_000, 1)), 0)
    made.take(encoded(Outgoing(message={"a": 1})), 0)
    assert (made.audio_messages, made.malformed) == (1, 0)
    assert [json.loads(text) for text in texts] == [{"a": 1}]
    for data in ("text", b"\xff\xff", b"", encoded(TextFrame(text="x"))):
        made.take(data, 0)
    made.take(encoded(Outgoing(message="x" * (256 << 10))), 0)
    assert (len(texts), made.malformed) == (1, 5)


def test_raw_pcm_has_samples_and_texts() -> None:
    made, texts = receiver(RAW)
    made.take(bytes(640), 0)
    made.take("no json", 0)
    made.take(bytes(3), 0)
    assert (made.audio_messages, texts, made.malformed) == (1, ["no json"], 1)


def test_hearing_reads_no_json() -> None:
    found = Wire(PROTOBUF).hear(encoded(OutputAudioRawFrame(bytes(4), 8_000, 2)))
    assert isinstance(found, InputAudioRawFrame)
    assert Wire(PROTOBUF).hear(b"\x22\x05\x0a\x03{{{") == "{{{"


async def test_what_is_said_while_the_caller_is_lost_waits_bounded() -> None:
    setup = Setup(RAW)
    connection, _ = setup.come()
    connection.connection_lost(None)
    setup.slot()
    for number in range(60):
        setup.peer.data.send(number)
    _, transport = setup.come()
    said = [int(frame.data) for frame in frames_of(transport)]
    assert said == [*range(10, 60)]
    assert (setup.peer.data.sent, setup.peer.data.dropped) == (50, 10)
    await setup.peer.close()


async def test_who_does_not_read_is_dropped_and_may_come_again() -> None:
    setup = Setup()
    connection, transport = setup.come()
    connection.end("slow_reader")
    assert setup.states[-1] == ("lost", "slow_reader")
    (close,) = frames_of(transport)
    assert Close.parse(close.data).code == 1013
    await until(lambda: transport.aborted)
    await setup.peer.close()
