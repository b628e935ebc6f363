/** What the server is asked, and how its errors are told. */

export class ServerError extends Error {
  /** `status` is that of HTTP; 0 where no answer came. */
  constructor(message, status) {
    super(message);
    this.status = status;
  }

  /** Whether no other request fares better now: 403 until the address with a new token was opened, 507 a full disk. */
  get isGeneral() {
    return [0, 401, 403, 408, 429, 502, 503, 504, 507].includes(this.status);
  }

  /** Whether the same request can go well later. */
  get isPassing() {
    return this.isGeneral || this.status >= 500;
  }
}

/** Where the page lies: behind a proxy it can be below a path. */
const ROOT = new URL("../", import.meta.url);
const LONGEST_WAIT_MS = 60000;

/** The whole address of a path that begins with /. */
export function urlOf(address) {
  return new URL(address.slice(1), ROOT).href;
}

/** A path from parts of which each is escaped. */
export function path(...parts) {
  return "/" + parts.map((part) => encodeURIComponent(part)).join("/");
}

export async function getJson(address, signal) {
  return json(await ask(address, { signal }));
}

/** The bytes of a picture and the box in level-0 px that they cover. */
export async function getPicture(address, signal) {
  const answer = await ask(address, { signal });
  const box = (answer.headers.get("X-Box") ?? "").split(",").map(Number);
  if (box.length !== 4 || box.some(Number.isNaN)) {
    throw new ServerError(`${address}: the answer has no box`, answer.status);
  }
  return { blob: await answer.blob(), box };
}

export async function postJson(address, body) {
  return json(await post(address, body));
}

/** Make a new token: this browser stays signed in, and no other. */
export function revoke() {
  return post("/revoke", {});
}

function post(address, body) {
  const headers = { "Content-Type": "application/json" };
  const signal = AbortSignal.timeout(LONGEST_WAIT_MS);
  return ask(address, { method: "POST", headers, body: JSON.stringify(body), signal });
}

async function json(answer) {
  try {
    return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    // A proxy's page for signing in, for instance.
    throw new ServerError("What came back is no answer of the server. Load this page anew.", 0);
  }
}

async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(urlOf(address), { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server does not answer. Is it still running?", 0);
  }
  if (!answer.ok) throw new ServerError(await reason(answer), answer.status);
  return answer;
}

async function reason(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).error ?? `error ${answer.status}`;
  } catch {
    return answer.status === 403
      ? "The server refuses this page (403). Open the address with the token that it printed when it started."
      : `The server answered with error ${answer.status}.`;
  }
}
