"""The peer that we are measured against: an aiortc bot in one process, as its examples are.

`stock_bot.py [ADDRESS]` prints its URL and serves until it is terminated; `job.Job` says what the
bot does. Offers ADDRESS only (127.0.0.1). Its tracks pace themselves as aiortc's own do.
"""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import random
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import aioice.ice  # noqa: E402
import aiortc.codecs  # noqa: E402
import numpy as np  # noqa: E402
import uvicorn  # noqa: E402
from aiortc import (  # noqa: E402
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.codecs.opus import OpusEncoder  # noqa: E402
from aiortc.mediastreams import MediaStreamError  # noqa: E402
from av import AudioFrame, AudioResampler, CodecContext  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from pydantic import BaseModel  # noqa: E402

from scripts.benchmarks import disturb, speech  # noqa: E402
from scripts.benchmarks.flush_log import FlushLog, Timings  # noqa: E402
from scripts.benchmarks.job import Job  # noqa: E402

HZ = 48_000
FRAME = 960
QUEUED_FRAMES = 50


class Offer(BaseModel):
    """An SDP offer."""

    sdp: str
    type: str
    request_data: dict[str, Any] | None = None


class SpeakerTrack(MediaStreamTrack):
    """Plays a queue of samples in real time, silence when it is empty."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.queue: deque[speech.Samples] = deque()
        self.endless = False
        self._speech = speech.continuous(HZ).reshape(-1, FRAME)
        self._at = random.randrange(len(self._speech))
        self._silence = self._speech[0] * 0
        self._began = 0.0
        self._timestamp = 0

    async def recv(self) -> AudioFrame:
        """The next 20 ms, when they are due (the pacing of aiortc's AudioStreamTrack)."""
        if self.readyState != "live":
            raise MediaStreamError
        if self._began:
            self._timestamp += FRAME
            await asyncio.sleep(self._began + self._timestamp / HZ - time.time())
        else:
            self._began = time.time()
        frame = AudioFrame(format="s16", layout="mono", samples=FRAME)
        frame.planes[0].update(self._next().tobytes())
        frame.pts = self._timestamp
        frame.sample_rate = HZ
        frame.time_base = fractions.Fraction(1, HZ)
        return frame

    def _next(self) -> speech.Samples:
        if self.endless:
            self._at = (self._at + 1) % len(self._speech)
            return np.asarray(self._speech[self._at])
        return self.queue.popleft() if self.queue else self._silence


async def hear(track: MediaStreamTrack) -> None:
    """Read what the caller says."""
    with contextlib.suppress(MediaStreamError):
        while True:
            await track.recv()


async def flush_at_random(track: SpeakerTrack, caller: int, log_directory: str) -> None:
    """Speak with 1 s queued, interrupt at a random time, be silent, speak again."""
    frames = list(speech.continuous(HZ).reshape(-1, FRAME))
    signal = list(speech.known_signal(HZ).reshape(-1, FRAME))
    rng = random.Random(caller)
    with FlushLog(Path(log_directory), caller) as log:
        while track.readyState == "live":
            at = 0
            until = time.monotonic() + rng.uniform(0.4, 1.0)
            while time.monotonic() < until:
                while len(track.queue) < QUEUED_FRAMES:
                    track.queue.append(frames[at % len(frames)])
                    at += 1
                await asyncio.sleep(0.02)
            timings = Timings(caller=caller, queued_ms=len(track.queue) * 20.0)
            timings.before()
            track.queue.clear()
            timings.after()
            await asyncio.sleep(0.25)
            timings.resumed()
            track.queue.extend(signal)
            log.write(timings)
            await asyncio.sleep(0.02 * len(signal) + 0.15)


def use_codec(settings: dict[str, Any]) -> None:
    """Let aiortc's encoder do other work than its own (bitrate, complexity, application)."""

    class Encoder(OpusEncoder):
        def __init__(self) -> None:
            super().__init__()
            layout = "mono" if settings["channels"] == 1 else "stereo"
            codec = CodecContext.create("libopus", "w")
            codec.bit_rate = settings["bitrate_bps"]
            codec.format = "s16"
            codec.layout = layout
            codec.options = {
                "application": settings["application"],
                "compression_level": str(settings["complexity"]),
            }
            codec.sample_rate = HZ
            codec.time_base = fractions.Fraction(1, HZ)
            self.codec = codec
            self.resampler = AudioResampler(format="s16", layout=layout, rate=HZ, frame_size=FRAME)

    aiortc.codecs.OpusEncoder = Encoder  # type: ignore[attr-defined]  # the hook


def build(job: Job) -> FastAPI:
    """The bot's application."""
    app = FastAPI()
    peers: set[RTCPeerConnection] = set()
    tasks: set[asyncio.Task[None]] = set()

    def keep(task: asyncio.Task[None]) -> None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def begin_to_disturb() -> None:
        if not peers:
            disturb.start_burning(job.burn)
            keep(asyncio.create_task(disturb.block_each_second(job.block_ms)))

    @app.post("/api/offer")
    async def offer(request: Offer) -> dict[str, str]:
        begin_to_disturb()
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peers.add(peer)
        if job.mode == "echo":
            peer.on("track", peer.addTrack)
        else:
            speaker = SpeakerTrack()
            speaker.endless = job.mode in ("talk", "both")
            peer.addTrack(speaker)
            if job.mode in ("hear", "both"):
                peer.on("track", lambda track: keep(asyncio.create_task(hear(track))))
            if job.mode == "flush":
                caller = int((request.request_data or {}).get("caller", 0))
                keep(asyncio.create_task(flush_at_random(speaker, caller, job.log)))
        await peer.setRemoteDescription(RTCSessionDescription(request.sdp, request.type))
        await peer.setLocalDescription(await peer.createAnswer())
        return {"sdp": peer.localDescription.sdp, "type": "answer", "pc_id": str(id(peer))}

    return app


async def main(address: str = "127.0.0.1") -> None:
    """Serve on a free port of that address."""
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [address]
    job = Job.from_environment()
    if job.codec:
        use_codec(job.codec)
    listener = socket.create_server((address, 0))
    config = uvicorn.Config(build(job), log_level="warning", lifespan="off")
    print(f"http://{address}:{listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:2]))
