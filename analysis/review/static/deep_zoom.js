/** Which tiles of a slide show a box at a scale, as OpenSeadragon chooses them. */

const LEAST_TILE_PX_PER_SCREEN_PX = 0.5; // below, OpenSeadragon takes the next finer level

/** Screen px per level-0 px at which a box, with the room around it that `fit` leaves, fills a screen of a size. */
export function fitScale([, , width, height], [screenWidth, screenHeight]) {
  const room = 0.12 * Math.max(width, height);
  return Math.min(screenWidth / (width + room), screenHeight / (height + room));
}

/** [{level, column, row, box in level-0 px}] of one level that cover a box in level-0 px at a scale. */
export function tilesOf(slide, box, scale) {
  const steps = Math.max(0, Math.ceil(Math.log2(LEAST_TILE_PX_PER_SCREEN_PX / scale)));
  return tilesAt(slide, box, Math.max(slide.min_level, slide.max_level - steps));
}

/** The same, with those of all coarser levels, which are asked for first. */
export function tilesDown(slide, box, scale) {
  const tiles = tilesOf(slide, box, scale);
  for (let level = tiles[0]?.level - 1; level >= slide.min_level; level--) {
    tiles.push(...tilesAt(slide, box, level));
  }
  return tiles;
}

function tilesAt({ width, height, tile_px: tilePx, max_level: maxLevel }, [x, y, boxWidth, boxHeight], level) {
  const edge = tilePx * 2 ** (maxLevel - level);
  const [left, top] = [Math.max(0, Math.floor(x / edge)), Math.max(0, Math.floor(y / edge))];
  const right = Math.min(Math.ceil(width / edge), Math.ceil((x + boxWidth) / edge));
  const bottom = Math.min(Math.ceil(height / edge), Math.ceil((y + boxHeight) / edge));
  const tiles = [];
  for (let row = top; row < bottom; row++) {
    for (let column = left; column < right; column++) tiles.push({ level, column, row, corner: [column * edge, row * edge] });
  }
  return tiles;
}
