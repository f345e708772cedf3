// A call to the engine: offer and answer over /api/offer, the data channel, and coming back after an outage.
//
// Nothing here knows an element of the page; what happens is told through the events given to Call.

const PING_MS = 1000;
const TRICKLE_MS = 200;
const ANSWER_MS = 15000; // longer than the engine needs to ask several bots in turn
const CONNECT_MS = 15000;
const SERVERS_MS = 2000;
const GRACE_MS = 5000; // a short outage heals by itself; a new connection costs more than the wait
const RETRY_WAITS_MS = [0, 2000, 4000];
const NOT_RESTORED = "The connection was lost and could not be restored";
const NOT_CONNECTED = "The call was not connected";

/** Why a call ended badly: a sentence, what to do next, and whether another try could help. */
class Failure extends Error {
  constructor(sentence, next, { again = false } = {}) {
    super(sentence);
    this.next = next;
    this.again = again;
  }
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function request(method, body) {
  let response;
  try {
    response = await fetch("/api/offer", {
      method,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    if (response.ok) return await response.json();
  } catch (error) {
    if (error.name === "TimeoutError") {
      const seconds = ANSWER_MS / 1000;
      const next = "It may be overloaded. Wait a little, then press Connect.";
      throw new Failure(`The engine did not answer within ${seconds} s.`, next, { again: true });
    }
    if (error instanceof SyntaxError) {
      const next = "Look at which program listens on this address.";
      throw new Failure("The answer did not come from a Backbeat engine.", next);
    }
    const sentence = "The engine does not answer. Is `scripts/serve` still running?";
    throw new Failure(sentence, "Start it, then press Connect.", { again: true });
  }
  throw await refusal(response);
}

async function refusal(response) {
  const { code, detail } = await response.json().catch(() => ({})) ?? {};
  const problems = Array.isArray(detail)
    ? detail.map(({ loc = [], msg }) => `${loc.join(".")}: ${msg}`).join("; ")
    : detail;
  const told = `${problems ?? response.statusText}`.replace(/([^.!?])$/, "$1.");
  if (response.status === 503 && ["no_bot", "bots_busy"].includes(code ?? "no_bot")) {
    const next = `${told} Start a bot, or wait until one is free, then press Connect.`;
    return new Failure("No bot is free to take this call.", next, { again: true });
  }
  const name = `${response.status}${code ? ` ${code}` : ""}`;
  if (response.status >= 500) {
    const next = `${told} The engine's log says more.`;
    return new Failure(`The engine could not take this call (${name}).`, next, { again: true });
  }
  return new Failure(`The engine refused this call (${name}).`, `${told} Press Connect to try again.`);
}

/** The STUN and TURN servers that the engine was given. Without an answer a call still has its direct paths. */
async function configuration() {
  try {
    const response = await fetch("/api/ice-servers", { signal: AbortSignal.timeout(SERVERS_MS) });
    if (response.ok) return { iceServers: (await response.json()).iceServers };
  } catch {
    // The offer, which goes to the same engine, says what is wrong with it.
  }
  return { iceServers: [] };
}

/** One conversation with the engine; it outlives the peer connections that carry it. */
export class Call {
  pc = null;
  remoteTrack = null;
  closed = false;
  #pcId = null;
  #sender = null;
  #channel = null;
  #muted = false;
  #pinging = 0;
  #grace = 0;
  #recovering = false;
  #wasLive = false;
  #giveUpOpening = () => {};
  #negotiation = Promise.resolve();
  #configuration = { iceServers: [] };

  /** events: state(name, words), track(track), channel(open), message(value), note(text), ended(words, failure) */
  constructor(track, requestData, events) {
    Object.assign(this, { track, requestData, events });
  }

  async start(muted) {
    this.#muted = muted;
    this.events.state("connecting");
    this.#configuration = await configuration();
    if (this.closed) return;
    try {
      await this.#open(false);
    } catch (failure) {
      if (this.closed || !failure) return;
      // Without an id the engine holds nothing that a second try could take up.
      if (failure.again && this.#pcId) await this.#recover();
      else this.close(NOT_CONNECTED, failure);
    }
  }

  close(words, failure = null) {
    if (this.closed) return;
    this.closed = true;
    this.#drop();
    this.events.ended(words, failure);
  }

  mute(muted) {
    this.#muted = muted;
    this.#write({ type: "signalling", message: { type: "trackStatus", receiver_index: 0, enabled: !muted } });
  }

  say(text) {
    return this.#write({ type: "text", text });
  }

  async replaceTrack(track) {
    this.track = track;
    await this.#sender?.replaceTrack(track);
  }

  #open(restart) {
    const pc = this.pc = new RTCPeerConnection(this.#configuration);
    this.#sender = pc.addTransceiver(this.track, { direction: "sendrecv" }).sender;
    this.#chat(pc.createDataChannel("chat", { ordered: true }));
    this.#trickle(pc);
    pc.ontrack = ({ track }) => this.events.track(this.remoteTrack = track);
    return new Promise((resolve, reject) => {
      const next = "A firewall may block its UDP ports, or `--ice-address` names an address that you do not reach.";
      const noPath = new Failure("The engine answers, but no sound gets through.", next, { again: true });
      const timer = setTimeout(reject, CONNECT_MS, noPath);
      let established = false;
      this.#giveUpOpening = (why) => { clearTimeout(timer); reject(why); };
      pc.onconnectionstatechange = () => {
        clearTimeout(this.#grace);
        if (pc.connectionState === "connected") {
          clearTimeout(timer);
          established = this.#wasLive = true;
          resolve();
          this.events.state("live");
        } else if (pc.connectionState === "disconnected" && established) {
          this.events.state("reconnecting", "Connection interrupted, waiting for it to come back");
          this.#grace = setTimeout(() => this.#recover(), GRACE_MS);
        } else if (pc.connectionState === "failed") {
          if (established) this.#recover();
          else this.#giveUpOpening(noPath);
        }
      };
      this.#negotiate(pc, restart).catch(this.#giveUpOpening);
    });
  }

  #negotiate(pc, restart) {
    const round = async () => {
      await pc.setLocalDescription();
      const answer = await request("POST", {
        sdp: pc.localDescription.sdp,
        type: "offer",
        pc_id: this.#pcId,
        restart_pc: restart,
        request_data: this.requestData,
      });
      if (pc.signalingState === "closed") return;
      const replaced = restart && answer.pc_id !== this.#pcId;
      if (replaced) this.events.note("The engine began a new call in place of the lost one");
      this.#pcId = answer.pc_id;
      try {
        await pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
      } catch (error) {
        throw new Failure("The browser cannot use the engine's answer.", error.message);
      }
    };
    // One offer at a time: a second one while the first is unanswered is an error in WebRTC.
    const turn = this.#negotiation.then(round);
    this.#negotiation = turn.catch(() => {});
    return turn;
  }

  #trickle(pc) {
    const pending = [];
    let timer = 0;
    const flush = async () => {
      if (pc.remoteDescription && pc.signalingState !== "closed") {
        // A lost candidate is no reason to end a call: the engine also learns addresses from the checks themselves.
        await request("PATCH", { pc_id: this.#pcId, candidates: pending.splice(0) }).catch(() => {});
      }
      timer = pending.length && pc.signalingState !== "closed" ? setTimeout(flush, TRICKLE_MS) : 0;
    };
    pc.onicecandidate = ({ candidate }) => {
      // Firefox marks the end with an empty candidate and a null; everyone sends the null.
      if (candidate?.candidate === "") return;
      pending.push({
        candidate: candidate?.candidate ?? "",
        sdp_mid: candidate?.sdpMid ?? "0",
        sdp_mline_index: candidate?.sdpMLineIndex ?? 0,
      });
      timer ||= setTimeout(flush, TRICKLE_MS);
    };
  }

  #chat(channel) {
    this.#channel = channel;
    channel.binaryType = "arraybuffer";
    channel.onopen = () => {
      // The engine closes an open channel without peerLeft only when it loses the call, and a channel never reopens.
      channel.onclose = () => { if (channel === this.#channel) this.#recover(); };
      this.#pinging = setInterval(() => this.#write(`ping: ${Date.now()}`), PING_MS);
      if (this.#muted) this.mute(true);
      this.events.channel(true);
    };
    channel.onmessage = ({ data }) => this.#receive(data);
  }

  #write(value) {
    if (this.#channel?.readyState !== "open") return false;
    this.#channel.send(typeof value === "string" ? value : JSON.stringify(value));
    return true;
  }

  #receive(data) {
    let value = data;
    try {
      if (typeof data === "string") value = JSON.parse(data);
    } catch { /* plain text is a message too */ }
    if (value?.type !== "signalling") this.events.message(value);
    else if (value.message?.type === "peerLeft") this.close("The bot ended the call");
    else if (value.message?.type === "renegotiate") this.#renegotiate(this.pc);
  }

  async #renegotiate(pc) {
    try {
      await this.#negotiate(pc, false);
    } catch (failure) {
      if (pc.signalingState === "have-local-offer") await pc.setLocalDescription({ type: "rollback" });
      if (pc === this.pc) this.events.note(`Renegotiation failed: ${failure.message}`);
    }
  }

  async #recover() {
    if (this.#recovering || this.closed) return;
    this.#recovering = true;
    let last;
    for (const [index, wait] of RETRY_WAITS_MS.entries()) {
      this.events.state("reconnecting", `Reconnecting, try ${index + 1} of ${RETRY_WAITS_MS.length}`);
      this.#drop();
      await sleep(wait);
      if (this.closed) return;
      try {
        await this.#open(true);
        this.#recovering = false;
        return;
      } catch (failure) {
        if (this.closed) return;
        last = failure;
        if (!failure.again) break;
      }
    }
    this.close(this.#wasLive ? NOT_RESTORED : NOT_CONNECTED, last);
  }

  #drop() {
    clearInterval(this.#pinging);
    clearTimeout(this.#grace);
    this.#giveUpOpening(null);
    this.#channel = this.#sender = this.remoteTrack = null;
    this.#negotiation = Promise.resolve();
    this.events.channel(false);
    this.pc?.close();
  }
}

/** The latest numbers of a call, in milliseconds, packets and bytes; null where the browser has none yet. */
export async function readStats(pc) {
  const reports = await pc.getStats();
  const all = [...reports.values()];
  const audio = (type) => all.find((r) => r.type === type && r.kind === "audio") ?? {};
  const transport = all.find((r) => r.type === "transport" && r.selectedCandidatePairId);
  // Firefox has no transport report; there the nominated pair is the one in use.
  const nominated = all.find((r) => r.type === "candidate-pair" && r.nominated);
  const pair = reports.get(transport?.selectedCandidatePairId) ?? nominated ?? {};
  const [out, far, into] = ["outbound-rtp", "remote-inbound-rtp", "inbound-rtp"].map(audio);
  const ms = (seconds) => (seconds === undefined ? null : seconds * 1000);
  return {
    at: performance.now(),
    rtt_ms: ms(pair.currentRoundTripTime),
    packets_sent: out.packetsSent ?? null,
    packets_received: into.packetsReceived ?? null,
    packets_lost: into.packetsLost ?? null,
    jitter_ms: ms(into.jitter),
    sent_lost: far.packetsLost ?? null,
    sent_jitter_ms: ms(far.jitter),
    bytes_sent: out.bytesSent ?? null,
    bytes_received: into.bytesReceived ?? null,
    concealed: into.totalSamplesReceived ? into.concealedSamples / into.totalSamplesReceived : null,
  };
}
