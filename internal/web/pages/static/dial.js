// The dialer: a number becomes a call, and the page shows how far it is. What it
// shows comes from the house; what is pressed here is said to the house and
// shown when it comes back.

import { ask, say, Refused } from "./house.js";
import { Line, after, microphone, sample } from "./line.js";
import { Ear } from "./meter.js";
import { NumberField } from "./number.js";
import { Bell, listen } from "./ring.js";
import { Stage, asksMe, lookOf } from "./stage.js";

/** @typedef {import("./stage.js").CallState} CallState */

/** How long a call tries to come back over another network. */
const PATIENCE = 30_000;

/** Somebody hung up before there was a call. */
class GivenUp extends Error {}

class YesDialer extends HTMLElement {
  connectedCallback() {
    if (this.ready) return;
    this.ready = true;
    /** @type {Record<string, HTMLElement>} */
    this.part = {};
    for (const el of this.querySelectorAll("[data-part]")) if (el instanceof HTMLElement) this.part[el.dataset.part ?? ""] = el;
    this.form = /** @type {HTMLFormElement} */ (this.part.form);
    this.to = new NumberField(/** @type {HTMLInputElement} */ (this.querySelector("#to")), this.part.place);
    this.stage = new Stage(this, this.part);
    this.sure = /** @type {HTMLDialogElement} */ (this.part.sure);
    this.rings = "";
    this.attempt = 0; // which one this is: hanging up begins another
    this.form.addEventListener("submit", (e) => { e.preventDefault(); void this.start(); });
    this.form.addEventListener("change", () => this.choose());
    this.to.input.addEventListener("input", () => this.problem());
    this.addEventListener("click", (e) => this.pressed(e));
    this.sure.addEventListener("close", () => { if (this.sure.returnValue === "end") void this.hangUp(); });
    addEventListener("keydown", (e) => this.key(e));
    addEventListener("pointerdown", () => { this.sound ??= new AudioContext(); }, { once: true }); // a page may ring once somebody touched it
    addEventListener("online", () => void this.restart());
    addEventListener("beforeunload", (e) => { if (this.line) e.preventDefault(); });
    addEventListener("beforeinstallprompt", (e) => { e.preventDefault(); this.install = e; this.stage.button("install").hidden = false; });
    this.choose();
    listen(({ call, from }) => this.ring(call === this.call ? "" : call, from), () => { this.ring("", ""); this.problem("out"); });
    this.resume();
    this.keepWorker();
    const tick = (/** @type {number} */ now) => {
      if (!this.isConnected) return;
      this.stage.tick(now, this.state, this.scene(), this.muted && this.ear ? 0 : this.ear?.loudness(), this.otherEar?.loudness());
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  // A call that our own phone carries goes on when the page is loaded anew.
  resume() {
    const call = sessionStorage.getItem("call-by-phone");
    if (!call) return;
    this.byPhone = true;
    this.enter("connecting");
    this.begin(call);
  }

  keepWorker() {
    if (!navigator.serviceWorker || !isSecureContext) return;
    /** @type {any} */
    const types = /** @type {any} */ (globalThis).trustedTypes;
    /** @type {any} */
    const place = types ? types.createPolicy("yesline", { createScriptURL: () => "/sw.js" }).createScriptURL("") : "/sw.js";
    navigator.serviceWorker.register(place).catch(() => {}); // the page works without
  }

  // ---- Before the call

  /** By browser or by phone, with which voice. */
  choose() {
    this.byPhone = new FormData(this.form).get("with") === "phone";
    this.part["with-phone"].hidden = !this.byPhone;
    this.part["with-browser"].hidden = this.byPhone;
    const sampled = this.part.sample;
    this.sampled = sampled instanceof HTMLInputElement && sampled.checked;
    this.stage.button("try").disabled = this.sampled;
    if (this.sampled || this.byPhone) this.quiet();
  }

  /** Shows one of the problems that stand ready, or a sentence of the house. @param {string} [name] @param {string} [sentence] */
  problem(name, sentence) {
    const words = sentence || (name ? this.querySelector(`[data-problem="${name}"]`)?.textContent : "") || "";
    const where = this.dataset.look === "idle" ? this.part.problem : this.part.trouble;
    this.part.problem.hidden = this.part.trouble.hidden = true;
    where.textContent = words;
    where.hidden = !words;
  }

  /** @param {unknown} e */
  wrong(e) {
    if (e instanceof Refused) this.problem(e.status === 404 ? "out" : "offline", e.status === 404 ? "" : e.message);
    else if (e instanceof DOMException && ["NotAllowedError", "SecurityError"].includes(e.name)) this.problem("denied");
    else if (e instanceof DOMException && ["NotFoundError", "NotReadableError", "OverconstrainedError"].includes(e.name)) this.problem("missing");
    else this.problem("unable");
  }

  /** What will be heard of us: the microphone, or the sample. */
  async voice() {
    if (this.own) return this.own;
    this.sound ??= new AudioContext();
    void this.sound.resume();
    const own = this.sampled ? await sample(this.sound, this.dataset.sample ?? "") : await microphone();
    this.own = own;
    this.ear = new Ear(this.sound, own);
    own.getAudioTracks()[0].addEventListener("ended", () => void this.revive(own));
    return own;
  }

  /** The microphone was taken away: whichever there is now goes on. @param {MediaStream} was */
  async revive(was) {
    if (this.own !== was) return;
    this.ear?.close();
    this.own = this.ear = undefined;
    try {
      const own = await this.voice();
      await this.line?.speak(own);
      this.line?.mute(this.muted ?? false);
      this.problem();
    } catch (e) {
      this.wrong(e);
    }
    this.render();
  }

  /** Lets go of the microphone. */
  quiet() {
    for (const track of this.own?.getTracks() ?? []) track.stop();
    this.ear?.close();
    this.otherEar?.close();
    this.own = this.ear = this.otherEar = undefined;
    this.stage.quiet();
  }

  async tryVoice() {
    if (this.own) return;
    this.problem();
    try {
      await this.voice();
    } catch (e) {
      this.wrong(e);
    }
  }

  // ---- The call

  async start() {
    const to = this.to.number;
    if (this.busy || this.call) return;
    if (!to) {
      this.problem("number");
      this.to.input.focus();
      return;
    }
    this.busy = true;
    this.problem();
    this.other = this.to.shown || to;
    try {
      if (this.byPhone) {
        this.enter("connecting");
        this.begin((await say("/call/phone", { to })).call);
      } else {
        await this.connect((sdp) => say("/call", { to, sdp }));
      }
    } catch (e) {
      this.failed(e);
    } finally {
      this.busy = false;
    }
  }

  /** There is no call after all. @param {unknown} e */
  failed(e) {
    if (e instanceof GivenUp) return;
    this.leave();
    this.wrong(e);
  }

  /** Makes a line and gives its offer to whom it is for. @param {(sdp: string) => Promise<{call?: string, sdp: string}>} send */
  async connect(send) {
    const attempt = this.attempt;
    const stay = () => { if (attempt !== this.attempt) throw new GivenUp(); };
    if (!this.own) this.enter(this.sampled ? "connecting" : "asking-leave");
    const own = await this.voice();
    if (attempt !== this.attempt) this.quiet();
    stay();
    this.enter("connecting");
    const { iceServers, relayOnly } = await ask("/call/servers");
    stay();
    const line = this.line = new Line(iceServers, relayOnly, own, /** @type {HTMLAudioElement} */ (this.part.voice), /** @type {HTMLAudioElement} */ (this.part.house));
    line.addEventListener("lost", () => void this.restart());
    line.addEventListener("open", () => this.opened());
    const offer = await line.offer();
    stay();
    const answer = await send(offer);
    if (attempt !== this.attempt && answer.call) void say(`/calls/${answer.call}/say`, { word: "hangup" }).catch(() => {});
    stay();
    await line.accept(answer.sdp);
    if (answer.call) this.begin(answer.call);
  }

  opened() {
    this.lost = 0;
    const heard = /** @type {HTMLAudioElement} */ (this.part.voice).srcObject;
    if (!this.otherEar && this.sound && heard instanceof MediaStream) this.otherEar = new Ear(this.sound, heard);
    if (this.state) this.render();
  }

  /** Follows a call until it ends. @param {string} call */
  begin(call) {
    this.call = call;
    this.muted = false;
    if (this.byPhone) sessionStorage.setItem("call-by-phone", call);
    void this.stayAwake();
    this.following = new AbortController();
    void this.follow(call, this.following.signal);
  }

  /** A telephone that lies on the table keeps its screen on. */
  async stayAwake() {
    try {
      this.awake = await navigator.wakeLock?.request("screen");
    } catch {
      // It may sleep; the call goes on.
    }
  }

  /** @param {string} call @param {AbortSignal} signal */
  async follow(call, signal) {
    let wait = 250;
    for (let version = 0; !signal.aborted;) {
      try {
        const state = /** @type {CallState} */ (await ask(`/calls/${call}/state?after=${version}`, signal));
        version = state.version;
        wait = 250;
        this.arrived(state);
        if (state.state === "ended") return;
      } catch (e) {
        if (signal.aborted) return;
        if (e instanceof Refused && e.status === 404) {
          this.ended();
          this.problem("out");
          return;
        }
        await after(wait);
        wait = Math.min(4000, 2 * wait);
      }
    }
  }

  /** @param {CallState} state */
  arrived(state) {
    const now = performance.now();
    this.state = state;
    if (state.other) this.other = state.other;
    this.since = state.state === "bridged" ? now - 1000 * state.seconds : this.since;
    this.until = state.question && state.leftMillis > 0 ? now + state.leftMillis : 0;
    this.span = this.until ? Math.max(this.span ?? 0, state.leftMillis) : 0;
    if (state.state === "ended") this.ended();
    this.render();
  }

  /** A new offer over the network that there is now. */
  async restart() {
    const { line, call } = this;
    if (!line || !call || this.mending || this.state?.state === "ended") return;
    this.mending = true;
    this.lost ||= performance.now();
    this.render();
    try {
      for (let wait = 500; this.line === line; wait = Math.min(4000, 2 * wait)) {
        try {
          const answer = await say(`/calls/${call}/reconnect`, { sdp: await line.offer(true) });
          await line.accept(answer.sdp);
          break;
        } catch (e) {
          if (e instanceof Refused && e.status >= 400 && e.status < 500) break; // the call's own state will tell
          if (performance.now() - this.lost > PATIENCE) {
            this.problem("lost");
            break;
          }
          await after(wait);
        }
      }
    } finally {
      this.mending = false;
    }
    // Whatever came of it, the line itself says when sound flows again.
    if (["connected", "completed"].includes(line.peer.iceConnectionState)) this.opened();
  }

  /** Says a word to the call. @param {string} word */
  async tell(word) {
    if (!this.call || this.state?.state === "ended") return;
    try {
      await say(`/calls/${this.call}/say`, { word });
    } catch (e) {
      if (e instanceof Refused && e.status !== 409) this.problem("offline", e.message);
    }
  }

  /** Nobody hears us from here on, whether or not the house can be reached. */
  async hangUp() {
    this.line?.close();
    this.line = undefined;
    this.quiet();
    const { call, state } = this;
    if (!state) this.leave(); // it never came so far that the house could tell its end
    if (!call || state?.state === "ended") return;
    try {
      await say(`/calls/${call}/say`, { word: "hangup" });
    } catch (e) {
      if (e instanceof Refused && e.status === 409) return; // the line's end came first, and the call's own state tells how
      if (state && this.call === call) this.arrived({ ...state, state: "ended", question: false, ending: "" });
      this.following?.abort();
    }
  }

  ended() {
    this.line?.close();
    this.line = undefined;
    this.quiet();
    if (this.sure.open) this.sure.close();
    sessionStorage.removeItem("call-by-phone");
    void this.awake?.release();
    /** @type {HTMLAnchorElement} */ (this.part.see).href = `/calls/${this.call}`;
    const voice = /** @type {HTMLAudioElement} */ (this.part.voice);
    const house = /** @type {HTMLAudioElement} */ (this.part.house);
    voice.srcObject = house.srcObject = null;
    this.ring(this.rings, this.caller ?? ""); // what rings can be taken now
  }

  /** Shows the stage, before the house tells how far the call is. @param {string} look */
  enter(look) { this.stage.show(look, this.state, this.scene()); }

  render() {
    if (!this.state) return;
    this.enter(this.state.state !== "ended" && this.lost ? "reconnecting" : lookOf(this.state, this.byPhone ?? false));
  }

  scene() {
    return { other: this.other ?? "", until: this.until ?? 0, span: this.span ?? 0, since: this.since ?? 0, speaks: this.line !== undefined,
      owns: this.own !== undefined, muted: this.muted ?? false, sampled: this.sampled ?? false };
  }

  /** Back to the number. */
  leave() {
    this.attempt++;
    sessionStorage.removeItem("call-by-phone");
    void this.awake?.release();
    this.following?.abort();
    this.line?.close();
    this.line = this.call = this.state = this.following = undefined;
    this.since = this.until = this.lost = this.span = 0;
    this.muted = false;
    this.quiet();
    this.stage.close();
    this.to.input.focus();
  }

  // ---- What is pressed

  /** @param {MouseEvent} e */
  pressed(e) {
    const button = e.target instanceof Element ? e.target.closest("button") : null;
    if (!button) return;
    if (button.dataset.number) {
      this.to.take(button.dataset.number);
      void this.start();
      return;
    }
    if (button.dataset.key) { this.press(button.dataset.key); return; }
    switch (button.dataset.do) {
      case "try": void this.tryVoice(); break;
      case "agree": this.agree("agree"); break;
      case "lasting": this.agree("agree_always"); break;
      case "mute":
        this.muted = !this.muted;
        this.line?.mute(this.muted);
        this.render();
        break;
      case "keypad":
        this.part.keypad.hidden = !this.part.keypad.hidden;
        this.render();
        break;
      case "decline": case "stop": case "pause": case "resume": case "record": void this.tell(button.dataset.do); break;
      case "hang": void this.hangUp(); break;
      case "again": this.leave(); break;
      case "accept": void this.accept(); break;
      case "turn-away": void this.turnAway(); break;
      case "install": this.installed(); break;
    }
  }

  /** A yes counts only after the question's last word; the house says so too. @param {string} word */
  agree(word) { if (this.state && asksMe(this.state) && this.state.mayAgree) void this.tell(word); }

  /** A key of the keypad or the keyboard. @param {string} key */
  press(key) {
    if (this.state && asksMe(this.state)) {
      if (key === "1") { this.agree("agree"); return; }
      if (key === "2") { void this.tell("decline"); return; }
    }
    if (!this.state || this.state.state === "ended") return;
    this.part.sent.textContent = `${this.part.sent.textContent}${key}`.slice(-16);
    void this.tell(`key=${key}`);
  }

  /** @param {KeyboardEvent} e */
  key(e) {
    if (!this.state || this.state.state === "ended" || this.sure.open || e.ctrlKey || e.metaKey || e.altKey || e.repeat) return;
    if (e.target instanceof HTMLInputElement) return;
    if (e.key === "Escape") {
      e.preventDefault();
      this.sure.returnValue = "";
      this.sure.showModal();
    } else if (/^[0-9*#]$/.test(e.key)) {
      e.preventDefault();
      this.press(e.key);
    }
  }

  installed() {
    /** @type {any} */ (this.install)?.prompt();
    this.install = undefined;
    this.stage.button("install").hidden = true;
  }

  // ---- What rings

  /** @param {string} call "" when nothing rings @param {string} from */
  ring(call, from) {
    const busy = this.line !== undefined || this.call !== undefined && this.state?.state !== "ended" || Boolean(this.busy);
    if (call !== this.rings) {
      this.bell?.stop();
      this.bell = call && !busy && this.sound?.state === "running" ? new Bell(this.sound) : undefined;
    }
    if (call && call !== this.rings) this.part.urgent.textContent = `${this.part.urgent.dataset.call} ${from}`;
    this.rings = call;
    this.caller = from;
    this.part.ring.hidden = !call;
    this.part.from.textContent = from;
    this.part.busy.hidden = !busy;
    this.stage.button("accept").disabled = busy;
    if (this.dataset.look === "idle") document.title = call ? `${from} calls · Yesline` : this.stage.title;
    if (call) navigator.vibrate?.([200, 100, 200]);
  }

  async accept() {
    const call = this.rings;
    if (!call || this.busy || this.call && this.state?.state !== "ended") return;
    if (this.call) this.leave();
    this.busy = true;
    this.problem();
    this.byPhone = false;
    this.other = this.caller ?? "";
    try {
      await this.connect((sdp) => say(`/calls/${call}/answer`, { sdp }));
      this.ring("", "");
      this.begin(call);
    } catch (e) {
      this.failed(e);
    } finally {
      this.busy = false;
    }
  }

  async turnAway() {
    const call = this.rings;
    this.ring("", "");
    try {
      await say(`/calls/${call}/say`, { word: "hangup" });
    } catch {
      // It stopped ringing by itself.
    }
  }
}

customElements.define("yes-dialer", YesDialer);
