"""What WebSockets must bear, at both of our ends: the categories of the Autobahn test suite.

Our real connections over the loopback, against a peer that writes exact bytes; no engine. Each
test is a category and runs all of its cases; a failure names those that were not as they must be.
`-rP` shows how many there were.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.fakes import utf8_cases, websocket_cases
from tests.fakes.websocket_cases import MAX_BYTES, NORMAL, TOO_LARGE, Case
from tests.fakes.websocket_echo import CallerEcho
from tests.fakes.websocket_raw import (
    BINARY,
    CLOSE,
    MASK,
    PONG,
    TEXT,
    Got,
    RawPeer,
    answering,
    calling,
    masked_by,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.fakes.websocket_echo import Echo

# At once; the port for callers has a bound of its own.
TOGETHER = 16
CATEGORIES = [
    pytest.param(websocket_cases.framing, id="1-framing"),
    pytest.param(websocket_cases.pings, id="2-pings"),
    pytest.param(websocket_cases.reserved_bits, id="3-reserved-bits"),
    pytest.param(websocket_cases.opcodes, id="4-opcodes"),
    pytest.param(websocket_cases.fragmentation, id="5-fragmentation"),
    pytest.param(utf8_cases.utf8, id="6-utf8"),
    pytest.param(websocket_cases.close_handling, id="7-close"),
    pytest.param(websocket_cases.limits, id="9-limits"),
    pytest.param(websocket_cases.fragmented_by_others, id="10-auto-fragmentation"),
]


@asynccontextmanager
async def far_end(role: str, echo: CallerEcho, token: str) -> AsyncIterator[tuple[RawPeer, Echo]]:
    """The peer of one of our ends, and that end."""
    if role == "caller":
        async with calling(echo, token) as pair:
            yield pair
    else:
        async with answering(max_message_bytes=MAX_BYTES) as pair:
            yield pair


async def judge(case: Case, peer: RawPeer, leg: Echo) -> str:
    """What is not as the case says; empty when all is."""
    writing = asyncio.create_task(write(case, peer), name="the peer writes")
    try:
        fault = await read(case, peer)
    except TimeoutError:
        fault = "no answer"
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await peer.close()
        await leg.over()
    if fault:
        return fault
    if len(leg.ends) != 1:
        return f"it has ended {len(leg.ends)} times"
    heard = [data if isinstance(data, bytes) else data.encode() for data in leg.messages]
    wanted = [got.data for got in case.answers if got.opcode in (TEXT, BINARY)]
    return "" if heard == wanted or case.code != NORMAL else f"{len(heard)} messages were heard"


async def read(case: Case, peer: RawPeer) -> str:
    """What is not as it must be of what comes."""
    got: list[Got] = []
    wanted = list(case.answers)
    polite = case.code == NORMAL and case.says_close and case.close is None and not case.no_close
    if polite and not wanted:
        await say_goodbye(peer)
    while (frame := await peer.read()) is not None and frame.opcode != CLOSE:
        got.append(frame)
        if polite and len(got) == len(wanted):
            await say_goodbye(peer)
    # Pongs keep no place among messages, RFC 6455 section 5.5.3. Who ends it in the same breath
    # may get no answer to what it said before.
    got.sort(key=is_pong)
    wanted.sort(key=is_pong)
    whole = polite or case.no_close
    if got != wanted if whole else any(frame not in wanted for frame in got):
        return f"{len(got)} of {len(wanted)} frames, the last {str(got[-1:])[:80]}"
    if case.no_close:
        return "" if frame is None else f"a close frame came: {frame.data!r}"
    if frame is None:
        return "it ended without a close frame"
    if case.close is not None and frame.data != case.close:
        return f"the close says {frame.data!r}"
    if case.close is None and int.from_bytes(frame.data[:2]) != case.code:
        return f"the code is {int.from_bytes(frame.data[:2])}"
    if peer.masks and await peer.read() is not None:
        return "more came behind the close"
    return ""


async def write(case: Case, peer: RawPeer) -> None:
    """All that the case has its peer write."""
    for step in case.steps:
        await peer.send(step(peer), case.pieces_of)
    if case.no_close:
        peer.finish()


def is_pong(frame: Got) -> bool:
    """Whether it is one."""
    return frame.opcode == PONG


async def say_goodbye(peer: RawPeer) -> None:
    """Close it."""
    await peer.send(peer.frame(CLOSE, NORMAL.to_bytes(2)))


@pytest.mark.parametrize("role", ["caller", "dialled"])
@pytest.mark.parametrize("category", CATEGORIES)
async def test_every_case_of_a_category_goes_as_it_must(
    category: Callable[[], list[Case]], role: str
) -> None:
    cases = category()
    assert len({case.name for case in cases}) == len(cases)
    turns = asyncio.Semaphore(TOGETHER)
    faults: dict[str, str] = {}

    async def run(case: Case, echo: CallerEcho) -> None:
        async with turns, far_end(role, echo, case.name) as (peer, leg):
            fault = await judge(case, peer, leg)
        if fault:
            faults[case.name] = fault

    async with CallerEcho() as echo, asyncio.TaskGroup() as group:
        for case in cases:
            group.create_task(run(case, echo), name=case.name)
    print(f"{role}: {len(cases) - len(faults)} of {len(cases)} cases passed")
    assert faults == {}


@pytest.mark.parametrize("role", ["caller", "dialled"])
async def test_what_looks_like_a_frame_within_a_frame_is_none(role: str) -> None:
    async with CallerEcho() as echo, far_end(role, echo, "within") as (peer, _):
        inner = peer.frame(BINARY, bytes(300))
        await peer.send(peer.frame(BINARY, b"around", size=6 + len(inner)))
        await peer.send(inner)
        key = MASK[2:] + MASK[:2]
        wanted = b"around" + (masked_by(key, inner) if peer.masks else inner)
        assert await peer.read() == (BINARY, wanted, True, 0)
        await say_goodbye(peer)
        assert await peer.read() == (CLOSE, NORMAL.to_bytes(2), True, 0)


async def test_a_bound_that_a_bot_has_set_is_the_bound() -> None:
    for size, code in ((1_000, NORMAL), (1_001, TOO_LARGE)):
        async with answering(max_message_bytes=1_000) as (peer, leg):
            await peer.send(peer.frame(BINARY, bytes(size)))
            got = await peer.read()
            if code == NORMAL:
                assert got == (BINARY, bytes(size), True, 0)
            else:
                assert got is not None
                assert (got.opcode, got.data[:2]) == (CLOSE, code.to_bytes(2))
        assert len(leg.messages) == (code == NORMAL)
