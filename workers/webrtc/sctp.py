"""What aiortc's SCTP lacks: a bound on a caller's unfinished messages, and numbers that wrap.

aiortc tells its peer how much room there is and takes more all the same; what it keeps it walks
through for each chunk that comes. So a chunk for which there is no room is left out as if it had
been lost, and its sender sends it again. Only the one that comes next in order is taken in any
case, for without it nothing would ever be finished; a peer whose message does not end within
twice the bounds is cut off.

aiortc sorts the numbers of what came out of order as if they did not wrap (they do after 2^32,
and may begin anywhere): a chunk lost just before would never be made good. And it sorts them for
each chunk, which may hold the beat as well: what a packet costs is bounded.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING, Any

import aiortc.rtcsctptransport
from aiortc.rtcsctptransport import RTCSctpTransport, SackChunk, tsn_plus_one

from workers.webrtc.sctp_packet import is_affordable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from aiortc.rtcsctptransport import DataChunk

    Take = Callable[[RTCSctpTransport, DataChunk], Awaitable[None]]

log = logging.getLogger(__name__)

# A window of 1 MiB, which is what aiortc advertises, in packets of the usual size.
MAX_CHUNKS = 1_024
WINDOW_BYTES = 1 << 20
# Numbers of data channels; the worker listens to one.
MAX_STREAMS = 256
HALF = 1 << 31
MODULO = 1 << 32
# How far ahead of what is missing a number may be, which an acknowledgement can say.
MAX_AHEAD = (1 << 16) - 1
# Of one acknowledgement: so many numbers that came twice, so many blocks.
MAX_REPORTED = 128
# For the chunks of one packet. Each is searched for a place among those that are kept, which
# takes about as long for 16 of them as all the rest.
WORK = 128
KEPT_A_UNIT = 16
# What is left of it while a packet is read; among the attributes of its association.
LEFT = "_work_left"
# What aiortc raises at packets that break the protocol.
BROKEN = (AssertionError, IndexError, KeyError, TypeError, ValueError, struct.error)


async def _receive(transport: RTCSctpTransport, chunk: DataChunk, take: Take) -> None:
    streams = transport._inbound_streams
    if len(streams) > MAX_STREAMS:
        await _cut_off(transport, "it uses too many streams")
        return
    kept = sum([len(stream.reassembly) for stream in streams.values()])
    last = transport._last_received_tsn or 0
    if not _can_afford(transport, kept) or HALF > (chunk.tsn - last) % MODULO > MAX_AHEAD:
        transport._sack_needed = True
        return
    ahead = len(transport._sack_misordered)
    room_bytes = transport._advertised_rwnd - len(chunk.user_data)
    if kept < MAX_CHUNKS and ahead < MAX_CHUNKS and room_bytes >= 0:
        await take(transport, chunk)
    elif chunk.tsn != tsn_plus_one(last):
        transport._sack_needed = True
    elif kept < 2 * MAX_CHUNKS and room_bytes >= -WINDOW_BYTES:
        await take(transport, chunk)
    else:
        await _cut_off(transport, "its message does not end")


def _can_afford(transport: RTCSctpTransport, kept: int) -> bool:
    """Whether there is time for one more chunk of the packet that is being read."""
    state = vars(transport)
    left: int = state.get(LEFT, WORK)
    if left <= 0:
        return False
    if LEFT in state:
        state[LEFT] = left - 1 - kept // KEPT_A_UNIT
    return True


def _mark_received(transport: RTCSctpTransport, tsn: int) -> bool:
    """Note that a number has come; whether it had before."""
    last, ahead = transport._last_received_tsn or 0, transport._sack_misordered
    if (last - tsn) % MODULO < HALF or tsn in ahead:
        if len(transport._sack_duplicates) < MAX_REPORTED:
            transport._sack_duplicates.append(tsn)
        return True
    ahead.add(tsn)
    while (following := tsn_plus_one(last)) in ahead:
        ahead.discard(following)
        last = following
    transport._last_received_tsn = last
    return False


async def _send_sack(transport: RTCSctpTransport) -> None:
    """Acknowledge what has come; the first blocks of what is ahead are enough to go on."""
    last = transport._last_received_tsn or 0
    blocks: list[tuple[int, int]] = []
    for tsn in in_order(transport._sack_misordered):
        at = (tsn - last) % MODULO
        if blocks and blocks[-1][1] == at - 1:
            blocks[-1] = (blocks[-1][0], at)
        elif len(blocks) < MAX_REPORTED:
            blocks.append((at, at))
        else:
            break
    sack = SackChunk()
    sack.cumulative_tsn = last
    sack.advertised_rwnd = max(0, transport._advertised_rwnd)
    sack.duplicates = transport._sack_duplicates[:]
    sack.gaps = blocks
    await transport._send_chunk(sack)
    transport._sack_duplicates.clear()
    transport._sack_needed = False


async def _cut_off(transport: RTCSctpTransport, why: str) -> None:
    if transport._association_state != transport.State.CLOSED:
        log.warning("a caller's data channels are closed: %s", why)
        await transport._abort()
        transport._set_state(transport.State.CLOSED)


def in_order(numbers: Iterable[int]) -> list[int]:
    """TSNs of one window in the order in which they were given (RFC 1982)."""
    found = sorted(numbers)
    if found and found[-1] - found[0] >= HALF:
        return [n for n in found if n >= HALF] + [n for n in found if n < HALF]
    return found


def mend(refused: Callable[[], None] = lambda: None) -> None:
    """From now on every association of this process keeps to the bounds and counts on.

    `refused` hears of packets that are not looked at: as if they had been lost.
    """
    # Nothing else is sorted there.
    vars(aiortc.rtcsctptransport)["sorted"] = in_order
    take, handle = RTCSctpTransport._receive_data_chunk, RTCSctpTransport._handle_data

    async def receive(transport: RTCSctpTransport, chunk: DataChunk) -> None:
        await _receive(transport, chunk, take)

    async def read(transport: RTCSctpTransport, packet: bytes) -> None:
        if not is_affordable(packet, len(transport._sent_queue)):
            refused()
            return
        vars(transport)[LEFT] = WORK
        try:
            await handle(transport, packet)
        except BROKEN as error:
            log.debug("a packet breaks the protocol: %r", error)
            await _cut_off(transport, "it breaks the protocol")

    hook: Any = RTCSctpTransport
    hook._receive_data_chunk = receive
    hook._handle_data = read
    hook._mark_received = _mark_received
    hook._send_sack = _send_sack
