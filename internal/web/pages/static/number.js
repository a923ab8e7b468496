// The number: while it is typed the house says where it is and what holds there.

import { say, Refused } from "./house.js";

/** @typedef {{shown: string, place: string, rule: string, refused: string}} Look */

/** How long somebody pauses who has typed a number. */
const PAUSE = 300;

const NOTHING = { shown: "", place: "", rule: "", refused: "" };

export class NumberField {
  /** @param {HTMLInputElement} input @param {HTMLElement} place */
  constructor(input, place) {
    this.input = input;
    this.place = place;
    this.shown = ""; // the number as people write it
    input.addEventListener("input", () => this.typed());
    this.prefill();
  }

  get number() { return this.input.value.trim(); }

  /** @param {string} number */
  take(number) {
    this.input.value = number;
    this.typed();
  }

  // A number may come with the address, best behind the #, which goes to nobody.
  prefill() {
    const to = new URLSearchParams(location.hash.slice(1)).get("to") ?? new URLSearchParams(location.search).get("to");
    if (!to) return;
    history.replaceState(null, "", location.pathname);
    this.take(to.slice(0, 32));
  }

  typed() {
    clearTimeout(this.looking);
    this.shown = "";
    const { number } = this;
    if (number.length < 3) this.tell(NOTHING);
    else this.looking = setTimeout(() => void this.look(number), PAUSE);
  }

  /** @param {string} number */
  async look(number) {
    let found = NOTHING;
    try {
      found = await say("/call/look", { number });
    } catch (e) {
      if (e instanceof Refused) found = { ...NOTHING, refused: e.message };
    }
    if (number === this.number) this.tell(found);
  }

  /** @param {Look} found */
  tell(found) {
    this.shown = found.shown;
    this.place.replaceChildren();
    const line = (/** @type {string} */ text, /** @type {string} */ kind) => {
      if (!text) return;
      const el = document.createElement("span");
      el.className = kind;
      el.textContent = text;
      this.place.append(el, " ");
    };
    line([found.shown, found.place].filter(Boolean).join(" · "), "where");
    line(found.refused || found.rule, found.refused && found.shown ? "refused" : "rule"); // what is no number yet is not wrong yet
  }
}
