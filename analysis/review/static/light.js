/** Brightness, contrast and gamma of the tiles: what the screen shows, never what is stored or measured. */

export const NEUTRAL = { brightness: 0, contrast: 1, gamma: 1 };
const FILTER_ID = "light-filter";

export function isNeutral(light) {
  return Object.entries(NEUTRAL).every(([name, value]) => light[name] === value);
}

/** What each of the 256 values of a channel becomes, 0 to 255. */
export function lightTable({ brightness, contrast, gamma }) {
  return Uint8ClampedArray.from({ length: 256 }, (_, value) => {
    const bent = (value / 255) ** (1 / gamma);
    return 255 * ((bent - 0.5) * contrast + 0.5 + brightness);
  });
}

/** Show canvases in a light; the page must hold the SVG filter of index.html. */
export function shine(canvases, light) {
  const values = [...lightTable(light)].map((value) => (value / 255).toFixed(4)).join(" ");
  for (const channel of document.querySelectorAll(`#${FILTER_ID} feComponentTransfer > *`)) {
    channel.setAttribute("tableValues", values);
  }
  for (const canvas of canvases) canvas.style.filter = isNeutral(light) ? "" : `url(#${FILTER_ID})`;
}

/** Change the pixels of an ImageData in place. */
export function lighten({ data }, light) {
  if (isNeutral(light)) return;
  const table = lightTable(light);
  for (let i = 0; i < data.length; i += 4) {
    data[i] = table[data[i]];
    data[i + 1] = table[data[i + 1]];
    data[i + 2] = table[data[i + 2]];
  }
}
