/** Areas joined, cut and made from strokes of a brush, by Clipper2: GeoJSON geometries in level-0 px. */

import {
  booleanOpWithPolyTree,
  ClipType,
  EndType,
  FillRule,
  inflatePaths,
  JoinType,
  PolyTree64,
  ramerDouglasPeucker,
} from "./vendor/clipper2/index.js";

const STEPS_PER_PX = 10; // Clipper counts in whole numbers
const LEAST_AREA_PX = 1; // smaller crumbs are left over where two outlines touch
const ARC_TOLERANCE_PX = 0.5;

/** What lies in one or the other; null where that is nothing. */
export function joined(one, other) {
  return combined(ClipType.Union, one, other);
}

/** What lies in the first and not in the second; null where that is nothing. */
export function cut(one, other) {
  return combined(ClipType.Difference, one, other);
}

/** What lies in both; null where that is nothing. */
export function shared(one, other) {
  return combined(ClipType.Intersection, one, other);
}

/** What a closed line goes around, however often it crosses itself; null where that is nothing. */
export function areaWithin(points) {
  return combined(ClipType.Union, { type: "Polygon", coordinates: [points] }, null);
}

/** What a round brush covers that is led along some points. */
export function strokeArea(points, radius) {
  const path = points.map(toSteps);
  const tolerance = Math.min(ARC_TOLERANCE_PX, radius / 50) * STEPS_PER_PX;
  const paths = inflatePaths([path], radius * STEPS_PER_PX, JoinType.Round, EndType.Round, 2, tolerance);
  return geometryOf(resultOf(ClipType.Union, paths, []));
}

/** A line without the points that lie within `tolerance` of it. */
export function simplified(points, tolerance) {
  return ramerDouglasPeucker(points.map(toSteps), tolerance * STEPS_PER_PX).map(toPx);
}

function combined(clipType, one, other) {
  return geometryOf(resultOf(clipType, pathsOf(one), other ? pathsOf(other) : []));
}

function resultOf(clipType, subject, clip) {
  const tree = new PolyTree64();
  // All rings come out turning one way around areas and the other way around holes, so that none fills another.
  booleanOpWithPolyTree(clipType, subject, clip, tree, FillRule.NonZero);
  return tree;
}

function pathsOf({ type, coordinates }) {
  const polygons = type === "MultiPolygon" ? coordinates : [coordinates];
  return polygons.flatMap((rings) => rings.map((ring, number) => turned(ring.map(toSteps), number > 0)));
}

/** A ring that turns left, or right where it is a hole. */
function turned(path, isHole) {
  const twice = path.reduce((sum, { x, y }, i) => {
    const next = path[(i + 1) % path.length];
    return sum + x * next.y - next.x * y;
  }, 0);
  return twice < 0 === isHole ? path : path.reverse();
}

function geometryOf(tree) {
  const polygons = [];
  const take = (node) => {
    const rings = [node, ...node.children].map(({ poly }) => closed(poly.map(toPx)));
    if (Math.abs(areaOf(rings[0])) >= LEAST_AREA_PX) {
      polygons.push([rings[0], ...rings.slice(1).filter((ring) => Math.abs(areaOf(ring)) >= LEAST_AREA_PX)]);
    }
    // Areas within holes are areas of their own.
    node.children.forEach((hole) => hole.children.forEach(take));
  };
  tree.children.forEach(take);
  if (!polygons.length) return null;
  return polygons.length === 1
    ? { type: "Polygon", coordinates: polygons[0] }
    : { type: "MultiPolygon", coordinates: polygons };
}

function areaOf(ring) {
  return ring.reduce((sum, [x, y], i) => {
    const [nextX, nextY] = ring[(i + 1) % ring.length];
    return sum + (x * nextY - nextX * y) / 2;
  }, 0);
}

function closed(ring) {
  return [...ring, ring[0]];
}

function toSteps([x, y]) {
  return { x: Math.round(x * STEPS_PER_PX), y: Math.round(y * STEPS_PER_PX) };
}

function toPx({ x, y }) {
  return [x / STEPS_PER_PX, y / STEPS_PER_PX];
}
