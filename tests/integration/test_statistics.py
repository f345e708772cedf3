"""The numbers of a real call, as its bot and as an HTTP client see them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from engine.sdk import Bot, Session
from tests.fakes.audio import tone_source
from tests.fakes.bot import serving
from tests.fakes.caller import FakeCaller
from tests.fakes.wait import eventually

if TYPE_CHECKING:
    from tests.fakes.serve import ServeProcess


def ports(sdp: str) -> set[int]:
    """The ports of the candidates in an SDP."""
    return {int(line.split()[5]) for line in sdp.splitlines() if line.startswith("a=candidate:")}


@pytest.mark.usefixtures("patient_flushes")
async def test_a_call_is_told_in_numbers_to_its_bot_and_over_http(serve: ServeProcess) -> None:
    bot = Bot("counted", mic_hz=16_000, speaker_hz=16_000)

    @bot.session
    async def echo(session: Session) -> None:
        async for frame in session.audio():
            await session.play(frame)

    async with (
        serving(bot, serve.endpoint),
        FakeCaller(serve.url, tone_source(440)) as caller,
        serve.client() as client,
    ):
        await caller.hears(440)
        session = next(iter(bot.sessions.values()))
        seen: dict[str, Any] = {}
        flushes = 0

        async def reported() -> bool:
            nonlocal flushes
            # Of one that takes more than a second, on a machine that stands still, no time is told.
            if "flushLatencyMs" not in seen.get("backbeat-media", {}):
                await session.flush()
                flushes += 1
            seen.update(await session.stats())
            told = "flushLatencyMs" in seen["backbeat-media"]
            inbound = seen.get("inbound-audio", {})
            # What comes much too late is not heard.
            enough = inbound.get("packetsReceived", 0) >= 25
            return told and enough and "remote-inbound-audio" in seen

        await eventually(reported, "a report of the caller's")
        inbound, outbound = seen["inbound-audio"], seen["outbound-audio"]
        assert inbound["bytesReceived"] > 10 * inbound["packetsReceived"]
        assert outbound["packetsSent"] >= 25
        remote = seen["remote-inbound-audio"]
        assert 0 <= remote["fractionLost"] <= 1
        assert remote["ssrc"] == outbound["ssrc"]
        pair = seen["candidate-pair"]
        assert pair["nominated"]
        assert seen[pair["localCandidateId"]]["port"] in ports(caller.answers[-1])
        assert seen[pair["remoteCandidateId"]]["port"] in ports(caller.pc.localDescription.sdp)
        assert 0 < pair["currentRoundTripTime"] < 30
        media = seen["backbeat-media"]
        assert media["flushes"] == flushes
        assert 0 < media["flushLatencyMs"] < 60_000
        assert media["latenessMs"] <= media["maxLatenessMs"]
        assert all(math.isfinite(v) for v in media.values() if isinstance(v, int | float))

        (listed,) = (await client.get("/api/sessions")).json()
        assert listed["id"] == session.id
        for name in (session.id, caller.pc_id):
            response = await client.get(f"/api/sessions/{name}/stats")
            assert response.status_code == 200
            again = response.json()
            assert set(again) == set(seen)
            assert again["inbound-audio"]["packetsReceived"] >= inbound["packetsReceived"]
        gone = await client.get("/api/sessions/s_none/stats")
        assert gone.status_code == 404
        assert gone.json()["code"] == "session_not_found"
