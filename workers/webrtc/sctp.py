"""What aiortc's SCTP lacks: a bound on a caller's unfinished messages, and numbers that wrap.

aiortc tells its peer how much room there is and takes more all the same; what it keeps it walks
through for each chunk that comes. So a chunk for which there is no room is left out as if it had
been lost, and its sender sends it again. Only the one that comes next in order is taken in any
case, for without it nothing would ever be finished; a peer whose message does not end within
twice the bounds is cut off.

aiortc sorts the numbers of what came out of order as if they did not wrap (they do after 2^32,
and may begin anywhere): a chunk lost just before would never be made good.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import aiortc.rtcsctptransport
from aiortc.rtcsctptransport import RTCSctpTransport, tsn_plus_one

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


async def _receive(transport: RTCSctpTransport, chunk: DataChunk, take: Take) -> None:
    streams = transport._inbound_streams
    if len(streams) > MAX_STREAMS:
        await _cut_off(transport, "it uses too many streams")
        return
    kept = sum([len(stream.reassembly) for stream in streams.values()])
    ahead = len(transport._sack_misordered)
    room_bytes = transport._advertised_rwnd - len(chunk.user_data)
    if kept < MAX_CHUNKS and ahead < MAX_CHUNKS and room_bytes >= 0:
        await take(transport, chunk)
    elif chunk.tsn != tsn_plus_one(transport._last_received_tsn or 0):
        transport._sack_needed = True
    elif kept < 2 * MAX_CHUNKS and room_bytes >= -WINDOW_BYTES:
        await take(transport, chunk)
    else:
        await _cut_off(transport, "its message does not end")


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


def mend() -> None:
    """From now on every association of this process keeps to the bounds and counts on."""
    # Nothing else is sorted there.
    vars(aiortc.rtcsctptransport)["sorted"] = in_order
    take = RTCSctpTransport._receive_data_chunk

    async def receive(transport: RTCSctpTransport, chunk: DataChunk) -> None:
        await _receive(transport, chunk, take)

    hook: Any = RTCSctpTransport
    hook._receive_data_chunk = receive
