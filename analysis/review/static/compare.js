/** A second view beside the first: of another slide, or of another output of the same one; the two move together. */

import { byId, element } from "./dom.js";
import { drawLayers } from "./layers.js";
import { Overlays } from "./overlays.js";
import { SlideView } from "./slide_view.js";
import { showCall } from "./viewed.js";

export class Compare {
  #view = null;
  #overlays = null;
  #offset = [0, 0]; // from the first view's middle to this one's, in um, or px where there is no scale
  #isLeading = false; // whether the hand was last on this view: then the first one follows it

  /**
   * `main` is the first SlideView; `slides()` the ids of all slides and `slideOf(id)` what is known of one; `settings`
   * as the study has them; `state()` is what layers.js draws of the first view; `changed()` is called when the second view comes or goes.
   */
  constructor({ main, slides, slideOf, settings, state, changed, failed }) {
    Object.assign(this, { main, slides, slideOf, settings, state, changed, failed });
    byId("compare").addEventListener("click", () => this.toggle().catch(failed));
    for (const id of ["other-slide", "other-output"]) {
      byId(id).addEventListener("change", ({ target }) => {
        // Keys belong to the slides again.
        target.blur();
        this.#load().catch(failed);
      });
    }
    byId("linked").addEventListener("change", () => this.#keepOffset());
    for (const event of ["pointerdown", "wheel", "keydown"]) {
      const lead = ({ target, type }) => (this.#isLeading = type !== "keydown" && byId("other-view").contains(target));
      document.addEventListener(event, lead, { capture: true, passive: true });
    }
  }

  get isOn() {
    return this.#view !== null && !byId("other-pane").hidden;
  }

  /** The second view, in a list; an empty one where there is none. */
  get views() {
    return this.isOn ? [this.#view] : [];
  }

  async toggle() {
    const isOn = !this.isOn;
    if (isOn && !this.main.isOpen) return;
    byId("compare").ariaPressed = String(isOn);
    byId("other-pane").hidden = byId("compare-bar").hidden = !isOn;
    if (isOn) await this.#begin();
    this.changed();
  }

  async #begin() {
    this.#view ??= this.#made();
    const { slide } = this.main;
    const { setting, psi } = this.state();
    const outputs = this.settings().flatMap((each) => each.psis.map((name) => [each.setting, name]));
    fill(byId("other-slide"), this.slides(), slide.slide_id);
    const other = outputs.find(([name, output]) => name === setting && output !== psi) ?? [setting, psi];
    fill(
      byId("other-output"),
      outputs.map((output) => output.join(" ")),
      other.join(" "),
    );
    await this.#load();
  }

  #made() {
    this.#overlays = new Overlays(() => this.#show());
    const scale = element("div", {}, element("div"), element("span"), element("span"));
    scale.className = "scale";
    byId("other-scale").append(scale);
    return new SlideView(byId("other-view"), scale, {
      draw: (context, place) => drawLayers(context, place, this.#layers()),
      settled: () => this.#sharpen(),
      moved: () => this.#lead(),
    });
  }

  /** Open what was chosen, where the first view is; heat and regions follow the first view's switches. */
  async #load() {
    const slide = await this.slideOf(byId("other-slide").value);
    if (slide.error) throw new Error(`The slide cannot be read: ${slide.error}`);
    const isOther = slide.slide_id !== this.main.slide.slide_id;
    this.#view.hasProfile = this.main.hasProfile;
    await this.#view.open(slide);
    if (isOther) this.#view.fitSlide();
    else this.#follow([0, 0]);
    this.#keepOffset();
    this.reload();
  }

  /** Fetch what lies over it; to be called when the first view's t_p or switches have changed. */
  reload() {
    if (!this.isOn || !this.#view.isOpen) return;
    const { setting, psi, tP } = this.#viewed();
    const { slide } = this.#view;
    const { show } = this.state();
    this.#overlays.clear();
    this.#overlays.loadRegions(setting, slide.slide_id, { psi, tP });
    if (show.annotations) this.#overlays.loadAnnotations(slide.slide_id);
    if (show.heatmap || show.mask) {
      this.#overlays.loadHeatmap({ setting, psi, slide }, () => this.#view.visibleBox, this.#view.widthPx);
    }
  }

  /** Of the first view's setting its t_p, of another one the study's. */
  #viewed() {
    const [setting, psi] = byId("other-output").value.split(" ");
    const { setting: mainSetting, tP } = this.state();
    const chosen = this.settings().find((each) => each.setting === setting);
    return { setting, psi, tP: setting === mainSetting ? tP : chosen.t_p, chosen };
  }

  #sharpen() {
    const { setting, psi } = this.#viewed();
    if (!this.#overlays.crops.coarse) return;
    const { slide, visibleBox, widthPx } = this.#view;
    this.#overlays.sharpen({ setting, psi, slide }, visibleBox, widthPx);
  }

  #layers() {
    const state = this.state();
    const { crops, regions, annotations } = this.#overlays;
    const isSame = this.#view.slide?.slide_id === this.main.slide?.slide_id;
    return {
      ...state,
      crops,
      regions,
      annotations,
      tP: this.#viewed().tP,
      hovered: null,
      currentSection: isSame ? state.currentSection : null,
      boxes: isSame ? state.boxes : [],
      outlines: isSame ? state.outlines : [],
      draft: null,
      rulers: [],
    };
  }

  #show() {
    const { setting, psi, tP, chosen } = this.#viewed();
    const isSame = this.#view.slide?.slide_id === this.main.slide?.slide_id;
    const { verdicts, faultText } = this.#overlays;
    const call = isSame ? verdicts?.[this.state().currentSection] : null;
    const isOther = psi !== chosen.final || tP !== chosen.t_p;
    const note = isOther ? " (not the study's choice)" : "";
    const text = faultText || `${psi}, t_p ${tP.toFixed(2)}${note}${call ? `: ${showCall(call)}` : ""}`;
    Object.assign(byId("other-text"), { textContent: text, title: `${setting}, ${text}` });
    this.#view.redraw();
  }

  // ---- moving together

  /** To be called when the first view moved. */
  lead() {
    if (!this.isOn || !byId("linked").checked || this.#isLeading || !this.#view.isOpen) return;
    this.#follow(this.#offset);
  }

  #follow(offset) {
    this.#view.view = moved(this.main, this.#view, offset);
  }

  #lead() {
    if (!this.isOn || !byId("linked").checked || !this.#isLeading || !this.main.isOpen) return;
    this.main.view = moved(this.#view, this.main, negative(this.#offset));
  }

  #keepOffset() {
    const [from, to] = [inUm(this.main), inUm(this.#view)];
    this.#offset = [to[0] - from[0], to[1] - from[1]];
  }
}

/** Where `to` lies when it shows what `from` shows, some way further. */
function moved(from, to, [x, y]) {
  const [centreX, centreY] = inUm(from);
  const [unit, ownUnit] = [unitOf(from), unitOf(to)];
  const { scale, rotation, isMirrored } = from.view;
  const centre = [(centreX + x) / ownUnit, (centreY + y) / ownUnit];
  return { scale: (scale / unit) * ownUnit, rotation, isMirrored, centre };
}

function unitOf({ slide }) {
  return slide.mpp ?? 1;
}

function inUm(view) {
  return view.view.centre.map((each) => each * unitOf(view));
}

function negative([x, y]) {
  return [-x, -y];
}

function fill(select, values, chosen) {
  select.replaceChildren(...values.map((value) => new Option(value)));
  select.value = chosen;
}
