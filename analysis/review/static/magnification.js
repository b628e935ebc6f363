/** Magnification as a label of um per px of the screen: 10x is 1 um/px, 40x is 0.25 um/px. */

export const STOPS = [1, 2, 5, 10, 20, 40];

export function umPerPxOf(magnification) {
  return 10 / magnification;
}

export function magnificationOf(umPerPx) {
  const magnification = 10 / umPerPx;
  return `${magnification >= 10 ? Math.round(magnification) : Number(magnification.toPrecision(2))}\u00d7`;
}

/** The next stop up or down from what is seen; the last where there is none. */
export function nextStop(umPerPx, direction) {
  const now = 10 / umPerPx;
  const beyond = STOPS.filter((stop) => (direction > 0 ? stop > now * 1.02 : stop < now / 1.02));
  return (direction > 0 ? beyond[0] : beyond.at(-1)) ?? (direction > 0 ? STOPS.at(-1) : STOPS[0]);
}
