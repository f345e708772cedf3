from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import zmq

from ipc.audio_ring import BotRing, WorkerRing, size_bytes
from ipc.media_stream import (
    HEADER,
    QUEUE_FRAMES,
    Kind,
    StreamFrame,
    StreamHost,
    StreamLink,
    pack,
    unpack,
)
from ipc.sockets import open_socket
from tests.support import LoopErrors, pattern, pcm, reaches, until
from tests.unit.ipc.conftest import TINY, Ends, make_ends

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from ipc.audio_ring import RingSpec
    from ipc.sockets import Context, Socket

ENDPOINT = "inproc://media"


class Worker:
    """The worker's side: rings in private memory and the endpoint that plays their bot."""

    def __init__(self, context: Context) -> None:
        self.host = StreamHost(context, ENDPOINT)

    def open(self, spec: RingSpec = TINY) -> tuple[Ends, int, str]:
        ends = make_ends(spec)
        return ends, *self.host.open(ends.bot)


class Bot:
    """The bot's side of one stream: a mirror, moved by what the worker sends."""

    def __init__(self, link: StreamLink, number: int, token: str, spec: RingSpec = TINY) -> None:
        memory = memoryview(bytearray(size_bytes(spec)))
        self.mirror = WorkerRing.format(memory, spec, 1)
        self.ring = BotRing(memory)
        self.changes = 0
        self._link = link
        self._number = number
        link.watch(number, self.mirror, self._changed)
        self.send(Kind.EPOCH, payload=token.encode())

    def _changed(self) -> None:
        self.changes += 1

    def write(self, count: int) -> int:
        ring = self.ring
        piece = pcm(ring.speaker_written, min(count, ring.room()), ring.speaker.channels)
        self.send(Kind.PCM, ring.speaker_written, bytes(piece))
        return ring.write_speaker(piece)

    def send(self, kind: Kind, cursor: int = 0, payload: bytes = b"", arg: int = 0) -> None:
        assert self._link.send(pack(kind, self._number, cursor=cursor, payload=payload, arg=arg))


@pytest.fixture
async def worker(context: Context) -> AsyncIterator[Worker]:
    errors = LoopErrors()
    made = Worker(context)
    yield made
    made.host.close()
    assert errors.seen == [], "exceptions that escaped"


@pytest.fixture
async def link(context: Context, worker: Worker) -> AsyncIterator[StreamLink]:
    made = StreamLink(context, ENDPOINT)
    yield made
    made.close()


@pytest.fixture
def raw(context: Context, worker: Worker) -> Iterator[Socket]:
    with open_socket(context, zmq.DEALER, connect=ENDPOINT, queue=1) as socket:
        yield socket


async def attached(worker: Worker, link: StreamLink, spec: RingSpec = TINY) -> tuple[Ends, Bot]:
    ends, number, token = worker.open(spec)
    bot = Bot(link, number, token, spec)
    await until(lambda: bot.changes, what="the worker's answer")
    return ends, bot


def pumped(worker: Worker, condition: Callable[[], object]) -> Callable[[], object]:
    """The condition, looked at after a tick of the worker."""

    def look() -> object:
        worker.host.pump()
        return condition()

    return look


def test_a_frame_is_a_32_byte_header_and_its_payload() -> None:
    data = pack(Kind.PCM, 0x01020304, cursor=5, ns=6, arg=7, payload=b"\1\2")

    assert HEADER.size == 32
    assert data.hex() == "0101000004030201" + "05" + "00" * 7 + "06" + "00" * 7 + "07" + (
        "00" * 7 + "0102"
    )
    assert unpack(data) == StreamFrame(1, 0x01020304, 5, 6, 7, memoryview(b"\1\2"))


def test_kinds_keep_their_numbers_on_the_wire() -> None:
    assert {kind.name: kind.value for kind in Kind} == {
        "PCM": 1,
        "MESSAGE": 2,
        "FLUSH": 3,
        "FLUSHED": 4,
        "ANCHOR": 5,
        "CREDIT": 6,
        "MARK": 7,
        "END": 8,
        "EPOCH": 9,
    }


@pytest.mark.parametrize("data", [b"", b"\1", bytes(32), b"\2" + bytes(31), b"\1" + bytes(30)])
def test_bytes_that_are_no_frame_are_none(data: bytes) -> None:
    assert unpack(data) is None


@pytest.mark.parametrize("channels", [1, 2])
async def test_the_callers_audio_reaches_the_bot(
    worker: Worker, link: StreamLink, channels: int
) -> None:
    ends, bot = await attached(worker, link, replace(TINY, mic_channels=channels))
    for turn in range(4):
        ends.worker.write_mic(pcm(turn * 160, 160, channels))
        ends.worker.set_capture(1000 + turn, 0)

        await until(pumped(worker, reaches(lambda: bot.ring.mic_written, 160 * (turn + 1))))

        read = bot.ring.read_mic(160)
        assert read == (turn * 160, pattern(turn * 160, 160, channels), 0)
        assert bot.ring.capture()[:2] == (160 * (turn + 1), 1000 + turn)


@pytest.mark.parametrize("channels", [1, 2])
async def test_the_bots_audio_reaches_the_worker(
    worker: Worker, link: StreamLink, channels: int
) -> None:
    ends, bot = await attached(worker, link, replace(TINY, speaker_channels=channels))

    bot.write(100)
    bot.write(60)
    bot.send(Kind.END)
    await until(lambda: ends.worker.speaker_end == 160)

    assert ends.worker.take(160) == pattern(0, 160, channels)
    ends.worker.commit(160, 77, 960, 1 << 33, 1 << 40)  # a caller may report anything
    await until(pumped(worker, lambda: bot.ring.playback() == (160, 77, 960, *[2**32 - 1] * 2)))


async def test_a_flush_empties_the_workers_ring_and_is_acknowledged(
    worker: Worker, link: StreamLink
) -> None:
    ends, bot = await attached(worker, link)
    bot.write(300)
    await until(lambda: ends.worker.speaker_waiting() == 300)
    ends.worker.take(100)
    ends.worker.commit(100, 1, 1, 30_000, 4_000)

    bot.ring.flush()
    bot.send(Kind.FLUSH, arg=40)
    await until(lambda: ends.worker.flush_due() == 300, what="the flush")
    assert (ends.worker.flush_fade(), ends.worker.apply_flush()) == (40, True)
    await until(pumped(worker, lambda: bot.ring.flushed() == (300, 100)))

    assert ends.worker.speaker_waiting() == 0
    await until(lambda: bot.ring.playback()[3:] == (30_000, 4_000))
    assert bot.ring.room() == bot.ring.speaker.capacity


async def test_credits_bound_the_writer(worker: Worker, link: StreamLink) -> None:
    ends, bot = await attached(worker, link)

    assert bot.write(1000) == 320
    assert bot.ring.room() == 0
    await until(lambda: ends.worker.speaker_waiting() == 320)
    for sent in (50, 160):
        ends.worker.take(sent - ends.worker.taken)
        ends.worker.commit(sent, 1, 1, 0, 0)
        await until(pumped(worker, reaches(bot.ring.room, sent)))
        assert bot.ring.room() == sent

    assert bot.write(1000) == 160
    await until(lambda: ends.worker.speaker_waiting() == 320)
    assert worker.host.refused == {}


async def test_a_writer_beyond_its_credit_is_counted_and_cut(
    worker: Worker, link: StreamLink
) -> None:
    ends, bot = await attached(worker, link)

    bot.send(Kind.PCM, 0, pattern(0, 500))
    await until(lambda: worker.host.refused == {"over_credit": 1})

    assert ends.worker.speaker_waiting() == 320
    assert ends.worker.take(160) == pattern(0, 160)


@pytest.mark.parametrize(
    ("cursor", "payload"), [(1, b"\0\0"), (2**64 - 1, b"\0\0"), (0, b"\0\0\0")]
)
async def test_samples_at_a_wrong_place_or_cut_in_half_are_refused(
    worker: Worker, link: StreamLink, cursor: int, payload: bytes
) -> None:
    ends, bot = await attached(worker, link)

    bot.send(Kind.PCM, cursor, payload)

    await until(lambda: worker.host.refused == {"cursor": 1})
    assert ends.worker.speaker_waiting() == 0


@pytest.mark.parametrize("kind", [Kind.EPOCH, Kind.PCM, Kind.FLUSH])
async def test_a_wrong_token_opens_nothing(worker: Worker, raw: Socket, kind: Kind) -> None:
    ends, number, _ = worker.open()
    for payload in (b"", b"wrong", bytes(32), b"\xff" * 32):
        raw.send(pack(kind, number, payload=payload))

    await until(lambda: worker.host.refused == {"token": 4})
    ends.worker.write_mic(pcm(0, 160))
    worker.host.pump()

    assert not raw.poll(0)
    assert ends.worker.speaker_waiting() == 0


async def test_a_stream_belongs_to_the_peer_that_showed_its_token(
    worker: Worker, link: StreamLink, raw: Socket
) -> None:
    ends, number, token = worker.open()
    bot = Bot(link, number, token)
    await until(lambda: bot.changes)

    raw.send(pack(Kind.EPOCH, number, payload=token.encode()))
    raw.send(pack(Kind.PCM, number, payload=b"\0\0"))

    await until(lambda: worker.host.refused == {"foreign_stream": 2})
    assert ends.worker.speaker_waiting() == 0


async def test_what_is_no_frame_of_a_stream_is_counted(worker: Worker, raw: Socket) -> None:
    _, number, token = worker.open()
    raw.send(b"nonsense")
    raw.send_multipart([pack(Kind.FLUSH, number), b"more"])
    raw.send(pack(Kind.FLUSH, number + 1))
    raw.send(pack(Kind.EPOCH, number, payload=token.encode()))
    raw.send(pack(Kind.MARK, number))
    raw.send(HEADER.pack(1, 200, 0, number, 0, 0, 0))

    await until(lambda: worker.host.refused.total() == 5)

    assert worker.host.refused == {"malformed": 2, "unknown_stream": 1, "unknown_kind": 2}


async def test_an_ended_stream_takes_nothing_more(worker: Worker, link: StreamLink) -> None:
    ends, bot = await attached(worker, link)
    worker.host.end(1)
    worker.host.end(1)

    bot.write(10)

    await until(lambda: worker.host.refused == {"unknown_stream": 1})
    assert ends.worker.speaker_waiting() == 0


async def test_a_bot_that_does_not_read_loses_the_oldest_and_is_told(
    worker: Worker, raw: Socket
) -> None:
    ends, number, token = worker.open()
    raw.send(pack(Kind.EPOCH, number, payload=token.encode()))
    await until(lambda: worker.host._streams[number].peer)
    frames = 4 * QUEUE_FRAMES
    for turn in range(frames):
        ends.worker.write_mic(pcm(turn * 160, 160))
        worker.host.pump()
    assert ends.bot.mic_dropped

    received = lost = at = 0

    def read_on() -> bool:
        nonlocal received, lost, at
        worker.host.pump()
        while raw.poll(0):
            frame = unpack(raw.recv())
            if frame is not None and frame.kind == Kind.PCM:
                assert frame.payload == pattern(frame.cursor, 160)
                assert frame.cursor == at + frame.arg
                lost += frame.arg
                received += 160
                at = frame.cursor + 160
        return at == frames * 160

    await until(read_on)

    assert received + lost == frames * 160
    assert lost == ends.bot.mic_dropped > 0


async def test_the_mirror_tells_its_reader_what_was_lost_on_the_way(
    worker: Worker, link: StreamLink
) -> None:
    ends, bot = await attached(worker, link)
    ends.worker.write_mic(pcm(0, 1000))

    await until(pumped(worker, lambda: bot.ring.mic_written == 1000))

    assert bot.ring.read_mic(160) == (680, pattern(680, 160), 680)


async def test_streams_of_one_link_do_not_mix(worker: Worker, link: StreamLink) -> None:
    (ends_a, bot_a), (ends_b, bot_b) = [await attached(worker, link) for _ in range(2)]

    bot_a.write(10)
    bot_b.write(20)
    ends_a.worker.write_mic(pcm(0, 160))

    await until(pumped(worker, lambda: bot_a.ring.mic_written == 160))
    await until(lambda: ends_b.worker.speaker_waiting() == 20)
    assert ends_a.worker.speaker_waiting() == 10
    assert bot_b.ring.mic_written == 0


async def test_a_stream_that_goes_on_from_an_earlier_bot_begins_there(
    worker: Worker, link: StreamLink
) -> None:
    spec = replace(TINY, mic_base=5000, speaker_base=7000)
    ends, bot = await attached(worker, link, spec)

    bot.write(160)
    ends.worker.write_mic(pcm(5000, 160))

    await until(lambda: ends.worker.speaker_waiting() == 160)
    await until(pumped(worker, lambda: bot.ring.mic_written == 5160))
    assert ends.worker.take(160) == pattern(7000, 160)
    assert bot.ring.read_mic(160) == (5000, pattern(5000, 160), 0)


async def test_a_link_is_idle_once_every_stream_is_detached(
    worker: Worker, link: StreamLink
) -> None:
    assert link.idle
    ends, bot = await attached(worker, link)
    assert not link.idle

    link.detach(1)
    link.detach(1)
    assert link.idle
    ends.worker.write_mic(pcm(0, 160))
    await until(pumped(worker, lambda: link.refused["unknown_stream"]))

    assert bot.ring.mic_written == 0


async def test_a_link_counts_what_it_cannot_read(context: Context) -> None:
    errors = LoopErrors()
    with open_socket(context, zmq.DEALER, bind="inproc://odd") as odd:
        link = StreamLink(context, "inproc://odd")
        bot = Bot(link, 3, "token")
        odd.send(b"nonsense")
        odd.send_multipart([pack(Kind.PCM, 3), b"more"])
        odd.send(pack(Kind.PCM, 4))
        odd.send(pack(Kind.MARK, 3))

        await until(lambda: link.refused.total() == 4)

        assert link.refused == {"malformed": 2, "unknown_stream": 1, "unknown_kind": 1}
        assert (bot.changes, errors.seen) == (0, [])
        link.close()


async def test_sending_to_a_worker_that_does_not_read_is_refused_and_never_blocks(
    context: Context,
) -> None:
    link = StreamLink(context, "inproc://nobody")

    sent = [link.send(b"x") for _ in range(5 * QUEUE_FRAMES)]

    assert sent.count(True) == 4 * QUEUE_FRAMES
    assert not sent[-1]
    link.close()
