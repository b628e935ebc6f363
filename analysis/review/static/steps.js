/** The steps that the server has kept: what other tabs did, and what can be taken back. */

import { getJson } from "./server.js";

export class Steps {
  #steps = [];
  #isAsking = false;
  #again = false;

  /**
   * `changed(steps, sections)` is called with the steps that are new, and the sections that they touch;
   * `listIs(version)` with the version of the list of sections.
   */
  constructor(changed, listIs) {
    this.changed = changed;
    this.listIs = listIs;
  }

  /** Ask for what came since; asked again while it is under way, it asks once more afterwards. */
  async refresh() {
    if (this.#isAsking) {
      this.#again = true;
      return;
    }
    this.#isAsking = true;
    try {
      do {
        this.#again = false;
        const { num, steps, sections, list } = await getJson(`/api/history?since=${this.#steps.length}`);
        // A journal that became shorter is another one: nothing that is shown is right any more.
        if (num < this.#steps.length) location.reload();
        this.#steps.push(...steps);
        if (steps.length) this.changed(steps, sections);
        await this.listIs(list);
      } while (this.#again);
    } finally {
      this.#isAsking = false;
    }
  }

  /** The step of a name, if it is known. */
  named(entry) {
    return this.#steps.find((step) => step.entry === entry);
  }

  /** A step of those that were confirmed together, if one is known. */
  inBatch(batch) {
    return this.#steps.find((step) => step.batch === batch);
  }

  /** The newest step that stands and is not in `undone`, the names of those that are being taken back; or undefined. */
  last(undone) {
    const gone = new Set(undone);
    // What was confirmed together is taken back together.
    const batches = new Set([...undone].map((entry) => this.named(entry)?.batch).filter(Boolean));
    // From the end: a withdrawal that was itself taken back takes nothing back.
    return this.#steps.findLast(({ entry, kind, withdrawn, batch }) => {
      if (gone.has(entry) || batches.has(batch)) return false;
      withdrawn?.forEach((other) => gone.add(other));
      return kind !== "undo";
    });
  }
}
