/** What was set is found again after a reload; where the browser keeps nothing, it is as at first. */

import { byId } from "./dom.js";

export class Settings {
  #storage;
  #key;
  #kept;

  /** `storage` is localStorage, for good, or sessionStorage, for this tab. */
  constructor(storage, key) {
    this.#storage = storage;
    this.#key = key;
    this.#kept = this.#read();
  }

  get(name) {
    return this.#kept[name];
  }

  set(name, value) {
    this.#kept[name] = value;
    try {
      this.#storage.setItem(this.#key, JSON.stringify(this.#kept));
    } catch {
      // A full storage: nothing but a setting is lost.
    }
  }

  /** Set inputs as they were left, and keep what becomes of them. */
  keepInputs(ids) {
    for (const id of ids) {
      const input = byId(id);
      const name = input.type === "checkbox" ? "checked" : "value";
      const was = this.#kept[id];
      if (typeof was === typeof input[name]) input[name] = was;
      for (const kind of ["input", "change"]) input.addEventListener(kind, () => this.set(id, input[name]));
    }
  }

  #read() {
    try {
      const kept = JSON.parse(this.#storage.getItem(this.#key) ?? "{}");
      return kept && typeof kept === "object" ? kept : {};
    } catch {
      return {};
    }
  }
}
