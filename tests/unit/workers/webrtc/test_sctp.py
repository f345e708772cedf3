"""What of a caller's unfinished messages is kept, on an aiortc association without a network."""

from __future__ import annotations

import random
from struct import pack
from typing import TYPE_CHECKING

import aiortc.rtcsctptransport
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.rtcsctptransport import DataChunk, ForwardTsnChunk, RTCSctpTransport, SackChunk
from google_crc32c import value as crc32c

from workers.webrtc import sctp
from workers.webrtc.sctp import MAX_AHEAD, MAX_CHUNKS, MAX_REPORTED, MAX_STREAMS, WINDOW_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FIRST, LAST, UNORDERED = 2, 1, 4
MODULO = 1 << 32
# Any number may be the first.
BEGIN = 1_000


class Caller:
    """Chunks for the association of a peer that is not connected."""

    def __init__(self, transport: RTCSctpTransport, refused: list[None]) -> None:
        self.transport = transport
        # One for each packet that was not looked at.
        self.refused = refused
        self.heard: list[bytes] = []
        self.answers: list[SackChunk] = []
        self.begin_at(BEGIN)
        transport._association_state = transport.State.ESTABLISHED

        async def receive(_stream: int, _protocol: int, data: bytes) -> None:
            self.heard.append(data)

        async def send_chunk(chunk: object) -> None:
            if isinstance(chunk, SackChunk):
                self.answers.append(chunk)

        vars(transport).update(_receive=receive, _send_chunk=send_chunk)

    def begin_at(self, begin: int) -> None:
        """The number of the first chunk."""
        self.begin = begin
        self.transport._last_received_tsn = (begin - 1) % MODULO

    async def send(
        self, at: int, flags: int, data: bytes = b"x", stream: int = 0, number: int = 0
    ) -> None:
        chunk = self.chunk(at, flags, data, stream, number)
        await self.transport._receive_data_chunk(chunk)

    def chunk(
        self, at: int, flags: int, data: bytes = b"x", stream: int = 0, number: int = 0
    ) -> DataChunk:
        chunk = DataChunk(flags=flags)
        chunk.tsn = (self.begin + at) % MODULO
        chunk.stream_id, chunk.stream_seq, chunk.protocol = stream, number, 51
        chunk.user_data = data
        return chunk

    async def send_packet(self, *chunks: object) -> None:
        """Chunks, or bytes of them, in one packet."""
        header = pack("!HHL", 5000, 5000, self.transport._local_verification_tag)
        body = b"".join(bytes(chunk) for chunk in chunks)  # type: ignore[call-overload]  # aiortc's are
        checksum = crc32c(header + bytes(4) + body)
        await self.transport._handle_data(header + pack("<L", checksum) + body)

    def has(self, at: int) -> bool:
        """Whether it was acknowledged."""
        tsn = (self.begin + at) % MODULO
        behind = ((self.transport._last_received_tsn or 0) - tsn) % MODULO < MODULO // 2
        return behind or tsn in self.transport._sack_misordered

    @property
    def kept(self) -> int:
        streams = self.transport._inbound_streams.values()
        return sum(len(stream.reassembly) for stream in streams)

    @property
    def closed(self) -> bool:
        return self.transport._association_state == self.transport.State.CLOSED


@pytest.fixture
async def caller(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Caller]:
    for name in ("_receive_data_chunk", "_handle_data", "_mark_received", "_send_sack"):
        stock = getattr(RTCSctpTransport, name)
        monkeypatch.setattr(RTCSctpTransport, name, stock)  # undone afterwards
    monkeypatch.setitem(vars(aiortc.rtcsctptransport), "sorted", sorted)
    refused: list[None] = []
    sctp.mend(lambda: refused.append(None))
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.createDataChannel("test")
    assert peer.sctp is not None
    yield Caller(peer.sctp, refused)
    await peer.close()


@pytest.mark.parametrize("flags", [0, UNORDERED, FIRST, FIRST | UNORDERED])
async def test_fragments_whose_rest_never_comes_are_bounded_by_number(
    caller: Caller, flags: int
) -> None:
    for at in range(1, 3 * MAX_CHUNKS):
        await caller.send(2 * at, flags)

    assert caller.kept == len(caller.transport._sack_misordered) == MAX_CHUNKS
    assert caller.transport._sack_needed
    assert not caller.closed


async def test_messages_behind_one_that_never_comes_are_bounded_by_number(caller: Caller) -> None:
    for at in range(1, 3 * MAX_CHUNKS):
        await caller.send(at, FIRST | LAST | UNORDERED)

    assert len(caller.heard) == len(caller.transport._sack_misordered) == MAX_CHUNKS


async def test_fragments_are_bounded_by_the_window_that_was_advertised(caller: Caller) -> None:
    data = bytes(16_384)
    for at in range(1, 200):
        await caller.send(at, 0, data)

    assert caller.kept == WINDOW_BYTES // len(data)


@pytest.mark.parametrize("size", [1, 1_200, 30_000])
async def test_a_message_that_does_not_end_closes_the_channels(
    caller: Caller, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    for at in range(3 * MAX_CHUNKS):
        await caller.send(at, 0 if at else FIRST, bytes(size))

    assert caller.closed
    assert caller.kept <= min(2 * MAX_CHUNKS, 2 * WINDOW_BYTES // size)
    assert len(caller.transport._sack_misordered) == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_streams_are_bounded(caller: Caller) -> None:
    for at in range(2 * MAX_STREAMS):
        await caller.send(at, FIRST | LAST, stream=at)

    assert caller.closed
    assert len(caller.transport._inbound_streams) == MAX_STREAMS + 1


@pytest.mark.parametrize(("size", "begin"), [(10, BEGIN), (1_100, BEGIN), (10, MODULO - 700)])
async def test_a_sender_that_repeats_what_was_left_out_gets_everything_through(
    caller: Caller, size: int, begin: int
) -> None:
    caller.begin_at(begin)
    rng = random.Random(size)
    # Messages of one to 240 fragments, which are 256 KiB.
    lengths = [rng.choice([1, 2, 60, 240]) for _ in range(30)]
    flags = [
        (number, (FIRST if at == 0 else 0) | (LAST if at == length - 1 else 0))
        for number, length in enumerate(lengths)
        for at in range(length)
    ]
    missing = [*range(len(flags))]
    while missing:
        flight = missing[: 2 * MAX_CHUNKS]  # out of order, and one in ten is lost
        for at in sorted(flight, key=lambda at: at + rng.randrange(8)):
            if rng.random() < 0.1:
                continue
            number, flag = flags[at]
            await caller.send(at, flag, bytes([number]) * size, number=number)
            assert caller.kept <= 2 * MAX_CHUNKS
        missing = [at for at in missing if not caller.has(at)]

    assert not caller.closed
    assert caller.heard == [bytes([n]) * size * length for n, length in enumerate(lengths)]
    assert caller.transport._advertised_rwnd == WINDOW_BYTES


# -- numbers that wrap around -----------------------------------------------------------------


@pytest.mark.parametrize("begin", [MODULO - 4, BEGIN])
@pytest.mark.parametrize("lost", range(8))
async def test_a_chunk_that_was_lost_is_made_good_wherever_the_numbers_wrap(
    caller: Caller, begin: int, lost: int
) -> None:
    caller.begin_at(begin)
    others = [at for at in range(8) if at != lost]
    random.Random(lost).shuffle(others)
    for at in others:
        await caller.send(at, FIRST | LAST, bytes([at]), number=at)
    await caller.transport._send_sack()
    (answer,) = caller.answers
    assert answer.cumulative_tsn == (begin + lost - 1) % MODULO
    assert answer.gaps == ([(2, 8 - lost)] if lost < 7 else [])

    await caller.send(lost, FIRST | LAST, bytes([lost]), number=lost)
    assert caller.transport._last_received_tsn == (begin + 7) % MODULO
    assert not caller.transport._sack_misordered
    assert caller.heard == [bytes([at]) for at in range(8)]
    assert caller.kept == 0


@pytest.mark.parametrize("begin", [MODULO - 4, MODULO - 3, BEGIN])
async def test_what_a_sender_gives_up_is_stepped_over_wherever_the_numbers_wrap(
    caller: Caller, begin: int
) -> None:
    caller.begin_at(begin)
    for at in (2, 3, 4, 5, 7):
        await caller.send(at, FIRST | LAST | UNORDERED)
    forward = ForwardTsnChunk()
    forward.cumulative_tsn = (begin + 1) % MODULO
    await caller.transport._receive_forward_tsn_chunk(forward)
    assert caller.transport._last_received_tsn == (begin + 5) % MODULO
    assert caller.transport._sack_misordered == {(begin + 7) % MODULO}


# -- what a packet costs ----------------------------------------------------------------------


async def test_a_packet_of_messages_is_heard_whole(caller: Caller) -> None:
    await caller.send_packet(*(caller.chunk(at, FIRST | LAST, number=at) for at in range(60)))

    assert len(caller.heard) == 60
    assert caller.refused == []


async def test_few_chunks_of_a_packet_are_searched_a_place_among_many(caller: Caller) -> None:
    for at in range(1, 801):
        await caller.send(2 * at, 0)
    behind = [caller.chunk(2 * at + 1, 0) for at in range(1, 61)]
    await caller.send_packet(*behind)

    assert 800 < caller.kept < 804
    assert not caller.closed
    # They come again, each time the first of them are taken.
    for at in range(1, 61):
        await caller.send_packet(caller.chunk(2 * at + 1, 0))
    assert caller.kept == 860


async def test_a_packet_that_would_hold_the_beat_is_as_good_as_lost(caller: Caller) -> None:
    message = caller.chunk(0, FIRST | LAST, b"heard")
    endless = pack("!BBHHH", 4, 0, 8, 1, 0)
    await caller.send_packet(endless, message)
    assert (len(caller.refused), caller.heard) == (1, [])
    await caller.send_packet(message)
    assert caller.heard == [b"heard"]


async def test_an_acknowledgement_of_what_was_never_sent_is_not_counted_through(
    caller: Caller,
) -> None:
    sack = SackChunk()
    sack.cumulative_tsn, sack.gaps = 0, [(1, 65_535)] * 250
    await caller.send_packet(sack)
    assert len(caller.refused) == 1
    sack.gaps = [(2, 500)]
    await caller.send_packet(sack)
    assert len(caller.refused) == 1
    assert not caller.closed


async def test_acknowledgements_say_only_so_much(caller: Caller) -> None:
    for at in range(1, 2 * MAX_REPORTED):
        for _ in range(2):
            await caller.send(2 * at, FIRST | LAST)
    await caller.transport._send_sack()
    (answer,) = caller.answers
    assert len(answer.gaps) == len(answer.duplicates) == MAX_REPORTED
    assert answer.gaps[0] == (3, 3)


async def test_a_number_that_no_acknowledgement_can_say_is_left_out(caller: Caller) -> None:
    await caller.send(MAX_AHEAD, FIRST | LAST)
    await caller.transport._send_sack()
    assert caller.answers[0].gaps == []
    await caller.send(MAX_AHEAD - 1, FIRST | LAST)
    await caller.transport._send_sack()
    assert caller.answers[1].gaps == [(MAX_AHEAD, MAX_AHEAD)]


@pytest.mark.parametrize(
    "broken",
    [
        pack("!BBHL", 0, 3, 8, 1),  # data without its header
        pack("!BBHLH", 192, 0, 10, 1, 1),
        pack("!BBHLLHHL", 1, 0, 20, 1, 1, 1, 1, 1) * 2,
    ],
    ids=["data", "forward", "two beginnings"],
)
async def test_a_packet_that_breaks_the_protocol_costs_the_channels_and_no_more(
    caller: Caller, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await caller.send_packet(broken)
    assert caller.closed
    await caller.send_packet(broken)  # nor afterwards
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_data_before_its_beginning_costs_no_more_either(caller: Caller) -> None:
    caller.transport._last_received_tsn = None
    await caller.send_packet(ForwardTsnChunk())
    assert caller.closed
