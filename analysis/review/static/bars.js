/** The bars below the head: what went wrong, and what is not with the server yet. */

import { byId, element } from "./dom.js";

const MOST_NAMED = 5;

export function showProblem(error) {
  byId("problem").hidden = false;
  byId("problem-text").textContent = error.message;
}

/** `nameOf(entry)` says what an entry is; `discard(entry)` gives one up. */
export function showOutbox(outbox, { nameOf, discard }) {
  const { entries, lastError, storageError, numUnkept, others } = outbox;
  const refused = entries.filter(({ isRefused }) => isRefused);
  const failed = entries.filter(({ fault, isRefused }) => fault && !isRefused);
  const texts = [];
  if (lastError)
    texts.push(
      `${entries.length - refused.length} not sent yet, kept in this browser and tried again every few seconds. ${lastError.message}`,
    );
  if (failed.length) texts.push(`${failed.length} tried again every few seconds: the server failed.`);
  if (refused.length) texts.push(`${refused.length} refused by the server: ${refused[0].fault}`);
  if (numUnkept)
    texts.push(
      `This browser does not keep ${numUnkept} of them (${storageError.message || storageError.name}): do not close this page before they are sent.`,
    );
  if (others.length) texts.push(`This browser keeps unsent answers of another review: ${others.join("; ")}.`);
  byId("outbox").hidden = !texts.length;
  byId("outbox-text").textContent = texts.join(" ");
  byId("outbox-retry").hidden = entries.length === refused.length;
  byId("outbox-discard").hidden = !refused.length;
  const named = [...refused, ...failed];
  const items = named.slice(0, MOST_NAMED).map((entry) => itemOf(entry, nameOf, discard));
  if (named.length > MOST_NAMED) items.push(element("li", {}, `and ${named.length - MOST_NAMED} more`));
  byId("outbox-entries").replaceChildren(...items);
}

function itemOf(entry, nameOf, discard) {
  const button = element(
    "button",
    { type: "button", className: "small", onclick: () => discard(entry), ariaLabel: `Discard ${nameOf(entry)}` },
    "Discard",
  );
  return element("li", {}, `${nameOf(entry)}: ${entry.fault} `, button);
}
