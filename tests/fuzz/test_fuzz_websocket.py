"""Whatever a WebSocket server sends: the call ends by a name or goes on, and nothing grows."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from ipc.audio_ring import RingSpec, WorkerRing, size_bytes
from ipc.clock import ManualClock
from ipc.frames import OutputAudioRawFrame
from ipc.media_stream import Kind, StreamFrame
from ipc.message_stream import MAX_CURSOR, MAX_QUEUED, MessageStream
from ipc.serializers import ProtobufFrameSerializer
from ipc.websocket import Websocket
from tests.fakes.websocket_wire import Wire
from workers.websocket.connection import MAX_RECEIVED_BYTES
from workers.websocket.receiver import MAX_WAITING_BYTES, Receiver
from workers.websocket.wire import Wire as Format

REASONS = {"protocol_error", "message_too_large", "server_left", "server_closed", "connection_lost"}
opcodes = st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG])
frames = st.builds(
    lambda opcode, data, fin: Frame(opcode, data[:125], fin or opcode >= Opcode.CLOSE),
    opcodes,
    st.binary(max_size=200),
    st.booleans(),
)
closes = st.builds(lambda data: Frame(Opcode.CLOSE, data), st.binary(max_size=30))
raw = st.binary(max_size=60)


@given(st.lists(st.one_of(frames, frames, closes, raw), max_size=20), st.booleans(), st.data())
def test_any_bytes_end_a_connection_by_a_name_or_not_at_all(
    pieces: list[Frame | bytes], as_server: bool, data: st.DataObject
) -> None:
    async def run() -> None:
        wire = Wire(max_size=300, as_server=as_server)
        rest = b"".join(
            piece if isinstance(piece, bytes) else piece.serialize(mask=as_server)
            for piece in pieces
        )
        while rest:
            count = data.draw(st.integers(1, len(rest)))
            wire.arrive(rest[:count])
            rest = rest[count:]
            if data.draw(st.booleans()):
                wire.slot()
        wire.settle()
        assert len(wire.ends) <= 1
        assert all(len(message) <= 300 for message in wire.messages)
        heard = len(wire.messages)
        if wire.ends:
            wire.arrive(Frame(Opcode.TEXT, b"late").serialize(mask=as_server))
            wire.settle()
            assert len(wire.messages) == heard
        wire.connection.connection_lost(None)
        wire.settle()
        assert len(wire.ends) == 1
        assert wire.ends[0] in REASONS

    asyncio.run(run())


def audio(count: int, hz: int, channels: int) -> bytes:
    message = ProtobufFrameSerializer().encode(
        OutputAudioRawFrame(bytes(2 * channels * count), hz, channels)
    )
    assert message is not None
    return message


sounds = st.builds(audio, st.integers(0, 2_000), st.integers(1, 200_000), st.sampled_from([1, 2]))
messages = st.one_of(sounds, sounds, st.binary(max_size=100), st.text(max_size=50))


@given(
    st.lists(st.one_of(messages, st.integers(1, 50)), max_size=40),
    st.sampled_from(["protobuf", "raw_pcm"]),
    st.booleans(),
)
def test_any_messages_leave_a_receiver_that_still_works(
    given_messages: list[Any], wire: str, listens: bool
) -> None:
    clock = ManualClock()
    passed: list[Any] = []
    websocket = Websocket(uri="ws://far/", wire=wire)  # type: ignore[arg-type]  # one of them
    receiver = Receiver(
        clock, Format(websocket), lambda: None, lambda data, _cursor: passed.append(data)
    )
    spec = RingSpec(key=bytes(16), epoch=1, mic_hz=16_000, mic_ms=100)
    ring = WorkerRing.format(memoryview(bytearray(size_bytes(spec))), spec, 1)
    if listens:
        receiver.ring = ring
    for message in given_messages:
        if isinstance(message, int):
            clock.advance_ms(20 * message)
            receiver.feed(clock.now_ns())
        else:
            receiver.take(message, clock.now_ns())
        assert receiver.waiting_bytes <= MAX_WAITING_BYTES + 16_000
    count = sum(not isinstance(message, int) for message in given_messages)
    told = receiver.audio_messages + len(passed) + receiver.dropped_messages
    assert told <= count
    assert count - told <= receiver.malformed
    assert MAX_RECEIVED_BYTES > 0


@given(
    st.sampled_from([0, 5, (1 << 64) - 1]),
    st.lists(
        st.tuples(
            st.integers(0, 12),
            st.integers(0, 3),
            st.one_of(st.just(None), st.integers(0, 1 << 64 - 1)),
            st.integers(0, 1 << 64 - 1),
            st.binary(max_size=20),
        ),
        max_size=60,
    ),
)
def test_any_frames_of_a_bot_leave_a_stream_of_messages_bounded(
    begin: int,
    given_frames: list[tuple[int, int, int | None, int, bytes]],
) -> None:
    stream = MessageStream(1)
    stream.attached(begin)
    written = min(begin, MAX_CURSOR)
    for kind, flags, cursor, arg, payload in given_frames:
        at = written if cursor is None else cursor
        taken = stream.take(StreamFrame(kind, 1, at, 0, arg, memoryview(payload), flags))
        if taken and kind == Kind.MESSAGE:
            assert at >= written
            written = at + arg
        if flags == 3:
            stream.apply_flush()
    queued = 0
    while (message := stream.peek()) is not None:
        assert message.end <= written
        stream.pop()
        queued += 1
    assert queued <= MAX_QUEUED
    stream.pump(1, lambda _frame: True)
