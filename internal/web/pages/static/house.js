// How a page's script asks the house: by form and JSON, same origin, and a no
// comes with a sentence that can be shown.

/** A no of the house; status 0 when it could not be reached. */
export class Refused extends Error {
  /** @param {number} status @param {string} sentence */
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** @param {string} path @param {RequestInit} how @returns {Promise<any>} */
const fetched = async (path, how) => {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", redirect: "error", cache: "no-store", ...how });
  } catch (e) {
    if (e instanceof DOMException && e.name === "AbortError") throw e;
    throw new Refused(0, "");
  }
  let said = null;
  try {
    said = await answer.json();
  } catch {
    throw new Refused(answer.ok ? 0 : answer.status, "");
  }
  if (!answer.ok) throw new Refused(answer.status, said.error ?? "");
  return said;
};

/** Reads, and may wait for news. @param {string} path @param {AbortSignal} [signal] */
export const ask = (path, signal) => fetched(path, { signal });

/** Sends a form. @param {string} path @param {Record<string, string>} fields */
export const say = (path, fields) => fetched(path, { method: "POST", body: new URLSearchParams(fields) });
