/** What is to be written by the server, kept in this browser until it has been. */

const RETRY_MS = 4000;

export class Outbox {
  #storage;
  #key;
  #send;
  #isSending = false;
  #timer = null;

  /**
   * `send(address, body)` posts; `onSent(entry, answer)` and `onChange(outbox)` are told.
   * The storage is read anew each time, because another tab may have changed it.
   */
  constructor({ storage, key, send, onSent, onChange }) {
    this.#storage = storage;
    this.#key = key;
    this.#send = send;
    this.onSent = onSent;
    this.onChange = onChange;
    this.lastError = null;
  }

  /** In the order in which they were added; each {number, address, body, refused: null or the server's reason}. */
  get entries() {
    return JSON.parse(this.#storage.getItem(this.#key) ?? "[]");
  }

  /** Keep, then send. An entry that is not sent yet gives way where `replaces(entry)` says so. */
  add(address, body, replaces = () => false) {
    const number = `${Date.now()}-${Math.random()}`;
    this.#write([...this.entries.filter((entry) => !replaces(entry)), { number, address, body, refused: null }]);
    return this.flush();
  }

  /** Give up the entries that the server refused. */
  discardRefused() {
    this.#write(this.entries.filter((entry) => entry.refused === null));
  }

  /** Send what waits, one after the other; later again where the server does not answer. */
  async flush() {
    if (this.#isSending) return;
    this.#isSending = true;
    clearTimeout(this.#timer);
    try {
      for (let entry = this.#next(); entry; entry = this.#next()) await this.#sendOne(entry);
      this.lastError = null;
    } catch (error) {
      this.lastError = error;
      this.#timer = setTimeout(() => this.flush(), RETRY_MS);
    } finally {
      this.#isSending = false;
    }
    this.onChange(this);
  }

  #next() {
    return this.entries.find((entry) => entry.refused === null);
  }

  async #sendOne(entry) {
    let answer;
    try {
      answer = await this.#send(entry.address, entry.body);
    } catch (error) {
      if (error.isPassing !== false) throw error;
      this.#write(
        this.entries.map((other) => (other.number === entry.number ? { ...other, refused: error.message } : other)),
      );
      return;
    }
    this.#write(this.entries.filter((other) => other.number !== entry.number));
    this.onSent(entry, answer);
  }

  #write(entries) {
    this.#storage.setItem(this.#key, JSON.stringify(entries));
    this.onChange(this);
  }
}
