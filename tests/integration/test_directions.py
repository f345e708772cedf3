"""Callers who only speak, only listen, hold the call, or change its codec while the bot speaks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from aiortc import RTCRtpSender

from engine.sdk import Bot, Session
from tests.fakes.audio import level_db, pitch_hz, tone, tone_source
from tests.fakes.bot import echo_bot, serving
from tests.fakes.caller import FakeCaller
from tests.fakes.wait import eventually
from tests.support import standing_still, until

if TYPE_CHECKING:
    from tests.fakes.audio import Samples
    from tests.fakes.serve import ServeProcess

HZ = 48_000


class Directed(FakeCaller):
    """A caller whose offers say who speaks."""

    direction = "sendrecv"

    async def _negotiate(self, *, restart: bool) -> None:
        self.pc.getTransceivers()[0].direction = self.direction
        await super()._negotiate(restart=restart)

    @property
    def frames(self) -> list[Samples]:
        """What was heard, packet by packet."""
        return list(self._frames)

    async def turn(self, direction: str) -> None:
        """Offer anew, in that direction."""
        self.direction = direction
        await self.renegotiate()


class SendOnly(Directed):
    direction = "sendonly"


class ReceiveOnly(Directed):
    direction = "recvonly"


class Inactive(Directed):
    direction = "inactive"


def speaking_bot(played: list[Any]) -> Bot:
    """A bot that says 2.5 s, more than its ring holds, and writes down when it has."""
    bot = Bot("speaker")

    @bot.session
    async def speak(session: Session) -> None:
        async with asyncio.timeout(30):
            played.append(await session.play(tone(500, 5 * HZ // 2)))
            played.append(await session.mark("behind it"))
        await session.wait_closed()

    return bot


@pytest.mark.parametrize("kind", [SendOnly, Inactive])
async def test_a_bot_speaks_on_to_a_caller_who_does_not_listen(
    serve: ServeProcess, kind: type[Directed]
) -> None:
    played: list[Any] = []
    async with (
        serving(speaking_bot(played), serve.endpoint) as bot,
        kind(serve.url) as caller,
    ):
        assert f"a={'recvonly' if kind is SendOnly else 'inactive'}" in caller.answers[0]
        await until(lambda: len(played) == 2, what="the end of the speech")
        session = next(iter(bot.sessions.values()))
        assert session.position == 5 * HZ // 2
        seen = await session.stats()
        assert seen["outbound-audio"]["packetsSent"] == 0
        if kind is SendOnly:
            report: dict[str, Any] = {}

            async def reported() -> bool:
                report.update(await caller.pc.getTransceivers()[0].sender.getStats())
                return any(name.startswith("remote-inbound-rtp") for name in report)

            await eventually(reported, "our report of how the caller arrives")

            async def heard() -> bool:
                received = (await session.stats()).get("inbound-audio", {})
                return int(received.get("packetsReceived", 0)) > 50

            await eventually(heard, "a second of the caller")


async def test_a_caller_who_only_listens_hears_the_bot(serve: ServeProcess) -> None:
    played: list[Any] = []
    async with (
        serving(speaking_bot(played), serve.endpoint),
        ReceiveOnly(serve.url) as caller,
    ):
        await caller.hears(500)
        await until(lambda: len(played) == 2, what="the end of the speech")


async def test_a_hold_is_silent_both_ways_and_ends_when_the_caller_says_so(
    serve: ServeProcess,
) -> None:
    async with (
        serving(echo_bot(), serve.endpoint) as bot,
        Directed(serve.url, tone_source(440)) as caller,
    ):
        await caller.hears(440)
        session = next(iter(bot.sessions.values()))
        for direction in ("inactive", "sendonly"):
            await caller.turn(direction)
            before = (await session.stats())["outbound-audio"]["packetsSent"]
            position = session.position
            await until(lambda since=position: session.position > since + HZ)  # type: ignore[misc]
            assert (await session.stats())["outbound-audio"]["packetsSent"] == before
            await caller.turn("sendrecv")
            caller.forget()
            await caller.hears(440)


async def test_another_codec_while_the_bot_speaks_is_no_gap(serve: ServeProcess) -> None:
    bot = Bot("speaker")

    @bot.session
    async def speak(session: Session) -> None:
        while not session.closed:
            await session.play(tone(500, HZ))  # 500 whole waves: no seam

    with standing_still() as still:
        async with (
            serving(bot, serve.endpoint),
            Directed(serve.url) as caller,
        ):
            await change_codecs(caller, still)


async def change_codecs(caller: Directed, still: list[float]) -> None:
    """To each and back: the tone goes on, but for the time in which its bot stood `still`."""
    await caller.hears(500)
    codecs = RTCRtpSender.getCapabilities("audio").codecs
    sources = set()
    for name in ("PCMU", "PCMA", "opus"):
        caller.pc.getTransceivers()[0].setCodecPreferences(
            [codec for codec in codecs if codec.mimeType == f"audio/{name}"]
        )
        caller.forget()
        await caller.renegotiate()
        answer = caller.answers[-1]
        assert f" {name}/" in answer
        sources |= {line for line in answer.splitlines() if line.startswith("a=ssrc:")}
        # aiortc gives what it decodes at the codec's own rate.
        hz = HZ if name == "opus" else 8_000

        def heard(size: int = hz // 50) -> bool:
            """Two seconds more in that codec, which end in the tone."""
            frames = caller.frames
            last = frames[-25:]
            return (
                sum(len(frame) == size for frame in frames) >= 100
                and {len(frame) for frame in last} == {size}
                and abs(pitch_hz(np.concatenate(last), 50 * size) - 500) < 5
            )

        await caller.until(heard, f"{name}, two seconds more")
        most = 1 + 50 * sum(still)
        assert sum(level_db(frame) < -30 for frame in caller.frames) <= most
    assert len(sources) == 2, "PCMU and PCMA have one clock"
