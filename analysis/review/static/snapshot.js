/** What the view shows, with its scale bar and what it is of, as a PNG. */

import { lengthText, roundLength } from "./geometry.js";
import { lighten } from "./light.js";
import { magnificationOf } from "./magnification.js";

const BAR_SHARE = 0.2;
const LINE_PX = 18;

/** `lines` stand below the picture; `warning` across its top. */
export async function snapshot(slideView, { light, lines, warning }) {
  const { tiles, layers } = slideView.canvases;
  const ratio = window.devicePixelRatio;
  const { width, height } = layers;
  const below = Math.round((LINE_PX * (lines.length + 1) + 10) * ratio);
  const canvas = Object.assign(document.createElement("canvas"), { width, height: height + below });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(tiles, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  lighten(pixels, light);
  context.putImageData(pixels, 0, 0);
  context.drawImage(layers, 0, 0);
  context.scale(ratio, ratio);
  drawScale(context, slideView.umPerPx, [width / ratio, height / ratio]);
  drawLines(context, lines, height / ratio);
  if (warning) drawWarning(context, warning, width / ratio);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The picture could not be made."))), "image/png");
  });
}

function drawScale(context, umPerPx, [width, height]) {
  if (!umPerPx) return;
  const um = roundLength(BAR_SHARE * width * umPerPx);
  const [left, top, length] = [14, height - 22, um / umPerPx];
  context.fillStyle = "white";
  context.fillRect(left - 6, top - 20, Math.max(length, 150) + 12, 34);
  context.fillStyle = "black";
  context.fillRect(left, top, length, 5);
  context.font = "600 13px system-ui, sans-serif";
  context.fillText(`${lengthText(um)} (${magnificationOf(umPerPx)})`, left, top - 6);
}

function drawLines(context, lines, top) {
  context.fillStyle = "black";
  context.font = "13px system-ui, sans-serif";
  lines.forEach((line, number) => context.fillText(line, 10, top + LINE_PX * (number + 1)));
}

function drawWarning(context, warning, width) {
  context.fillStyle = "#7b3294";
  context.fillRect(0, 0, width, 22);
  context.fillStyle = "white";
  context.font = "600 13px system-ui, sans-serif";
  context.fillText(warning, 10, 15, width - 20);
}

/** Offer a blob as a file. */
export function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
