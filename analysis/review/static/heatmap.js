/** Probabilities that were fetched once, in colours and as a mask for any t_p; nothing is asked of the server here. */

// As in analysis/pictures/colours.py; tests/analysis/review/test_browser.py compares the two.
const STOPS = ["#00695c", "#26a65b", "#a8d93a", "#ffe135"]; // from t_p to 1
const LEAST_OPAQUE = 0.38;
export const MOST_OPAQUE = 0.62;

/** The smallest stored value, 0 to 255, that counts as at least t_p. */
export function levelOf(tP) {
  return Math.ceil(tP * 255 - 1e-9);
}

/** Where a probability lies between t_p and 1, 0 to 1. */
function shareOf(probability, tP) {
  return Math.min(Math.max((probability - tP) / Math.max(1 - tP, 1e-6), 0), 1);
}

/** [red, green, blue] of 0 to 255 for a probability of t_p to 1. */
export function colourOf(probability, tP) {
  const place = shareOf(probability, tP) * (STOPS.length - 1);
  const first = Math.min(Math.floor(place), STOPS.length - 2);
  const [low, high] = [STOPS[first], STOPS[first + 1]].map(channels);
  return low.map((value, channel) => Math.round(value + (high[channel] - value) * (place - first)));
}

/** How much a probability hides the tissue, 0 to 1; below t_p the page shows none of it (colourTable). */
export function opacityOf(probability, tP) {
  return LEAST_OPAQUE + (MOST_OPAQUE - LEAST_OPAQUE) * shareOf(probability, tP);
}

function channels(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

/** RGBA for each of the 256 stored values, from t_p on; the opacity is given as a share of the greatest. */
export function colourTable(tP) {
  const table = new Uint8ClampedArray(4 * 256);
  for (let value = 0; value < 256; value++) {
    const share = value < levelOf(tP) ? 0 : opacityOf(value / 255, tP) / MOST_OPAQUE;
    table.set([...colourOf(value / 255, tP), Math.round(255 * share)], 4 * value);
  }
  return new Uint32Array(table.buffer);
}

/** A piece of a heatmap: stored values [height, width] over a box in level-0 px. */
export class Crop {
  #layer = { tP: null, canvas: null };
  #outline = { level: null, path: null };

  constructor({ values, width, height, box }) {
    Object.assign(this, { values, width, height, box });
  }

  /** Read an 8-bit grey PNG. */
  static async read({ blob, box }) {
    const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    const bitmap = await createImageBitmap(blob, options);
    const { width, height } = bitmap;
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    const rgba = context.getImageData(0, 0, width, height).data;
    return new Crop({
      values: Uint8Array.from({ length: width * height }, (_, i) => rgba[4 * i]),
      width,
      height,
      box,
    });
  }

  /** Level-0 px of one pixel. */
  get pixelPx() {
    return this.box[2] / this.width;
  }

  /** The colours as a canvas of the crop's size. */
  layer(tP) {
    if (this.#layer.tP !== tP) {
      const table = colourTable(tP);
      const image = new ImageData(this.width, this.height);
      const pixels = new Uint32Array(image.data.buffer);
      for (let i = 0; i < pixels.length; i++) pixels[i] = table[this.values[i]];
      const canvas = this.#layer.canvas ?? new OffscreenCanvas(this.width, this.height);
      canvas.getContext("2d").putImageData(image, 0, 0);
      this.#layer = { tP, canvas };
    }
    return this.#layer.canvas;
  }

  /** The mask's outline along the edges of the crop's pixels, as a path in them. */
  outline(tP) {
    const level = levelOf(tP);
    if (this.#outline.level !== level) this.#outline = { level, path: outlineOf(this, level) };
    return this.#outline.path;
  }
}

/** Where a pixel of at least `level` touches one below it; the crop's own edge is no outline. */
function outlineOf({ values, width, height }, level) {
  const path = new Path2D();
  for (let row = 1; row < height; row++) {
    const isEdge = (column) => values[row * width + column] >= level !== values[(row - 1) * width + column] >= level;
    forRuns(width, isEdge, (start, end) => line(path, start, row, end, row));
  }
  for (let column = 1; column < width; column++) {
    const isEdge = (row) => values[row * width + column] >= level !== values[row * width + column - 1] >= level;
    forRuns(height, isEdge, (start, end) => line(path, column, start, column, end));
  }
  return path;
}

function line(path, x0, y0, x1, y1) {
  path.moveTo(x0, y0);
  path.lineTo(x1, y1);
}

function forRuns(length, isEdge, found) {
  for (let i = 0; i < length; i++) {
    if (!isEdge(i)) continue;
    const start = i;
    while (i < length && isEdge(i)) i++;
    found(start, i);
  }
}
