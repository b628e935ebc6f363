/** The list of sections on the left: in the order of work, or by slide. */

import { byId, element } from "./dom.js";
import { inSlides } from "./filters.js";

const MARKS = { Tumor: "T", Normal: "N", unsure: "?" };
const BLOCK = 50; // rows that are laid out together, once one of them is in sight
const ROW_PX = 44;
const HEAD_PX = 28;
const made = new Map(); // rows by key, each with what it shows
const NOTHING = "No section is listed: show all, or search for less.";
const HASTY = "Answered within half a second of the answer before";
const VERDICT_NAMES = { review: "for review" };

/** `listed` are those to show of `sections`, in their order; `select(id)` is called on a click. */
export function showList({ listed, sections, currentId, headline, bySlide, isFiltered, waiting, select }) {
  const row = (section) =>
    rowOf(
      section,
      { isCurrent: section.id === currentId, isWaiting: waiting.has(section.id), select },
      detail(section, headline, bySlide),
    );
  const rows = bySlide
    ? withHeads(listed, sections).flatMap(([head, members]) => [head, ...members.map(row)])
    : listed.map(row);
  byId("list-count").textContent = isFiltered ? `${listed.length} of ${sections.length} listed` : "";
  byId("filters-clear").hidden = !isFiltered;
  const list = byId("sections");
  if (!rows.length) rows.push(kept("none", [], () => element("p", { className: "quiet" }, NOTHING)));
  fill(list, inBlocks(rows));
  const current = list.querySelector("[aria-current=true]");
  if (current) bringIntoSight(list, current, bySlide ? HEAD_PX : 0);
  byId("by-slide").ariaPressed = String(bySlide);
  byId("by-order").ariaPressed = String(!bySlide);
}

/** Scroll the list alone: where the page scrolls, too, the slide is what is to stay in sight. */
function bringIntoSight(list, row, coveredPx) {
  const [frame, box] = [list, row].map((each) => each.getBoundingClientRect());
  const above = box.top - frame.top - coveredPx;
  if (above < 0) list.scrollTop += above;
  else if (box.bottom > frame.bottom) list.scrollTop += box.bottom - frame.bottom;
}

export function showProgress(sections) {
  const answered = (members) => members.filter((section) => section.answer).length;
  byId("progress-text").textContent = `${answered(sections)} of ${sections.length} sections answered`;
  byId("progress-bar").max = Math.max(sections.length, 1);
  byId("progress-bar").value = answered(sections);
  const parts = Map.groupBy(sections, (section) => section.part);
  const texts = [...parts].map(([part, members]) => `${part} ${answered(members)}/${members.length}`);
  byId("progress-parts").textContent = texts.length > 1 ? texts.join(" \u00b7 ") : "";
}

/**
 * Rows in blocks, of which the browser passes by those out of sight: of thousands of rows each frame would ask for
 * every single one. Heads stay in sight within their block, so that a slide is in one.
 */
function inBlocks(rows) {
  const blocks = [];
  for (const row of rows) {
    const isFull = blocks.at(-1)?.length >= BLOCK && (isHead(row) || !isHead(rows[0]));
    if (!blocks.length || isFull) blocks.push([]);
    blocks.at(-1).push(row);
  }
  return blocks;
}

function isHead(row) {
  return row.classList.contains("slide-head");
}

/** Touch the rows that differ alone: one that is just being pressed must stay where it is. */
function fill(list, blocks) {
  while (list.children.length > blocks.length) list.lastChild.remove();
  while (list.children.length < blocks.length) list.append(element("div", { className: "rows" }));
  blocks.forEach((rows, number) => {
    const block = list.children[number];
    block.style.containIntrinsicBlockSize = `auto ${ROW_PX * rows.length}px`;
    if (block.children.length !== rows.length) block.replaceChildren(...rows);
    else rows.forEach((row, place) => row === block.children[place] || block.children[place].replaceWith(row));
  });
}

/** The row of a key, made anew where one of what it `shows` is another than before. */
function kept(key, shows, make) {
  const before = made.get(key);
  if (!before || before.shows.some((each, place) => each !== shows[place])) made.set(key, { shows, row: make() });
  return made.get(key).row;
}

/** [head, rows' sections] of each slide; what a head counts are all sections of the slide. */
function withHeads(listed, sections) {
  const all = Map.groupBy(sections, (section) => section.slide_id);
  return inSlides(listed).map(([slideId, members]) => [headOf(slideId, all.get(slideId)), members]);
}

function headOf(slideId, members) {
  const count = `${members.filter((section) => section.answer).length}/${members.length}`;
  return kept(`slide ${slideId}`, [count], () =>
    element(
      "div",
      { className: "slide-head" },
      element("span", { className: "name", title: slideId }, slideId),
      element("span", { className: "quiet" }, count),
    ),
  );
}

function rowOf(section, { isCurrent, isWaiting, select }, text) {
  return kept(`section ${section.id}`, [section.answer, section.hasty, text, isCurrent, isWaiting], () => {
    const row = element(
      "button",
      { type: "button", className: "row", onclick: () => select(section.id), title: section.id },
      element("span", { className: `mark ${section.answer ?? "none"}` }, MARKS[section.answer] ?? ""),
      element(
        "span",
        { className: "names" },
        element("span", { className: "name" }, section.section_id),
        element(
          "span",
          { className: "detail" },
          section.blind ? element("span", { className: "badge blind" }, "blind") : null,
          isWaiting ? element("span", { className: "badge waiting" }, "not sent") : null,
          section.hasty ? element("span", { className: "badge hasty", title: HASTY }, "fast") : null,
          element("span", { className: "name quiet" }, text),
        ),
      ),
    );
    row.ariaCurrent = String(isCurrent);
    row.dataset.id = section.id;
    return row;
  });
}

/** The model's verdict where it may be seen, and the slide where it is not said above. */
function detail(section, headline, bySlide) {
  const verdict = section.revealed ? section.verdicts[headline]?.verdict : null;
  const texts = [verdict ? `model: ${VERDICT_NAMES[verdict] ?? verdict}` : "", bySlide ? "" : section.slide_id];
  return texts.filter(Boolean).join(" \u00b7 ");
}
