// What a call that comes in sounds like, and how the tabs of one browser share
// it: one of them waits for the house and tells the others.

import { ask, Refused } from "./house.js";
import { after } from "./line.js";

/** @typedef {{call: string, from: string}} Rings "" when nothing rings */

/** Two soft tones, twice, every three seconds. */
export class Bell {
  /** @param {AudioContext} sound */
  constructor(sound) {
    const loud = this.loud = sound.createGain();
    loud.gain.value = 0;
    loud.connect(sound.destination);
    this.tones = [440, 554].map((pitch) => {
      const tone = sound.createOscillator();
      tone.frequency.value = pitch;
      tone.connect(loud);
      tone.start();
      return tone;
    });
    const strike = () => {
      for (const at of [0, 0.5]) {
        loud.gain.setTargetAtTime(0.08, sound.currentTime + at, 0.02);
        loud.gain.setTargetAtTime(0, sound.currentTime + at + 0.3, 0.05);
      }
    };
    strike();
    this.again = setInterval(strike, 3000);
  }

  stop() {
    clearInterval(this.again);
    for (const tone of this.tones) tone.stop();
    this.loud.disconnect();
  }
}

/**
 * Waits for calls as long as the page is open.
 * @param {(rings: Rings) => void} rings @param {() => void} out nobody is signed in any more
 */
export const listen = (rings, out) => {
  const tabs = new BroadcastChannel("yesline-rings");
  /** @type {Rings | null} */
  let now = null;
  tabs.onmessage = (e) => {
    if (e.data === "out") out();
    else if (e.data !== "what") rings(e.data);
    else if (now) tabs.postMessage(now);
  };
  const wait = async () => {
    let pause = 1000;
    for (let version = 0;;) {
      try {
        const news = await ask(`/call/incoming?after=${version}`);
        version = news.version;
        pause = 1000;
        now = { call: news.call, from: news.from };
        tabs.postMessage(now);
        rings(now);
      } catch (e) {
        if (e instanceof Refused && e.status === 404) {
          tabs.postMessage("out");
          out();
          return;
        }
        await after(pause);
        pause = Math.min(15_000, 2 * pause);
      }
    }
  };
  tabs.postMessage("what");
  if (navigator.locks) void navigator.locks.request("yesline-rings", wait);
  else void wait();
};
