"""A peer that breaks the protocol gets a code, a counter goes up, and nothing else happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgpack
import pytest

from ipc.messages import Beat, Failure, Goodbye, Ok
from ipc.wire import encode
from tests.support import DEADLINE_S, until

if TYPE_CHECKING:
    from tests.unit.ipc.channel_sides import Raw, Side

GARBAGE = [
    ((b"",), "malformed_message"),
    ((b"\xc1garbage",), "malformed_message"),
    ((msgpack.packb([1]),), "malformed_message"),
    ((encode(Ok()), encode(Ok())), "malformed_message"),
    ((msgpack.packb({"v": 9, "t": "ok"}),), "version_mismatch"),
    ((msgpack.packb({"v": 1, "t": "teleport"}),), "unknown_message"),
    ((msgpack.packb({"v": 1, "t": "beat"}),), "malformed_message"),
    ((b"\0" * (2 << 20),), "message_too_large"),
]


@pytest.mark.parametrize(("frames", "code"), GARBAGE)
async def test_what_is_no_message_is_answered_with_a_code_and_counted(
    server: Side, raw: Raw, frames: tuple[bytes, ...], code: str
) -> None:
    raw.send(*frames)

    assert await raw.refusal() == (code, None)
    assert server.channel.refused == {code: 1}

    raw.send(encode(Beat(number=1), request=3))
    assert await raw.answer() == (Ok(), 3), "the peer stays usable"


async def test_an_unreadable_request_is_refused_by_its_number(server: Side, raw: Raw) -> None:
    raw.send(msgpack.packb({"v": 1, "t": "teleport", "id": 77}))

    assert await raw.refusal() == ("unknown_message", 77)


async def test_a_failure_is_never_answered_with_a_failure(server: Side, raw: Raw) -> None:
    raw.send(msgpack.packb({"v": 1, "t": "failure", "code": 5}))
    raw.send(encode(Failure(code="x", message="y")))
    raw.send(encode(Failure(code="x", message="y"), reply_to=1))
    raw.send(encode(Beat(number=1), request=4))

    assert await raw.answer() == (Ok(), 4), "the first answer is the one to the request"
    assert server.channel.refused == {"malformed_message": 1, "late_reply": 1}


async def test_only_the_peer_that_was_asked_can_answer(
    server: Side, client: Side, raw: Raw
) -> None:
    client.hold.clear()
    client.channel.notify(Goodbye())
    await until(lambda: server.peer)
    asked = asyncio.create_task(
        server.channel.request(Beat(number=1), to=server.peer, timeout_s=DEADLINE_S)
    )
    await until(lambda: client.requests)

    for number in range(1, 10):
        raw.send(encode(Failure(code="forged", message=""), reply_to=number))
    await until(lambda: server.channel.refused["late_reply"] == 9)
    client.hold.set()

    assert await asked == Ok()


async def test_a_flood_of_nonsense_is_counted_whole_and_answered_now_and_then(
    server: Side, raw: Raw
) -> None:
    for number in range(20):
        for _ in range(50):
            raw.send(b"\xc1")
        counted = 50 * (number + 1)
        await until(lambda: server.channel.refused["malformed_message"] == counted)  # noqa: B023
    raw.send(encode(Beat(number=1), request=5))

    answers = [await raw.answer()]
    while answers[-1] != (Ok(), 5):
        answers.append(await raw.answer())
    assert 1 < len(answers) < 1_000, "the flood was not answered piece by piece"
