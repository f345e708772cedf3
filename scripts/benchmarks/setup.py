"""How long a caller waits: offer to answer, offer to the first audio packet."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aioice.ice
import httpx
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer
from rich.progress import track

from scripts.benchmarks import processes
from scripts.benchmarks.job import Job
from scripts.benchmarks.report import Report

if TYPE_CHECKING:
    from scripts.benchmarks.processes import Server

SPEECH = Path(__file__).resolve().parents[2] / "engine" / "examples" / "hello.wav"
WARM_UP = 3
CPU_BATCH = 5
FIRST_PACKET_DEADLINE_S = 10.0


@dataclass
class Timings:
    """What one server took, in ms, a call each; `cpu` is its whole tree's CPU per call."""

    answer_http: list[float] = field(default_factory=list)
    answer_engine: list[float] = field(default_factory=list)
    first_packet: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def measure(calls: int) -> Report:
    """Set up `calls` calls at the engine and at the stock bot."""
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    with processes.engine() as server:
        ours = asyncio.run(_calls(server, calls, "engine"))
    with processes.stock_bot() as server:
        stock = asyncio.run(_calls(server, calls, "stock aiortc bot"))
    report = Report(f"Set-up of {calls} calls, one after the other, warm, loopback")
    report.add("offer to answer, in the engine", "ms", ours.answer_engine, budget=10)
    report.add("offer to answer, by HTTP", "ms", ours.answer_http, peer=stock.answer_http)
    report.add(
        "offer to first audio packet", "ms", ours.first_packet, budget=60, peer=stock.first_packet
    )
    report.add("CPU of all processes per call", "ms", ours.cpu, peer=stock.cpu)
    report.add("peer: offer to answer, by HTTP", "ms", stock.answer_http)
    report.add("peer: offer to first audio packet", "ms", stock.first_packet)
    report.add("peer: CPU per call", "ms", stock.cpu)
    if processes.has_pipecat():
        with processes.start(processes.PIPECAT, Job(mode="talk")) as server:
            pipecat = asyncio.run(_calls(server, calls, "Pipecat"))
        report.add("peer: Pipecat: offer to answer, by HTTP", "ms", pipecat.answer_http)
        report.add("peer: Pipecat: offer to first audio packet", "ms", pipecat.first_packet)
        report.add("peer: Pipecat: CPU per call", "ms", pipecat.cpu)
    else:
        report.notes.append(processes.NO_PIPECAT)
    report.notes.append(
        "The caller is aiortc in one process; its own set-up work is part of both sides' times. "
        "CPU counts 0.3 s of a live echo call besides the set-up."
    )
    return report


async def _calls(server: Server, calls: int, name: str) -> Timings:
    timings = Timings()
    async with httpx.AsyncClient(base_url=server.url, timeout=10) as http:
        for _ in range(WARM_UP):
            await _call(http, Timings())
        before = server.cpu_s()
        for number in track(range(1, calls + 1), description=name):
            await _call(http, timings)
            if number % CPU_BATCH == 0:  # the system counts CPU in steps of 10 ms
                after = server.cpu_s()
                timings.cpu.append((after - before) * 1000 / CPU_BATCH)
                before = after
    return timings


async def _call(http: httpx.AsyncClient, timings: Timings) -> None:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    player = MediaPlayer(str(SPEECH), loop=True)
    assert player.audio is not None
    peer.addTrack(player.audio)
    first = _note_first_packet(peer)
    try:
        await peer.setLocalDescription(await peer.createOffer())
        offer = {"sdp": peer.localDescription.sdp, "type": "offer"}
        began = time.monotonic_ns()
        response = await http.post("/api/offer", json=offer)
        response.raise_for_status()
        answered = time.monotonic_ns()
        answer = RTCSessionDescription(response.json()["sdp"], "answer")
        await peer.setRemoteDescription(answer)
        async with asyncio.timeout(FIRST_PACKET_DEADLINE_S):
            arrived = await first
        timings.answer_http.append((answered - began) / 1e6)
        timings.first_packet.append((arrived - began) / 1e6)
        engine_ms = response.headers.get("server-timing", "").partition("dur=")[2]
        if engine_ms:
            timings.answer_engine.append(float(engine_ms))
        await asyncio.sleep(0.3)  # a live call, so that its end is not part of its set-up
    finally:
        await peer.close()


def _note_first_packet(peer: RTCPeerConnection) -> asyncio.Future[int]:
    """When the first RTP packet reaches the caller's receiver, before any jitter buffer."""
    first: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    receiver = peer.getReceivers()[0]
    handle = receiver._handle_rtp_packet

    async def noted(packet: Any, arrival_time_ms: int) -> None:
        if not first.done():
            first.set_result(time.monotonic_ns())
        await handle(packet, arrival_time_ms)

    receiver._handle_rtp_packet = noted  # type: ignore[method-assign]  # to see packets, not frames
    return first
