"""Random packets for an aiortc association with our bounds: its data channels may end, no more."""

from __future__ import annotations

import asyncio
import logging
from struct import pack
from typing import Any

import aiortc.rtcsctptransport
from aiortc.rtcsctptransport import RTCSctpTransport
from google_crc32c import value as crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import LoopErrors, turn
from workers.webrtc import sctp
from workers.webrtc.sctp import MAX_CHUNKS, MAX_STREAMS

BEGIN = 1_000
HOOKS = ("_receive_data_chunk", "_handle_data", "_mark_received", "_send_sack")
U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
# Numbers near the next one, and any.
TSN = st.integers(BEGIN - 2, BEGIN + 40) | st.just(BEGIN + 70_000) | U32
KINDS = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 130, 192, 77])
TEXTS = st.sampled_from([b"ping", b"{}", b"\xff", b"\x03" + bytes(11), b"\x03" + bytes(20), b"\2"])


class Wire:
    """The DTLS below, which takes everything."""

    state = "connected"
    transport = type("Ice", (), {"role": "controlled"})()

    def _register_data_receiver(self, _receiver: object) -> None: ...

    def _unregister_data_receiver(self, _receiver: object) -> None: ...

    async def _send_data(self, _data: bytes) -> None: ...


def framed(kind: int, flags: int, body: bytes) -> bytes:
    return pack("!BBH", kind, flags, 4 + len(body)) + body + bytes(-len(body) % 4)


DATA = st.builds(
    lambda tsn, stream, number, kind, text, flags: framed(
        0, flags, pack("!LHHL", tsn, stream, number, kind) + text
    ),
    *(TSN, st.integers(0, 3) | U16, U16, st.sampled_from([50, 51, 53, 56, 57, 7])),
    *(TEXTS | st.binary(max_size=20), st.integers(0, 7)),
)
SACKS = st.builds(
    lambda tsn, gaps: framed(
        3, 0, pack("!LLHH", tsn, 1_000, len(gaps), 0) + b"".join(pack("!HH", *g) for g in gaps)
    ),
    *(TSN, st.lists(st.tuples(U16, U16), max_size=5)),
)
OTHERS = st.builds(framed, KINDS, st.integers(0, 255), st.binary(max_size=28))
PACKETS = st.lists(DATA | SACKS | OTHERS, min_size=1, max_size=6).map(b"".join)


@settings(max_examples=300)
@given(packets=st.lists(PACKETS | st.binary(max_size=60), min_size=1, max_size=12))
def test_an_association_takes_anything_and_keeps_to_its_bounds(packets: list[bytes]) -> None:
    logging.getLogger("workers.webrtc.sctp").setLevel(logging.ERROR)
    stock = {name: getattr(RTCSctpTransport, name) for name in HOOKS}
    sctp.mend()
    try:
        with asyncio.Runner() as runner:
            runner.run(work(packets))
    finally:
        for name, method in stock.items():
            setattr(RTCSctpTransport, name, method)
        vars(aiortc.rtcsctptransport).pop("sorted", None)


async def work(packets: list[bytes]) -> None:
    errors = LoopErrors()
    wire: Any = Wire()
    transport = RTCSctpTransport(wire, 5_000)
    transport._remote_port, transport._remote_verification_tag = 5_000, 1
    transport._last_received_tsn = BEGIN
    transport._set_state(transport.State.ESTABLISHED)
    for body in packets:
        head = pack("!HHL", 5_000, 5_000, transport._local_verification_tag)
        await transport._handle_data(head + pack("<L", crc32c(head + bytes(4) + body)) + body)
        await turn()
        streams = transport._inbound_streams
        assert len(streams) <= MAX_STREAMS + 65
        assert sum(len(stream.reassembly) for stream in streams.values()) <= 2 * MAX_CHUNKS
    transport._set_state(transport.State.CLOSED)
    await turn()
    assert errors.seen == []
