// The browser's end of a call: one voice that goes both ways, and one that only
// the house speaks by.

/** How long we look for ways through the network before an offer goes out. */
const GATHER = 2500;

/** A line that does not come back by itself in this time is made anew. */
const PATIENCE = 1500;

/** @param {number} ms */
export const after = (ms) => new Promise((done) => setTimeout(done, ms));

/** What a microphone hears, made for speech. @returns {Promise<MediaStream>} */
export const microphone = () =>
  navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 }, video: false });

/**
 * A voice out of a file, over and over, as if a microphone heard it.
 * @param {AudioContext} sound @param {string} path @returns {Promise<MediaStream>}
 */
export const sample = async (sound, path) => {
  const answer = await fetch(path, { credentials: "same-origin" });
  const to = sound.createMediaStreamDestination();
  const from = sound.createBufferSource();
  from.buffer = await sound.decodeAudioData(await answer.arrayBuffer());
  from.loop = true;
  from.connect(to);
  from.start();
  return to.stream;
};

/**
 * Line tells of itself by events: "open" when sound flows, also again, "lost"
 * when it does not any more.
 */
export class Line extends EventTarget {
  /**
   * @param {RTCIceServer[]} servers @param {boolean} relayOnly by them and by no other way @param {MediaStream} own
   * @param {HTMLAudioElement} voice @param {HTMLAudioElement} house
   */
  constructor(servers, relayOnly, own, voice, house) {
    super();
    const peer = this.peer = new RTCPeerConnection({ iceServers: servers, iceTransportPolicy: relayOnly ? "relay" : "all", bundlePolicy: "max-bundle" });
    this.own = own.getAudioTracks()[0];
    peer.addTransceiver(this.own, { direction: "sendrecv", streams: [own] });
    peer.addTransceiver("audio", { direction: "recvonly" });
    peer.addEventListener("track", (e) => {
      const to = e.transceiver === peer.getTransceivers()[0] ? voice : house;
      to.srcObject = new MediaStream([e.track]);
      to.play().catch(() => {}); // it plays with the next press of a button
    });
    peer.addEventListener("iceconnectionstatechange", () => this.changed());
  }

  changed() {
    const { iceConnectionState: now } = this.peer;
    clearTimeout(this.doubt);
    if (now === "connected" || now === "completed") this.dispatchEvent(new Event("open"));
    if (now === "failed") this.dispatchEvent(new Event("lost"));
    if (now === "disconnected") this.doubt = setTimeout(() => this.dispatchEvent(new Event("lost")), PATIENCE);
  }

  /** A whole offer. @param {boolean} [anew] over another network than before */
  async offer(anew = false) {
    const { peer } = this;
    await peer.setLocalDescription(await peer.createOffer({ iceRestart: anew }));
    const gathered = new Promise((done) => {
      const look = () => { if (peer.iceGatheringState === "complete") done(undefined); };
      peer.addEventListener("icegatheringstatechange", look);
      look();
    });
    await Promise.race([gathered, after(GATHER)]);
    return peer.localDescription?.sdp ?? "";
  }

  /** @param {string} sdp the house's answer */
  async accept(sdp) {
    if (this.peer.signalingState === "have-local-offer") await this.peer.setRemoteDescription({ type: "answer", sdp });
  }

  /** Another microphone takes over. @param {MediaStream} own */
  async speak(own) {
    this.own = own.getAudioTracks()[0];
    await this.peer.getTransceivers()[0].sender.replaceTrack(this.own);
  }

  /** @param {boolean} on nobody hears us */
  mute(on) { this.own.enabled = !on; }

  close() {
    clearTimeout(this.doubt);
    this.peer.close();
  }
}
