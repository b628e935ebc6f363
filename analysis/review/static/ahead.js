/** Fetching what comes next while a section is looked at. */

import { fitScale, tilesDown, tilesOf } from "./deep_zoom.js";

const MOST_TILES = 240; // what a screen of 4K shows, twice

export class Ahead {
  #images = new Map();

  /** `addressOf(slide, level, column, row)` is that of a tile. */
  constructor(addressOf) {
    this.addressOf = addressOf;
  }

  /**
   * Have the tiles at hand that show some places, [{slide, box}], on a screen of `size` px, and their slides on an
   * overview; those of other places are let go. Tiles are public to this reader before the answer: they show the slide
   * and nothing else.
   */
  fetch(places, { size, overview }) {
    const wanted = new Map();
    for (const { slide, box } of places) {
      const whole = [0, 0, slide.width, slide.height];
      const tiles = [
        ...tilesDown(slide, seenAround(box, size), fitScale(box, size)),
        ...tilesOf(slide, whole, fitScale(whole, overview)),
      ];
      for (const { level, column, row } of tiles) {
        const address = this.addressOf(slide, level, column, row);
        if (wanted.size < MOST_TILES) wanted.set(address, this.#images.get(address) ?? imageOf(address));
      }
    }
    this.#images = wanted;
  }
}

/** What is seen of a slide where a box is fitted into the screen. */
function seenAround(box, size) {
  const scale = fitScale(box, size);
  const [width, height] = size.map((side) => side / scale);
  return [box[0] + (box[2] - width) / 2, box[1] + (box[3] - height) / 2, width, height];
}

function imageOf(address) {
  const image = new Image();
  image.fetchPriority = "low";
  image.src = address;
  // Decoded now, not when it is to be seen; one that cannot be read is asked for again then, and named.
  image.decode().catch(() => {});
  return image;
}
