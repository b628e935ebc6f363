/** What is drawn over the slide: heatmap, mask, annotations, regions, boxes, and the reviewer's own outlines. */

import { areaText, boxOf, lengthText, ringsOf, sharedBox } from "./geometry.js";

export const ANSWER_COLOURS = { Tumor: "#c64600", Normal: "#0065a8", unsure: "#6f5a00" };
/**
 * Colours that neither nuclei nor stroma nor glass have, for any kind of colour vision, each on a rim that it stands
 * out from (tests/analysis/review/test_line_colours.py measures it). Kinds differ in their dashes, too.
 */
export const KIND_LINES = {
  Tumornest: { colour: "#00ff66", under: "#101010", dash: [] },
  Stroma: { colour: "#ff8c00", under: "#101010", dash: [12, 5] },
  Normal: { colour: "#0047ff", under: "#ffffff", dash: [3, 4] },
};
export const REGION_LINE = { colour: "#ffe135", under: "#101010" };
const NO_ANSWER_COLOUR = "#4a5560";
const CHOSEN_COLOUR = "#00e5ff";
const MASK_COLOUR = "#101010";
const HANDLE_PX = 5;

/** Paint everything; `state` is what review.js holds, `place` a Place. */
export function drawLayers(context, place, state) {
  const { show } = state;
  if (show.heatmap) drawHeatmap(context, place, state);
  if (show.mask) drawMask(context, place, state);
  if (show.annotations) state.annotations.forEach((feature) => drawKind(context, place, feature, { width: 1.5 }));
  if (show.boxes) state.boxes.forEach((box) => drawBox(context, place, box));
  if (show.regions) drawRegions(context, place, state);
  if (show.own) state.outlines.forEach((feature) => drawOwn(context, place, feature, state.isChosen(feature)));
  if (state.draft) drawDraft(context, place, state.draft);
  state.rulers.forEach((ruler) => drawRuler(context, place, ruler, state.mpp));
}

/** A coarse crop of the whole slide, and over it a fine one of what is seen. */
function drawHeatmap(context, place, { crops, tP, opacity }) {
  context.save();
  context.globalAlpha = opacity;
  eachCrop(context, place, crops, (crop) => {
    const [x, y, width, height] = crop.box;
    context.imageSmoothingEnabled = place.scale * width < crop.width;
    context.drawImage(crop.layer(tP), x, y, width, height);
  });
  context.restore();
}

function drawMask(context, place, { crops, tP }) {
  eachCrop(context, place, crops, (crop) => {
    const [x, y, width, height] = crop.box;
    context.translate(x, y);
    context.scale(width / crop.width, height / crop.height);
    context.lineWidth = 1.6 / (place.scale * crop.pixelPx);
    context.strokeStyle = MASK_COLOUR;
    context.stroke(crop.outline(tP));
  });
}

/** Each crop in its own part of the slide, in level-0 px: the coarse one where the fine one is not. */
function eachCrop(context, place, { coarse, fine }, draw) {
  for (const crop of [coarse, fine]) {
    if (!crop) continue;
    context.save();
    context.transform(place.a, place.b, place.c, place.d, place.e, place.f);
    if (crop === coarse && fine) {
      const outside = new Path2D();
      outside.rect(...coarse.box);
      outside.rect(...fine.box);
      context.clip(outside, "evenodd");
    }
    draw(crop);
    context.restore();
  }
}

/** Thin outlines; the area stands at the largest of the open section, and at the one under the pointer. */
function drawRegions(context, place, { regions, currentSection, hovered }) {
  for (const { geometry } of regions) {
    strokeTwice(context, outline(geometry, place), REGION_LINE.colour, { ...REGION_LINE, width: 1 });
  }
  const largest = largestOf(regions.filter(({ properties }) => properties.section_id === currentSection));
  for (const region of new Set([largest, hovered])) {
    if (!region) continue;
    const [x, y, width, height] = place.screenBox(boxOf(region.geometry));
    tag(context, areaText(region.properties.area_um2), x + width / 2, y + height + 12, MASK_COLOUR);
  }
}

export function largestOf(regions) {
  return regions.reduce(
    (best, region) => (best && best.properties.area_um2 >= region.properties.area_um2 ? best : region),
    null,
  );
}

function drawKind(context, place, { geometry, properties }, { width }) {
  const line = KIND_LINES[properties.kind] ?? { colour: NO_ANSWER_COLOUR };
  const rings = outline(geometry, place);
  strokeTwice(context, rings, line.colour, { ...line, width });
  return rings;
}

function drawOwn(context, place, feature, isChosen) {
  const rings = drawKind(context, place, feature, { width: isChosen ? 3 : 2 });
  if (!isChosen) return;
  context.save();
  context.fillStyle = CHOSEN_COLOUR;
  context.globalAlpha = 0.12;
  context.fill(rings, "evenodd");
  context.restore();
}

/** What is being drawn: its line or the outline that is moved, the points that can be taken hold of, and a brush. */
function drawDraft(context, place, { points, kind, handles, brush, moved, isCut }) {
  const { colour, under } = isCut ? { colour: MASK_COLOUR } : KIND_LINES[kind];
  const spots = points.map((point) => place.screen(point));
  const path = new Path2D();
  spots.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
  if (brush && spots.length) {
    context.save();
    Object.assign(context, { globalAlpha: 0.35, strokeStyle: colour, lineCap: "round", lineJoin: "round" });
    context.lineWidth = 2 * brush.radius * place.scale;
    if (spots.length === 1) path.lineTo(spots[0][0] + 0.01, spots[0][1]);
    context.stroke(path);
    context.restore();
  } else strokeTwice(context, path, colour, { under, dash: isCut ? [4, 4] : [] });
  if (moved) strokeTwice(context, outline(moved, place), CHOSEN_COLOUR, {});
  if (brush?.at) circle(context, place.screen(brush.at), brush.radius * place.scale, colour);
  handles.forEach((handle, i) => spot(context, place.screen(handle), i ? colour : CHOSEN_COLOUR));
}

function spot(context, [x, y], colour) {
  const path = new Path2D();
  path.arc(x, y, HANDLE_PX, 0, 2 * Math.PI);
  Object.assign(context, { fillStyle: colour, strokeStyle: "white", lineWidth: 1.5 });
  context.fill(path);
  context.stroke(path);
}

function circle(context, [x, y], radius, colour) {
  const path = new Path2D();
  path.arc(x, y, Math.max(radius, 1), 0, 2 * Math.PI);
  strokeTwice(context, path, colour, { width: 1 });
}

/** A measured line with its length. */
function drawRuler(context, place, [from, to], mpp) {
  const [start, end] = [from, to].map((point) => place.screen(point));
  const path = new Path2D();
  path.moveTo(...start);
  path.lineTo(...end);
  strokeTwice(context, path, MASK_COLOUR, { width: 2 });
  [start, end].forEach((place) => spot(context, place, MASK_COLOUR));
  const px = Math.hypot(to[0] - from[0], to[1] - from[1]);
  const text = mpp ? lengthText(px * mpp) : `${Math.round(px)} px`;
  tag(context, text, (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - 14, MASK_COLOUR);
}

function drawBox(context, place, { box, answer, isCurrent, name }) {
  const colour = ANSWER_COLOURS[answer] ?? NO_ANSWER_COLOUR;
  const [x, y, width, height] = box;
  const ring = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]; // prettier-ignore
  const path = outline({ type: "Polygon", coordinates: [ring] }, place);
  strokeTwice(context, path, colour, { width: isCurrent ? 3 : 1.5, dash: answer ? [] : [10, 5] });
  const around = place.screenBox(box);
  const seen = sharedBox(around, [0, 0, ...place.size]);
  const text = answer ? `${name}: ${answer}` : name;
  if (seen && around[2] >= LEAST_TEXT_PX) tag(context, text, seen[0], Math.max(seen[1] - 9, 12), colour, "left");
}

const LEAST_TEXT_PX = 46;

/** A line that is seen on dark and bright tissue: coloured on white, or on what `under` says. */
function strokeTwice(context, path, colour, { width = 2, dash = [], under = "rgba(255, 255, 255, 0.9)" }) {
  context.save();
  context.strokeStyle = under;
  context.lineWidth = width + 2;
  context.stroke(path);
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.stroke(path);
  context.restore();
}

function tag(context, text, x, y, colour, align = "center") {
  context.save();
  context.font = "600 12px system-ui, sans-serif";
  const width = context.measureText(text).width + 10;
  const left = align === "left" ? x : x - width / 2;
  context.fillStyle = colour;
  context.fillRect(left, y - 9, width, 18);
  context.fillStyle = "white";
  context.textBaseline = "middle";
  context.fillText(text, left + 5, y + 0.5);
  context.restore();
}

function outline(geometry, place) {
  const path = new Path2D();
  for (const ring of ringsOf(geometry)) {
    ring.forEach((point, i) => path[i ? "lineTo" : "moveTo"](...place.screen(point)));
    path.closePath();
  }
  return path;
}
