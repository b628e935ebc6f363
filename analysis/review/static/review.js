/** The review page: its parts, which section is open, and what is shown of it when anything changes. */

import { Ahead } from "./ahead.js";
import { Answering } from "./answering.js";
import { showOutbox, showProblem } from "./bars.js";
import { Compare } from "./compare.js";
import { connect, SHOWN } from "./controls.js";
import { Display, offered } from "./display.js";
import { byId } from "./dom.js";
import { Drawing } from "./drawing.js";
import { FILTER_INPUTS, isFiltering, readFilters } from "./filters.js";
import { showGallery } from "./gallery.js";
import { boxOf } from "./geometry.js";
import { drawLayers } from "./layers.js";
import { Latest } from "./latest.js";
import { copyLink, idIn } from "./links.js";
import { Microscope } from "./microscope.js";
import { Outbox } from "./outbox.js";
import { Outlines } from "./outlines.js";
import { OverSlide } from "./over_slide.js";
import { Overlays } from "./overlays.js";
import { showAgreement, showOthers, showOutlines, showReaders, showSection, showStudy } from "./panel.js";
import { whenReady } from "./ready.js";
import { showList, showProgress } from "./section_list.js";
import { Sections } from "./sections.js";
import { getJson, path, postJson, revoke } from "./server.js";
import { Settings } from "./settings.js";
import { SlideView } from "./slide_view.js";
import { Steps } from "./steps.js";
import { Store } from "./store.js";
import { watchTabs } from "./tabs.js";
import { TakingBack } from "./taking_back.js";
import { showViewed } from "./viewed.js";

const SLIDES_AHEAD = 2;
const KEPT_INPUTS = ["go-on", "opacity", "kind", ...SHOWN.map((name) => `show-${name}`)];

let study;
let outbox;
let outlines;
let tellTabs;
let kept; // settings of this tab: setting, output, t_p, how the list is sorted
let listVersion;
const drawnHere = new Set(); // entries of changes of outlines that this tab has taken over already
const slides = new Map();
const openSlide = new Latest();

const display = new Display();
const sections = new Sections({
  entries: () => outbox.entries,
  order: () => ({ bySlide: display.bySlide, headline: study.headline }),
});
const answering = new Answering({
  sections,
  display,
  outbox: () => outbox,
  goOn: () => byId("go-on").checked && selectNextOpen(),
});
const steps = new Steps(takeSteps, takeList);
const takingBack = new TakingBack({
  outbox: () => outbox,
  outlines: () => outlines,
  steps,
  select: (id) => id !== sections.currentId && select(id),
});
const overlays = new Overlays(showOverlays);
const drawing = new Drawing({
  changed: showDrawing,
  change: ({ added, removed }) => outlines.change({ added, removed: removed.map(({ id }) => id) }),
  features: () => outlines?.features ?? [],
  slide: () => slideView.slide,
  scale: () => slideView.place.scale,
});
const slideView = new SlideView(byId("slide"), byId("scale"), {
  draw: (context, place) => drawLayers(context, place, overSlide.layers),
  settled: () => overSlide.sharpen(),
  moved: () => (microscope.show(), compare.lead()),
  hand: hand(),
  overview: byId("overview"),
});
const ahead = new Ahead((...tile) => slideView.tileAddress(...tile));
const compare = new Compare({
  main: slideView,
  slides: () => [...new Set(sections.all.map(({ slide_id: slideId }) => slideId))],
  slideOf,
  settings: () => study.settings,
  state: () => overSlide.layers,
  changed: () => microscope.showLight(),
  failed: showProblem,
});
const overSlide = new OverSlide({
  slideView,
  overlays,
  outlines: () => outlines,
  drawing,
  sections,
  display,
  answering,
  compare,
  failed: showProblem,
});
const microscope = new Microscope({ views: () => [slideView, ...compare.views], caption, failed: showProblem });

start().catch(showProblem);

async function start() {
  study = await getJson("/api/study");
  ({ version: listVersion, sections: sections.all } = await getJson("/api/sections"));
  kept = new Settings(sessionStorage, `bccdist-review: ${study.journal}`);
  kept.keepInputs(FILTER_INPUTS);
  new Settings(localStorage, "bccdist-review-display").keepInputs(KEPT_INPUTS);
  showStudy(study);
  display.begin(study, kept.get("view"));
  connectAll();
  outbox = new Outbox({
    store: new Store("bccdist-review"),
    journal: study.journal,
    send: postJson,
    onSent: sent,
    onChange: outboxChanged,
  });
  outlines = new Outlines({ outbox, changed: showOverlays });
  tellTabs = watchTabs("bccdist-review", () => Promise.all([outbox.refresh(), steps.refresh()]).catch(showProblem));
  await outbox.refresh();
  try {
    outbox.takeOver(localStorage, `bccdist-review:${study.name}:${study.reviewer}`);
  } catch (error) {
    showProblem(error);
  }
  // Before an answer can be seen: what is seen can be taken back.
  await steps.refresh().catch(showProblem);
  const named = idIn(location.hash);
  const first = sections.named(named) ?? sections.all.find((section) => !section.answer) ?? sections.all[0];
  if (named && first?.id !== named) showProblem(notListed(named));
  showLists();
  if (first) await select(first.id);
  else showProblem(new Error("There are no sections to review in the parts that were asked for."));
  await outbox.flush();
}

function connectAll() {
  connect({
    answer: (value) => answering.answer(value),
    answerAgain: () => answering.answerAgain(),
    withdraw: () => answering.withdraw(),
    undo: () => takingBack.undo(),
    step: (by) => open(sections.beside(by)),
    selectNextOpen,
    selectLast: () => answering.lastId && select(answering.lastId),
    fitSection: () => sections.current && slideView.fit(sections.current.box_level0_px),
    fitSlide: () => slideView.fitSlide(),
    zoomBy: (factor) => slideView.zoomBy(factor),
    setSetting,
    setPsi,
    setOpacity,
    previewTP,
    loadRegions: () => overSlide.loadRegions(),
    setTP,
    stepTP: (steps) => setTP(display.beside(steps)),
    chosenTP: () => setTP(offered(display.chosen.t_p)),
    showChanged: () => overSlide.hideAll(false),
    hideAll: () => overSlide.hideAll(),
    stageKeys: microscope.keys,
    showSaveComment: () => answering.showSaveComment(),
    setBySlide: (bySlide) => ((display.bySlide = bySlide), showLists()),
    filtersChanged,
    confirmRest: () => answering.confirmRest(),
    openGallery,
    copyLink: () => copyLink(sections.currentId),
    followLink: () => followLink(location.hash),
    keepView: () => kept.set("view", display.kept),
    drawing,
    takeTool,
    setKind: (kind) => (drawing.kind = kind),
    copyRegions: () => overSlide.copyRegions(),
    retry: () => outbox.flush(),
    discardRefused,
    revoke: signOthersOut,
    openAgreement,
    watch: () => answering.watch(),
    hasDrafts: () => (answering.keepComment(), answering.hasDrafts || outbox.numUnkept > 0),
  });
}

// ---- what is open

async function select(id) {
  const askedAt = performance.now();
  if (id !== sections.currentId) {
    answering.keepComment();
    sections.currentId = id;
    answering.begin();
  }
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
  showCurrent();
  await show(sections.current);
  const isWanted = () => sections.currentId === id;
  if (!(await whenReady(() => slideView.isLoaded || !slideView.isOpen, isWanted))) return;
  fetchAhead();
  if (await whenReady(() => !overlays.numLoading, isWanted))
    performance.measure("section ready", { start: askedAt, detail: id });
}

function open(section) {
  if (section) select(section.id);
}

function selectNextOpen() {
  open(sections.nextOpen);
}

/** Open a section's slide, and bring the section to the middle. */
async function show(section) {
  const slide = await openSlide.run(() => slideOf(section.slide_id)).catch(showProblem);
  if (!slide || section.id !== sections.currentId) return;
  byId("slide-name").textContent = `${slide.slide_id} \u00b7 ${slide.file}`;
  byId("slide-error").hidden = !slide.error;
  byId("slide-error").textContent = slide.error ? `The slide cannot be read: ${slide.error}` : "";
  microscope.showProfile(slide);
  if (slide.slide_id !== slideView.slide?.slide_id || slide.error) clearSlide();
  if (slide.error) return slideView.close();
  const isOther = await slideView.open(slide);
  if (section.id !== sections.currentId) return;
  // At once: a glide across the slide would fetch what lies between.
  slideView.fit(section.box_level0_px, true);
  microscope.showLight();
  if (isOther) overSlide.load();
}

/** Take off what belongs to the slide that is shown. */
function clearSlide() {
  drawing.stop();
  overlays.clear();
  outlines.clear();
  showOverlays();
}

async function slideOf(slideId) {
  if (!slides.has(slideId)) {
    const slide = await getJson(path("api", "slides", slideId));
    if (slide.error) return slide;
    slides.set(slideId, slide);
  }
  return slides.get(slideId);
}

/** Fetch what comes next, so that it is there when it is asked for. */
async function fetchAhead() {
  const { listed, currentId, nextOpen } = sections;
  const following = listed.slice(listed.findIndex((section) => section.id === currentId) + 1);
  const wanted = [...new Set([following[0], nextOpen].filter(Boolean))];
  const readable = await readableSlides(wanted);
  const places = wanted.filter(({ slide_id: id }) => readable.has(id));
  const { clientWidth, clientHeight } = byId("overview");
  ahead.fetch(
    places.map(({ slide_id: id, box_level0_px: box }) => ({ slide: readable.get(id), box })),
    { size: slideView.place.size, overview: [clientWidth, clientHeight] },
  );
  if (!display.setting) return;
  // Regions take the server longest: asked for a slide earlier than tiles are.
  const others = new Map([...following, ...wanted].map((section) => [section.slide_id, section]));
  others.delete(slideView.slide?.slide_id);
  const next = await readableSlides([...others.values()].slice(0, SLIDES_AHEAD));
  const annotations = byId("show-annotations").checked;
  // Of a slide without a verdict there is no heatmap, or none is shown.
  const hasHeat = (slideId) => sections.of(slideId).some(({ verdicts }) => verdicts?.[display.setting]);
  const heat = new Set(overSlide.wantsHeat ? [...next.keys()].filter(hasHeat) : []);
  overlays.prepare(display, [...next.values()], { annotations, heat });
}

/** The slides of some sections by their ids, without those that cannot be read. */
async function readableSlides(wanted) {
  const found = await Promise.all(wanted.map((section) => slideOf(section.slide_id).catch(() => null)));
  return new Map(found.filter((slide) => slide && !slide.error).map((slide) => [slide.slide_id, slide]));
}

// ---- what is searched for

function filtersChanged() {
  const named = idIn(byId("search").value);
  if (named) {
    byId("search").value = "";
    openNamed(named);
  }
  showLists();
}

function followLink(link) {
  const named = idIn(link);
  if (named && named !== sections.currentId) openNamed(named);
}

function openNamed(id) {
  if (sections.named(id)) select(id);
  else showProblem(notListed(id));
}

function notListed(id) {
  return new Error(`${id} is not among your sections: it may be of another part, dealt to another reader, or gone.`);
}

function openGallery() {
  const addressOf = (...tile) => slideView.tileAddress(...tile);
  showGallery(sections.listed, { slideOf, addressOf, currentId: sections.currentId, select });
}

// ---- what the server tells

function sent(entry, reply) {
  if (reply.added) {
    outlines.sent(entry, reply);
    drawnHere.add(entry.entry);
  }
  takeSections(reply.sections ?? (reply.section ? [reply.section] : []));
  steps.refresh().catch(showProblem);
  tellTabs();
}

/** Take over what the server says of some sections. */
function takeSections(changed) {
  if (!changed.length) return;
  const uncovered = sections.take(changed);
  if (uncovered.length) overlays.forgetAhead();
  if (changed.some(({ id }) => id === sections.currentId)) answering.takeComment();
  showCurrent();
  if (uncovered.some(({ slide_id: slideId }) => slideId === slideView.slide?.slide_id)) overSlide.load();
}

/** Ask for the list again where it is another one: others differ on more sections, or a slide was opened. */
async function takeList(version) {
  if (version === listVersion) return;
  ({ version: listVersion, sections: sections.all } = await getJson("/api/sections"));
  showCurrent();
  if (!sections.current && sections.all.length) await select(sections.all[0].id);
}

/** Take over what was done in this tab and in others. */
function takeSteps(taken, changed) {
  takeSections(changed);
  const touched = taken
    .filter(({ entry }) => !drawnHere.has(entry))
    .flatMap((step) => [step, ...(step.withdrawn ?? []).map((entry) => steps.named(entry))]);
  if (outlines.slideId && touched.some((step) => step?.slide_id === outlines.slideId)) overSlide.loadOutlines();
}

// ---- showing

function showCurrent() {
  showLists();
  const section = sections.current;
  if (!section) return;
  const entry = sections.waitingFor(section.id);
  showSection(section, {
    position: sections.all.findIndex((other) => other.id === section.id) + 1,
    total: sections.all.length,
    isWaiting: Boolean(entry) && !entry.isRefused,
    refusal: entry?.isRefused ? entry.fault : null,
  });
  showOthers(section, study.decides);
  answering.showRest(study);
  answering.showSaveComment();
  showOverlays();
}

function showLists() {
  const { known, listed, currentId } = sections;
  const waiting = new Set(outbox.entries.filter((entry) => entry.body.id).map((entry) => entry.body.id));
  const { bySlide } = display;
  const isFiltered = isFiltering(readFilters());
  showList({ listed, sections: known, currentId, headline: study.headline, bySlide, isFiltered, waiting, select });
  showProgress(known);
}

function showOverlays() {
  byId("loading").textContent = overlays.numLoading ? "Loading\u2026" : "";
  const section = sections.current;
  const num = overlays.regions.length;
  const isOfNow = overlays.isOf(display);
  const verdicts = isOfNow ? overlays.verdicts : null;
  if (study && display.setting) showViewed(section, { ...display, verdicts }, display.chosen);
  byId("regions-text").textContent = section?.revealed === false
    ? "Regions are hidden until you have answered."
    : isOfNow
    ? `${num} region${num === 1 ? "" : "s"} of at least t\u2090 on this slide`
    : "";
  byId("overlay-faults").textContent = overlays.faultText;
  byId("copy-regions").disabled = !isOfNow || !num || !outlines?.features;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.disabled = !outlines?.features && button.dataset.tool !== "ruler";
  }
  showOutlines(outlines?.features ?? [], {
    mpp: slideView.slide?.mpp,
    remove: (id) => outlines.change({ removed: [id] }),
    locate: ({ geometry }) => slideView.fit(boxOf(geometry)),
  });
  slideView.redraw();
}

function showDrawing() {
  slideView.isDrawing = drawing.isOn;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.ariaPressed = String(button.dataset.tool === drawing.tool);
  }
  byId("drawing-hint").textContent = drawing.hint;
  byId("drawing-hint").hidden = !drawing.isOn;
  slideView.redraw();
}

function outboxChanged() {
  showOutbox(outbox, {
    nameOf: (entry) => takingBack.nameOf(entry),
    discard: (entry) => takingBack.discard(entry),
  });
  showCurrent();
}

/** What stands below a snapshot: whose it is, and what is laid over it. */
function caption() {
  const { slide_id: slideId } = slideView.slide;
  const section = sections.current?.section_id;
  const shown = SHOWN.filter((name) => display.shows(name));
  const { setting, psi, tP } = display;
  const laid = shown.length ? `${setting}, ${psi}, t_p ${tP.toFixed(2)}: ${shown.join(", ")}` : "";
  const lines = [[study.name, slideId, section].filter(Boolean).join(" \u00b7 "), laid].filter(Boolean);
  return { name: `${slideId}-${section}.png`.replace(/[^\w.-]+/g, "_"), lines, warning: study.warning };
}

// ---- what the controls do

/** What pointers on the slide do: the tool's, or else regions that are pointed at. */
function hand() {
  const names = ["press", "drag", "isHolding", "release", "click", "doubleClick", "pinch"];
  const ofTool = Object.fromEntries(names.map((name) => [name, (...given) => drawing.isOn && drawing[name](...given)]));
  return { ...ofTool, hover: (point) => (drawing.hover(point), overSlide.hover(point)) };
}

function setSetting(name) {
  display.takeSetting(name);
  overSlide.loadPrediction();
}

function setPsi(psi) {
  display.psi = psi;
  overSlide.loadPrediction();
}

function setOpacity(opacity) {
  display.takeOpacity(opacity);
  slideView.redraw();
}

/** Show the mask at another t_p, from what is here already. */
function previewTP(tP) {
  display.takeTP(tP);
  showOverlays();
}

function setTP(tP) {
  previewTP(tP);
  overSlide.loadRegions();
}

function takeTool(tool) {
  if (slideView.isOpen && (outlines.features || tool === "ruler")) drawing.take(tool, byId("kind").value);
}

function discardRefused() {
  outbox.discardRefused();
  outlines.refresh();
}

async function signOthersOut() {
  try {
    await revoke();
    byId("revoked").textContent = "Done. The server has printed a new address.";
  } catch (error) {
    showProblem(error);
  }
}

async function openAgreement() {
  try {
    const [{ readers }, agreement] = await Promise.all(["/api/readers", "/api/agreement"].map((each) => getJson(each)));
    showReaders(readers);
    showAgreement(agreement);
    byId("agreement").showModal();
  } catch (error) {
    showProblem(error);
  }
}
