/** Lengths, areas and polygons, in level-0 px and um. */

/** The longest of 1, 2, 5, 10, 20, 50 ... that is not longer than `longest`. */
export function roundLength(longest) {
  const power = 10 ** Math.floor(Math.log10(longest) + 1e-9);
  return Math.max(...[1, 2, 5].map((step) => step * power).filter((length) => length <= longest * (1 + 1e-9)));
}

export function lengthText(um) {
  return um < 1000 ? `${number(um)} \u00b5m` : `${number(um / 1000)} mm`;
}

export function areaText(um2) {
  return um2 < 1e5 ? `${Math.round(um2).toLocaleString("en")} \u00b5m\u00b2` : `${number(um2 / 1e6, 3)} mm\u00b2`;
}

function number(value, digits = 4) {
  return String(Number(value.toPrecision(digits)));
}

/** Boxes are [x, y, width, height]. */
export function grown([x, y, width, height], share) {
  return [x - width * share, y - height * share, width * (1 + 2 * share), height * (1 + 2 * share)];
}

/** What two boxes share, or null. */
export function sharedBox(one, other) {
  const [x, y] = [Math.max(one[0], other[0]), Math.max(one[1], other[1])];
  const right = Math.min(one[0] + one[2], other[0] + other[2]);
  const bottom = Math.min(one[1] + one[3], other[1] + other[3]);
  return right > x && bottom > y ? [x, y, right - x, bottom - y] : null;
}

/** All rings of a GeoJSON Polygon or MultiPolygon. */
export function ringsOf(geometry) {
  return geometry.type === "MultiPolygon" ? geometry.coordinates.flat() : geometry.coordinates;
}

/** [x, y, width, height] around a geometry. */
export function boxOf(geometry) {
  const points = ringsOf(geometry).flat();
  const [left, top, right, bottom] = points.reduce(
    ([l, t, r, b], [x, y]) => [Math.min(l, x), Math.min(t, y), Math.max(r, x), Math.max(b, y)],
    [Infinity, Infinity, -Infinity, -Infinity],
  );
  return [left, top, right - left, bottom - top];
}

/** Whole area in px: rings around holes turn the other way, so their areas are taken off. */
export function areaPx(geometry) {
  const polygons = geometry.type === "MultiPolygon" ? geometry.coordinates : [geometry.coordinates];
  return polygons.reduce(
    (sum, [outer, ...holes]) => sum + holes.reduce((rest, hole) => rest - ringArea(hole), ringArea(outer)),
    0,
  );
}

function ringArea(ring) {
  const twice = ring.reduce((sum, [x, y], i) => {
    const [nextX, nextY] = ring[(i + 1) % ring.length];
    return sum + x * nextY - nextX * y;
  }, 0);
  return Math.abs(twice) / 2;
}

/** Whether two points are at most so far apart. */
export function near([ax, ay], [bx, by], distance) {
  return Math.hypot(ax - bx, ay - by) <= distance;
}

/** Whether a point lies within a geometry; in its holes it does not. */
export function holdsPoint(geometry, [x, y]) {
  let isInside = false;
  for (const ring of ringsOf(geometry)) {
    for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
      const [[ax, ay], [bx, by]] = [ring[i], ring[j]];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) isInside = !isInside;
    }
  }
  return isInside;
}

/** Whether an outline, its last point joined to its first, crosses or touches itself. */
export function crossesItself(points) {
  const sides = points.map((point, i) => [point, points[(i + 1) % points.length]]);
  return sides.some((one, i) =>
    sides.some((other, j) => j > i + 1 && !(i === 0 && j === sides.length - 1) && cross(one, other)),
  );
}

function cross([a, b], [c, d]) {
  return side(a, b, c) * side(a, b, d) <= 0 && side(c, d, a) * side(c, d, b) <= 0;
}

function side([ax, ay], [bx, by], [cx, cy]) {
  return Math.sign((bx - ax) * (cy - ay) - (by - ay) * (cx - ax));
}
