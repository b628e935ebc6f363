/** Drawing an outline point by point. */

import { crossesItself } from "./geometry.js";

export class Drawing {
  /** `changed(drawing)` is called at every step, `closed(feature)` with a GeoJSON feature in level-0 px. */
  constructor({ changed, closed }) {
    this.changed = changed;
    this.closed = closed;
    this.draft = null;
    this.fault = "";
  }

  get isOn() {
    return this.draft !== null;
  }

  start(kind) {
    this.#set({ kind, points: [] });
  }

  cancel() {
    this.#set(null);
  }

  /** Add a point, moved onto the slide where it lies beside it. */
  add(x, y, { width, height }) {
    if (!this.isOn) return;
    const point = [clamped(x, width), clamped(y, height)];
    const last = this.draft.points.at(-1);
    if (last && last[0] === point[0] && last[1] === point[1]) return;
    this.#set({ ...this.draft, points: [...this.draft.points, point] });
  }

  back() {
    if (this.isOn) this.#set({ ...this.draft, points: this.draft.points.slice(0, -1) });
  }

  /** End the outline; one that is none is kept open, with the reason in `fault`. */
  close() {
    if (!this.isOn) return;
    const { kind, points } = this.draft;
    if (points.length < 3) return this.#refuse("An outline needs three points or more.");
    if (crossesItself(points)) return this.#refuse("The outline crosses itself: take points back with Backspace.");
    this.#set(null);
    this.closed({
      type: "Feature",
      geometry: { type: "Polygon", coordinates: [[...points, points[0]]] },
      properties: { kind },
    });
  }

  #refuse(fault) {
    this.fault = fault;
    this.changed(this);
  }

  #set(draft) {
    this.draft = draft;
    this.#refuse("");
  }
}

function clamped(value, most) {
  return Math.round(10 * Math.min(Math.max(value, 0), most)) / 10;
}
