/** All listed sections as small pictures; those that come into sight are fetched. */

import { fitScale, tilesOf } from "./deep_zoom.js";
import { byId, element } from "./dom.js";

const SIZE_PX = [168, 126];
const MARKS = { Tumor: "T", Normal: "N", unsure: "?" };

/**
 * `slideOf(id)` gives a slide of GET /api/slides, `addressOf(slide, level, column, row)` the address of a tile. Pictures
 * show tissue alone, nothing that a model said.
 */
export function showGallery(sections, { slideOf, addressOf, currentId, select }) {
  const dialog = byId("gallery");
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        const section = byKey.get(target.dataset.id);
        draw(target.querySelector("canvas"), section, slideOf, addressOf).catch((error) => (target.title = error.message));
      }
    },
    { root: byId("gallery-content"), rootMargin: "300px" },
  );
  const byKey = new Map(sections.map((section) => [section.id, section]));
  const cards = sections.map((section) => {
    const card = cardOf(section, section.id === currentId);
    card.addEventListener("click", () => {
      dialog.close();
      select(section.id);
    });
    return card;
  });
  byId("gallery-count").textContent = `${sections.length} section${sections.length === 1 ? "" : "s"}`;
  byId("gallery-content").replaceChildren(...cards);
  dialog.addEventListener("close", () => watcher.disconnect(), { once: true });
  dialog.showModal();
  for (const card of cards) watcher.observe(card);
  byId("gallery-content").querySelector("[aria-current=true]")?.scrollIntoView({ block: "center" });
}

function cardOf(section, isCurrent) {
  const [width, height] = SIZE_PX;
  const card = element(
    "button",
    { type: "button", className: "gallery-card", title: section.id },
    element("canvas", { width, height, ariaHidden: "true" }),
    element(
      "span",
      { className: "gallery-name" },
      element("span", { className: `mark ${section.answer ?? "none"}` }, MARKS[section.answer] ?? ""),
      element("span", { className: "name" }, section.section_id),
      section.blind ? element("span", { className: "badge blind" }, "blind") : null,
    ),
  );
  card.dataset.id = section.id;
  card.ariaCurrent = String(isCurrent);
  return card;
}

async function draw(canvas, section, slideOf, addressOf) {
  const slide = await slideOf(section.slide_id);
  if (slide.error) throw new Error(slide.error);
  const box = section.box_level0_px;
  const scale = fitScale(box, SIZE_PX);
  const context = canvas.getContext("2d");
  const [left, top] = [box[0] + (box[2] - SIZE_PX[0] / scale) / 2, box[1] + (box[3] - SIZE_PX[1] / scale) / 2];
  await Promise.all(
    tilesOf(slide, [left, top, SIZE_PX[0] / scale, SIZE_PX[1] / scale], scale).map(async (tile) => {
      const image = new Image();
      image.src = addressOf(slide, tile.level, tile.column, tile.row);
      await image.decode();
      const step = 2 ** (slide.max_level - tile.level);
      // All tiles but the first of a row or column begin with the overlap.
      const corner = [tile.column, tile.row].map((place, axis) => tile.corner[axis] - (place ? slide.overlap * step : 0));
      const [x, y] = [(corner[0] - left) * scale, (corner[1] - top) * scale];
      context.drawImage(image, x, y, image.width * step * scale, image.height * step * scale);
    }),
  );
  canvas.dataset.drawn = "yes";
}
