// The stage: what is seen of a call. It shows what the house says and what the
// dialer tells it, and decides nothing.

import { Meter } from "./meter.js";

/**
 * @typedef {{version: number, state: string, recording: string, question: boolean, mayAgree: boolean, mayLast: boolean, leftMillis: number,
 *   mine: string, theirs: boolean, away: boolean, paused: boolean, canAsk: boolean, reason: string, ending: string, other: string, seconds: number}} CallState
 */

/**
 * What the dialer knows beside the call's own state.
 * @typedef {{other: string, until: number, span: number, since: number, speaks: boolean, owns: boolean, muted: boolean, sampled: boolean}} Scene
 */

/** @param {number} s seconds */
const clock = (s) => {
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const m = Math.floor(s / 60);
  return m < 60 ? `${m}:${two(s % 60)}` : `${Math.floor(m / 60)}:${two(m % 60)}:${two(s % 60)}`;
};

/** My answer is waited for, and I can hear that it is. @param {CallState} c */
export const asksMe = (c) => c.question && c.state !== "ringing" && c.state !== "ended";

/** In one word how far a call is: each has its own look. @param {CallState} c @param {boolean} byPhone */
export const lookOf = (c, byPhone) => {
  if (c.state === "ended") return "ended";
  if (asksMe(c) && (c.mayAgree || c.state !== "notice")) return "yours";
  if (c.state === "ringing") return byPhone ? "ringing-me" : "ringing";
  if (c.state === "notice" && !c.mine) return "notice";
  if (c.theirs) return c.away ? "ringing" : "theirs";
  if (c.state !== "bridged") return c.mine ? "settled" : "notice";
  if (c.paused) return "paused";
  return ["both", "me", "them"].includes(c.recording) ? c.recording : "nobody";
};

export class Stage {
  /** @param {HTMLElement} root @param {Record<string, HTMLElement>} part its parts, by their names */
  constructor(root, part) {
    this.root = root;
    this.part = part;
    this.meter = new Meter(/** @type {HTMLCanvasElement} */ (part.meter));
    this.idleMeter = new Meter(/** @type {HTMLCanvasElement} */ (part["idle-meter"]));
    this.title = document.title;
  }

  /** @param {string} name @returns {HTMLButtonElement} */
  button(name) { return /** @type {HTMLButtonElement} */ (this.root.querySelector(`[data-do="${name}"]`)); }

  /** The stage instead of the number. */
  open() {
    if (!this.part.stage.hidden) return;
    this.part.idle.hidden = true;
    this.part.stage.hidden = false;
    this.part.word.focus();
  }

  /** The number instead of the stage. */
  close() {
    this.part.stage.hidden = true;
    this.part.idle.hidden = false;
    this.part.keypad.hidden = true;
    this.part.sent.textContent = "";
    this.root.dataset.look = "idle";
    document.title = this.title;
  }

  /** The voice is not heard any more. */
  quiet() {
    this.meter.clear();
    this.idleMeter.clear();
    this.root.style.removeProperty("--you-loud");
    this.root.style.removeProperty("--them-loud");
  }

  /** @param {string} look @param {CallState | undefined} state @param {Scene} scene */
  show(look, state, scene) {
    this.open();
    this.word(look, state, scene.other);
    this.ask(state, scene);
    this.tools(state, scene);
  }

  /** The big word, and the line below it. @param {string} look @param {CallState | undefined} state @param {string} other */
  word(look, state, other) {
    const was = this.root.dataset.look;
    this.root.dataset.look = look;
    this.part.other.textContent = other;
    const saying = this.part.sayings.querySelector(`[data-look="${look}"]`);
    const word = saying?.querySelector("b")?.textContent ?? "";
    const said = saying?.querySelector("span")?.textContent ?? "";
    const detail = sentence(look === "ended" && state?.ending || look === "nobody" && state?.reason || said);
    this.part.word.textContent = word;
    this.part.detail.textContent = detail;
    document.title = `${word} · ${other} · Yesline`;
    if (was !== look) this.part.told.textContent = `${word}${word.endsWith("?") ? "" : "."} ${detail}`;
  }

  /** The question. The focus stays where it is: nobody says yes by a key that was meant for something else. @param {CallState | undefined} state @param {Scene} scene */
  ask(state, scene) {
    const asked = state !== undefined && asksMe(state);
    const may = asked && state?.mayAgree || false;
    const { question, urgent, hint, countdown } = this.part;
    if (may && !this.may) urgent.textContent = urgent.dataset.ask ?? "";
    if (!may && this.may) urgent.textContent = "";
    this.may = may;
    question.hidden = !asked;
    hint.textContent = (may ? hint.dataset.now : hint.dataset.wait) ?? "";
    countdown.hidden = !scene.until;
    this.button("agree").setAttribute("aria-disabled", String(!may));
    this.button("lasting").hidden = !(may && state?.mayLast);
  }

  /** The buttons that mean something now. @param {CallState | undefined} state @param {Scene} scene */
  tools(state, scene) {
    const live = state !== undefined && state.state !== "ended";
    const over = state?.state === "ended";
    const talking = live && state.state === "bridged";
    const recorded = talking && state.recording !== "nobody";
    const mine = recorded && state.recording !== "them";
    const shown = {
      mute: scene.speaks,
      keypad: live,
      pause: recorded && !state.paused && !state.question,
      resume: talking && state.paused,
      stop: mine || talking && state.paused && state.mine === "yes",
      record: talking && state.canAsk && !state.question,
      hang: !over,
    };
    for (const [name, is] of Object.entries(shown)) this.button(name).hidden = !is;
    const { part } = this;
    if (over) part.keypad.hidden = true;
    part.controls.hidden = part.sent.hidden = over;
    part.controls.dataset.tools = String(part.controls.querySelectorAll(".tool:not([hidden])").length); // the sheet lays four out as two and two
    part.own.hidden = !scene.owns || over;
    part["own-word"].textContent = part["own-word"].dataset[scene.muted ? "mute" : scene.sampled ? "sample" : "mic"] ?? "";
    this.button("mute").setAttribute("aria-pressed", String(scene.muted));
    this.button("keypad").setAttribute("aria-expanded", String(!part.keypad.hidden));
    const was = part.after.hidden;
    part.after.hidden = !over;
    if (over && was) part.word.focus();
  }

  /**
   * Meters, clock and countdown.
   * @param {number} now @param {CallState | undefined} state @param {Scene} scene
   * @param {number} [you] how loud each is, 0 to 1 @param {number} [them]
   */
  tick(now, state, scene, you, them) {
    const { part, root } = this;
    if (you !== undefined) {
      (part.stage.hidden ? this.idleMeter : this.meter).show(you, now);
      root.style.setProperty("--you-loud", you.toFixed(2));
    }
    if (them !== undefined) root.style.setProperty("--them-loud", them.toFixed(2));
    if (state?.state !== "ended") put(part.clock, state?.state === "bridged" ? clock(Math.max(0, Math.floor((now - scene.since) / 1000))) : "");
    if (!scene.until) {
      root.style.removeProperty("--left");
      return;
    }
    const left = Math.max(0, scene.until - now);
    root.style.setProperty("--left", (left / (scene.span || 1)).toFixed(3));
    put(part.secs, `${Math.ceil(left / 1000)} s`);
  }
}

/** What a room says in words, as a sentence. @param {string} s */
const sentence = (s) => s && s[0].toUpperCase() + s.slice(1) + (/[.!?]$/.test(s) ? "" : ".");

/** @param {HTMLElement} where @param {string} text */
const put = (where, text) => { if (where.textContent !== text) where.textContent = text; };
