/** Which sections are listed, and in which order: the list, J and K, and the gallery follow one and the same. */

import { byId } from "./dom.js";

const INPUTS = ["search", "filter-state", "filter-verdict", "filter-shift", "only-open"];

/** Names of the inputs, whose values are kept over a reload. */
export const FILTER_INPUTS = INPUTS;

const STATES = {
  answered: ({ answer }) => Boolean(answer),
  unsure: ({ answer }) => answer === "unsure",
  blind: ({ blind }) => blind,
  hasty: ({ hasty }) => hasty,
  rest: ({ given_as: givenAs }) => givenAs === "rest of the slide",
  // What is hidden is not known here, so that no filter can tell of it.
  conflict: ({ revealed, answer, prefilled, label, others }) =>
    others !== null || (revealed && isOther(answer ?? label, [prefilled, label])),
};

function isOther(said, known) {
  return Boolean(said) && said !== "unsure" && known.some((each) => each && each !== said);
}

/** `changed()` is called when a filter is; `search(text)` when something is typed into the search. */
export function connectFilters(changed) {
  for (const id of INPUTS) byId(id).addEventListener("input", changed);
  byId("filters-clear").addEventListener("click", () => {
    clearFilters();
    changed();
  });
}

export function clearFilters() {
  for (const id of INPUTS) {
    const input = byId(id);
    if (input.type === "checkbox") input.checked = false;
    else input.value = "";
  }
}

/** What the inputs ask for. */
export function readFilters() {
  const shift = byId("filter-shift").value;
  return {
    words: byId("search").value.toLowerCase().split(/\s+/).filter(Boolean),
    state: byId("filter-state").value,
    verdict: byId("filter-verdict").value,
    mostShift: shift === "" ? null : Number(shift),
    onlyOpen: byId("only-open").checked,
  };
}

/** Whether any filter leaves something out. */
export function isFiltering({ words, state, verdict, mostShift, onlyOpen }) {
  return Boolean(words.length || state || verdict || onlyOpen) || mostShift !== null;
}

/** The sections that are listed, in their order; the open one is always among them. */
export function listed(sections, { filters, bySlide, currentId, headline }) {
  const wanted = sections.filter((section) => section.id === currentId || fits(section, filters, headline));
  return bySlide ? inSlides(wanted).flatMap(([, members]) => members) : wanted;
}

/** Sections by slide: [slide, its sections], slides by name and sections as they came. */
export function inSlides(sections) {
  return [...Map.groupBy(sections, (section) => section.slide_id)].sort(([one], [other]) => byName.compare(one, other));
}

const byName = new Intl.Collator("en", { numeric: true });

function fits(section, { words, state, verdict, mostShift, onlyOpen }, headline) {
  if (onlyOpen && section.answer) return false;
  if (state && !STATES[state](section)) return false;
  const call = section.revealed ? section.verdicts[headline] : undefined;
  if (verdict && (verdict === "none" ? Boolean(call) || !section.revealed : call?.verdict !== verdict)) return false;
  if (mostShift !== null && !(call && call.flip_shift !== null && call.flip_shift <= mostShift)) return false;
  const text = `${section.id} ${section.part} ${section.comment ?? ""}`.toLowerCase();
  return words.every((word) => text.includes(word));
}
