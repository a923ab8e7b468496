// Passkeys: the options come in a data attribute, and what the authenticator
// answers goes back in a hidden field of the form around the button.

/** How long the options are good for, less a margin. The house says 5 minutes. */
const LIFE = 4.5 * 60 * 1000;

/** @param {string} s base64url */
const decode = (s) => Uint8Array.from(atob(s.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));

/** @param {ArrayBuffer} b */
const encode = (b) => btoa(String.fromCharCode(...new Uint8Array(b))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");

/** @param {any} list of descriptors */
const descriptors = (list) => (list ?? []).map((/** @type {any} */ d) => ({ ...d, id: decode(d.id) }));

/** @param {any} json */
const forCreation = (json) => {
  if (PublicKeyCredential.parseCreationOptionsFromJSON) return PublicKeyCredential.parseCreationOptionsFromJSON(json);
  return { ...json, challenge: decode(json.challenge), user: { ...json.user, id: decode(json.user.id) }, excludeCredentials: descriptors(json.excludeCredentials) };
};

/** @param {any} json */
const forRequest = (json) => {
  if (PublicKeyCredential.parseRequestOptionsFromJSON) return PublicKeyCredential.parseRequestOptionsFromJSON(json);
  return { ...json, challenge: decode(json.challenge), allowCredentials: descriptors(json.allowCredentials) };
};

/** What a credential says, as JSON. Some password managers have no toJSON that works. @param {any} c */
const written = (c) => {
  try {
    return JSON.stringify(c.toJSON());
  } catch {
    const r = c.response;
    /** @type {Record<string, unknown>} */
    const response = { clientDataJSON: encode(r.clientDataJSON) };
    for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"]) if (r[name]) response[name] = encode(r[name]);
    if (r.getTransports) response.transports = r.getTransports();
    return JSON.stringify({ id: c.id, rawId: encode(c.rawId), type: c.type, response, authenticatorAttachment: c.authenticatorAttachment ?? undefined,
      clientExtensionResults: c.getClientExtensionResults?.() ?? {} });
  }
};

/** A form that is sent with a passkey. data-do says whether one is made or used. */
class YesPasskey extends HTMLElement {
  connectedCallback() {
    const form = this.querySelector("form");
    const field = form?.querySelector("input[name=credential]");
    if (this.ready || !form || !(field instanceof HTMLInputElement)) return;
    this.ready = true;
    this.form = form;
    this.field = field;
    this.made = performance.now();
    if (!globalThis.PublicKeyCredential) {
      this.say("unable");
      return;
    }
    form.addEventListener("submit", (e) => {
      if (this.field?.value) return; // it is here: the form may go
      e.preventDefault();
      void this.ask();
    });
    // Back from the next page: what was used once is of no use again.
    addEventListener("pageshow", (e) => { if (e.persisted) location.reload(); });
    if (this.dataset.offer !== undefined) void this.offer();
  }

  disconnectedCallback() { this.waiting?.abort(); }

  options() { const all = JSON.parse(this.dataset.options ?? "{}"); return all.publicKey ?? all; }

  /** Shows one of the sentences that stand ready in the page. @param {string} [name] */
  say(name) {
    for (const p of this.querySelectorAll("[data-when]")) if (p instanceof HTMLElement) p.hidden = p.dataset.when !== name;
  }

  /** Somebody pressed the button. */
  async ask() {
    if (this.busy) return;
    if (performance.now() - (this.made ?? 0) > LIFE) {
      location.reload();
      return;
    }
    this.busy = true;
    this.say();
    this.waiting?.abort();
    this.setAttribute("aria-busy", "true");
    try {
      const credential = this.dataset.do === "create"
        ? await navigator.credentials.create({ publicKey: forCreation(this.options()) })
        : await navigator.credentials.get({ publicKey: forRequest(this.options()) });
      this.send(credential);
    } catch (e) {
      this.say(e instanceof DOMException && e.name === "InvalidStateError" ? "known" : "refused");
      if (this.dataset.offer !== undefined) void this.offer();
    } finally {
      this.busy = false;
      this.removeAttribute("aria-busy");
    }
  }

  /** Offers passkeys where the browser offers what to fill in. */
  async offer() {
    if (!await PublicKeyCredential.isConditionalMediationAvailable?.()) return;
    const waiting = this.waiting = new AbortController();
    try {
      const credential = await navigator.credentials.get({ publicKey: forRequest(this.options()), mediation: "conditional", signal: waiting.signal });
      if (performance.now() - (this.made ?? 0) > LIFE) location.reload();
      else this.send(credential);
    } catch {
      // They pressed the button instead, or went away.
    }
  }

  /** @param {Credential | null} credential */
  send(credential) {
    if (!credential || !this.field || !this.form) return;
    this.field.value = written(credential);
    this.form.requestSubmit();
  }
}

customElements.define("yes-passkey", YesPasskey);
