"""Which packets of SCTP aiortc may be shown: one of another kind would hold the beat for seconds.

Its parser walks on the spot at a parameter without a length, and it counts each number that an
acknowledgement covers, up to 65,535 for every four bytes. Everything else in a packet costs
about the same, so there may not be many of it. RFC 9260. Bytes in, no state.
"""

from __future__ import annotations

HEADER_BYTES = 12
DATA, INIT, INIT_ACK, SACK, FORWARD_TSN, RECONFIG = 0, 1, 2, 3, 192, 130
# Where the parameters of a chunk begin, behind its header of four bytes.
PARAMETERS = {INIT: 16, INIT_ACK: 16, 4: 0, 5: 0, 6: 0, 9: 0, RECONFIG: 0}
# Nobody needs more than three or four chunks beside the data, nor as many parameters.
MAX_CONTROL = 8
MAX_PARAMETERS = 32
# Acknowledgements and steps forward look through all that is on its way, or kept.
MAX_SEARCHES = 2
MAX_SKIPPED = 64
# What an acknowledgement may cover that is not on its way any more.
SLACK = 1_024


def is_affordable(packet: bytes, on_the_way: int) -> bool:
    """Whether a packet costs little; `on_the_way` is how much of ours is not acknowledged.

    Of one that is cut short or does not fit its own lengths aiortc itself says no.
    """
    end, at = len(packet), HEADER_BYTES
    control = searches = parameters = 0
    while at + 4 <= end:
        kind = packet[at]
        length = int.from_bytes(packet[at + 2 : at + 4], "big")
        if length < 4 or at + length > end:
            return True
        body = packet[at + 4 : at + length]
        if kind != DATA:
            control += 1
        if kind in PARAMETERS:
            count = _parameters(body, PARAMETERS[kind])
            if count is None:
                return False
            parameters += count
        elif kind == SACK:
            searches += 1
            if _covered(body) > on_the_way + SLACK:
                return False
        elif kind == FORWARD_TSN:
            searches += 1
            if len(body) > 4 + 4 * MAX_SKIPPED:
                return False
        at += (length + 3) & ~3
    return control <= MAX_CONTROL and searches <= MAX_SEARCHES and parameters <= MAX_PARAMETERS


def _parameters(body: bytes, at: int) -> int | None:
    """How many parameters there are; None when one has no length that leads on."""
    count = 0
    while at + 4 <= len(body):
        length = int.from_bytes(body[at + 2 : at + 4], "big")
        if length < 4:
            return None
        at += (length + 3) & ~3
        count += 1
    return count


def _covered(body: bytes) -> int:
    """How many numbers the gap blocks of an acknowledgement cover, each as often as it is."""
    blocks = int.from_bytes(body[8:10], "big")
    covered = 0
    for at in range(12, min(12 + 4 * blocks, len(body) - 3), 4):
        first = int.from_bytes(body[at : at + 2], "big")
        last = int.from_bytes(body[at + 2 : at + 4], "big")
        covered += max(0, last - first + 1)
    return covered
