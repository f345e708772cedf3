// Pipecat's own client in a page, for a test to drive as `window.rtvi`. Nothing of it is changed:
// what is here only makes it, calls its public methods, and keeps what its callbacks said.
import {LogLevel, PipecatClient, logger} from '@pipecat-ai/client-js';
import {SmallWebRTCTransport, WavMediaManager} from '@pipecat-ai/small-webrtc-transport';
import {
  WavMediaManager as WebSocketMediaManager, WebSocketTransport,
} from '@pipecat-ai/websocket-transport';

logger.setLevel(LogLevel.DEBUG);

const CALLBACKS = [
  'onConnected', 'onDisconnected', 'onTransportStateChanged', 'onBotConnected', 'onBotReady',
  'onBotDisconnected', 'onServerMessage', 'onMessageError', 'onError', 'onDeviceError',
  'onBotStarted',
];
const FFT = 16384;
// Of a call over WebSocket: the microphone's rate, and half a second of the bot's 24 kHz.
const MIC_HZ = 16000;
const KEPT = 12000;

function strongest(analyser) {
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  const peak = bins.indexOf(Math.max(...bins));
  return {hz: peak * analyser.context.sampleRate / analyser.fftSize, db: bins[peak]};
}

class Listener {
  // A remote track is decoded only while something plays it.
  constructor(track) {
    this.track = track;
    const stream = new MediaStream([track]);
    this.player = new Audio();
    this.player.muted = true;
    this.player.srcObject = stream;
    this.player.play();
    this.context = new AudioContext({sampleRate: 48000});
    this.analyser = this.context.createAnalyser();
    this.analyser.fftSize = FFT;
    this.analyser.smoothingTimeConstant = 0;
    this.context.createMediaStreamSource(stream).connect(this.analyser);
  }

  close() {
    this.player.srcObject = null;
    this.context.close();
  }
}

// When the client begins a new peer connection it stops the tracks of the one before. The manager
// that comes with it has one track, so its microphone would be dead then; this one lends clones.
class Microphone extends WavMediaManager {
  tracks() {
    const own = super.tracks().local.audio;
    if (own === undefined) return {local: {}};
    const track = own.clone();
    (this.given ??= new Set()).add(track);
    return {local: {audio: track}};
  }

  async enableMic(enable) {
    this.given?.forEach(track => { track.enabled = enable; });
    await super.enableMic(enable);
  }
}

// The client over WebSocket hands its sound to a manager, which is told the microphone's rate twice.
// Once it has hung up, the manager that comes with it plays nothing any more: this one also keeps
// what it was handed.
class Speaker extends WebSocketMediaManager {
  constructor() {
    super(undefined, MIC_HZ);
    this.received = [];
  }

  bufferBotAudio(samples, id) {
    this.received.push(...samples);
    this.received.splice(0, this.received.length - KEPT);
    return super.bufferBotAudio(samples, id);
  }
}

function plain(value) {
  return value === undefined ? null : JSON.parse(JSON.stringify(value));
}

window.rtvi = {
  seen: [],
  listener: null,
  transport: null,
  speaker: null,
  client: null,

  async make({over = 'webrtc', ownTracks = false, ...options} = {}) {
    const callbacks = {
      onTrackStarted: (track, participant) => {
        if (!participant?.local) this.note('onTrackStarted', track.kind);
      },
    };
    for (const name of CALLBACKS) callbacks[name] = data => this.note(name, data);
    if (over === 'websocket') {
      this.speaker = new Speaker();
      this.transport = new WebSocketTransport({
        mediaManager: this.speaker, recorderSampleRate: MIC_HZ,
      });
    } else {
      const mediaManager = ownTracks ? new Microphone() : new WavMediaManager();
      this.transport = new SmallWebRTCTransport({mediaManager});
    }
    this.client = new PipecatClient({
      transport: this.transport, callbacks, enableMic: true, enableCam: false, ...options,
    });
    await this.client.initDevices();
  },

  note(name, data) {
    this.seen.push({at: performance.now(), name, data: plain(data)});
  },

  of(wanted) {
    return this.seen.filter(({name}) => name === wanted).map(({data}) => data);
  },

  // How long it took from the client's first step to the bot's word that it is ready.
  async timed(step) {
    const began = performance.now();
    const ready = await step();
    return {ready: plain(ready), ms: performance.now() - began};
  },

  start(endpoint, requestData) {
    return this.timed(() => this.client.startBotAndConnect({endpoint, requestData}));
  },

  // With what `startBot` was answered, or the like of it.
  join(parameters) {
    return this.timed(() => this.client.connect(parameters));
  },

  connect(endpoint, requestData) {
    return this.timed(
      () => this.client.connect({webrtcRequestParams: {endpoint, requestData}}));
  },

  ask(kind, data) {
    return this.client.sendClientRequest(kind, data, 10000);
  },

  // Of the track that the connection has now: `onTrackStarted` is not told again of every new one.
  pitch() {
    if (this.speaker) {
      const analyser = this.speaker._wavStreamPlayer.analyser;
      return analyser ? strongest(analyser) : {hz: 0, db: -200};
    }
    const track = this.transport.pc?.getReceivers()[0]?.track;
    if (track && track !== this.listener?.track) {
      this.listener?.close();
      this.listener = new Listener(track);
    }
    return this.listener ? strongest(this.listener.analyser) : {hz: 0, db: -200};
  },
};
