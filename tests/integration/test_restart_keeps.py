"""What a caller who comes back on a new connection finds as it was."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from engine.sdk import Bot, Session
from tests.fakes.audio import HZ, silence_source, tone, tone_source
from tests.fakes.bot import serving
from tests.fakes.caller import FakeCaller
from tests.fakes.wait import eventually
from tests.support import until

if TYPE_CHECKING:
    from tests.fakes.serve import ServeProcess

COUNTERS = {
    "inbound-audio": ("packetsReceived", "bytesReceived"),
    "outbound-audio": ("packetsSent", "bytesSent"),
    "data-channel": ("messagesSent", "messagesReceived"),
    "backbeat-media": ("pings", "flushes", "underruns"),
}


async def counted(session: Session) -> dict[str, int]:
    """The counters of a session that are there now."""
    found = await session.stats()
    return {
        f"{record} {name}": found[record][name]
        for record, names in COUNTERS.items()
        if record in found
        for name in names
    }


async def test_mute_speech_and_counters_outlive_a_connection(serve: ServeProcess) -> None:
    bot = Bot("keeper")
    sessions: list[Session] = []
    tracks: list[tuple[int, bool]] = []
    marks: list[str] = []

    @bot.session
    async def keep(session: Session) -> None:
        session.on("track", lambda index, enabled: tracks.append((index, enabled)))
        session.on("mark", lambda mark: marks.append(f"{mark.name} {mark.played}"))
        session.on("message", lambda _data: session.send("heard"))
        sessions.append(session)
        await session.wait_closed()

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, tone_source(700)) as caller,
    ):
        await until(lambda: bool(sessions), what="the session")
        session = sessions[0]
        status = {"type": "trackStatus", "receiver_index": 0, "enabled": False}
        caller.send({"type": "signalling", "message": status})
        caller.send("ping: 1")
        caller.send({"type": "hello"})
        await caller.until(lambda: "heard" in caller.messages, "the answer")
        await caller.until(lambda: len(caller.heard()) > HZ, "a second")
        before = await counted(session)
        assert before["backbeat-media pings"] == 1
        assert before["outbound-audio packetsSent"] > 40
        playing = asyncio.create_task(session.play(tone(440, 3 * HZ), mark="end"))
        await caller.hears(440)
        await caller.connect(restart=True)
        caller.forget()
        after = await counted(session)
        assert {name: value for name, value in after.items() if value < before.get(name, 0)} == {}
        await caller.hears(440, seconds=0.3)
        played = await playing
        assert played.end == 3 * HZ
        await until(lambda: bool(marks), what="the mark")
        assert marks == ["end True"]
        assert session.position == 3 * HZ, "nothing of it was cut"
        # A record may be absent until the new connection's first packet.
        least, later, received = before | after, {}, "inbound-audio packetsReceived"

        async def all_there() -> bool:
            later.update(await counted(session))
            return least.keys() <= later.keys() and later[received] > least.get(received, 0)

        await eventually(all_there, "packets of the new connection")
        assert {name: value for name, value in later.items() if value < least.get(name, 0)} == {}
        # The caller does not say again that the microphone is off.
        assert tracks == [(0, False)]


async def test_what_is_said_to_a_caller_who_is_lost_waits_for_the_return(
    serve: ServeProcess,
) -> None:
    bot = Bot("patient")
    sessions: list[Session] = []
    lost = asyncio.Event()

    @bot.session
    async def wait(session: Session) -> None:
        session.on("disconnected", lambda _reason: lost.set())
        sessions.append(session)
        await session.wait_closed()

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, silence_source()) as caller,
    ):
        await until(lambda: bool(sessions), what="the session")
        caller.vanish()
        async with asyncio.timeout(30):
            await lost.wait()
        said: list[Any] = [{"n": number} for number in range(10)]
        for message in said:
            sessions[0].send(message)
        await sessions[0].stats()  # they have reached the worker
        await caller.connect(restart=True)
        sessions[0].send("last")
        await caller.until(lambda: "last" in caller.messages, "the messages")
        assert caller.messages == [*said, "last"]
        assert (await sessions[0].stats())["backbeat-media"]["droppedMessages"] == 0
