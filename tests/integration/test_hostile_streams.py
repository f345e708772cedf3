"""Strangers on a worker's media socket cannot hear, silence or stop a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq
import zmq.asyncio

from ipc.media_stream import HEADER, Kind, pack
from tests.fakes.audio import tone_source
from tests.fakes.bot import echo_bot, serving
from tests.fakes.caller import FakeCaller

if TYPE_CHECKING:
    from tests.fakes.serve import ServeProcess

NONSENSE = [
    b"",
    b"\x00",
    b"\xff" * 31,
    b"\xff" * 32,
    b"\x01" * 5_000,
    HEADER.pack(2, Kind.EPOCH, 0, 1, 0, 0, 0),
    pack(Kind.EPOCH, 1),
    pack(Kind.EPOCH, 1, payload=b"0" * 32),
    pack(Kind.EPOCH, 1, payload="ä€".encode()),
    pack(Kind.FLUSH, 1),
    pack(Kind.PCM, 1, cursor=0, payload=bytes(1_920)),
    pack(Kind.PCM, 2**32 - 1, cursor=2**64 - 1, payload=b"odd"),
    pack(Kind.CREDIT, 1, cursor=2**64 - 1),
    pack(Kind.END, 1),
]


async def test_strangers_on_the_media_socket_are_not_heard(serve: ServeProcess) -> None:
    async with (
        serving(echo_bot(media="zmq"), serve.endpoint),
        FakeCaller(serve.url, tone_source(440)) as caller,
    ):
        await caller.hears(440)
        (worker,) = await serve.workers()
        context = zmq.asyncio.Context()
        stranger = context.socket(zmq.DEALER)
        stranger.setsockopt(zmq.LINGER, 0)
        try:
            stranger.connect(f"{serve.endpoint.removesuffix('bots')}media-{worker}")
            for _ in range(20):
                for frame in NONSENSE:
                    await stranger.send(frame)
            await stranger.send_multipart([b"two", b"frames"])
            caller.forget()
            await caller.hears(440, db=-12, within_db=1.0, seconds=1.0)
            assert not await stranger.poll(0)
            async with FakeCaller(serve.url, tone_source(900)) as other:
                await other.hears(900)
        finally:
            stranger.close(0)
            context.term()


async def test_a_bot_cannot_break_its_own_worker(serve: ServeProcess) -> None:
    """What it writes into its stream out of turn is refused; other calls go on."""
    bot = echo_bot(media="zmq")
    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, tone_source(440)) as caller,
        FakeCaller(serve.url, tone_source(900)) as other,
    ):
        await caller.hears(440)
        await other.hears(900)
        media = next(iter(bot.sessions.values()))._rings
        link = media._link  # type: ignore[attr-defined]  # of a stream, which it is
        for cursor in (0, 2**63, 2**64 - 1):
            for payload in (b"", b"odd", bytes(200_000)):
                link.send(pack(Kind.PCM, media._stream, cursor=cursor, payload=payload))  # type: ignore[attr-defined]
        for kind in (Kind.FLUSH, Kind.END, Kind.CREDIT, Kind.MESSAGE):
            link.send(pack(kind, media._stream, cursor=2**64 - 1))  # type: ignore[attr-defined]
        other.forget()
        await other.hears(900)
        caller.forget()
        await caller.hears(440)
