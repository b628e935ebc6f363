/** The sections under review: what the server says of them, what of it waits to be sent, and which one is open. */

import { listed, readFilters } from "./filters.js";

export class Sections {
  #entries;
  #order;

  /** As the server has them. */
  all = [];
  currentId = null;

  /** `entries()` are those of the outbox; `order()` says {bySlide, headline} of the list. */
  constructor({ entries, order }) {
    this.#entries = entries;
    this.#order = order;
  }

  get current() {
    return this.#withWaiting(this.named(this.currentId));
  }

  named(id) {
    return this.all.find((section) => section.id === id);
  }

  /** All with what has not been sent yet, if there is anything: an answer, or that there is none any more. */
  get known() {
    return this.#entries().length ? this.all.map((section) => this.#withWaiting(section)) : this.all;
  }

  /** Those of a slide, likewise. */
  of(slideId) {
    return this.all.filter((section) => section.slide_id === slideId).map((section) => this.#withWaiting(section));
  }

  /** The newest entry about a section that waits to be sent. */
  waitingFor(id) {
    return this.#entries().findLast((entry) => entry.body.id === id);
  }

  #withWaiting(section) {
    const entry = section && this.waitingFor(section.id);
    return entry ? { ...section, answer: entry.body.answer ?? null, comment: entry.body.comment ?? "" } : section;
  }

  /** As the list shows them. */
  get listed() {
    return listed(this.known, { filters: readFilters(), currentId: this.currentId, ...this.#order() });
  }

  /** The one so many places further down the list. */
  beside(by) {
    const shown = this.listed;
    return shown[shown.findIndex((section) => section.id === this.currentId) + by];
  }

  /** The next listed one without an answer, from the first on again after the last. */
  get nextOpen() {
    const shown = this.listed;
    const place = shown.findIndex((section) => section.id === this.currentId);
    return [...shown.slice(place + 1), ...shown.slice(0, place)].find((section) => !section.answer);
  }

  /** Take over what the server says of some; returns those that it shows more of than before. */
  take(changed) {
    const uncovered = changed.filter(({ id, revealed }) => revealed && !this.named(id)?.revealed);
    const byKey = new Map(changed.map((section) => [section.id, section]));
    this.all = this.all.map((section) => byKey.get(section.id) ?? section);
    return uncovered;
  }
}
