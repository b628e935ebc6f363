/** Taking steps back, the newest first: one that was never sent is given up, of the others the server is told. */

import { byId } from "./dom.js";

export class TakingBack {
  /** `outbox()` and `outlines()` are those of the page, `steps` what the server knows; `select(id)` opens a section. */
  constructor({ outbox, outlines, steps, select }) {
    Object.assign(this, { outbox, outlines, steps, select });
  }

  /** Take the newest step back; what was confirmed together goes together. */
  undo() {
    const { entries } = this.outbox();
    const waiting = entries.findLast(({ address, entry }) => address !== "/api/undo" && !this.#undoing.has(entry));
    const step = waiting ? stepOf(waiting) : this.steps.last(this.#undoing);
    byId("undone").textContent = step ? `Taken back: ${this.#nameOfStep(step)}` : "There is no step to take back.";
    if (!step) return;
    const batch = waiting?.body.batch;
    const together = batch ? entries.filter(({ body }) => body.batch === batch) : waiting ? [waiting] : [];
    for (const entry of together.filter(({ wasTried }) => !wasTried)) this.discard(entry);
    const tried = together.findLast(({ wasTried }) => wasTried)?.entry ?? (batch && this.steps.inBatch(batch)?.entry);
    const subject = waiting?.subject ?? this.#subjectOf(step);
    if (tried || !waiting) this.outbox().add("/api/undo", { undone: tried ?? step.entry }, subject);
    if (step.id) this.select(step.id);
  }

  discard({ entry }) {
    this.outbox().discard(entry);
    this.outlines().refresh();
  }

  /** What an entry that waits is called. */
  nameOf(entry) {
    return entry.body.undone ? "undo" : this.#nameOfStep(stepOf(entry));
  }

  /** The names of the steps that are being taken back. */
  get #undoing() {
    return new Set(this.outbox().entries.map(({ body }) => body.undone).filter(Boolean));
  }

  #subjectOf({ id, slide_id: slideId, withdrawn }) {
    return withdrawn ? this.#subjectOf(this.steps.named(withdrawn[0])) : id ? `section ${id}` : `slide ${slideId}`;
  }

  #nameOfStep({ id, slide_id: slideId, answer: said, withdrawn }) {
    if (withdrawn) return `the withdrawal of ${this.steps.named(withdrawn[0])?.id ?? "an answer"}`;
    return id ? `${said ?? "the withdrawal"}, ${id}` : `a change of outlines, ${slideId}`;
  }
}

/** What waits, as the server will know it. */
function stepOf({ entry, address, body }) {
  const slideId = decodeURIComponent(address.split("/").at(-1));
  return body.id ? { entry, id: body.id, answer: body.answer } : { entry, slide_id: slideId };
}
