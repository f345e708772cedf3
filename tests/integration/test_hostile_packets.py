"""A live call while its worker's UDP port is flooded with nonsense: it is heard all along.

Strangers send from another socket; what seems to come from the caller leaves through the
caller's own. The nonsense is seeded, so that what fails can be sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import socket
import struct
from typing import TYPE_CHECKING, Any

from aioice import stun

from tests.fakes.audio import tone_source
from tests.fakes.caller import FakeCaller
from tests.fakes.serve import ServeProcess
from tests.fakes.wait import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE = "127.0.0.1"
EARLY_CHECKS = 100_000
AUTHENTIC_CHECKS, STRANGERS = 10_000, 200
BATCH = 50
SEED = 20_261_121


def place(sdp: str) -> tuple[str, int, str]:
    """Address, port and ICE user name of an answer."""
    candidate = re.search(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+)", sdp)
    name = re.search(r"a=ice-ufrag:(\S+)", sdp)
    assert candidate is not None
    assert name is not None
    return candidate.group(1), int(candidate.group(2)), name.group(1)


def check(name: str, rng: random.Random, *, key: bytes | None = None) -> bytes:
    """A connectivity check for `name`, signed with a wrong key or not at all."""
    message = stun.Message(
        stun.Method.BINDING, stun.Class.REQUEST, transaction_id=rng.randbytes(12)
    )
    message.attributes["USERNAME"] = f"{name}:nobody"
    message.attributes["PRIORITY"] = 1
    message.attributes["ICE-CONTROLLING"] = 7
    if key is not None:
        message.add_message_integrity(key)
    return bytes(message)


def misshapen(name: str, rng: random.Random) -> bytes:
    """A check with one attribute of a length that it cannot have."""
    kind = rng.choice([0x0001, 0x0006, 0x0009, 0x0020, 0x0024, 0x8028, 0x8029, 0x802A])
    value = rng.randbytes(rng.randrange(9))
    tail = struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)
    whole = check(name, rng) + tail
    return stun.set_body_length(whole, len(whole) - 20)


def nonsense(name: str, rng: random.Random) -> Iterator[bytes]:
    """Datagrams of every kind that is none of ours."""
    rtp = struct.pack("!BBHII", 0x80, 111, 7, 960, 0xDEADBEEF) + rng.randbytes(80)
    report = struct.pack("!BBHI", 0x80, 200, 6, 0xDEADBEEF) + rng.randbytes(24)
    dtls = b"\x16\xfe\xfd" + bytes(8) + b"\x00\x30" + rng.randbytes(48)
    whole = [rtp, report, dtls, check(name, rng), check(name, rng, key=b"wrong")]
    yield b""
    yield from (bytes([first]) for first in range(256))
    for data in whole:  # truncated everywhere
        yield from (data[:length] for length in range(len(data)))
    for _ in range(500):
        yield rng.randbytes(rng.choice([1, 2, 11, 12, 13, 20, 60, 172, 1_400, 9_000]))
        first = rng.choice([0, 1, 20, 22, 23, 63, 64, 127, 128, 144, 191, 192, 255])
        yield bytes([first]) + rng.randbytes(rng.randrange(200))
        yield misshapen(name, rng)
        broken = bytearray(rng.choice(whole))
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        yield bytes(broken)


def early_checks(name: str, rng: random.Random) -> Iterator[bytes]:
    """Checks of as many transactions; each tenth has only a header."""
    # Signed once and not each: no signature is right, and making them takes longer than the flood.
    signed = [check(name, rng, key=key) for key in (None, b"wrong", b"")]
    for number in range(EARLY_CHECKS):
        transaction = rng.randbytes(12)
        if number % 10:
            one = rng.choice(signed)
            yield one[:8] + transaction + one[20:]
        else:
            yield b"\0\1\0\0" + rng.randbytes(4) + transaction


async def pour(send: Any, datagrams: Iterator[bytes]) -> int:
    """Send all of them; the loop turns between batches, as the caller lives on it too."""
    sent = 0
    for data in datagrams:
        send(data)
        sent += 1
        if sent % BATCH == 0:
            await asyncio.to_thread(lambda: None)
    return sent


async def stats_of(serve: ServeProcess, caller: FakeCaller) -> dict[str, Any]:
    async with serve.client() as client:
        response = await client.get(f"/api/sessions/{caller.pc_id}/stats")
        assert response.status_code == 200, response.text
        report: dict[str, Any] = response.json()
        return report


async def still_well(serve: ServeProcess, caller: FakeCaller, workers: dict[str, int]) -> None:
    """The call is heard from now on, nobody died, and another call can be made."""
    caller.forget()
    await caller.hears(440)
    assert caller.connected
    status, body = await serve.health()
    assert status == 200, body
    assert await serve.workers() == workers
    async with FakeCaller(serve.url, tone_source(700)) as another:
        await another.hears(700)
    assert "Traceback" not in serve.log()


async def pour_with_password(caller: FakeCaller) -> None:
    """Checks that are authentic, from more addresses than a peer may have."""
    host, port, name = place(caller.answers[-1])
    key = re.search(r"a=ice-pwd:(\S+)", caller.answers[-1])
    peer = re.search(r"a=ice-ufrag:(\S+)", caller.pc.localDescription.sdp)
    assert key is not None
    assert peer is not None
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = f"{name}:{peer.group(1)}"
    message.attributes["PRIORITY"] = 1
    message.attributes["ICE-CONTROLLING"] = 7
    message.add_message_integrity(key.group(1).encode())
    with contextlib.ExitStack() as stack:
        strangers = itertools.cycle(
            [
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                for _ in range(STRANGERS)
            ]
        )

        def send(data: bytes) -> None:
            next(strangers).sendto(data, (host, port))

        await pour(send, itertools.repeat(bytes(message), AUTHENTIC_CHECKS))


async def test_a_flood_of_early_checks_and_nonsense_leaves_a_call_alone(runtime_dir: Path) -> None:
    rng = random.Random(SEED)
    async with ServeProcess(runtime_dir, "--udp-port", "0") as serve:
        await serve.settled()
        workers = await serve.workers()
        async with FakeCaller(serve.url, tone_source(440)) as caller:
            await caller.hears(440)
            host, port, name = place(caller.answers[-1])
            early = early_checks(name, rng)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.setblocking(False)
                stranger.connect((host, port))

                def send(data: bytes) -> None:
                    try:
                        stranger.send(data)
                    except OSError:  # too long, or its own buffer is full
                        pass

                await pour(send, nonsense(name, rng))
                caller.forget()
                assert await pour(send, early) == EARLY_CHECKS
            # All of the flood lies behind us: the tone came through it.
            await caller.hears(440, seconds=1.0)
            caller.forget()
            await pour_with_password(caller)
            await caller.hears(440, seconds=1.0)
            await still_well(serve, caller, workers)
            report = await stats_of(serve, caller)
    dropped = report["backbeat-worker"]["datagramsDropped"]
    assert dropped["media_of_nobody"] > 0
    assert dropped["handshake_of_nobody"] > 0
    assert dropped["unknown_kind"] > 0
    assert dropped["malformed"] > 0
    assert dropped["leg_too_busy"] > 0
    assert report["backbeat-media"]["packetsRejected"] == 0, "none of it was from the caller"


async def test_nonsense_from_the_callers_own_address_is_counted_and_the_call_goes_on(
    runtime_dir: Path,
) -> None:
    rng = random.Random(SEED)
    async with ServeProcess(runtime_dir, "--udp-port", "0") as serve:
        await serve.settled()
        workers = await serve.workers()
        async with FakeCaller(serve.url, tone_source(440)) as caller:
            await caller.hears(440)
            _, _, name = place(caller.answers[-1])
            dtls = caller.pc.getTransceivers()[0].sender.transport
            pair: Any = dtls.transport._connection._nominated[1]
            transport, address = pair.protocol.transport, pair.remote_addr
            replayed: list[bytes] = []

            def send(data: bytes) -> None:
                transport.sendto(data, address)

            def record(data: bytes, to: Any) -> None:
                replayed.append(bytes(data))
                keep(data, to)

            # What the caller itself sends, once more: SRTP's replay list refuses it.
            keep, transport.sendto = transport.sendto, record
            try:
                await caller.until(lambda: len(replayed) >= 50, "50 packets")
            finally:
                transport.sendto = keep

            async def counted() -> bool:
                # Again, if the worker stood still and its socket could not hold them all.
                await pour(send, iter(replayed * 4))
                await pour(send, (data for data in nonsense(name, rng) if len(data) < 2_000))
                media = (await stats_of(serve, caller))["backbeat-media"]
                return bool(media["packetsRejected"] > 500 and media["packetsMalformed"] > 5)

            await eventually(counted, "the forged packets are counted")
            await still_well(serve, caller, workers)
