/** Where the slide lies on the screen: level-0 px to screen px and back, turned and mirrored as the view is. */

export class Place {
  /**
   * `scale` screen px per level-0 px; `degrees` clockwise; `isMirrored` left to right, after turning; the level-0
   * point `centre` lies in the middle of the screen of `size` px.
   */
  constructor({ scale, degrees = 0, isMirrored = false, centre, size }) {
    Object.assign(this, { scale, degrees, isMirrored, centre, size });
    const angle = (degrees * Math.PI) / 180;
    // Right angles are whole: upright pictures stay on whole pixels.
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)].map((each) => Math.round(each * 1e12) / 1e12);
    const side = isMirrored ? -scale : scale;
    [this.a, this.b, this.c, this.d] = [side * cos, scale * sin, -side * sin, scale * cos];
    this.e = size[0] / 2 - this.a * centre[0] - this.c * centre[1];
    this.f = size[1] / 2 - this.b * centre[0] - this.d * centre[1];
  }

  /** A point of level 0 on the screen. */
  screen([x, y]) {
    return [this.a * x + this.c * y + this.e, this.b * x + this.d * y + this.f];
  }

  /** A point of the screen in level-0 px. */
  level0([x, y]) {
    const [u, v, area] = [x - this.e, y - this.f, this.a * this.d - this.b * this.c];
    return [(this.d * u - this.c * v) / area, (this.a * v - this.b * u) / area];
  }

  /** Let a canvas of `ratio` pixels per screen px be drawn on in level-0 px. */
  applyTo(context, ratio = 1) {
    context.setTransform(...[this.a, this.b, this.c, this.d, this.e, this.f].map((each) => each * ratio));
  }

  /** The upright box [x, y, width, height] on the screen around a box in level-0 px. */
  screenBox(box) {
    return around(cornersOf(box).map((corner) => this.screen(corner)));
  }

  /** The upright box in level-0 px around what is seen, beyond the slide's edges too. */
  get seenBox() {
    return around(cornersOf([0, 0, ...this.size]).map((corner) => this.level0(corner)));
  }
}

function cornersOf([x, y, width, height]) {
  return [
    [x, y],
    [x + width, y],
    [x + width, y + height],
    [x, y + height],
  ];
}

function around(points) {
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  return [left, top, Math.max(...xs) - left, Math.max(...ys) - top];
}
