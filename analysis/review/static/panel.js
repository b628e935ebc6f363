/** What is said in words: of the study, of the open section, of the reviewer's outlines, and of all readers. */

import { byId, element, table } from "./dom.js";
import { areaPx, areaText } from "./geometry.js";

const ORDERS = {
  slide: "Order: blind ones first, then by slide",
  distance: "Order: blind ones first, then nearest to the decision",
  random: "Order: blind ones first, then random",
};
const ANSWER_NAMES = { Tumor: "Tumor", Normal: "Normal", unsure: "Unsure" };

/** The answer of GET /api/study. */
export function showStudy(study) {
  document.title = `Review of ${study.name}`;
  byId("study-name").textContent = study.name;
  byId("reviewer").textContent = `Reviewer: ${study.reviewer}`;
  byId("order").textContent = study.decides ? "Conflicts to decide" : ORDERS[study.order];
  byId("unplaced").textContent = study.num_unplaced
    ? `${study.num_unplaced} more have no box yet and are not shown.`
    : "";
  byId("phantom").hidden = !study.warning;
  byId("phantom").textContent = study.warning ?? "";
}

export function showSection(section, { position, total, isWaiting, refusal }) {
  byId("section-name").textContent = section.section_id;
  byId("section-name").title = section.id;
  const covered = section.coverage === null ? "" : ` \u00b7 ${percent(section.coverage)} covered`;
  const doubt = section.not_assessable ? ` \u00b7 not assessable: ${section.not_assessable}` : "";
  byId("section-facts").textContent = `${section.part} \u00b7 ${position} of ${total}${covered}${doubt}`;
  byId("blind-note").hidden = section.revealed;
  byId("blind-note").textContent = blindText(section.num_blind_left);
  for (const button of document.querySelectorAll("[data-answer]")) {
    button.ariaPressed = String(button.dataset.answer === section.answer);
    button.classList.toggle(
      "is-prefilled",
      !section.answer && section.revealed && button.dataset.answer === section.prefilled,
    );
  }
  byId("withdraw").hidden = !section.answer;
  showAnswerState(section, isWaiting, refusal);
  showKnown(section);
}

/** Why nothing is shown; the sections of one slide are alike, so that one would tell of the other. */
function blindText(num) {
  const those = num === 1 ? "blind section" : `${num} blind sections`;
  return `This slide is blind until you have answered its ${those}; unsure shows nothing.`;
}

function showAnswerState(section, isWaiting, refusal) {
  const state = byId("answer-state");
  state.classList.toggle("is-waiting", isWaiting || Boolean(refusal));
  const said = ANSWER_NAMES[section.answer] ?? "Withdrawn";
  if (refusal) state.textContent = `${said}: refused by the server: ${refusal}`;
  else if (isWaiting) state.textContent = `${said}: kept here, not sent yet`;
  else if (section.answer)
    state.textContent = `${ANSWER_NAMES[section.answer]}, saved ${timeText(section.answered_at)}`;
  else
    state.textContent =
      section.revealed && section.prefilled ? `No answer yet; pre-filled: ${section.prefilled}` : "No answer yet";
}

function showKnown(section) {
  const content = byId("known-content");
  if (!section.revealed) {
    content.replaceChildren(element("p", { className: "quiet" }, "Not shown before your answer."));
    return;
  }
  const verdicts = Object.entries(section.verdicts);
  content.replaceChildren(
    element(
      "p",
      { className: "facts" },
      element("span", {}, "Label ", element("strong", {}, section.label ?? "none")),
      element("span", {}, "Pre-filled ", element("strong", {}, section.prefilled || "none")),
    ),
    verdicts.length
      ? table(["Setting", "Verdict", "Area", "\u00d7 t_A", "Flip shift"], verdicts.map(verdictRow))
      : element("p", { className: "quiet" }, "No model has seen this section."),
  );
}

function verdictRow([setting, { verdict, area_um2: area, area_factor: factor, flip_shift: shift }]) {
  return [setting, verdict, areaText(area), isNumber(factor) ? factor.toFixed(2) : "\u2013", shiftText(shift)];
}

/** The smallest shift of probability that would change the verdict; null: none does. */
function shiftText(shift) {
  return isNumber(shift) ? shift.toFixed(3) : "never";
}

export function showOutlines(outlines, { mpp, remove, locate }) {
  const item = (feature, number) =>
    element(
      "li",
      {},
      element(
        "button",
        { type: "button", className: "link", onclick: () => locate(feature) },
        outlineText(feature, mpp),
      ),
      element(
        "button",
        {
          type: "button",
          className: "small",
          onclick: () => remove(feature.id),
          ariaLabel: `Delete outline ${number + 1}`,
        },
        "Delete",
      ),
    );
  // Made anew where something changed alone: a button that is just being pressed must stay where it is.
  const list = byId("outlines");
  const shows = JSON.stringify([outlines, mpp]);
  if (list.shows !== shows) list.replaceChildren(...outlines.map(item));
  list.shows = shows;
}

function outlineText({ geometry, properties }, mpp) {
  return mpp ? `${properties.kind}, ${areaText(areaPx(geometry) * mpp ** 2)}` : properties.kind;
}

/** The answer of GET /api/agreement. */
export function showAgreement({ pairs, notes, num_withheld: numWithheld, anchoring: { shown, blind, difference, interval, note } }) {
  const led = (name, { num, num_agreed: agreed }) => [
    name,
    String(num),
    String(agreed),
    shareText(agreed, num),
  ];
  byId("agreement-content").replaceChildren(
    element("h3", {}, "Between reviewers"),
    pairs.length
      ? table(["One", "Other", "Sections", "Slides", "Agree", "Kappa", "95 %"], pairs.map(pairRow))
      : element("p", { className: "quiet" }, "There is one reviewer so far."),
    ...notes.map((text) => element("p", { className: "quiet" }, text)),
    element("p", { className: "quiet" }, withheldText(numWithheld)),
    element("h3", {}, "First answers that agree with the model"),
    table(["", "Sections", "Agree", "Share"], [led("its verdict was shown", shown), led("blind", blind)]),
    element(
      "p",
      {},
      isNumber(difference)
        ? `Difference ${signed(difference)}, 95 % interval ${interval.map(signed).join(" to ")}`
        : "",
    ),
    element("p", { className: "quiet" }, note),
  );
}

function pairRow({ one, other, num, num_slides: numSlides, num_agreed: agreed, kappa, interval, note }) {
  return [
    one,
    other,
    String(num),
    String(numSlides),
    shareText(agreed, num),
    isNumber(kappa) ? kappa.toFixed(2) : note || "\u2013",
    interval ? interval.map((end) => end.toFixed(2)).join(" to ") : "\u2013",
  ];
}

function withheldText(num) {
  return num
    ? `${num} blind section${num === 1 ? " is" : "s are"} not counted before you have answered; the export counts all.`
    : "";
}

/** The answer of GET /api/readers: how far each is, not what they said. */
export function showReaders(readers) {
  const heads = ["Reader", "Answered", "Blind", "Unsure", "Fast", "Rest of slide", "Decisions", "Last"];
  const rows = readers.map((each) => [
    each.reader,
    `${each.num_answered} of ${each.num}`,
    `${each.num_blind_answered} of ${each.num_blind}`,
    ...["num_unsure", "num_hasty", "num_rest", "num_decisions"].map((name) => String(each[name])),
    each.last_at ? timeText(each.last_at) : "\u2013",
  ]);
  byId("readers-content").replaceChildren(
    rows.length ? table(heads, rows) : element("p", { className: "quiet" }, "Nobody has begun."),
  );
}

/** What those said between whom is decided, where it may be seen. */
export function showOthers({ others }, isDeciding) {
  const place = byId("others");
  place.hidden = !isDeciding;
  if (!isDeciding) return;
  const lines = (others ?? []).map(({ reviewer, answer, comment }) =>
    element("div", {}, element("strong", {}, `${reviewer}: ${ANSWER_NAMES[answer]}`), comment ? ` \u2013 ${comment}` : ""),
  );
  place.replaceChildren(
    element("div", { className: "quiet" }, "Readers differ on this section, and you decide."),
    ...(lines.length ? lines : [element("div", { className: "quiet" }, "What they said is shown after your answer.")]),
  );
}

/** From whole numbers, as 57 of 200 times 100 is a little below 28.5; one decimal, as 199 of 200 are not all. */
function shareText(agreed, num) {
  return num ? `${(Math.round((1000 * agreed) / num) / 10).toFixed(1)} %` : "\u2013";
}

function signed(share) {
  return `${share < 0 ? "\u2212" : "+"}${Math.abs(share).toFixed(2)}`;
}

function isNumber(value) {
  return typeof value === "number";
}

/** A share of tissue: what is not all is never said to be 100 %. */
function percent(share) {
  return `${Math.floor(100 * share + 1e-9)} %`;
}

function timeText(iso) {
  const time = new Date(iso);
  return Number.isNaN(time.getTime()) ? "" : time.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
