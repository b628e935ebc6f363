/** The review page: which section is open, what is shown of it, and what is answered. */

import { Ahead } from "./ahead.js";
import { showOutbox, showProblem } from "./bars.js";
import { Compare } from "./compare.js";
import { connect, SHOWN } from "./controls.js";
import { byId, element } from "./dom.js";
import { Drawing } from "./drawing.js";
import { FILTER_INPUTS, isFiltering, listed, readFilters } from "./filters.js";
import { showGallery } from "./gallery.js";
import { boxOf, holdsPoint } from "./geometry.js";
import { colourOf, MOST_OPAQUE } from "./heatmap.js";
import { drawLayers } from "./layers.js";
import { Latest } from "./latest.js";
import { idIn, linkTo } from "./links.js";
import { Microscope } from "./microscope.js";
import { newName, Outbox } from "./outbox.js";
import { Outlines } from "./outlines.js";
import { Overlays } from "./overlays.js";
import { showAgreement, showOthers, showOutlines, showReaders, showSection } from "./panel.js";
import { whenReady } from "./ready.js";
import { showList, showProgress } from "./section_list.js";
import { getJson, path, postJson, revoke } from "./server.js";
import { Settings } from "./settings.js";
import { SlideView } from "./slide_view.js";
import { Steps } from "./steps.js";
import { Store } from "./store.js";
import { watchTabs } from "./tabs.js";
import { showViewed } from "./viewed.js";
import { Visit } from "./visit.js";

const T_P_STEP = 0.01;
const LEAST_T_P = 0.02;
const SLIDES_AHEAD = 2;
const KEPT_INPUTS = ["go-on", "opacity", "kind", ...SHOWN.map((name) => `show-${name}`)];
const ORDERS = {
  slide: "Order: blind ones first, then by slide",
  distance: "Order: blind ones first, then nearest to the decision",
  random: "Order: blind ones first, then random",
};

let study;
let sections = [];
let currentId = null;
let lastAnsweredId = null;
let visit = new Visit();
let outbox;
let outlines;
let tellTabs;
let kept; // settings of this tab: setting, output, t_p, how the list is sorted
let answeredAt = null; // when the last answer was given here, in ms
let listVersion;
const steps = new Steps(takeSteps, takeList);
const drawnHere = new Set(); // entries of changes of outlines that this tab has taken over already
const drafts = new Map(); // comments that are not saved yet, by section
const slides = new Map();
const openSlide = new Latest();
const view = { setting: null, psi: null, tP: 0.5, opacity: MOST_OPAQUE, bySlide: false, isBare: false };

const overlays = new Overlays(showOverlays);
const drawing = new Drawing({
  changed: showDrawing,
  change: ({ added, removed }) => outlines.change({ added, removed: removed.map(({ id }) => id) }),
  features: () => outlines?.features ?? [],
  slide: () => slideView.slide,
  scale: () => slideView.place.scale,
});
const slideView = new SlideView(byId("slide"), byId("scale"), {
  draw: (context, place) => drawLayers(context, place, layers()),
  settled: () => wantsHeat() && overlays.sharpen(source(), slideView.visibleBox, slideView.widthPx),
  moved: () => (microscope.show(), compare.lead()),
  hand: hand(),
  overview: byId("overview"),
});
const ahead = new Ahead((...tile) => slideView.tileAddress(...tile));
const compare = new Compare({
  main: slideView,
  slides: () => [...new Set(sections.map(({ slide_id: slideId }) => slideId))],
  slideOf,
  settings: () => study.settings,
  state: () => layers(),
  changed: () => microscope.showLight(),
  failed: showProblem,
});
const microscope = new Microscope({ views: () => [slideView, ...compare.views], caption, failed: showProblem });

start().catch(showProblem);

async function start() {
  study = await getJson("/api/study");
  ({ version: listVersion, sections } = await getJson("/api/sections"));
  kept = new Settings(sessionStorage, `bccdist-review: ${study.journal}`);
  kept.keepInputs(FILTER_INPUTS);
  new Settings(localStorage, "bccdist-review-display").keepInputs(KEPT_INPUTS);
  showStudy();
  connect({
    answer,
    answerAgain: () => answer(current().answer),
    withdraw,
    undo,
    step,
    selectNextOpen,
    selectLast: () => lastAnsweredId && select(lastAnsweredId),
    fitSection: () => current() && slideView.fit(current().box_level0_px),
    fitSlide: () => slideView.fitSlide(),
    zoomBy: (factor) => slideView.zoomBy(factor),
    setSetting,
    setPsi,
    setOpacity,
    previewTP,
    loadRegions,
    setTP,
    stepTP: (steps) => setTP(view.tP + steps * T_P_STEP),
    chosenTP: () => setTP(settingOf(view.setting).t_p),
    showChanged: () => hideAll(false),
    hideAll: () => hideAll(),
    stageKeys: microscope.keys,
    showSaveComment,
    setBySlide: (bySlide) => ((view.bySlide = bySlide), showLists()),
    filtersChanged,
    confirmRest,
    openGallery,
    copyLink,
    followLink: () => followLink(location.hash),
    keepView,
    drawing,
    takeTool,
    setKind: (kind) => (drawing.kind = kind),
    copyRegions,
    retry: () => outbox.flush(),
    discardRefused,
    revoke: signOthersOut,
    openAgreement,
    watch: () => visit.watch(),
    hasDrafts: () => (keepComment(), drafts.size > 0 || outbox.numUnkept > 0),
  });
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
  const named = idIn(location.hash);
  const first =
    sections.find((section) => section.id === named) ?? sections.find((section) => !section.answer) ?? sections[0];
  if (named && first?.id !== named) showProblem(notListed(named));
  showLists();
  if (first) await select(first.id);
  else showProblem(new Error("There are no sections to review in the parts that were asked for."));
  await Promise.all([outbox.flush(), steps.refresh()]);
}

// ---- what is open

function current() {
  return withWaiting(sections.find((section) => section.id === currentId));
}

/** A section with what has not been sent yet, if there is anything: an answer, or that there is none any more. */
function withWaiting(section) {
  const entry = section && waitingFor(section.id);
  return entry ? { ...section, answer: entry.body.answer ?? null, comment: entry.body.comment ?? "" } : section;
}

function waitingFor(id) {
  return outbox.entries.findLast((entry) => entry.body.id === id);
}

async function select(id) {
  const askedAt = performance.now();
  if (id !== currentId) {
    keepComment();
    currentId = id;
    visit = new Visit();
    byId("comment").value = drafts.get(id) ?? current().comment ?? "";
  }
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
  showCurrent();
  await show(current());
  const isWanted = () => currentId === id;
  if (!(await whenReady(() => slideView.isLoaded || !slideView.isOpen, isWanted))) return;
  fetchAhead();
  if (await whenReady(() => !overlays.numLoading, isWanted))
    performance.measure("section ready", { start: askedAt, detail: id });
}

function keepComment() {
  if (currentId === null) return;
  const text = byId("comment").value;
  if (text === (current()?.comment ?? "")) drafts.delete(currentId);
  else drafts.set(currentId, text);
}

/** Open a section's slide, and bring the section to the middle. */
async function show(section) {
  const slide = await openSlide.run(() => slideOf(section.slide_id)).catch(showProblem);
  if (!slide || section.id !== currentId) return;
  byId("slide-name").textContent = `${slide.slide_id} \u00b7 ${slide.file}`;
  byId("slide-error").hidden = !slide.error;
  byId("slide-error").textContent = slide.error ? `The slide cannot be read: ${slide.error}` : "";
  microscope.showProfile(slide);
  if (slide.slide_id !== slideView.slide?.slide_id || slide.error) clearSlide();
  if (slide.error) return slideView.close();
  const isOther = await slideView.open(slide);
  if (section.id !== currentId) return;
  // At once: a glide across the slide would fetch what lies between.
  slideView.fit(section.box_level0_px, true);
  microscope.showLight();
  if (isOther) loadOverlays();
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

/** The sections as the list shows them. */
function listedNow() {
  const { bySlide } = view;
  return listed(sections.map(withWaiting), { filters: readFilters(), bySlide, currentId, headline: study.headline });
}

function step(by) {
  const shown = listedNow();
  const next = shown[shown.findIndex((section) => section.id === currentId) + by];
  if (next) select(next.id);
}

function selectNextOpen() {
  const next = nextOpen(listedNow());
  if (next) select(next.id);
}

/** The next listed section without an answer, from the first on again after the last. */
function nextOpen(shown) {
  const place = shown.findIndex((section) => section.id === currentId);
  return [...shown.slice(place + 1), ...shown.slice(0, place)].find((section) => !section.answer);
}

/** Fetch what comes next, so that it is there when it is asked for. */
async function fetchAhead() {
  const shown = listedNow();
  const place = shown.findIndex((section) => section.id === currentId);
  const wanted = [...new Set([shown[place + 1], nextOpen(shown)].filter(Boolean))];
  const slidesOf = await Promise.all(wanted.map((section) => slideOf(section.slide_id).catch(() => null)));
  const places = wanted.map((section, number) => ({ slide: slidesOf[number], box: section.box_level0_px }));
  const readable = places.filter(({ slide }) => slide && !slide.error);
  const { clientWidth, clientHeight } = byId("overview");
  ahead.fetch(readable, { size: slideView.place.size, overview: [clientWidth, clientHeight] });
  if (!view.setting) return;
  // Regions take the server longest: asked for a slide earlier than tiles are.
  const following = new Set([...shown.slice(place + 1), ...wanted].map((section) => section.slide_id));
  following.delete(slideView.slide?.slide_id);
  const annotations = byId("show-annotations").checked;
  overlays.prepare(view.setting, [...following].slice(0, SLIDES_AHEAD), view, { annotations });
}

// ---- the list

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
  if (named && named !== currentId) openNamed(named);
}

function openNamed(id) {
  if (sections.some((section) => section.id === id)) select(id);
  else showProblem(notListed(id));
}

function notListed(id) {
  return new Error(`${id} is not among your sections: it may be of another part, dealt to another reader, or gone.`);
}

async function copyLink() {
  const link = linkTo(currentId);
  try {
    await navigator.clipboard.writeText(link);
    byId("undone").textContent = "The link is copied; colleagues paste it into their search.";
  } catch {
    // Browsers give the clipboard to https and to this machine alone.
    byId("undone").textContent = `Copy this link: ${link}`;
  }
}

function openGallery() {
  const addressOf = (...tile) => slideView.tileAddress(...tile);
  showGallery(listedNow(), { slideOf, addressOf, currentId, select });
}

function keepView() {
  const { setting, psi, tP, bySlide } = view;
  kept.set("view", { setting, psi, tP, bySlide });
}

// ---- answers

function answer(value) {
  const section = current();
  if (!section) return;
  const id = section.id;
  const comment = byId("comment").value.toWellFormed();
  drafts.delete(id);
  lastAnsweredId = id;
  const { setting, psi, tP } = view;
  const viewed = { setting, psi, t_p: tP, heatmap: visit.sawHeatmap };
  // By this page's clock: what cannot be sent now comes at once later.
  const sinceLast = answeredAt === null ? null : (performance.now() - answeredAt) / 1000;
  answeredAt = performance.now();
  const given = { id, answer: value, comment, seconds: visit.seconds, viewed, since_last_s: sinceLast };
  outbox.add("/api/answers", given, `section ${id}`);
  visit = new Visit();
  if (byId("go-on").checked) selectNextOpen();
}

/** The sections of the open slide that have no answer, and of them those whose verdict is shown. */
function restOfSlide() {
  const slideId = current()?.slide_id;
  const open = sections.map(withWaiting).filter((section) => section.slide_id === slideId && !section.answer);
  return { open, filledIn: open.filter((section) => section.revealed && section.prefilled) };
}

/** As in the paper: what is wrong was changed, and what is left is right. */
function confirmRest() {
  if (byId("confirm-rest").hidden) return;
  keepComment();
  const { open, filledIn } = restOfSlide();
  const { setting, psi, tP } = view;
  const batch = newName();
  for (const { id, prefilled } of filledIn) {
    const given = { id, answer: prefilled, comment: (drafts.get(id) ?? "").toWellFormed(), seconds: 0, batch };
    drafts.delete(id);
    const viewed = { setting, psi, t_p: tP, heatmap: false };
    outbox.add("/api/answers", { ...given, viewed, given_as: "rest of the slide" }, `section ${id}`);
  }
  const num = open.length - filledIn.length;
  byId("undone").textContent =
    `${filledIn.length} confirmed` + (num ? `; ${num} blind or without a verdict left: answer them.` : ".");
  if (byId("go-on").checked) selectNextOpen();
}

function showRest() {
  const { filledIn } = study.decides ? { filledIn: [] } : restOfSlide();
  byId("confirm-rest").hidden = !filledIn.length;
  byId("confirm-rest").replaceChildren(
    `Confirm the rest of this slide (${filledIn.length}) `,
    element("kbd", {}, "A"),
  );
}

function withdraw() {
  const section = current();
  if (section?.answer) outbox.add("/api/withdrawals", { id: section.id }, `section ${section.id}`);
}

/**
 * Take the newest step back: one that was never sent is given up, of the others the server is told. What was confirmed
 * together goes together.
 */
function undo() {
  const waiting = outbox.entries.findLast(({ address, entry }) => address !== "/api/undo" && !undoing().has(entry));
  const step = waiting ? stepOf(waiting) : steps.last(undoing());
  byId("undone").textContent = step ? `Taken back: ${nameOfStep(step)}` : "There is no step to take back.";
  if (!step) return;
  const batch = waiting?.body.batch;
  const together = batch ? outbox.entries.filter(({ body }) => body.batch === batch) : waiting ? [waiting] : [];
  for (const entry of together.filter(({ wasTried }) => !wasTried)) discard(entry);
  const tried = together.findLast(({ wasTried }) => wasTried)?.entry ?? (batch && steps.inBatch(batch)?.entry);
  if (tried || !waiting) outbox.add("/api/undo", { undone: tried ?? step.entry }, waiting?.subject ?? subjectOf(step));
  if (step.id && step.id !== currentId) select(step.id);
}

function subjectOf({ id, slide_id: slideId, withdrawn }) {
  return withdrawn ? subjectOf(steps.named(withdrawn[0])) : id ? `section ${id}` : `slide ${slideId}`;
}

function discard({ entry }) {
  outbox.discard(entry);
  outlines.refresh();
}

/** The names of the steps that are being taken back. */
function undoing() {
  return new Set(outbox.entries.map(({ body }) => body.undone).filter(Boolean));
}

/** What waits, as the server will know it. */
function stepOf({ entry, address, body }) {
  const slideId = decodeURIComponent(address.split("/").at(-1));
  return body.id ? { entry, id: body.id, answer: body.answer } : { entry, slide_id: slideId };
}

function nameOfStep({ id, slide_id: slideId, answer: said, withdrawn }) {
  if (withdrawn) return `the withdrawal of ${steps.named(withdrawn[0])?.id ?? "an answer"}`;
  return id ? `${said ?? "the withdrawal"}, ${id}` : `a change of outlines, ${slideId}`;
}

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
  const uncovered = changed.filter(({ id, revealed }) => revealed && !sections.find((other) => other.id === id)?.revealed);
  if (uncovered.length) overlays.forgetAhead();
  const byKey = new Map(changed.map((section) => [section.id, section]));
  sections = sections.map((section) => byKey.get(section.id) ?? section);
  if (!drafts.has(currentId) && byKey.has(currentId)) byId("comment").value = current().comment ?? "";
  showCurrent();
  if (uncovered.some(({ slide_id: slideId }) => slideId === slideView.slide?.slide_id)) loadOverlays();
}

/** Ask for the list again where it is another one: others differ on more sections, or a slide was opened. */
async function takeList(version) {
  if (version === listVersion) return;
  ({ version: listVersion, sections } = await getJson("/api/sections"));
  showCurrent();
  if (!current() && sections.length) await select(sections[0].id);
}

/** Take over what was done in this tab and in others. */
function takeSteps(taken, changed) {
  takeSections(changed);
  const touched = taken
    .filter(({ entry }) => !drawnHere.has(entry))
    .flatMap((step) => [step, ...(step.withdrawn ?? []).map((entry) => steps.named(entry))]);
  if (outlines.slideId && touched.some((step) => step?.slide_id === outlines.slideId)) loadOutlines(outlines.slideId);
}

// ---- overlays

function source() {
  return { setting: view.setting, psi: view.psi, slide: slideView.slide };
}

function hasHeatmap() {
  return slideView.isOpen && view.setting !== null;
}

function loadOverlays() {
  overlays.clear();
  const slideId = slideView.slide.slide_id;
  loadAnnotations();
  loadOutlines(slideId);
  loadPrediction();
}

/** Annotations of a whole slide can be large: asked for once they are to be shown. */
function loadAnnotations() {
  const isWanted = byId("show-annotations").checked && !view.isBare && !overlays.wereAnnotationsAsked;
  if (slideView.isOpen && isWanted) overlays.loadAnnotations(slideView.slide.slide_id);
}

function loadPrediction() {
  overlays.clearPrediction();
  if (!hasHeatmap()) return;
  loadRegions();
  loadHeat();
}

/** Heat is asked for once it is wanted: on opening, nothing but outlines lies over the tissue. */
function loadHeat() {
  if (wantsHeat()) overlays.loadHeatmap(source(), () => slideView.visibleBox, slideView.widthPx);
}

function wantsHeat() {
  return hasHeatmap() && (byId("show-heatmap").checked || byId("show-mask").checked);
}

function loadRegions() {
  if (hasHeatmap()) overlays.loadRegions(view.setting, slideView.slide.slide_id, view);
  compare.reload();
}

/** Take everything off the slide, or put it back; what is shown or hidden by itself puts the rest back, too. */
function hideAll(isBare = !view.isBare) {
  view.isBare = isBare;
  byId("hide-all").ariaPressed = String(isBare);
  if (!isBare && !overlays.crops.coarse) loadHeat();
  loadAnnotations();
  compare.reload();
  slideView.redraw();
}

/** What pointers on the slide do: the tool's, or else regions that are pointed at. */
function hand() {
  const names = ["press", "drag", "isHolding", "release", "click", "doubleClick", "pinch"];
  const ofTool = Object.fromEntries(names.map((name) => [name, (...given) => drawing.isOn && drawing[name](...given)]));
  return { ...ofTool, hover: (point) => (drawing.hover(point), hover(point)) };
}

function hover(point) {
  const regions = overlays.isOf(view) ? overlays.regions : [];
  const hovered = regions.find(({ geometry }) => holdsPoint(geometry, point)) ?? null;
  if (hovered === view.hovered) return;
  view.hovered = hovered;
  slideView.redraw();
}

function layers() {
  const show = Object.fromEntries(SHOWN.map((name) => [name, !view.isBare && byId(`show-${name}`).checked]));
  // Outlines of regions come from the heatmap, too.
  const isSeen = ((show.heatmap || show.mask) && overlays.crops.coarse) || (show.regions && overlays.isOf(view));
  visit.sawHeatmap ||= Boolean(isSeen && current()?.revealed);
  const members = sections.filter((section) => section.slide_id === slideView.slide?.slide_id);
  return {
    ...view,
    show,
    crops: overlays.crops,
    annotations: overlays.annotations,
    regions: overlays.isOf(view) ? overlays.regions : [],
    currentSection: current()?.section_id,
    boxes: members.map((section) => ({
      box: section.box_level0_px,
      answer: withWaiting(section).answer,
      isCurrent: section.id === currentId,
      name: section.section_id,
    })),
    outlines: outlines?.features ?? [],
    draft: drawing.draft,
    isChosen: (feature) => drawing.isChosen(feature),
    rulers: drawing.rulers,
    mpp: slideView.slide?.mpp,
  };
}

// ---- the reviewer's own outlines

function loadOutlines(slideId) {
  return outlines.load(slideId).catch(showProblem);
}

/** Take the predicted regions of the open section over, to be deleted or added to. */
function copyRegions() {
  const section = current();
  const wanted = overlays.regions.filter(({ properties }) => properties.section_id === section.section_id);
  const num = outlines.copy(wanted, view, byId("kind").value);
  byId("undone").textContent = wanted.length && !num ? "All regions of this section are copied already." : "";
}

// ---- showing

function showStudy() {
  document.title = `Review of ${study.name}`;
  byId("study-name").textContent = study.name;
  byId("reviewer").textContent = `Reviewer: ${study.reviewer}`;
  byId("order").textContent = study.decides ? "Conflicts to decide" : ORDERS[study.order];
  byId("unplaced").textContent = study.num_unplaced
    ? `${study.num_unplaced} more have no box yet and are not shown.`
    : "";
  byId("phantom").hidden = !study.warning;
  byId("phantom").textContent = study.warning ?? "";
  fill(
    byId("setting"),
    study.settings.map(({ setting }) => setting),
  );
  view.opacity = Number(byId("opacity").value);
  drawColourBar();
  const { setting, psi, tP, bySlide } = kept.get("view") ?? {};
  takeSetting(settingOf(setting) ? setting : study.headline);
  if (settingOf(view.setting).psis.includes(psi)) byId("psi").value = view.psi = psi;
  if (tP >= LEAST_T_P && tP <= 1) takeTP(tP);
  view.bySlide = bySlide === true;
}

function settingOf(name) {
  return study.settings.find(({ setting }) => setting === name);
}

function takeSetting(name) {
  const setting = settingOf(name);
  fill(byId("psi"), setting.psis);
  byId("setting").value = name;
  byId("psi").value = setting.final;
  Object.assign(view, { setting: name, psi: setting.final });
  takeTP(setting.t_p);
}

function takeTP(tP) {
  view.tP = tP;
  byId("tp").value = tP;
  showNumbers();
}

function fill(select, values) {
  select.replaceChildren(...values.map((value) => new Option(value)));
}

function showNumbers() {
  const chosen = settingOf(view.setting).t_p;
  byId("tp-text").textContent = view.tP.toFixed(2);
  byId("tp-chosen").disabled = view.tP === chosen;
  byId("opacity-text").textContent = `${Math.round(100 * view.opacity)} %`;
  drawColourBar();
}

function showCurrent() {
  showLists();
  const section = current();
  if (!section) return;
  const entry = waitingFor(section.id);
  const position = sections.findIndex((other) => other.id === currentId) + 1;
  showSection(section, {
    position,
    total: sections.length,
    isWaiting: Boolean(entry) && !entry.isRefused,
    refusal: entry?.isRefused ? entry.fault : null,
  });
  showOthers(section, study.decides);
  showRest();
  showSaveComment();
  showOverlays();
}

function showSaveComment() {
  const section = current();
  byId("save-comment").hidden = !section?.answer || byId("comment").value === (section.comment ?? "");
}

function showLists() {
  const shown = sections.map(withWaiting);
  const waiting = new Set(outbox.entries.filter((entry) => entry.body.id).map((entry) => entry.body.id));
  const { bySlide } = view;
  const filters = readFilters();
  const wanted = listed(shown, { filters, bySlide, currentId, headline: study.headline });
  const isFiltered = isFiltering(filters);
  showList({ listed: wanted, sections: shown, currentId, headline: study.headline, bySlide, isFiltered, waiting, select });
  showProgress(shown);
}

function showOverlays() {
  byId("loading").textContent = overlays.numLoading ? "Loading\u2026" : "";
  const num = overlays.regions.length;
  const isOfNow = overlays.isOf(view);
  const verdicts = isOfNow ? overlays.verdicts : null;
  if (study && view.setting) showViewed(current(), { ...view, verdicts }, settingOf(view.setting));
  byId("regions-text").textContent = current()?.revealed === false
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
    nameOf: (entry) => (entry.body.undone ? "undo" : nameOfStep(stepOf(entry))),
    discard,
  });
  showCurrent();
}

/** What stands below a snapshot: whose it is, and what is laid over it. */
function caption() {
  const { slide_id: slideId } = slideView.slide;
  const section = current()?.section_id;
  const shown = SHOWN.filter((name) => !view.isBare && byId(`show-${name}`).checked);
  const laid = shown.length ? `${view.setting}, ${view.psi}, t_p ${view.tP.toFixed(2)}: ${shown.join(", ")}` : "";
  const lines = [[study.name, slideId, section].filter(Boolean).join(" \u00b7 "), laid].filter(Boolean);
  return { name: `${slideId}-${section}.png`.replace(/[^\w.-]+/g, "_"), lines, warning: study.warning };
}

function drawColourBar() {
  const context = byId("colour-bar").getContext("2d");
  const { width, height } = context.canvas;
  context.clearRect(0, 0, width, height);
  for (let x = 0; x < width; x++) {
    const probability = x / (width - 1);
    context.fillStyle = probability >= view.tP ? `rgb(${colourOf(probability, view.tP)})` : "#ffffff";
    context.fillRect(x, 0, 1, height);
  }
  context.fillStyle = "#101010";
  context.fillRect(Math.round(view.tP * (width - 1)) - 1, 0, 2, height);
}

// ---- what the controls do

function setSetting(name) {
  takeSetting(name);
  loadPrediction();
}

function setPsi(psi) {
  view.psi = psi;
  loadPrediction();
}

function setOpacity(opacity) {
  view.opacity = opacity;
  showNumbers();
  slideView.redraw();
}

/** Show the mask at another t_p, from what is here already. */
function previewTP(tP) {
  takeTP(tP);
  showOverlays();
}

function setTP(tP) {
  previewTP(Math.round(100 * Math.min(Math.max(tP, LEAST_T_P), 1)) / 100);
  loadRegions();
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
