"""An aiortc caller as a process of its own, for another network namespace.

`far_caller.py URL ADDRESS SECONDS` calls from ADDRESS once the server is ready, says a tone, and
prints one JSON object: what came back in SECONDS of the call, by RTP packets as they arrived,
before any jitter buffer; and for how long of that it or the server's worker stood still.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import numpy as np  # noqa: E402
from av import AudioCodecContext, CodecContext, Packet  # noqa: E402

from tests.fakes.audio import level_db, pitch_hz  # noqa: E402
from tests.fakes.caller import FakeCaller  # noqa: E402
from tests.support import standing_still  # noqa: E402

READY_DEADLINE_S = 90.0
SETTLE_S = 2.0
LOUD_DB = -40.0
FRAME_S = 0.02
# Losses leave frames silent here and there; so many in a row, and the bot has stood still.
STILL_FRAMES = 15


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet that came."""

    at_s: float
    sequence: int
    payload: bytes


def listen(caller: FakeCaller) -> list[Arrival]:
    """All packets that come from now on."""
    arrivals: list[Arrival] = []
    receiver = caller.pc.getReceivers()[0]
    handle = receiver._handle_rtp_packet

    async def note(packet: Any, arrival_time_ms: int) -> None:
        arrivals.append(Arrival(time.monotonic(), packet.sequence_number, packet.payload))
        await handle(packet, arrival_time_ms)

    receiver._handle_rtp_packet = note  # type: ignore[method-assign]  # packets, not frames
    return arrivals


def judge(arrivals: list[Arrival], seconds: float) -> dict[str, float]:
    """Shares of the packets that were due."""
    due = seconds * 50
    codec = CodecContext.create("libopus", "r")
    assert isinstance(codec, AudioCodecContext)
    codec.sample_rate = 48_000
    heard = []
    for arrival in arrivals:
        for frame in codec.decode(Packet(arrival.payload)):
            pcm = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
            scale = 32_767 if pcm.dtype.kind == "f" else 1
            heard.append((pcm.mean(axis=1) * scale).astype(np.int16))
    loud = [level_db(samples) > LOUD_DB for samples in heard]
    runs = [(sounds, len(list(run))) for sounds, run in itertools.groupby(loud)]
    still = sum(count for sounds, count in runs if not sounds and count >= STILL_FRAMES)
    first = arrivals[0].sequence
    numbers = {(arrival.sequence - first) & 0xFFFF for arrival in arrivals}
    return {
        "returned": (max(numbers) + 1) / due,
        "received": len(numbers) / due,
        "loud": sum(loud) / max(1, len(loud) - still),
        "pitch_hz": pitch_hz(np.concatenate(heard)),
    }


async def ready(url: str) -> None:
    """Wait until the server takes calls."""
    async with (
        asyncio.timeout(READY_DEADLINE_S),
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=5) as http,
    ):
        while True:
            try:
                if (await http.get("/health/ready")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)


async def given_up_s(url: str) -> float:
    """How long the server's worker did not run while it had something to send."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        workers = (await http.get("/health/ready")).json()["workers"]
    return sum(worker["missed_frames"] or 0 for worker in workers) * FRAME_S


async def main(url: str, address: str, seconds: float) -> None:
    """One call."""
    await ready(url)
    caller = FakeCaller(url, address=address)
    began = time.monotonic()
    try:
        await caller.dial()
        arrivals = listen(caller)
        await caller.until(lambda: caller.connected, "connected", READY_DEADLINE_S)
        connected_s = time.monotonic() - began
        await asyncio.sleep(SETTLE_S)
        before_s = await given_up_s(url)
        from_s = time.monotonic()
        with standing_still() as still:
            await asyncio.sleep(seconds)
        inside = [arrival for arrival in arrivals if from_s <= arrival.at_s < from_s + seconds]
        still_s = max(sum(still), await given_up_s(url) - before_s)
    finally:
        await caller.close()
    found = judge(inside, seconds) if inside else {}
    print(json.dumps({"connected_s": connected_s, "still_s": still_s, **found}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
