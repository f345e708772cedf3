"""Chromium in another network namespace calls any server that answers `/api/offer`.

The page is blank and of the server's origin; what it says and what it plays is tapped as
samples, and `getStats` counts what its jitter buffer made up.
"""

from __future__ import annotations

import asyncio
import base64
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr

from scripts.benchmarks import speech
from tests.fakes.audio import write_wav
from tests.fakes.browser import browser_page
from tests.fakes.lossy_call import HZ, NS_PER_MS, Seen, Sound, delay_ms, silences_ms

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.lossy_call import Spans

CHUNK = 480
OPUS_FRAMES_PER_S = 50
# A packet with the one before it is about twice as long as one alone.
RED_RATIO = 1.5
LOOK_S = 0.5
CALL = """async () => {
  const deadline = Date.now() + 40000;
  const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
  const raw = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};
  const microphone = await navigator.mediaDevices.getUserMedia({audio: raw});
  const pc = new RTCPeerConnection();
  const tap = async track => {
    const taken = [];
    const reader = new MediaStreamTrackProcessor({track}).readable.getReader();
    (async () => {
      for (;;) {
        const {value, done} = await reader.read();
        if (done) return;
        const at = performance.now();
        const floats = new Float32Array(value.numberOfFrames);
        value.copyTo(floats, {planeIndex: 0, format: 'f32-planar'});
        taken.push([at, value.sampleRate, floats]);
        value.close();
      }
    })();
    return taken;
  };
  const still = [];
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    if (now - last > 100) still.push([now, now - last]);
    last = now;
  }, 20);
  const mine = await tap(microphone.getAudioTracks()[0]);
  const call = window.call = {pc, answer: '', still, said: mine};
  pc.addTransceiver(microphone.getAudioTracks()[0], {direction: 'sendrecv', streams: [microphone]});
  const heard = new Promise(resolve => { pc.ontrack = ({track}) => resolve(track); });
  await pc.setLocalDescription();
  while (pc.iceGatheringState !== 'complete') await sleep(20);
  const body = JSON.stringify({sdp: pc.localDescription.sdp, type: 'offer'});
  const headers = {'content-type': 'application/json'};
  let response = null;
  for (;;) {
    response = await fetch('/api/offer', {method: 'POST', headers, body});
    if (response.status !== 503 || Date.now() > deadline) break;
    await sleep(200);
  }
  if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  const answer = await response.json();
  call.answer = answer;
  await pc.setRemoteDescription({sdp: answer.sdp, type: 'answer'});
  const track = await heard;
  call.player = new Audio();  // a remote track is decoded only while something plays it
  call.player.muted = true;
  call.player.srcObject = new MediaStream([track]);
  await call.player.play();
  call.heard = await tap(track);
  while (pc.connectionState !== 'connected') {
    if (Date.now() > deadline) throw new Error(`the connection is ${pc.connectionState}`);
    await sleep(20);
  }
}"""
MARK = """async () => {
  const all = [...(await window.call.pc.getStats()).values()];
  const audio = type => all.find(r => r.type === type && r.kind === 'audio') ?? {};
  const response = await fetch('/health/ready').catch(() => null);
  const {workers = []} = await response?.json().catch(() => null) ?? {};
  const missed = workers.reduce((sum, worker) => sum + (worker.missed_frames ?? 0), 0);
  return {inbound: audio('inbound-rtp'), outbound: audio('outbound-rtp'), engine: {missed}};
}"""
END = """async () => {
  const {pc, answer, still, said, heard} = window.call;
  const response = answer.pc_id ? await fetch(`/api/sessions/${answer.pc_id}/stats`) : null;
  const stats = response?.ok ? await response.json() : {};
  const packed = all => {
    const hz = all.at(-1)[1], size = hz / 100;  // another rate, if at all, for the first few
    const taken = all.filter(([, rate, floats]) => rate === hz && floats.length === size);
    const pcm = new Int16Array(taken.length * size);
    const at = taken.map(chunk => chunk[0]);
    taken.forEach(([, , floats], number) => {
      floats.forEach((value, place) => { pcm[number * size + place] = value * 32767; });
    });
    const bytes = new Uint8Array(pcm.buffer);
    let text = '';
    for (let from = 0; from < bytes.length; from += 32768)
      text += String.fromCharCode(...bytes.subarray(from, from + 32768));
    return {at, hz, pcm: btoa(text)};
  };
  pc.close();
  return {stats, still, said: packed(said), heard: packed(heard)};
}"""
NOW = "performance.now()"


@dataclass(frozen=True, slots=True)
class Grown:
    """How counters of `getStats` have grown between two marks."""

    begin: dict[str, dict[str, float]]
    end: dict[str, dict[str, float]]

    def of(self, kind: str, name: str) -> float:
        """One counter; 0 when Chromium has none of that name."""
        return self.end[kind].get(name, 0) - self.begin[kind].get(name, 0)

    def packet_bytes(self, kind: str, way: str) -> float:
        """The mean payload of the packets that were `Sent` or `Received`."""
        return self.of(kind, f"bytes{way}") / max(1.0, self.of(kind, f"packets{way}"))

    def made_up(self) -> float:
        """The share of what was played that was made up and audible."""
        made_up = self.of("inbound", "concealedSamples")
        made_up -= self.of("inbound", "silentConcealedSamples")
        return made_up / max(1.0, self.of("inbound", "totalSamplesReceived"))


def _has_red(now: Grown, quiet: Grown) -> bool:
    alone = quiet.packet_bytes("inbound", "Received")
    return now.packet_bytes("inbound", "Received") > RED_RATIO * alone


class FarBrowser:
    """One call. Use as an async context manager; `namespace` is where the browser lives."""

    def __init__(self, namespace: str, scratch: Path) -> None:
        self._namespace = namespace
        self._scratch = scratch
        self._stack = AsyncExitStack()
        self._page: Any = None
        self._offset_ns = 0

    async def __aenter__(self) -> FarBrowser:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def call(self, url: str) -> None:
        """Connect and begin to speak."""
        wav = self._scratch / "said.wav"
        write_wav(wav, speech.continuous())
        page = browser_page(self._namespace, wav, self._scratch, origin=url)
        self._page = await self._stack.enter_async_context(page)

        async def blank(route: Any) -> None:
            await route.fulfill(content_type="text/html", body="<title>call</title>")

        await self._page.route(f"{url}/blank", blank)
        await self._page.goto(f"{url}/blank")
        await self._page.evaluate(CALL)
        before = time.monotonic_ns()
        page_ms = await self._page.evaluate(NOW)
        self._offset_ns = (before + time.monotonic_ns()) // 2 - round(page_ms * NS_PER_MS)

    async def mark(self) -> Any:
        """Counters of this moment."""
        return await self._page.evaluate(MARK)

    async def redundant(self, quiet: list[Any]) -> bool:
        """Whether packets have grown; Chromium reports losses each 5 s or so."""
        begin = await self.mark()
        await asyncio.sleep(LOOK_S)
        return _has_red(Grown(begin, await self.mark()), Grown(*quiet[:2]))

    async def end(self, spans: Spans, marks: list[Any]) -> Seen:
        """Hang up and judge."""
        log = await self._page.evaluate(END)
        said, heard = self._sound(log["said"]), self._sound(log["heard"])
        quiet, lossy = Grown(*marks[:2]), Grown(*marks[2:])
        due = spans.lossy_s * OPUS_FRAMES_PER_S
        received = lossy.of("inbound", "packetsReceived")
        silent, gaps = silences_ms(heard, *spans.lossy)
        opus_bytes = marks[-1]["outbound"].get("targetBitrate", 0) / 8 / OPUS_FRAMES_PER_S
        return Seen(
            returned=(received + lossy.of("inbound", "packetsLost")) / due,
            received=received / due,
            made_up=lossy.made_up(),
            silent=silent,
            gaps=len(gaps),
            longest_gap_ms=max(gaps, default=0.0),
            delay_before_ms=delay_ms(heard, said, *spans.before),
            delay_lossy_ms=delay_ms(heard, said, *spans.lossy),
            delay_after_ms=delay_ms(heard, said, *spans.after) if spans.after[1] else None,
            red_to_client=_has_red(lossy, quiet),
            red_to_server=lossy.packet_bytes("outbound", "Sent") > RED_RATIO * opus_bytes > 0,
            still=self._still_s(log["still"], spans, lossy) / spans.lossy_s,
            server=log["stats"],
        )

    def _still_s(self, still: list[list[float]], spans: Spans, lossy: Grown) -> float:
        """For how long of the lossy phase the page or the server's worker did not run."""
        from_ns, to_ns = spans.lossy
        ends = [(self._offset_ns + round(at * NS_PER_MS), lasted) for at, lasted in still]
        page_s = sum(lasted for at_ns, lasted in ends if from_ns <= at_ns < to_ns) / 1000
        return page_s + lossy.of("engine", "missed") / OPUS_FRAMES_PER_S

    def _sound(self, packed: dict[str, Any]) -> Sound:
        pcm = np.frombuffer(base64.b64decode(packed["pcm"]), np.int16)
        at_ms = np.array(packed["at"], np.float64)
        if packed["hz"] != HZ:
            pcm = np.asarray(soxr.resample(pcm, packed["hz"], HZ), np.int16)
        pcm = np.resize(pcm, len(at_ms) * CHUNK)  # a resampler may give a sample more or less
        return Sound(
            pcm.reshape(-1, CHUNK), np.round(at_ms * NS_PER_MS).astype(np.int64) + self._offset_ns
        )
