// What is sent and how loud it is: the microphone, the test tone, and the level meters.

const FLOOR_DB = -60;
const TONE_SECONDS = 2;
const BEEPS = [{ at: 0, hertz: 440 }, { at: 0.24, hertz: 660 }];
const BEEP_SECONDS = 0.18;
const BEEP_PEAK = 0.18;

let audio = null;

/** Makes or resumes the AudioContext. Call it from a click: before one, a browser may keep it suspended. */
export function wake() {
  audio ??= new AudioContext({ latencyHint: "interactive" });
  if (audio.state === "suspended") audio.resume();
}

/**
 * The microphone with this id ("" is the browser's choice) as {track, stop}; throws a DOMException.
 * Unless raw, the browser takes the bot's voice and steady noise out of it; either also eats a test signal.
 */
export async function microphone(deviceId, raw) {
  if (!navigator.mediaDevices) throw new DOMException("Not a secure page", "SecurityError");
  const wish = { echoCancellation: !raw, noiseSuppression: !raw, autoGainControl: !raw };
  if (deviceId) wish.deviceId = { exact: deviceId };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: wish });
  const [track] = stream.getAudioTracks();
  return { track, stop: () => track.stop() };
}

/** Two soft beeps, repeated, as {track, stop}. One looped buffer: a timer would falter in a tab in the background. */
export function testTone() {
  const buffer = audio.createBuffer(1, TONE_SECONDS * audio.sampleRate, audio.sampleRate);
  const samples = buffer.getChannelData(0);
  for (const { at, hertz } of BEEPS) {
    const first = Math.round(at * audio.sampleRate);
    const count = Math.round(BEEP_SECONDS * audio.sampleRate);
    for (let i = 0; i < count; i++) {
      const swell = Math.sin((Math.PI * i) / count);
      samples[first + i] = BEEP_PEAK * swell * Math.sin((2 * Math.PI * hertz * i) / audio.sampleRate);
    }
  }
  const loop = new AudioBufferSourceNode(audio, { buffer, loop: true });
  const out = new MediaStreamAudioDestinationNode(audio, { channelCount: 1 });
  loop.connect(out);
  loop.start();
  const [track] = out.stream.getAudioTracks();
  return { track, stop: () => { loop.stop(); track.stop(); } };
}

/** Shows the loudness of a track (RMS, dBFS) in `bar` and, as the loudest since it last changed, in `text`. */
export class Meter {
  #analyser = null;
  #source = null;
  #samples = new Float32Array(2048);
  #level = 0;
  #peak = 0;
  #told = 0;
  #loudest = -Infinity;

  constructor(bar, text) {
    Object.assign(this, { bar, text });
  }

  listen(track) {
    this.#source?.disconnect();
    this.#source = null;
    if (!track) return;
    this.#analyser ??= new AnalyserNode(audio, { fftSize: this.#samples.length });
    this.#source = audio.createMediaStreamSource(new MediaStream([track]));
    this.#source.connect(this.#analyser);
  }

  rest() {
    this.listen(null);
    this.#level = this.#peak = this.#told = 0;
    this.#loudest = -Infinity;
    this.draw(performance.now());
  }

  draw(now) {
    let db = -Infinity;
    if (this.#source) {
      this.#analyser.getFloatTimeDomainData(this.#samples);
      db = 10 * Math.log10(this.#samples.reduce((sum, x) => sum + x * x, 0) / this.#samples.length);
    }
    const scaled = Math.min(1, Math.max(0, 1 - db / FLOOR_DB));
    this.#level = Math.max(scaled, this.#level - 0.03);
    this.#peak = Math.max(this.#level, this.#peak - 0.006);
    this.bar.style.setProperty("--level", this.#level.toFixed(3));
    this.bar.style.setProperty("--peak", this.#peak.toFixed(3));
    this.#loudest = Math.max(this.#loudest, db);
    if (now - this.#told < 250) return; // numbers that change faster can't be read
    const shown = Math.round(Math.max(FLOOR_DB, this.#loudest));
    this.#told = now;
    this.#loudest = -Infinity;
    this.text.textContent = shown > FLOOR_DB ? `${shown} dBFS`.replace("-", "−") : "silent";
    this.bar.setAttribute("aria-valuenow", shown);
    this.bar.setAttribute("aria-valuetext", this.text.textContent);
  }
}
