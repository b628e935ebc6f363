/** Buttons, sliders and keys, each joined to what it does. */

import { byId } from "./dom.js";
import { connectFilters } from "./filters.js";
import { listen } from "./keyboard.js";

/** What can be shown and hidden; keys 1 to 6. */
export const SHOWN = ["heatmap", "mask", "regions", "annotations", "boxes", "own"];
const ZOOM = 1.5;
const TOOL_KEYS = { d: "points", g: "freehand", b: "brush", e: "eraser", o: "hole", v: "corners", l: "ruler" };

/** `acts` are the functions of review.js by name, and its `drawing`. */
export function connect(acts) {
  connectButtons(acts);
  connectInputs(acts);
  connectKeys(acts);
  connectPage(acts);
}

function connectButtons(acts) {
  const clicks = {
    "by-order": () => acts.setBySlide(false),
    "by-slide": () => acts.setBySlide(true),
    previous: () => acts.step(-1),
    next: () => acts.step(1),
    again: acts.selectLast,
    "save-comment": acts.answerAgain,
    withdraw: acts.withdraw,
    undo: acts.undo,
    "zoom-in": () => acts.zoomBy(ZOOM),
    "zoom-out": () => acts.zoomBy(1 / ZOOM),
    "zoom-section": acts.fitSection,
    "zoom-slide": acts.fitSlide,
    "tp-chosen": acts.chosenTP,
    "hide-all": acts.hideAll,
    "copy-regions": acts.copyRegions,
    "outbox-retry": acts.retry,
    "outbox-discard": acts.discardRefused,
    revoke: acts.revoke,
    "help-button": openHelp,
    "agreement-button": acts.openAgreement,
    "gallery-button": acts.openGallery,
    "copy-link": acts.copyLink,
    "confirm-rest": acts.confirmRest,
    "problem-close": () => (byId("problem").hidden = true),
  };
  for (const [id, act] of Object.entries(clicks)) byId(id).addEventListener("click", () => act());
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => acts.takeTool(button.dataset.tool));
  }
  for (const button of document.querySelectorAll("[data-answer]")) {
    button.addEventListener("click", () => acts.answer(button.dataset.answer));
  }
}

function connectInputs(acts) {
  const changes = { setting: acts.setSetting, psi: acts.setPsi, kind: acts.setKind };
  for (const [id, act] of Object.entries(changes)) {
    byId(id).addEventListener("change", (event) => {
      act(event.target.value);
      event.target.blur();
    });
  }
  byId("opacity").addEventListener("input", (event) => acts.setOpacity(Number(event.target.value)));
  byId("tp").addEventListener("input", (event) => acts.previewTP(Number(event.target.value)));
  byId("tp").addEventListener("change", acts.loadRegions);
  connectFilters(acts.filtersChanged);
  byId("comment").addEventListener("input", acts.showSaveComment);
  for (const name of SHOWN) byId(`show-${name}`).addEventListener("change", acts.showChanged);
}

function connectKeys(acts) {
  const zooms = {
    "+": () => acts.zoomBy(ZOOM),
    "=": () => acts.zoomBy(ZOOM),
    "-": () => acts.zoomBy(1 / ZOOM),
    0: acts.fitSection,
    9: acts.fitSlide,
  };
  const tools = Object.fromEntries(Object.entries(TOOL_KEYS).map(([key, tool]) => [key, () => acts.takeTool(tool)]));
  const toggles = SHOWN.map((name, number) => [String(number + 1), () => byId(`show-${name}`).click()]);
  const actions = {
    ...zooms,
    ...acts.stageKeys,
    x: acts.hideAll,
    ...Object.fromEntries(toggles),
    t: () => acts.answer("Tumor"),
    n: () => acts.answer("Normal"),
    "?": () => acts.answer("unsure"),
    j: () => acts.step(1),
    ArrowDown: () => acts.step(1),
    ArrowRight: () => acts.step(1),
    k: () => acts.step(-1),
    ArrowUp: () => acts.step(-1),
    ArrowLeft: () => acts.step(-1),
    " ": acts.selectNextOpen,
    u: acts.selectLast,
    a: acts.confirmRest,
    "Shift+G": acts.openGallery,
    "Shift+L": acts.copyLink,
    s: () => byId("search").focus(),
    c: () => byId("comment").focus(),
    ...tools,
    ...undos(() => acts.undo()),
    h: openHelp,
    "[": () => acts.stepTP(-1),
    "]": () => acts.stepTP(1),
  };
  const drawing = {
    ...zooms,
    ...acts.stageKeys,
    ...tools,
    x: acts.hideAll,
    Enter: () => acts.drawing.close(),
    Escape: () => acts.drawing.stop(),
    Backspace: () => acts.drawing.back(),
    Delete: () => acts.drawing.back(),
    ...undos(() => (acts.drawing.points.length ? acts.drawing.back() : acts.undo())),
    "[": () => acts.drawing.widen(-1),
    "]": () => acts.drawing.widen(1),
  };
  listen({ actions, drawing, isDrawing: () => acts.drawing.isOn });
}

function undos(undo) {
  return { z: undo, "Ctrl+Z": undo };
}

function connectPage(acts) {
  // A button that stays pressed down would take the next space for itself.
  document.addEventListener(
    "click",
    (event) => event.detail && event.target.closest("button, input[type=checkbox]")?.blur(),
  );
  document.addEventListener("visibilitychange", acts.watch);
  addEventListener("hashchange", acts.followLink);
  addEventListener("pagehide", acts.keepView);
  addEventListener("online", acts.retry);
  addEventListener("beforeunload", (event) => acts.hasDrafts() && event.preventDefault());
}

function openHelp() {
  byId("help").showModal();
}
