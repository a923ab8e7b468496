// How loud a voice is, to be seen while one speaks.

/** Reads the loudness of a stream, 0 to 1. */
export class Ear {
  /** @param {AudioContext} sound @param {MediaStream} stream */
  constructor(sound, stream) {
    this.from = sound.createMediaStreamSource(stream);
    this.look = sound.createAnalyser();
    this.look.fftSize = 1024;
    this.from.connect(this.look);
    this.wave = new Float32Array(this.look.fftSize);
  }

  loudness() {
    this.look.getFloatTimeDomainData(this.wave);
    let sum = 0;
    for (const x of this.wave) sum += x * x;
    return Math.min(1, Math.sqrt(Math.sqrt(sum / this.wave.length) * 3));
  }

  close() { this.from.disconnect(); }
}

const STEP = 5; // pixels a bar
const PACE = 60; // milliseconds a bar

/** A strip of bars that runs with the voice, like the lanes of a recorded call. */
export class Meter {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    /** @type {number[]} */
    this.bars = [];
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.last = 0;
    this.spoken = 0;
    this.draw();
  }

  /** @param {number} loud 0 to 1 @param {number} now milliseconds */
  show(loud, now) {
    if (now - this.last < (this.still.matches ? 4 * PACE : PACE)) return;
    this.last = now;
    this.bars.push(loud);
    if (this.bars.length > 400) this.bars.splice(0, 200);
    if (now - this.spoken > 500) {
      this.spoken = now;
      this.canvas.setAttribute("aria-valuenow", String(Math.round(loud * 100)));
    }
    this.draw();
  }

  clear() {
    this.bars = [];
    this.canvas.setAttribute("aria-valuenow", "0");
    this.draw();
  }

  draw() {
    const { width, height } = this.canvas.getBoundingClientRect();
    const pen = this.canvas.getContext("2d");
    if (!width || !height || !pen) return;
    const scale = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    pen.scale(scale, scale);
    const style = getComputedStyle(this.canvas);
    const count = Math.floor(width / STEP);
    const loudest = this.bars.at(-1) ?? 0;
    for (let i = 0; i < count; i++) {
      // Who wants no motion sees one bar that grows, and not a strip that runs.
      const loud = this.still.matches ? 0.5 : this.bars[this.bars.length - count + i] ?? 0;
      const tall = Math.max(3, loud * (height - 4));
      const lit = this.still.matches ? i < loudest * count : loud > 0.02;
      pen.fillStyle = style.getPropertyValue(lit ? "--mine" : "--line").trim();
      pen.beginPath();
      pen.roundRect(i * STEP + 1, (height - tall) / 2, STEP - 2, tall, 1.5);
      pen.fill();
    }
  }
}
