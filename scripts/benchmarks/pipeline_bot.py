"""A bot of documented transports and pipelines, whoever's classes they are: ours or Pipecat's.

`pipecat_bot.py` and `transport_bot.py` give it theirs, so that both do the same work. `job.Job`
says which: talk, hear, both, echo or flush. Speech is queued about 1 s ahead of the pipeline, as
a speech service would.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI

from scripts.benchmarks import departures, disturb, speech
from scripts.benchmarks.flush_log import FlushLog, Timings
from scripts.benchmarks.job import Job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# The documented defaults.
SPEAKER_HZ = 24_000
MIC_HZ = 16_000
FRAME = SPEAKER_HZ // 50
AHEAD_S = 1.0
DOOR_DEADLINE_S = 10.0
WEBRTC_EVENTS = ("on_client_connected", "on_client_disconnected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """The classes of one framework, by what they are."""

    frames: Any
    """The module of frames."""
    processor: Any
    pipeline: Any
    task: Any
    runner: Any
    pipeline_params: Any
    transport_params: Any
    transport: Any
    handler: Any
    request: Any
    patch: Any = None
    """With `candidate`: what brings a caller's candidates after the offer."""
    candidate: Any = None


def echo(kit: Kit) -> Any:
    """A processor that plays back what it hears."""
    base: Any = kit.processor

    class Echo(base):  # type: ignore[misc]  # known at run time
        async def process_frame(self, frame: Any, direction: Any) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, kit.frames.InputAudioRawFrame):
                frame = kit.frames.OutputAudioRawFrame(
                    frame.audio, frame.sample_rate, frame.num_channels
                )
            await self.push_frame(frame, direction)

    return Echo()


def door(kit: Kit) -> Any:
    """The last processor before the output: it notes when an interruption goes through."""
    base: Any = kit.processor

    class Door(base):  # type: ignore[misc]  # known at run time
        def __init__(self) -> None:
            super().__init__()
            self.passed = asyncio.Event()
            self.passed_ns = 0

        async def process_frame(self, frame: Any, direction: Any) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, kit.frames.InterruptionFrame) and not self.passed.is_set():
                self.passed_ns = time.monotonic_ns()
                self.passed.set()
            await self.push_frame(frame, direction)

    return Door()


def transport_params(kit: Kit, job: Job, **more: Any) -> Any:
    """The parameters of a call: what is not used is off, rates are the documented defaults."""
    return kit.transport_params(
        audio_in_enabled=job.mode in ("hear", "both", "echo"),
        audio_out_enabled=True,
        audio_in_sample_rate=MIC_HZ,
        audio_out_sample_rate=SPEAKER_HZ,
        **more,
    )


class Call:
    """One caller's pipeline."""

    def __init__(
        self,
        kit: Kit,
        transport: Any,
        job: Job,
        caller: int,
        *,
        events: tuple[str, str] = WEBRTC_EVENTS,
        piece_ms: int = 20,
    ) -> None:
        """`events` tell that the other side is there and has gone; speech comes in pieces."""
        self._kit = kit
        self._job = job
        self._caller = caller
        self._piece_ms = piece_ms
        self.connected = asyncio.Event()
        self._gone = asyncio.Event()
        self._door = door(kit) if job.mode == "flush" else None
        middle = [echo(kit)] if job.mode == "echo" else [self._door] if self._door else []
        self._task = kit.task(
            kit.pipeline([transport.input(), *middle, transport.output()]),
            params=kit.pipeline_params(
                audio_in_sample_rate=MIC_HZ, audio_out_sample_rate=SPEAKER_HZ
            ),
            idle_timeout_secs=None,
        )
        came, left = events
        transport.add_event_handler(came, self._came)
        transport.add_event_handler(left, self._left)

    async def _came(self, _transport: Any, _client: Any) -> None:
        self.connected.set()

    async def _left(self, _transport: Any, _client: Any) -> None:
        if self._job.log:
            departures.note(Path(self._job.log), self._caller)
        self._gone.set()
        await self._task.cancel()

    async def run(self) -> None:
        """Serve the caller until he leaves."""
        doing = {"talk": self._talk, "both": self._talk, "flush": self._flush_at_random}
        speaking = None
        if (speak := doing.get(self._job.mode)) is not None:
            speaking = asyncio.create_task(speak())
        try:
            await self._kit.runner(handle_sigint=False).run(self._task)
        finally:
            if speaking is not None:
                speaking.cancel()

    async def _talk(self) -> None:
        await self.connected.wait()
        samples, size = speech.continuous(SPEAKER_HZ), SPEAKER_HZ * self._piece_ms // 1000
        pieces = samples[: len(samples) // size * size].reshape(-1, size)
        at = random.randrange(len(pieces))
        began = time.monotonic()
        queued_s = 0.0
        while not self._gone.is_set():
            while queued_s < time.monotonic() - began + AHEAD_S:
                pcm = pieces[at % len(pieces)].tobytes()
                frame = self._kit.frames.OutputAudioRawFrame(pcm, SPEAKER_HZ, 1)
                await self._task.queue_frame(frame)
                at += 1
                queued_s += self._piece_ms / 1000
            await asyncio.sleep(0.1)

    async def _flush_at_random(self) -> None:
        """Speak with 1 s queued, interrupt at a random time, be silent, speak again."""
        await self.connected.wait()
        pieces = speech.continuous(SPEAKER_HZ).reshape(-1, FRAME)
        signal = speech.known_signal(SPEAKER_HZ).reshape(-1, FRAME)
        rng = random.Random(self._caller)
        with FlushLog(Path(self._job.log), self._caller) as log:
            while not self._gone.is_set():
                began, count = time.monotonic(), 0
                until = began + rng.uniform(0.4, 1.0)
                while time.monotonic() < until:
                    while count * 0.02 < time.monotonic() - began + AHEAD_S:
                        await self._say(pieces[count % len(pieces)])
                        count += 1
                    await asyncio.sleep(0.02)
                queued_s = count * 0.02 - (time.monotonic() - began)
                timings = Timings(caller=self._caller, queued_ms=queued_s * 1000)
                timings.before_ns = timings.after_ns = await self._interrupt()
                await asyncio.sleep(0.25)
                timings.resumed()
                for piece in signal:
                    await self._say(piece)
                log.write(timings)
                await asyncio.sleep(0.02 * len(signal) + 0.15)

    async def _say(self, samples: speech.Samples) -> None:
        frame = self._kit.frames.TTSAudioRawFrame(samples.tobytes(), SPEAKER_HZ, 1)
        await self._task.queue_frame(frame)

    async def _interrupt(self) -> int:
        """When (CLOCK_MONOTONIC, ns) an interruption entered the output."""
        assert self._door is not None
        self._door.passed.clear()
        await self._task.queue_frame(self._kit.frames.InterruptionFrame())
        async with asyncio.timeout(DOOR_DEADLINE_S):
            await self._door.passed.wait()
        return int(self._door.passed_ns)


def build(kit: Kit, job: Job) -> FastAPI:
    """The application: a pipeline for each offer."""
    app = FastAPI()
    handler = kit.handler()
    tasks: set[asyncio.Task[None]] = set()

    def keep(task: asyncio.Task[None]) -> None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    @app.post("/api/offer")
    async def offer(request: dict[str, Any]) -> Any:
        if not tasks:
            if not job.burn_when_told:
                disturb.start_burning(job.burn)
            keep(asyncio.create_task(disturb.block_each_second(job.block_ms)))
        caller = int((request.get("request_data") or {}).get("caller", 0))

        async def started(connection: Any) -> None:
            transport = kit.transport(
                webrtc_connection=connection, params=transport_params(kit, job)
            )
            keep(asyncio.create_task(Call(kit, transport, job, caller).run()))

        wanted = kit.request(sdp=request["sdp"], type=request["type"])
        return await handler.handle_web_request(wanted, started)

    _announced(app, kit, handler, offer)

    @app.post("/api/burn")
    async def burn() -> None:
        disturb.start_burning(job.burn)

    return app


def _announced(
    app: FastAPI, kit: Kit, handler: Any, offer: Callable[[dict[str, Any]], Awaitable[Any]]
) -> None:
    """Calls that begin with `/start`, as Pipecat's runner has them."""
    names = itertools.count(1)

    @app.post("/start")
    async def start() -> dict[str, str]:
        return {"sessionId": f"call-{next(names)}"}

    @app.post("/sessions/{session_id}/api/offer")
    async def call(session_id: str, request: dict[str, Any]) -> Any:
        return await offer(request)

    @app.patch("/sessions/{session_id}/api/offer")
    async def candidates(session_id: str, request: dict[str, Any]) -> None:
        found = [kit.candidate(**one) for one in request["candidates"]]
        await handler.handle_patch_request(kit.patch(pc_id=request["pc_id"], candidates=found))


def serve(kit: Kit) -> None:
    """Serve on a free port of loopback, as uvicorn's command does; prints the URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    application = build(kit, Job.from_environment())
    config = uvicorn.Config(application, log_level="warning", lifespan="off")
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])
