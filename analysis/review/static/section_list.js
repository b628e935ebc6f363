/** The list of sections on the left: in the order of work, or by slide. */

import { byId, element } from "./dom.js";
import { inSlides } from "./filters.js";

const MARKS = { Tumor: "T", Normal: "N", unsure: "?" };
const made = new Map(); // rows by key, each with what it shows
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
  replaceRows(
    list,
    rows.length
      ? rows
      : [kept("none", "", () => element("p", { className: "quiet" }, "No section is listed: show all, or search for less."))],
  );
  list.querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
  byId("by-slide").ariaPressed = String(bySlide);
  byId("by-order").ariaPressed = String(!bySlide);
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

/** Touch the rows that differ alone: one that is just being pressed must stay where it is. */
function replaceRows(list, rows) {
  if (list.children.length !== rows.length) list.replaceChildren(...rows);
  rows.forEach((row, place) => row === list.children[place] || list.children[place].replaceWith(row));
}

/** The row of a key, made anew where it is to show something else than before. */
function kept(key, shows, make) {
  if (made.get(key)?.shows !== shows) made.set(key, { shows, row: make() });
  return made.get(key).row;
}

/** [head, rows' sections] of each slide; what a head counts are all sections of the slide. */
function withHeads(listed, sections) {
  const all = Map.groupBy(sections, (section) => section.slide_id);
  return inSlides(listed).map(([slideId, members]) => [headOf(slideId, all.get(slideId)), members]);
}

function headOf(slideId, members) {
  const count = `${members.filter((section) => section.answer).length}/${members.length}`;
  return kept(`slide ${slideId}`, count, () =>
    element(
      "div",
      { className: "slide-head" },
      element("span", { className: "name", title: slideId }, slideId),
      element("span", { className: "quiet" }, count),
    ),
  );
}

function rowOf(section, { isCurrent, isWaiting, select }, text) {
  const shows = JSON.stringify([section.answer, section.hasty, text, isCurrent, isWaiting]);
  return kept(`section ${section.id}`, shows, () => {
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
