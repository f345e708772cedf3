"""Hostile bytes at every place of `ipc` that takes bytes: only declared errors come out."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.audio_ring import AudioRing, BotRing, RingSpec, WorkerRing, size_bytes
from ipc.errors import LayoutMismatch, RingError
from ipc.media_stream import HEADER, Kind, StreamFrame, StreamHost, StreamLink, pack, unpack
from ipc.messages import OfferSession
from ipc.wire import TYPES, Unreadable, decode, encode
from tests.support import LoopErrors, pattern, pcm

if TYPE_CHECKING:
    from ipc.sockets import Context

EXAMPLES = settings(max_examples=500)
U64 = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 160, 320, 2**63, 2**64 - 1])
SPEC = RingSpec(
    key=bytes(range(16)), epoch=5, mic_hz=8_000, speaker_hz=8_000, mic_ms=40, speaker_ms=40
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=10)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8))
    | st.builds(msgpack.Timestamp, st.integers(0, 2**31), st.integers(0, 999_999_999)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=10,
)
FIELDS = sorted({field for cls in TYPES.values() for field in cls.__struct_fields__})
CODES = {"malformed_message", "unknown_message", "version_mismatch", "message_too_large"}


def read(data: bytes) -> str | None:
    """Decode; the code of the refusal, or None. Anything but `Unreadable` escapes."""
    try:
        message = decode(data).message
    except Unreadable as unreadable:
        return unreadable.error.code
    assert type(message) in TYPES.values()
    return None


@EXAMPLES
@given(data=st.binary(max_size=200))
def test_random_bytes_are_a_message_or_unreadable(data: bytes) -> None:
    assert read(data) in CODES | {None}


@settings(max_examples=300)
@given(
    kind=st.sampled_from([*TYPES]),
    fields=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=6), JUNK, max_size=6),
    version=st.sampled_from([1, 1, 1, 1, 1, 2, None]),
)
def test_well_formed_maps_with_junk_in_them_are_a_message_or_unreadable(
    kind: str, fields: dict[str, Any], version: int | None
) -> None:
    assert read(msgpack.packb({"v": version, "t": kind, **fields})) in CODES | {None}


@EXAMPLES
@given(
    number=st.integers(0, 2**32),
    cuts=st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=4),
)
def test_damaged_messages_are_a_message_or_unreadable(
    number: int, cuts: list[tuple[int, bytes]]
) -> None:
    offer = OfferSession(
        session="s", epoch=number, key=bytes(16), media="shm", request_data={"a": [1, {"b": None}]}
    )
    data = bytearray(encode(offer, request=number))
    for at, new in cuts:
        data[at : at + len(new)] = new

    assert read(bytes(data)) in CODES | {None}


@EXAMPLES
@given(data=st.binary(max_size=80))
def test_random_bytes_are_a_stream_frame_or_nothing(data: bytes) -> None:
    frame = unpack(data)

    assert frame is None or (len(data) >= HEADER.size and frame.payload == data[HEADER.size :])


@EXAMPLES
@given(
    kind=st.sampled_from(list(Kind)),
    stream=st.integers(0, 2**32 - 1),
    numbers=st.tuples(U64, U64, U64),
    payload=st.binary(max_size=50),
)
def test_a_stream_frame_comes_back_as_it_was(
    kind: Kind, stream: int, numbers: tuple[int, int, int], payload: bytes
) -> None:
    cursor, ns, arg = numbers

    frame = unpack(pack(kind, stream, cursor=cursor, ns=ns, arg=arg, payload=payload))

    assert frame == StreamFrame(kind, stream, cursor, ns, arg, memoryview(payload))


@EXAMPLES
@given(data=st.binary(max_size=3000))
def test_random_buffers_are_not_rings(data: bytes) -> None:
    with pytest.raises(LayoutMismatch):
        AudioRing(memoryview(bytearray(data)))


@EXAMPLES
@given(
    changes=st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), max_size=6),
    size=st.just(size_bytes(SPEC)) | st.integers(0, size_bytes(SPEC)),
)
def test_a_damaged_layout_is_refused_or_stays_inside_its_buffer(
    changes: list[tuple[int, int]], size: int
) -> None:
    buffer = bytearray(size_bytes(SPEC))
    WorkerRing.format(memoryview(buffer), SPEC, 1).release()
    for at, value in changes:
        buffer[at] = value
    del buffer[size:]

    try:
        ring = AudioRing(memoryview(buffer))
        ring.check(SPEC.key, SPEC.epoch)
    except RingError:
        return

    for samples in (ring.mic, ring.speaker):
        for cursor in (0, samples.capacity - 1, 2**64 - 1):
            view = samples.view(cursor, samples.slack)
            assert len(view) == samples.slack * samples.stride


@EXAMPLES
@given(
    words=st.dictionaries(st.integers(0x080 // 8, 0x100 // 8 - 1), U64),
    spoken=st.integers(0, 400),
    heard=st.lists(st.integers(0, 700), max_size=4),
)
def test_a_worker_survives_any_line_of_the_bot(
    words: dict[int, int], spoken: int, heard: list[int]
) -> None:
    buffer = memoryview(bytearray(size_bytes(SPEC)))
    worker, bot = WorkerRing.format(buffer, SPEC, 1), BotRing(buffer)
    bot.write_speaker(pcm(0, spoken))
    line = buffer[:0x400].cast("Q")
    for at, value in words.items():
        line[at] = value

    for count in heard:
        worker.apply_flush()
        waiting = worker.speaker_waiting()
        assert 0 <= waiting <= worker.speaker.capacity
        taken = min(waiting, worker.speaker.slack)
        assert len(worker.take(taken)) == 2 * taken
        worker.commit(worker.taken, 0, 0, 0, 0)
        worker.write_mic(pcm(worker.mic_written, count))
    after = WorkerRing.format(
        memoryview(bytearray(size_bytes(SPEC))),
        replace(SPEC, mic_base=worker.mic_read, speaker_base=worker.taken),
        2,
    )
    after.preload(worker)
    after.continue_from(worker)

    assert worker.mic_written == after.mic_written == sum(heard)


def frame_lists(cursors: st.SearchStrategy[int]) -> st.SearchStrategy[list[bytes]]:
    """Frames of every kind, and bytes that are none."""
    frame = st.builds(
        pack,
        st.sampled_from(list(Kind)),
        st.integers(0, 3),
        cursor=cursors,
        ns=U64,
        arg=cursors,
        payload=st.binary(max_size=700),
    )
    return st.lists(frame | st.binary(max_size=60), max_size=12)


def run_on_a_loop(work: Any) -> None:
    """One loop for each example would be slow to make; it is still each example's own."""
    with asyncio.Runner() as runner:
        runner.run(work)


@settings(max_examples=200)
@given(frames=frame_lists(U64), attached=st.booleans())
def test_a_stream_host_takes_anything_and_keeps_its_ring_right(
    frames: list[bytes], attached: bool
) -> None:
    async def work() -> None:
        errors = LoopErrors()
        context: Context = zmq.Context()
        host = StreamHost(context, "inproc://fuzz")
        buffer = memoryview(bytearray(size_bytes(SPEC)))
        worker = WorkerRing.format(buffer, SPEC, 1)
        number, token = host.open(BotRing(buffer))
        peer = b"peer"
        if attached:
            host._receive([peer, pack(Kind.EPOCH, number, payload=token.encode())])
        written = 0
        for frame in frames:
            host._receive([peer, frame])
            host._receive([peer, frame, b""])
            worker.write_mic(pcm(worker.mic_written, 160))
            worker.apply_flush()
            worker.speaker_waiting()
            host.pump()
            assert written <= worker.speaker_written <= written + 700
            written = worker.speaker_written
        host.close()
        context.destroy(0)
        assert attached or written == 0
        assert errors.seen == []

    run_on_a_loop(work())


@settings(max_examples=200)
# A bot trusts the cursors of its worker as far as they are some.
@given(frames=frame_lists(st.integers(0, 2**60)))
def test_a_stream_link_takes_frames_in_any_order(frames: list[bytes]) -> None:
    async def work() -> None:
        context: Context = zmq.Context()
        link = StreamLink(context, "inproc://nobody")
        buffer = memoryview(bytearray(size_bytes(SPEC)))
        mirror, bot = WorkerRing.format(buffer, SPEC, 1), BotRing(buffer)
        link.watch(1, mirror, lambda: None)
        for frame in frames:
            link._receive([frame])
            bot.write_speaker(memoryview(pattern(0, 200)))
            bot.read_mic(160)
            bot.playback()
        link.close()
        context.destroy(0)

    run_on_a_loop(work())
    gc.collect(0)
