/** Things that this browser keeps over a reload: a table of IndexedDB whose rows have an `entry` of their own. */

const TABLE = "entries";

export class Store {
  #name;
  #opened = null;

  constructor(name) {
    this.#name = name;
  }

  /** All rows, the oldest first. */
  async all() {
    const rows = await this.#run("readonly", (table) => table.getAll());
    return rows.sort((one, other) => one.at - other.at);
  }

  put(row) {
    return this.#run("readwrite", (table) => table.put(row));
  }

  remove(entry) {
    return this.#run("readwrite", (table) => table.delete(entry));
  }

  /** What `act(table)` asks for, once it is on the disk: a full disk fails after the request itself went well. */
  async #run(mode, act) {
    const database = await this.#open();
    return new Promise((resolve, reject) => {
      const change = database.transaction(TABLE, mode, { durability: "strict" });
      const request = act(change.objectStore(TABLE));
      change.oncomplete = () => resolve(request.result);
      change.onabort = () => reject(change.error ?? request.error);
    });
  }

  #open() {
    this.#opened ??= opened(this.#name, () => (this.#opened = null)).catch((error) => {
      // Tried again with the next row.
      this.#opened = null;
      throw error;
    });
    return this.#opened;
  }
}

function opened(name, closed) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "entry" });
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      request.result.onclose = closed;
      resolve(request.result);
    };
  });
}
