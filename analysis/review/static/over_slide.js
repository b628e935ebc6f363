/** What lies over the open slide: what of it is wanted now, and so asked for, and what of it is drawn. */

import { SHOWN } from "./controls.js";
import { byId } from "./dom.js";
import { holdsPoint } from "./geometry.js";

export class OverSlide {
  /** The parts of the page; `outlines()` are null at first, and `failed(error)` is told why outlines do not come. */
  constructor({ slideView, overlays, outlines, drawing, sections, display, answering, compare, failed }) {
    Object.assign(this, { slideView, overlays, outlines, drawing, sections, display, answering, compare, failed });
  }

  /** Ask for what lies over the slide that was opened. */
  load() {
    this.overlays.clear();
    this.loadAnnotations();
    this.loadOutlines();
    this.loadPrediction();
  }

  loadOutlines() {
    return this.outlines().load(this.slideView.slide.slide_id).catch(this.failed);
  }

  /** Annotations of a whole slide can be large: asked for once they are to be shown. */
  loadAnnotations() {
    const { slideView, overlays, display } = this;
    const isWanted = byId("show-annotations").checked && !display.isBare && !overlays.wereAnnotationsAsked;
    if (slideView.isOpen && isWanted) overlays.loadAnnotations(slideView.slide.slide_id);
  }

  loadPrediction() {
    this.overlays.clearPrediction();
    if (!this.#hasHeatmap) return;
    this.loadRegions();
    this.loadHeat();
  }

  loadRegions() {
    if (this.#hasHeatmap) this.overlays.loadRegions(this.display.setting, this.slideView.slide.slide_id, this.display);
    this.compare.reload();
  }

  /** Heat is asked for once it is wanted: on opening, nothing but outlines lies over the tissue. */
  loadHeat() {
    const { slideView } = this;
    if (this.wantsHeat) this.overlays.loadHeatmap(this.#source, () => slideView.visibleBox, slideView.widthPx);
  }

  /** Have heat that is as sharp as the screen, where it came to rest. */
  sharpen() {
    const { slideView } = this;
    if (this.wantsHeat) this.overlays.sharpen(this.#source, slideView.visibleBox, slideView.widthPx);
  }

  get wantsHeat() {
    return this.#hasHeatmap && (byId("show-heatmap").checked || byId("show-mask").checked);
  }

  get #hasHeatmap() {
    return this.slideView.isOpen && this.display.setting !== null;
  }

  get #source() {
    const { setting, psi } = this.display;
    return { setting, psi, slide: this.slideView.slide };
  }

  /** Take everything off the slide, or put it back; what is shown or hidden by itself puts the rest back, too. */
  hideAll(isBare = !this.display.isBare) {
    this.display.isBare = isBare;
    byId("hide-all").ariaPressed = String(isBare);
    if (!isBare && !this.overlays.crops.coarse) this.loadHeat();
    this.loadAnnotations();
    this.compare.reload();
    this.slideView.redraw();
  }

  /** The pointer is at a point, and so on a region or on none. */
  hover(point) {
    const hovered = this.#regions.find(({ geometry }) => holdsPoint(geometry, point)) ?? null;
    if (hovered === this.display.hovered) return;
    this.display.hovered = hovered;
    this.slideView.redraw();
  }

  /** Draw the predicted regions of the open section as the reviewer's own, to be deleted or added to. */
  copyRegions() {
    const section = this.sections.current;
    const wanted = this.overlays.regions.filter(({ properties }) => properties.section_id === section.section_id);
    const num = this.outlines().copy(wanted, this.display, byId("kind").value);
    byId("undone").textContent = wanted.length && !num ? "All regions of this section are copied already." : "";
  }

  /** What layers.js draws. */
  get layers() {
    const { slideView, overlays, drawing, sections, display } = this;
    const show = Object.fromEntries(SHOWN.map((name) => [name, display.shows(name)]));
    const { current, currentId } = sections;
    // Outlines of regions come from the heatmap, too.
    const isSeen = ((show.heatmap || show.mask) && overlays.crops.coarse) || (show.regions && overlays.isOf(display));
    if (isSeen && current?.revealed) this.answering.sawHeatmap();
    return {
      ...display,
      show,
      crops: overlays.crops,
      annotations: overlays.annotations,
      regions: this.#regions,
      currentSection: current?.section_id,
      boxes: sections.of(slideView.slide?.slide_id).map((section) => ({
        box: section.box_level0_px,
        answer: section.answer,
        isCurrent: section.id === currentId,
        name: section.section_id,
      })),
      outlines: this.outlines()?.features ?? [],
      draft: drawing.draft,
      isChosen: (feature) => drawing.isChosen(feature),
      rulers: drawing.rulers,
      mpp: slideView.slide?.mpp,
    };
  }

  /** Those at the psi and t_p that are shown. */
  get #regions() {
    return this.overlays.isOf(this.display) ? this.overlays.regions : [];
  }
}
