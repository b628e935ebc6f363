/** Answers, comments and withdrawals: what a hand says of the open section, on its way into the outbox. */

import { byId, element } from "./dom.js";
import { newName } from "./outbox.js";
import { Visit } from "./visit.js";

export class Answering {
  #drafts = new Map(); // comments that are not saved yet, by section
  #answeredAt = null; // when the last answer was given here, in ms
  #lastId = null;
  #visit = new Visit();

  /**
   * `sections` are those under review, `display` says what is shown of them, `outbox()` sends what is said; `goOn()`
   * opens the next section, where that is wanted.
   */
  constructor({ sections, display, outbox, goOn }) {
    Object.assign(this, { sections, display, outbox, goOn });
  }

  /** The section that was answered last in this tab; null where none was. */
  get lastId() {
    return this.#lastId;
  }

  get hasDrafts() {
    return this.#drafts.size > 0;
  }

  /** Told that another section was opened. */
  begin() {
    const { currentId, current } = this.sections;
    this.#visit = new Visit();
    byId("comment").value = this.#drafts.get(currentId) ?? current.comment ?? "";
  }

  /** Told whenever the page comes into sight or goes out of it. */
  watch() {
    this.#visit.watch();
  }

  /** Told that what a model said is to be seen of the open section. */
  sawHeatmap() {
    this.#visit.sawHeatmap = true;
  }

  /** Show the comment that the server has now, unless another one is being written. */
  takeComment() {
    const { currentId, current } = this.sections;
    if (!this.#drafts.has(currentId)) byId("comment").value = current.comment ?? "";
  }

  keepComment() {
    const { currentId, current } = this.sections;
    if (currentId === null) return;
    const text = byId("comment").value;
    if (text === (current?.comment ?? "")) this.#drafts.delete(currentId);
    else this.#drafts.set(currentId, text);
  }

  answer(value) {
    const section = this.sections.current;
    if (!section) return;
    const id = section.id;
    const comment = byId("comment").value.toWellFormed();
    this.#drafts.delete(id);
    this.#lastId = id;
    // By this page's clock: what cannot be sent now comes at once later.
    const sinceLast = this.#answeredAt === null ? null : (performance.now() - this.#answeredAt) / 1000;
    this.#answeredAt = performance.now();
    const viewed = this.#viewed(this.#visit.sawHeatmap);
    const given = { id, answer: value, comment, seconds: this.#visit.seconds, viewed, since_last_s: sinceLast };
    this.outbox().add("/api/answers", given, `section ${id}`);
    this.#visit = new Visit();
    this.goOn();
  }

  /** The same once more, with the comment as it is by now. */
  answerAgain() {
    this.answer(this.sections.current.answer);
  }

  withdraw() {
    const section = this.sections.current;
    if (section?.answer) this.outbox().add("/api/withdrawals", { id: section.id }, `section ${section.id}`);
  }

  /** As in the paper: what is wrong was changed, and what is left is right. */
  confirmRest() {
    if (byId("confirm-rest").hidden) return;
    this.keepComment();
    const { open, filledIn } = this.#restOfSlide();
    const batch = newName();
    for (const { id, prefilled } of filledIn) {
      const comment = (this.#drafts.get(id) ?? "").toWellFormed();
      this.#drafts.delete(id);
      const given = { id, answer: prefilled, comment, seconds: 0, batch, viewed: this.#viewed(false) };
      this.outbox().add("/api/answers", { ...given, given_as: "rest of the slide" }, `section ${id}`);
    }
    const num = open.length - filledIn.length;
    byId("undone").textContent =
      `${filledIn.length} confirmed` + (num ? `; ${num} blind or without a verdict left: answer them.` : ".");
    this.goOn();
  }

  showRest({ decides }) {
    const { filledIn } = decides ? { filledIn: [] } : this.#restOfSlide();
    byId("confirm-rest").hidden = !filledIn.length;
    byId("confirm-rest").replaceChildren(
      `Confirm the rest of this slide (${filledIn.length}) `,
      element("kbd", {}, "A"),
    );
  }

  showSaveComment() {
    const section = this.sections.current;
    byId("save-comment").hidden = !section?.answer || byId("comment").value === (section.comment ?? "");
  }

  #viewed(heatmap) {
    const { setting, psi, tP } = this.display;
    return { setting, psi, t_p: tP, heatmap };
  }

  /** The sections of the open slide that have no answer, and of them those whose verdict is shown. */
  #restOfSlide() {
    const open = this.sections.of(this.sections.current?.slide_id).filter((section) => !section.answer);
    return { open, filledIn: open.filter((section) => section.revealed && section.prefilled) };
  }
}
