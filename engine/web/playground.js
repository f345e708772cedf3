// The playground page: binds a call (call.js) and its sound (sound.js) to the elements of index.html.
//
// The page's own query: ?bot=NAME asks for that bot, ?voice=raw turns the browser's voice processing off.
// For tests, window.backbeat = {connect(), disconnect(), state, stats, remoteTrack, pc}: connect() resolves once the
// call is live or has ended; state is a key of STATES; stats is the last reading (see readStats) or null.

import { Call, readStats } from "./call.js";
import { Meter, microphone, testTone, wake } from "./sound.js";

const STATS_MS = 1000;
const LOG_LINES = 200;
const TONE = "tone";

const STATES = {
  idle: { words: "Idle", button: "Connect" },
  asking: { words: "Asking for the microphone", button: "Cancel" },
  connecting: { words: "Connecting", button: "Cancel" },
  live: { words: "Live", button: "Disconnect" },
  reconnecting: { words: "Reconnecting", button: "Disconnect" },
  ended: { words: "Ended", button: "Connect" },
};

const NO_MICROPHONE = {
  NotAllowedError: "The microphone was refused. Allow it in the browser's address bar and choose it again to use it.",
  SecurityError: "Browsers give a microphone only to pages on https or on 127.0.0.1. Open the page there to use it.",
  NotFoundError: "No microphone was found. Plug one in and choose it above to use it.",
  NotReadableError: "Another program uses the microphone. Close that program and choose the microphone again to use it.",
};

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const botName = query.get("bot");
const meters = { mic: new Meter($("mic-level"), $("mic-text")), bot: new Meter($("bot-level"), $("bot-text")) };

let call = null;
let source = null; // what is sent: {track, stop}
let state = "idle";
let stats = null;
let muted = false;
let liveSince = 0;
let turn = 0; // grows with every connect, disconnect and choice of a device: what was awaited before is stale then

function setState(name, words = STATES[name].words) {
  state = name;
  if (name === "live") liveSince ||= performance.now();
  document.body.dataset.state = name;
  $("state").textContent = words;
  $("connect").textContent = STATES[name].button;
}

/** Fills an element with text in which `backticks` mark what a person types. */
function fill(element, text) {
  element.replaceChildren(...text.split("`").map((part, index) => {
    if (index % 2 === 0) return part;
    return Object.assign(document.createElement("code"), { textContent: part });
  }));
}

function showError(failure) {
  $("error").hidden = !failure;
  if (!failure) return;
  const [sentence, next] = ["strong", "p"].map((tag) => document.createElement(tag));
  fill(sentence, failure.message);
  fill(next, failure.next ?? "Press Connect to try again.");
  $("error").replaceChildren(sentence, next);
}

function showNotice(text) {
  $("notice").hidden = !text;
  $("notice").textContent = text;
}

function log(kind, text) {
  const list = $("log");
  const following = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(Object.assign(document.createElement("p"), { className: kind, textContent: text }));
  if (list.childElementCount > LOG_LINES) list.firstElementChild.remove();
  if (following) list.scrollTop = list.scrollHeight;
}

/** Lists the microphones; keeps the choice that `wanted` names, else the first microphone, else the test tone. */
async function listDevices(wanted = $("device").value) {
  const devices = await navigator.mediaDevices?.enumerateDevices().catch(() => []) ?? [];
  const inputs = devices.filter((device) => device.kind === "audioinput");
  const options = inputs.map(({ label, deviceId }, index) => {
    const fallback = inputs.length > 1 ? `Microphone ${index + 1}` : "Microphone";
    return new Option(label || fallback, `mic:${deviceId}`);
  });
  $("device").replaceChildren(...options, new Option("Test tone (no microphone)", TONE));
  $("device").value = wanted;
  if ($("device").selectedIndex < 0) $("device").selectedIndex = 0;
  return inputs.length;
}

/** Opens what the page has chosen, or the test tone where there is no microphone; null when a later turn began. */
async function openSource(mine) {
  const chosen = $("device").value;
  if (chosen === TONE) return testTone();
  try {
    const opened = await microphone(chosen.slice("mic:".length), query.get("voice") === "raw");
    if (mine !== turn) return opened.stop();
    showNotice("");
    // Only now do devices have names.
    listDevices(`mic:${opened.track.getSettings().deviceId}`);
    opened.track.onended = () => { if (source === opened) fallBack("The microphone went away."); };
    return opened;
  } catch (error) {
    if (mine !== turn) return null;
    $("device").value = TONE;
    const why = NO_MICROPHONE[error.name] ?? `The microphone did not start (${error.name}).`;
    showNotice(`The test tone is sent. ${why}`);
    return testTone();
  }
}

async function changeSource() {
  const mine = ++turn;
  const opened = await openSource(mine);
  if (!opened) return;
  if (!call || call.closed) return opened.stop();
  source.stop();
  useSource(opened);
  await call.replaceTrack(opened.track);
}

function useSource(opened) {
  source = opened;
  source.track.enabled = !muted;
  meters.mic.listen(source.track);
}

function fallBack(why) {
  $("device").value = TONE;
  showNotice(`${why} The test tone is sent in its place.`);
  changeSource();
}

async function connect() {
  if (state !== "idle" && state !== "ended") return;
  const mine = ++turn;
  wake();
  showError(null);
  liveSince = 0;
  stats = null;
  setState("asking");
  await listed; // a click may come before the browser has told its devices
  if (mine !== turn) return;
  const opened = await openSource(mine);
  if (!opened) return;
  useSource(opened);
  const mineToo = call = new Call(source.track, botName ? { bot: botName } : null, {
    state: setState,
    track: hear,
    channel: (open) => { $("message").disabled = $("send").disabled = !open; },
    message: showMessage,
    note: (text) => log("note", text),
    ended: (words, failure) => end(words, failure),
  });
  requestAnimationFrame(draw);
  await mineToo.start(muted);
}

function disconnect(words = "You ended the call") {
  turn += 1;
  if (call && !call.closed) call.close(words);
  else if (state === "asking") setState("idle");
}

function end(words, failure) {
  setState("ended", words);
  if (liveSince) log("note", words);
  showError(failure);
  source.stop();
  source = null;
  $("speaker").srcObject = null;
  $("rtt").textContent = "–";
  meters.mic.rest();
  meters.bot.rest();
}

/** Plays the bot. The element must play for WebAudio, and so for the meter, to get anything of a remote track. */
function hear(track) {
  $("speaker").srcObject = new MediaStream([track]);
  meters.bot.listen(track);
  $("speaker").play().catch((error) => {
    if (error.name !== "NotAllowedError") return; // a newer stream took over
    showNotice("The browser holds the sound back. Click anywhere on the page, or press a key, to hear the bot.");
    const resume = () => { wake(); $("speaker").play(); showNotice(""); };
    for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, resume, { once: true });
  });
}

function showMessage(value) {
  if (value instanceof ArrayBuffer) log("note", `The bot sent ${value.byteLength} bytes`);
  else if (typeof value === "string") log("bot", value);
  else if (value?.type === "text" && typeof value.text === "string") log("bot", value.text);
  else log("bot data", JSON.stringify(value));
}

function draw(now) {
  if (!source) return;
  meters.mic.draw(now);
  meters.bot.draw(now);
  const seconds = liveSince ? Math.floor((performance.now() - liveSince) / 1000) : 0;
  const duration = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  if ($("duration").textContent !== duration) $("duration").textContent = duration;
  requestAnimationFrame(draw);
}

async function refreshStats() {
  if (state !== "live") return;
  const [before, now] = [stats, await readStats(call.pc)];
  if (state !== "live") return;
  stats = now;
  const show = (id, value, unit = "", digits = 0) => {
    $(id).textContent = value === null ? "–" : `${value.toFixed(digits)}${unit}`;
  };
  const rate = (key) => {
    const grown = before ? now[key] - before[key] : -1; // after a reconnect the browser counts from zero
    return grown < 0 ? null : (8 * grown) / (now.at - before.at);
  };
  // Browsers count this in whole milliseconds.
  $("rtt").textContent = now.rtt_ms === null ? "–" : now.rtt_ms < 1 ? "< 1 ms" : `${Math.round(now.rtt_ms)} ms`;
  show("packets-sent", now.packets_sent);
  show("packets-received", now.packets_received);
  show("sent-lost", now.sent_lost);
  show("packets-lost", now.packets_lost);
  show("sent-jitter", now.sent_jitter_ms, " ms", 1);
  show("jitter", now.jitter_ms, " ms", 1);
  show("sent-rate", rate("bytes_sent"), " kbit/s");
  show("received-rate", rate("bytes_received"), " kbit/s");
  show("concealed", now.concealed === null ? null : 100 * now.concealed, " %", 1);
}

$("connect").addEventListener("click", () => (["idle", "ended"].includes(state) ? connect() : disconnect()));
$("device").addEventListener("change", () => {
  showNotice("");
  if (call && !call.closed) changeSource();
});
$("mute").addEventListener("click", () => {
  muted = !muted;
  $("mute").setAttribute("aria-pressed", muted);
  $("mic-label").textContent = muted ? "You (muted)" : "You";
  if (source) source.track.enabled = !muted;
  call?.mute(muted);
});
$("volume").addEventListener("input", () => {
  $("speaker").volume = $("volume").value / 100;
  $("volume-text").textContent = `${$("volume").value} %`;
});
$("chat").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("message").value.trim();
  if (!text || !call?.say(text)) return;
  log("me", text);
  $("message").value = "";
});
navigator.mediaDevices?.addEventListener("devicechange", () => listDevices());
addEventListener("pagehide", () => disconnect("You left the page"));
setInterval(refreshStats, STATS_MS);

if (botName) $("callee").textContent = `Calls from this page go to the bot “${botName}”.`;
const listed = listDevices("mic:");
listed.then((count) => {
  if (count === 0) showNotice("No microphone was found, so a call sends the test tone.");
});

window.backbeat = {
  connect,
  disconnect: () => disconnect(),
  get state() { return state; },
  get stats() { return stats; },
  get remoteTrack() { return call?.remoteTrack ?? null; },
  get pc() { return call?.pc ?? null; },
};
