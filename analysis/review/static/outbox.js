/**
 * What is to be written by the server, kept in this browser until it has been.
 *
 * Every entry has a name, by which the server knows one that it is sent twice. What cannot be sent or kept is said.
 */

const RETRY_MS = 4000;

export class Outbox {
  #store;
  #journal;
  #send;
  #isSending = false;
  #inFlight = null;
  #timer = null;
  #lastAt = 0;
  #unkept = new Set();
  #gone = new Set();

  /**
   * In the order in which they were added: {entry, at, address, body, subject, fault, isRefused, wasTried}. The server
   * may have one that was tried, even where no answer came.
   */
  entries = [];
  /** The journals of other studies or reviewers for which this browser keeps something, by name. */
  others = [];
  /** Why nothing can be sent at all, and why this browser keeps nothing; null where it does. */
  lastError = null;
  storageError = null;

  /**
   * `send(address, body)` posts; `onSent(entry, answer)` and `onChange(outbox)` are told. Entries belong to one
   * `journal`: another server may answer at this address later, and must not get them.
   */
  constructor({ store, journal, send, onSent, onChange }) {
    this.#store = store;
    this.#journal = journal;
    this.#send = send;
    this.onSent = onSent;
    this.onChange = onChange;
  }

  /** Read what is kept, also by other tabs. */
  async refresh() {
    try {
      const rows = (await this.#store.all()).filter(({ entry }) => !this.#gone.has(entry));
      const own = rows
        .filter(({ journal }) => journal === this.#journal)
        .map((row) => ({ ...row, wasTried: true }));
      const known = new Set(own.map(({ entry }) => entry));
      const unkept = this.entries.filter(({ entry }) => this.#unkept.has(entry) && !known.has(entry));
      this.entries = [...own, ...unkept].sort((one, other) => one.at - other.at);
      this.others = [...new Set(rows.map(({ journal }) => journal))].filter((name) => name !== this.#journal);
    } catch (error) {
      this.storageError = error;
    }
    this.onChange(this);
  }

  /** Keep and send. Of entries with one `subject` none is sent before those that came earlier. */
  add(address, body, subject) {
    this.#lastAt = Math.max(Date.now(), this.#lastAt + 0.001);
    const row = { entry: newName(), journal: this.#journal, at: this.#lastAt, address, body, subject };
    this.entries = [...this.entries, { ...row, fault: null, isRefused: false, wasTried: false }];
    this.#keep(this.entries.at(-1));
    this.onChange(this);
    this.flush();
    return row.entry;
  }

  /** Take what a page of before kept unsent, in `storage` under `key`; what is no entry stays there, and is said. */
  takeOver(storage, key) {
    const kept = storage.getItem(key);
    if (kept === null) return;
    try {
      for (const { address, body } of JSON.parse(kept)) this.add(address, body, `of before ${body.id ?? body.slide_id}`);
      storage.removeItem(key);
    } catch (error) {
      throw new Error(`What this browser kept unsent under "${key}" cannot be read: ${error.message}`);
    }
  }

  /** How many entries are in this page alone, because the browser did not keep them. */
  get numUnkept() {
    return this.storageError ? this.entries.filter(({ entry }) => this.#unkept.has(entry)).length : 0;
  }

  /** Give an entry up, unless it is being sent just now; returns whether it was. */
  discard(entry) {
    if (entry === this.#inFlight || !this.entries.some((other) => other.entry === entry)) return false;
    this.#drop(entry);
    this.flush();
    return true;
  }

  /** Give up all entries that the server refused. */
  discardRefused() {
    for (const { entry, isRefused } of this.entries) if (isRefused) this.#drop(entry);
  }

  /** Send what waits, one after the other; later again what the server does not take now. */
  async flush() {
    if (this.#isSending) return;
    this.#isSending = true;
    clearTimeout(this.#timer);
    const passedBy = new Set();
    try {
      for (let row = this.#next(passedBy); row; row = this.#next(passedBy)) await this.#sendOne(row, passedBy);
      this.lastError = null;
    } catch (error) {
      this.lastError = error;
    } finally {
      this.#isSending = false;
    }
    if (this.lastError || passedBy.size) this.#timer = setTimeout(() => this.flush(), RETRY_MS);
    this.onChange(this);
  }

  #next(passedBy) {
    return this.entries.find(({ isRefused, subject }) => !isRefused && !passedBy.has(subject));
  }

  async #sendOne(row, passedBy) {
    let answer;
    this.#inFlight = row.entry;
    this.entries = this.entries.map((other) => (other === row ? { ...row, wasTried: true } : other));
    try {
      answer = await this.#send(row.address, { ...row.body, entry: row.entry });
    } catch (error) {
      // Where the server takes nothing at all, the next entry fares no better.
      if (error.isGeneral !== false) throw error;
      if (error.isPassing) passedBy.add(row.subject);
      this.#change({ ...row, wasTried: true, fault: error.message, isRefused: !error.isPassing });
      return;
    } finally {
      this.#inFlight = null;
    }
    this.#drop(row.entry);
    this.onSent(row, answer);
  }

  #change(row) {
    this.entries = this.entries.map((other) => (other.entry === row.entry ? row : other));
    this.#keep(row);
    this.onChange(this);
  }

  #drop(entry) {
    this.#gone.add(entry);
    this.entries = this.entries.filter((other) => other.entry !== entry);
    this.onChange(this);
    // It comes back at the next reload if this fails, and the server knows it then.
    this.#store.remove(entry).catch((error) => (this.storageError = error));
  }

  async #keep(row) {
    this.#unkept.add(row.entry);
    try {
      await this.#store.put(row);
      this.#unkept.delete(row.entry);
      if (!this.#unkept.size) this.storageError = null;
    } catch (error) {
      this.storageError = error;
    }
    this.onChange(this);
  }
}

/** A name that no other entry has. */
export function newName() {
  return `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
}
