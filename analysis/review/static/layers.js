/** What is drawn over the slide: heatmap, mask, annotations, regions, boxes, and the reviewer's own outlines. */

import { areaText, boxOf, ringsOf, sharedBox } from "./geometry.js";

export const ANSWER_COLOURS = { Tumor: "#c64600", Normal: "#0065a8", unsure: "#6f5a00" };
export const KIND_COLOURS = { Tumornest: "#d01c8b", Stroma: "#00735c", Normal: "#0065a8" };
const NO_ANSWER_COLOUR = "#4a5560";
const REGION_COLOUR = "#ffe135";
const MASK_COLOUR = "#101010";
const LEAST_TEXT_PX = 46;

/** Paint everything; `state` is what review.js holds, `place` what SlideView gives. */
export function drawLayers(context, place, state) {
  const { show } = state;
  if (show.heatmap) drawHeatmap(context, place, state);
  if (show.mask) drawMask(context, place, state);
  if (show.annotations) state.annotations.forEach((feature) => drawAnnotation(context, place, feature));
  if (show.boxes) state.boxes.forEach((box) => drawBox(context, place, box));
  if (show.regions) state.regions.forEach((region) => drawRegion(context, place, region));
  if (show.own) state.outlines.forEach((feature) => drawOwn(context, place, feature));
  if (state.draft) drawDraft(context, place, state.draft);
}

/** A coarse crop of the whole slide, and over it a fine one of what is seen. */
function drawHeatmap(context, place, { crops, tP, opacity }) {
  context.save();
  context.globalAlpha = opacity;
  eachCrop(context, place, crops, (crop) => {
    const [x, y, width, height] = onScreen(crop.box, place);
    context.imageSmoothingEnabled = width < crop.width;
    context.drawImage(crop.layer(tP), x, y, width, height);
  });
  context.restore();
}

function drawMask(context, place, { crops, tP }) {
  eachCrop(context, place, crops, (crop) => {
    const [x, y, width, height] = onScreen(crop.box, place);
    context.translate(x, y);
    context.scale(width / crop.width, height / crop.height);
    context.lineWidth = (1.6 * crop.width) / width;
    context.strokeStyle = MASK_COLOUR;
    context.stroke(crop.outline(tP));
  });
}

/** Each crop in its own part of the screen: the coarse one where the fine one is not. */
function eachCrop(context, place, { coarse, fine }, draw) {
  for (const crop of [coarse, fine]) {
    if (!crop) continue;
    context.save();
    if (crop === coarse && fine) {
      const outside = new Path2D();
      outside.rect(-1e5, -1e5, 2e5 + innerWidth, 2e5 + innerHeight);
      outside.rect(...onScreen(fine.box, place));
      context.clip(outside, "evenodd");
    }
    draw(crop);
    context.restore();
  }
}

function drawAnnotation(context, place, { geometry, properties }) {
  strokeTwice(context, outline(geometry, place), KIND_COLOURS[properties.kind] ?? NO_ANSWER_COLOUR, { dash: [7, 4] });
}

function drawRegion(context, place, { geometry, properties }) {
  context.save();
  const rings = outline(geometry, place);
  context.strokeStyle = MASK_COLOUR;
  context.lineWidth = 4;
  context.stroke(rings);
  context.strokeStyle = REGION_COLOUR;
  context.lineWidth = 2;
  context.stroke(rings);
  const [x, y, width, height] = onScreen(boxOf(geometry), place);
  if (Math.max(width, height) >= LEAST_TEXT_PX)
    tag(context, areaText(properties.area_um2), x + width / 2, y + height + 12, MASK_COLOUR);
  context.restore();
}

function drawOwn(context, place, { geometry, properties }) {
  const rings = outline(geometry, place);
  context.save();
  context.fillStyle = KIND_COLOURS[properties.kind];
  context.globalAlpha = 0.14;
  context.fill(rings, "evenodd");
  context.restore();
  strokeTwice(context, rings, KIND_COLOURS[properties.kind], {});
}

/** An outline that is being drawn: its points, and a thin line back to the first. */
function drawDraft(context, place, { points, kind }) {
  const spots = points.map(([x, y]) => [x * place.scale + place.x, y * place.scale + place.y]);
  const path = new Path2D();
  spots.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
  strokeTwice(context, path, KIND_COLOURS[kind], {});
  for (const [x, y] of spots) {
    const spot = new Path2D();
    spot.arc(x, y, 4, 0, 2 * Math.PI);
    context.fillStyle = KIND_COLOURS[kind];
    context.fill(spot);
    context.strokeStyle = "white";
    context.stroke(spot);
  }
}

function drawBox(context, place, { box, answer, isCurrent, name }) {
  const [x, y, width, height] = onScreen(box, place);
  const colour = ANSWER_COLOURS[answer] ?? NO_ANSWER_COLOUR;
  const path = new Path2D();
  path.rect(x, y, width, height);
  strokeTwice(context, path, colour, { width: isCurrent ? 3 : 1.5, dash: answer ? [] : [10, 5] });
  const seen = sharedBox([x, y, width, height], [0, 0, context.canvas.width, context.canvas.height]);
  const text = answer ? `${name}: ${answer}` : name;
  if (seen && width >= LEAST_TEXT_PX) tag(context, text, seen[0], Math.max(seen[1] - 9, 12), colour, "left");
}

/** A line that is seen on dark and bright tissue: coloured on white. */
function strokeTwice(context, path, colour, { width = 2, dash = [] }) {
  context.save();
  context.strokeStyle = "rgba(255, 255, 255, 0.85)";
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

function outline(geometry, { scale, x, y }) {
  const path = new Path2D();
  for (const ring of ringsOf(geometry)) {
    ring.forEach(([px, py], i) => path[i ? "lineTo" : "moveTo"](px * scale + x, py * scale + y));
    path.closePath();
  }
  return path;
}

function onScreen([x, y, width, height], place) {
  return [x * place.scale + place.x, y * place.scale + place.y, width * place.scale, height * place.scale];
}
