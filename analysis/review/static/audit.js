/** The findings of an audit: shown in the order of how far they contradict, decided one by one. */

import { getJson, postJson, urlOf } from "./server.js";

const AT_ONCE = 30;
const AWAY = "none";
const list = document.getElementById("findings");
const more = document.getElementById("more");
const state = document.getElementById("state");
let audit = null;
let numShown = 0;

try {
  audit = await getJson("/api/audit");
  begin();
} catch (error) {
  tell(state, error.message, true);
}

function begin() {
  const about = `${audit.name}, ${audit.setting}: ${audit.findings.length} outlines and predicted regions, the most `
    + `contradictory first; the first ${audit.num_first} are a tenth of what is annotated. You are ${audit.reviewer}.`;
  document.getElementById("about").textContent = about;
  const warning = document.getElementById("warning");
  warning.hidden = !audit.warning;
  warning.textContent = audit.warning ?? "";
  more.addEventListener("click", showMore);
  showMore();
  tellState();
}

function showMore() {
  const next = audit.findings.slice(numShown, numShown + AT_ONCE);
  list.append(...next.map(cardOf));
  numShown += next.length;
  more.hidden = numShown >= audit.findings.length;
}

function tellState() {
  const said = audit.findings.filter((each) => each.said);
  const numFixed = said.filter((each) => each.said.decision === "fix").length;
  const earlier = audit.num_earlier ? ` ${audit.num_earlier} decisions were about an earlier audit and do not count.` : "";
  tell(state, `${said.length} decided, ${numFixed} of them fixed.${earlier}`, false);
}

function cardOf(finding) {
  const card = document.getElementById("finding").content.cloneNode(true).firstElementChild;
  const score = finding.score === null ? "not compared" : `score ${finding.score.toFixed(2)}`;
  card.querySelector("h2").textContent = `${finding.rank}. ${finding.id} (${score})`;
  card.querySelector(".reason").textContent = `${finding.text}.`;
  for (const [name, query] of [["tissue", "?marked=no"], ["marked", ""]]) {
    const picture = card.querySelector(`.${name}`);
    picture.alt = `${name === "tissue" ? "Tissue" : "Tissue with outlines"} of ${finding.id}`;
    picture.src = urlOf(`/api/audit/crops/${finding.id.split("/").map(encodeURIComponent).join("/")}${query}`);
  }
  const select = card.querySelector("select");
  const kinds = audit.kinds.map((kind) => [kind, kind]);
  // A region that nobody drew cannot be taken away.
  select.append(...(finding.unit === "outline" ? [...kinds, [AWAY, "nothing: take it away"]] : kinds).map(optionOf));
  select.value = finding.said?.kind ?? finding.proposed_kind ?? finding.kind ?? audit.kinds[0];
  if (finding.said?.decision === "fix" && finding.said.kind === null) select.value = AWAY;
  for (const button of card.querySelectorAll("button")) {
    button.addEventListener("click", () => decide(card, finding, button.dataset.decision, select.value));
  }
  showSaid(card, finding);
  return card;
}

function optionOf([value, text]) {
  return new Option(text, value);
}

async function decide(card, finding, decision, kind) {
  const content = decision === "fix" ? { id: finding.id, decision, kind } : { id: finding.id, decision };
  try {
    finding.said = (await postJson("/api/audit/decisions", content)).said;
    showSaid(card, finding);
    tellState();
  } catch (error) {
    tell(card.querySelector(".said"), `NOT KEPT: ${error.message}`, true);
  }
}

function showSaid(card, finding) {
  const said = finding.said;
  for (const button of card.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(said?.decision === button.dataset.decision));
  }
  const what = said?.decision === "fix" ? `fixed: ${said.kind ?? "taken away"}` : "accepted: the annotation stands";
  tell(card.querySelector(".said"), said ? `${what} (${said.at})` : "not decided", false);
}

function tell(element, text, isFault) {
  element.textContent = text;
  element.classList.toggle("fault", isFault);
}
