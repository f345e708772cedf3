// A werift caller as a process of its own: it says packets of Opus, with RED when it may, and
// notes every packet that comes. All times are CLOCK_MONOTONIC in ns, as decimal strings.
//
// usage: node werift_caller.mjs URL PACKETS.json RED_DISTANCE
//
// Prints {"connected": true} once media may flow; after a line on standard input one JSON object
// with all that was seen, and ends.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import {
  MediaStreamTrack,
  RTCPeerConnection,
  RTCRtpCodecParameters,
  RtpHeader,
  RtpPacket,
  useOPUS,
} from "werift";

const OPUS = 111;
const RED = 63;
const FRAME_NS = 20_000_000n;
const FRAME_TICKS = 960;
const DEADLINE_MS = 40_000;
const RETRY_MS = 200;

const [url, file, distance] = process.argv.slice(2);
const packets = JSON.parse(readFileSync(file, "utf8")).map((text) => Buffer.from(text, "base64"));
const redDistance = Number(distance);
const seen = { sent: [], wire: [], heard: [], answer: "", stats: null, missed: 0 };

const opus = useOPUS({ payloadType: OPUS, parameters: "minptime=10;useinbandfec=1" });
const red = new RTCRtpCodecParameters({
  mimeType: "audio/red",
  clockRate: 48_000,
  channels: 2,
  payloadType: RED,
  parameters: `${OPUS}/${OPUS}`,
});
const pc = new RTCPeerConnection({
  codecs: { audio: redDistance ? [red, opus] : [opus], video: [] },
  iceServers: [],
  iceUseIpv6: false,
});
const voice = new MediaStreamTrack({ kind: "audio" });
const transceiver = pc.addTransceiver(voice, { direction: "sendrecv" });
const now = () => process.hrtime.bigint();
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// What comes from the wire, before RED is unpacked.
const receiver = transceiver.receiver;
const take = receiver.handleRTP.bind(receiver);
receiver.handleRTP = (packet, ...more) => {
  seen.wire.push([packet.header.sequenceNumber, packet.header.payloadType, String(now())]);
  take(packet, ...more);
};

pc.onTrack.subscribe((track) => {
  track.onReceiveRtp.subscribe((packet) => {
    const { sequenceNumber, timestamp } = packet.header;
    seen.heard.push([
      sequenceNumber,
      timestamp,
      String(now()),
      Buffer.from(packet.payload).toString("base64"),
    ]);
  });
});

// Asks until somebody answers: the server may still be starting.
async function offer(body) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    try {
      const response = await fetch(`${url}/api/offer`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      if (response.ok) return await response.json();
      if (response.status !== 503) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
    } catch (error) {
      if (Date.now() > deadline || String(error).includes("HTTP")) throw error;
    }
    if (Date.now() > deadline) throw new Error("no bot became free");
    await sleep(RETRY_MS);
  }
}

async function connected() {
  const deadline = Date.now() + DEADLINE_MS;
  while (pc.connectionState !== "connected") {
    if (Date.now() > deadline) throw new Error(`the connection is ${pc.connectionState}`);
    await sleep(20);
  }
}

// How many frames the server's workers have given up because they did not run in time.
async function missed() {
  const response = await fetch(`${url}/health/ready`).catch(() => null);
  const health = await response?.json().catch(() => null);
  return (health?.workers ?? []).reduce((sum, worker) => sum + (worker.missed_frames ?? 0), 0);
}

function speak() {
  const began = now();
  let number = 0;
  return setInterval(() => {
    while (began + BigInt(number) * FRAME_NS <= now()) {
      const index = number % packets.length;
      const header = new RtpHeader({
        payloadType: OPUS,
        sequenceNumber: number & 0xffff,
        timestamp: (number * FRAME_TICKS) >>> 0,
        marker: number === 0,
      });
      voice.writeRtp(new RtpPacket(header, packets[index]));
      seen.sent.push([index, String(now())]);
      number += 1;
    }
  }, 5);
}

await pc.setLocalDescription(await pc.createOffer());
const answer = await offer({ sdp: pc.localDescription.sdp, type: "offer" });
seen.answer = answer.sdp;
await pc.setRemoteDescription({ sdp: answer.sdp, type: "answer" });
await connected();
const before = await missed();
transceiver.sender.redDistance = redDistance;
const timer = speak();
console.log(JSON.stringify({ connected: true }));

for await (const _ of createInterface({ input: process.stdin })) break;
clearInterval(timer);
if (answer.pc_id) {
  const response = await fetch(`${url}/api/sessions/${answer.pc_id}/stats`).catch(() => null);
  if (response?.ok) seen.stats = await response.json();
}
seen.missed = (await missed()) - before;
await pc.close();
process.stdout.write(`${JSON.stringify(seen)}\n`, () => process.exit(0));
