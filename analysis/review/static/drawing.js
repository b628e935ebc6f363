/** The tools in the hand: outlines point by point or freehand, brush, eraser, holes, corners, and a ruler. */

import { crossesItself, holdsPoint, near, ringsOf } from "./geometry.js";
import { areaWithin, cut, joined, shared, simplified, strokeArea } from "./shapes.js";

/** What each tool says of itself. */
export const TOOLS = {
  points: "click points; the first one, a double click or Enter closes, Backspace takes one back, Esc cancels",
  hole: "click around what is to be left out; the first point, a double click or Enter closes, Esc cancels",
  freehand: "draw around an area in one go; Esc ends",
  brush: "paint; an outline of this kind that is touched grows; [ and ] change the width, Esc ends",
  eraser: "paint what is to be taken off your outlines; [ and ] change the width, Esc ends",
  corners: "drag a corner, or a side to bend it; Delete takes the last one off, Esc ends",
  ruler: "drag from one point to another; Esc takes the lines off",
};
const BY_STROKE = new Set(["freehand", "brush", "eraser"]);
const BY_POINTS = new Set(["points", "hole"]);
const NEAR_PX = { mouse: 9, touch: 20 }; // of the screen
const STEP_PX = 2; // of a stroke, on the screen
const BRUSHES_PX = [4, 8, 12, 18, 26, 36, 50, 70]; // radii, on the screen
const MOST_CORNERS_CHECKED = 2000;

export class Drawing {
  #stroke = null;
  #held = null;
  #brush = 4;
  #at = null;

  /**
   * `changed(drawing)` is called at every step, `change({added, removed})` with GeoJSON features in level-0 px and
   * with those that are no more; one that is corrected keeps its id, and is added alone;
   * `features()` are those there are, `slide()` is {width, height}, `scale()` screen px per level-0 px.
   */
  constructor({ changed, change, features, slide, scale }) {
    Object.assign(this, { changed, change, features, slide, scale });
    this.tool = null;
    this.kind = null;
    this.points = [];
    this.rulers = [];
    this.chosen = null;
    this.fault = "";
  }

  get isOn() {
    return this.tool !== null;
  }

  get hint() {
    if (!this.isOn) return "";
    const num = BY_POINTS.has(this.tool) ? ` (${this.points.length})` : "";
    return this.fault || `${this.tool === "points" ? this.kind : this.tool}: ${TOOLS[this.tool]}${num}`;
  }

  /** Whether an outline is the one whose corners are shown. */
  isChosen({ id }) {
    return this.tool === "corners" && id !== undefined && id === this.chosen?.id;
  }

  /** What layers.js is to draw of it; null where nothing is. */
  get draft() {
    if (!this.isOn) return null;
    const { kind, tool } = this;
    const isBrush = tool === "brush" || tool === "eraser";
    return {
      kind,
      isCut: tool === "eraser" || tool === "hole",
      points: this.#stroke ?? this.points,
      moved: this.#held?.geometry ?? null,
      handles: tool === "corners" ? this.#handles() : this.points,
      brush: isBrush ? { radius: this.radius, at: this.#at } : null,
    };
  }

  /** The brush's radius in level-0 px: as wide on the screen at every magnification. */
  get radius() {
    return BRUSHES_PX[this.#brush] / this.scale();
  }

  /** Take a tool into the hand, or lay it down where it is there already. */
  take(tool, kind) {
    const wasOn = this.tool === tool;
    this.stop();
    if (wasOn) return;
    Object.assign(this, { tool, kind });
    this.#tell();
  }

  /** Lay the tool down; what is not closed is given up. */
  stop() {
    if (this.tool === "ruler") this.rulers = [];
    Object.assign(this, { tool: null, points: [], chosen: null });
    [this.#stroke, this.#held, this.#at] = [null, null, null];
    this.#tell();
  }

  widen(steps) {
    this.#brush = Math.min(Math.max(this.#brush + steps, 0), BRUSHES_PX.length - 1);
    this.#tell();
  }

  /** Take the last point back, or the corner that was touched last. */
  back() {
    if (this.tool === "corners") this.#removeCorner();
    else this.#setPoints(this.points.slice(0, -1));
  }

  /** End an outline of points; one that is none is kept open, with the reason in `fault`. */
  close() {
    if (!BY_POINTS.has(this.tool)) return;
    const { points, tool, kind } = this;
    if (points.length < 3) return this.#tell("An outline needs three points or more.");
    if (crossesItself(points)) return this.#tell("The outline crosses itself: take points back with Backspace.");
    const geometry = { type: "Polygon", coordinates: [[...points, points[0]]] };
    if (tool === "hole" && !this.#takeOff(geometry)) return this.#tell("No outline of yours lies below it.");
    this.stop();
    if (tool === "points") this.change({ added: [made(geometry, kind)], removed: [] });
  }

  // ---- what pointers do, in level-0 px; true where the slide is to stay

  press(point, { isTouch = false } = {}) {
    this.isTouch = isTouch;
    if (this.tool === "corners") this.#held = this.#cornerAt(this.#onSlide(point));
    if (BY_STROKE.has(this.tool)) this.#stroke = [this.#onSlide(point)];
    if (this.tool === "ruler") this.rulers = [...this.rulers, [point, point]];
    if (this.isOn) this.#tell();
    return this.isHolding();
  }

  drag(point) {
    if (!this.isHolding()) return false;
    const spot = this.#onSlide(point);
    if (this.#held) this.#moveCorner(spot);
    else if (this.tool === "ruler") this.rulers = [...this.rulers.slice(0, -1), [this.rulers.at(-1)[0], spot]];
    else if (!near(this.#stroke.at(-1), spot, STEP_PX / this.scale())) this.#stroke.push(spot);
    this.#at = spot;
    this.#tell();
    return true;
  }

  isHolding() {
    return Boolean(this.#held || this.#stroke || (this.tool === "ruler" && this.rulers.length));
  }

  release() {
    if (this.#held) this.#endCorner();
    if (this.#stroke) this.#endStroke();
  }

  click(point) {
    if (!BY_POINTS.has(this.tool)) return this.isOn;
    const spot = this.#onSlide(point);
    const { points } = this;
    if (points.length > 2 && near(points[0], spot, this.#nearPx())) this.close();
    // A double click is two clicks at one place.
    else if (!points.length || !near(points.at(-1), spot, 3 / this.scale())) this.#setPoints([...points, spot]);
    return true;
  }

  doubleClick() {
    if (BY_POINTS.has(this.tool) && this.points.length) this.close();
    return this.isOn;
  }

  hover(point) {
    if (!this.isOn) return;
    this.#at = point;
    if (this.tool === "brush" || this.tool === "eraser") this.changed(this);
  }

  /** Two fingers move the slide: what one of them began is given up. */
  pinch() {
    if (this.tool === "ruler" && this.rulers.length) this.rulers = this.rulers.slice(0, -1);
    if (!this.#stroke && !this.#held) return;
    [this.#stroke, this.#held] = [null, null];
    this.#tell();
  }

  // ---- strokes

  #endStroke() {
    const tolerance = 0.5 / this.scale();
    const points = simplified(this.#stroke, tolerance);
    this.#stroke = null;
    if (this.tool === "freehand") this.#addFreehand(points);
    else this.#paint(strokeArea(points, this.radius));
  }

  #addFreehand(points) {
    const area = points.length < 3 ? null : areaWithin(points);
    if (!area) return this.#tell("That goes around no area: keep the button or finger down while you draw.");
    this.#tell();
    this.change({ added: [made(area, this.kind)], removed: [] });
  }

  #paint(stroke) {
    const area = shared(stroke, this.#slideArea());
    if (!area) return this.#tell("That lies beside the slide.");
    if (this.tool === "eraser") return this.#tell(this.#takeOff(area) ? "" : "No outline of yours lies there.");
    const { kind } = this;
    const touched = this.features().filter((each) => each.properties.kind === kind && shared(each.geometry, area));
    const geometry = touched.reduce((sum, each) => joined(sum, each.geometry), area);
    const [grown, ...taken] = touched;
    this.#tell();
    this.change({ added: [grown ? { ...grown, geometry } : made(geometry, kind)], removed: taken });
  }

  /** Take an area off all outlines; whether there was anything to take. */
  #takeOff(area) {
    const touched = this.features().filter(({ geometry }) => shared(geometry, area));
    const left = touched.map((each) => ({ ...each, geometry: cut(each.geometry, area) }));
    const [added, removed] = [left.filter(({ geometry }) => geometry), left.filter(({ geometry }) => !geometry)];
    if (touched.length) this.change({ added, removed });
    return touched.length > 0;
  }

  // ---- corners

  #handles() {
    const geometry = this.#held?.geometry ?? this.features().find((feature) => this.isChosen(feature))?.geometry;
    const rings = geometry ? ringsOf(geometry) : [];
    const corners = rings.flatMap((ring) => ring.slice(0, -1));
    return corners.length > MOST_CORNERS_CHECKED ? [] : corners;
  }

  /** The corner under a point, or a new one on the side under it; an outline that is pressed elsewhere is chosen. */
  #cornerAt(point) {
    const chosen = this.features().find((feature) => this.isChosen(feature));
    const inTurn = [...(chosen ? [chosen] : []), ...this.features().toReversed()];
    for (const feature of inTurn) {
      const rings = ringsOf(feature.geometry);
      for (const place of [cornerNear(rings, point, this.#nearPx()), sideNear(rings, point, this.#nearPx())]) {
        if (!place) continue;
        this.chosen = feature;
        const geometry = structuredClone(feature.geometry);
        const held = { feature, geometry, ...place };
        if (place.isNew) ringsOf(geometry)[place.ring].splice(place.corner, 0, point);
        return held;
      }
    }
    this.chosen = inTurn.find(({ geometry }) => holdsPoint(geometry, point)) ?? null;
    return null;
  }

  #moveCorner(point) {
    setCorner(ringsOf(this.#held.geometry)[this.#held.ring], this.#held.corner, point);
    this.#held.hasMoved = true;
  }

  #endCorner() {
    const { feature, geometry, hasMoved, ring, corner } = this.#held;
    this.#held = null;
    // By its place: the server may number the corners otherwise.
    this.touched = ringsOf(geometry)[ring][corner];
    if (hasMoved) this.#replace(feature, geometry);
    else this.#tell();
  }

  #removeCorner() {
    const chosen = this.features().find((feature) => this.isChosen(feature));
    if (!chosen || !this.touched) return;
    const geometry = structuredClone(chosen.geometry);
    const place = cornerNear(ringsOf(geometry), this.touched, 1);
    if (!place) return;
    const ring = ringsOf(geometry)[place.ring];
    if (ring.length <= 4) return this.#tell("An outline needs three corners or more.");
    ring.pop();
    ring.splice(place.corner, 1);
    ring.push(ring[0]);
    this.touched = null;
    this.#replace(chosen, geometry);
  }

  #replace(feature, geometry) {
    const isCrossed = ringsOf(geometry).some(
      (ring) => ring.length <= MOST_CORNERS_CHECKED && crossesItself(ring.slice(0, -1)),
    );
    if (isCrossed) return this.#tell("The outline would cross itself there: it stays as it was.");
    this.#tell();
    this.change({ added: [{ ...feature, geometry }], removed: [] });
  }

  // ---- small things

  #nearPx() {
    return (this.isTouch ? NEAR_PX.touch : NEAR_PX.mouse) / this.scale();
  }

  #slideArea() {
    const { width, height } = this.slide();
    const ring = [[0, 0], [width, 0], [width, height], [0, height], [0, 0]]; // prettier-ignore
    return { type: "Polygon", coordinates: [ring] };
  }

  #onSlide([x, y]) {
    const { width, height } = this.slide();
    return [clamped(x, width), clamped(y, height)];
  }

  #setPoints(points) {
    this.points = points;
    this.#tell();
  }

  #tell(fault = "") {
    this.fault = fault;
    this.changed(this);
  }
}

function made(geometry, kind) {
  return { type: "Feature", geometry, properties: { kind } };
}

function clamped(value, most) {
  return Math.round(10 * Math.min(Math.max(value, 0), most)) / 10;
}

function cornerNear(rings, point, distance) {
  for (const [ring, points] of rings.entries()) {
    const corner = points.slice(0, -1).findIndex((each) => near(each, point, distance));
    if (corner >= 0) return { ring, corner };
  }
  return null;
}

function sideNear(rings, [x, y], distance) {
  for (const [ring, points] of rings.entries()) {
    for (let i = 0; i + 1 < points.length; i++) {
      const [[ax, ay], [bx, by]] = [points[i], points[i + 1]];
      const [dx, dy] = [bx - ax, by - ay];
      const share = Math.min(Math.max(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1), 0), 1);
      if (near([ax + share * dx, ay + share * dy], [x, y], distance)) return { ring, corner: i + 1, isNew: true };
    }
  }
  return null;
}

/** The first corner of a ring stands at its end, too. */
function setCorner(ring, corner, point) {
  ring[corner] = point;
  if (corner === 0) ring[ring.length - 1] = point;
}
