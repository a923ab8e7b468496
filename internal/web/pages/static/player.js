// The player of a call: lanes drawn from peaks, sound fetched only at Play.
// Without it each lane is a plain <audio controls>.

/** Seconds as people read them. @param {number} s */
const clock = (s) => {
  const whole = Math.max(0, Math.floor(s));
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
};

/**
 * Reads what audio.Peaks writes: version, peaks a second, count, a byte for
 * each peak, a bit for each that was received.
 * @param {ArrayBuffer} data
 */
const readPeaks = (data) => {
  const view = new DataView(data);
  if (data.byteLength < 6 || view.getUint8(0) !== 1) throw new Error("not peaks");
  const count = view.getUint32(2);
  if (data.byteLength !== 6 + count + Math.ceil(count / 8)) throw new Error("not peaks");
  const bits = new Uint8Array(data, 6 + count);
  const present = new Uint8Array(count);
  for (let i = 0; i < count; i++) present[i] = (bits[i >> 3] >> (i & 7)) & 1;
  return { values: new Uint8Array(data, 6, count), present };
};

/** One voice: its sound, and its waveform as a slider. */
class YesLane extends HTMLElement {
  connectedCallback() {
    if (this.strip) return;
    this.audio = /** @type {HTMLAudioElement} */ (this.querySelector("audio"));
    this.audio.controls = false;
    this.audio.hidden = true;
    this.seconds = Number(this.dataset.seconds) || 0;
    this.at = 0;
    this.peaks = null;
    this.strip = document.createElement("div");
    this.strip.className = "strip";
    this.strip.tabIndex = 0;
    this.strip.setAttribute("role", "slider");
    this.strip.setAttribute("aria-label", this.dataset.label ?? "");
    this.strip.setAttribute("aria-valuemin", "0");
    this.strip.setAttribute("aria-valuemax", String(this.seconds));
    this.canvas = document.createElement("canvas");
    this.strip.append(this.canvas);
    this.append(this.strip);
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.strip);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.forced = matchMedia("(forced-colors: active)");
    this.redraw = () => this.draw();
    this.scheme.addEventListener("change", this.redraw);
    this.forced.addEventListener("change", this.redraw);
    this.show(0);
    void this.load();
  }

  disconnectedCallback() {
    this.audio?.pause();
    this.watch?.disconnect();
    this.scheme?.removeEventListener("change", this.redraw);
    this.forced?.removeEventListener("change", this.redraw);
  }

  async load() {
    try {
      const answer = await fetch(this.dataset.peaks ?? "", { credentials: "same-origin" });
      if (!answer.ok) return;
      this.peaks = readPeaks(await answer.arrayBuffer());
      this.draw();
    } catch {
      // The lane stays a plain bar: it can still be played and sought.
    }
  }

  /** Shows the position. @param {number} at seconds */
  show(at) {
    this.at = at;
    this.strip.setAttribute("aria-valuenow", String(Math.floor(at)));
    this.strip.setAttribute("aria-valuetext", `${clock(at)} ${this.dataset.of} ${clock(this.seconds)}`);
    this.draw();
  }

  draw() {
    const { width, height } = this.strip.getBoundingClientRect();
    const scale = devicePixelRatio || 1;
    if (!width || !height) return;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const pen = this.canvas.getContext("2d");
    if (!pen) return;
    pen.scale(scale, scale);
    const style = getComputedStyle(this);
    const wave = style.getPropertyValue("--wave").trim();
    const rest = style.getPropertyValue("--wave-rest").trim();
    const played = this.seconds ? this.at / this.seconds : 0;
    const step = 4;
    const middle = height / 2;
    const bars = Math.max(1, Math.floor((width - 16) / step));
    for (let i = 0; i < bars; i++) {
      const x = 8 + i * step;
      pen.fillStyle = (i + 0.5) / bars <= played ? wave : rest;
      const tall = this.loudness(i / bars, (i + 1) / bars) * (height - 20);
      if (tall < 0) continue; // nothing received here: a gap, not silence
      const bar = Math.max(2, tall);
      pen.beginPath();
      pen.roundRect(x, middle - bar / 2, 2.5, bar, 1.25);
      pen.fill();
    }
    if (played > 0) {
      pen.fillStyle = wave;
      pen.fillRect(8 + played * (width - 16) - 0.75, 4, 1.5, height - 8);
    }
  }

  /** How loud a part is, 0 to 1; -1 where nothing was received. */
  loudness(/** @type {number} */ from, /** @type {number} */ to) {
    if (!this.peaks) return 0;
    const { values, present } = this.peaks;
    const first = Math.floor(from * values.length);
    const last = Math.max(first + 1, Math.ceil(to * values.length));
    let most = -1;
    for (let i = first; i < last && i < values.length; i++) {
      if (present[i] && values[i] > most) most = values[i];
    }
    return most < 0 ? -1 : Math.sqrt(most / 255);
  }
}

/** The lanes of a call, played together. */
class YesPlayer extends HTMLElement {
  connectedCallback() {
    this.lanes = /** @type {YesLane[]} */ ([...this.querySelectorAll("yes-lane")]);
    this.bar = /** @type {HTMLElement | null} */ (this.querySelector(".transport"));
    if (!this.bar || !this.lanes.length || this.ready) return;
    this.ready = true;
    this.bar.hidden = false;
    this.button = /** @type {HTMLButtonElement} */ (this.bar.querySelector(".play"));
    this.word = /** @type {HTMLElement} */ (this.button.querySelector("span"));
    this.now = /** @type {HTMLElement} */ (this.bar.querySelector(".now"));
    this.speed = /** @type {HTMLSelectElement} */ (this.bar.querySelector("select"));
    this.boxes = /** @type {HTMLInputElement[]} */ ([...this.bar.querySelectorAll("input")]);
    this.unheard = /** @type {HTMLElement} */ (this.querySelector(".unheard"));
    this.seconds = Math.max(...this.lanes.map((lane) => lane.seconds));
    /** @type {HTMLElement} */ (this.bar.querySelector(".end")).textContent = clock(this.seconds);
    this.at = 0;
    this.playing = false;
    this.button.addEventListener("click", () => this.toggle());
    this.speed.addEventListener("change", () => this.setSpeed());
    for (const box of this.boxes) box.addEventListener("change", () => this.choose());
    for (const lane of this.lanes) this.listen(lane);
    this.addEventListener("keydown", (e) => this.key(e));
  }

  disconnectedCallback() { this.pause(); }

  /** @param {YesLane} lane */
  listen(lane) {
    lane.audio.addEventListener("timeupdate", () => { if (this.playing && lane === this.lead()) this.moved(lane.audio.currentTime); });
    lane.audio.addEventListener("ended", () => { if (lane === this.lead()) { this.pause(); this.seek(0); } });
    lane.audio.addEventListener("error", () => void this.again(lane));
    // When one voice waits for its next window, the others wait with it.
    for (const name of ["waiting", "canplay", "playing"]) lane.audio.addEventListener(name, () => this.together());
    let dragging = false;
    const point = (/** @type {PointerEvent} */ e) => {
      const box = lane.strip.getBoundingClientRect();
      this.seek(((e.clientX - box.left - 8) / Math.max(1, box.width - 16)) * this.seconds);
    };
    lane.strip.addEventListener("pointerdown", (e) => {
      if (e.button !== 0) return;
      dragging = true;
      lane.strip.setPointerCapture(e.pointerId);
      point(e);
    });
    lane.strip.addEventListener("pointermove", (e) => { if (dragging) point(e); });
    lane.strip.addEventListener("pointerup", () => { dragging = false; });
    lane.strip.addEventListener("pointercancel", () => { dragging = false; });
  }

  /** The voices that are to be played. */
  chosen() {
    return this.lanes.filter((_, i) => !this.boxes.length || this.boxes[i]?.checked);
  }

  /** The longest chosen voice leads; the others keep time with it. */
  lead() {
    return this.chosen().reduce((a, b) => (b.seconds > a.seconds ? b : a), this.chosen()[0]);
  }

  toggle() { if (this.playing) this.pause(); else this.play(); }

  play() {
    if (!this.chosen().length) return;
    this.playing = true;
    this.unheard.hidden = true;
    this.setSpeed();
    for (const lane of this.chosen()) {
      if (this.at >= lane.seconds) continue;
      // The sound is asked for here and nowhere earlier.
      if (Math.abs(lane.audio.currentTime - this.at) > 0.05) lane.audio.currentTime = this.at;
      lane.audio.play().catch((e) => { if (e.name !== "AbortError") void this.again(lane); });
    }
    this.tell();
  }

  pause() {
    this.playing = false;
    for (const lane of this.lanes ?? []) lane.audio?.pause();
    this.tell();
  }

  // While one voice has nothing to play yet, those that have are paused. The
  // late one is never paused: a paused voice may stop fetching.
  together() {
    if (!this.playing) return;
    const lanes = this.chosen().filter((lane) => this.at < lane.seconds && !lane.audio.ended);
    const late = lanes.some((lane) => lane.audio.readyState < 3);
    for (const lane of lanes) {
      if (late && lane.audio.readyState >= 3) lane.audio.pause();
      else if (!late && lane.audio.paused) lane.audio.play().catch(() => {});
    }
  }

  choose() {
    for (const [i, lane] of this.lanes.entries()) lane.strip.classList.toggle("off", !this.boxes[i].checked);
    if (!this.playing) return;
    if (!this.chosen().length) { this.pause(); return; }
    for (const [i, lane] of this.lanes.entries()) if (!this.boxes[i].checked) lane.audio.pause();
    this.play();
  }

  // A new source or a reload falls back to the default rate, so both are set.
  setSpeed() {
    for (const lane of this.lanes) {
      lane.audio.defaultPlaybackRate = Number(this.speed.value);
      lane.audio.playbackRate = Number(this.speed.value);
    }
  }

  /** @param {number} at seconds */
  seek(at) {
    this.at = Math.min(Math.max(0, at), this.seconds);
    for (const lane of this.lanes) {
      // Seeking a voice that was never played would fetch it.
      if (lane.audio.readyState > 0) lane.audio.currentTime = Math.min(this.at, lane.seconds);
    }
    this.draw();
  }

  /** @param {number} at seconds, by the leading voice */
  moved(at) {
    this.at = at;
    for (const lane of this.chosen()) {
      const off = lane.audio.currentTime - at;
      if (!lane.audio.paused && !lane.audio.seeking && Math.abs(off) > 0.15) lane.audio.currentTime = at;
    }
    this.draw();
  }

  draw() {
    this.now.textContent = clock(this.at);
    for (const lane of this.lanes) lane.show(Math.min(this.at, lane.seconds));
  }

  tell() {
    if (!this.button) return;
    this.button.classList.toggle("on", this.playing);
    this.word.textContent = (this.playing ? this.button.dataset.pause : this.button.dataset.play) ?? "";
  }

  /**
   * A ticket ends when nothing was played for two minutes. Opening the page
   * gives new ones, if there are any to be had; the voice goes on from there.
   * @param {YesLane} lane
   */
  async again(lane) {
    if (lane.trying) return; // the element and its promise say the same twice
    if (!this.playing || performance.now() - (lane.tried ?? -Infinity) < 10000) {
      this.failed();
      return;
    }
    lane.trying = true;
    lane.tried = performance.now();
    try {
      const answer = await fetch(location.pathname, { credentials: "same-origin" });
      if (!answer.ok || answer.redirected) throw new Error("no more");
      lane.audio.load();
      lane.audio.currentTime = Math.min(this.at, lane.seconds);
      if (this.playing) await lane.audio.play();
    } catch (e) {
      if (!(e instanceof DOMException && e.name === "AbortError")) this.failed();
    } finally {
      lane.trying = false;
    }
  }

  failed() {
    this.pause();
    this.unheard.hidden = false;
  }

  /** @param {KeyboardEvent} e */
  key(e) {
    if (!(e.target instanceof HTMLElement) || e.target.getAttribute("role") !== "slider" || e.ctrlKey || e.metaKey || e.altKey) return;
    const steps = { ArrowRight: 5, ArrowUp: 5, ArrowLeft: -5, ArrowDown: -5, PageUp: 30, PageDown: -30 };
    if (e.key === " ") this.toggle();
    else if (e.key === "Home") this.seek(0);
    else if (e.key === "End") this.seek(this.seconds);
    else if (e.key in steps) this.seek(this.at + steps[/** @type {keyof typeof steps} */ (e.key)]);
    else return;
    e.preventDefault();
  }
}

customElements.define("yes-lane", YesLane);
customElements.define("yes-player", YesPlayer);
