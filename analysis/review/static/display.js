/** What is chosen to be shown of a slide: setting, output, t_p and opacity, with the inputs and numbers for them. */

import { byId } from "./dom.js";
import { colourOf, MOST_OPAQUE } from "./heatmap.js";

const T_P_STEP = 0.01;
const LEAST_T_P = 0.02;

export class Display {
  #settings = [];
  setting = null;
  psi = null;
  tP = 0.5;
  opacity = MOST_OPAQUE;
  bySlide = false; // how the list is sorted
  isBare = false; // whether everything is taken off the slide
  hovered = null; // the region under the pointer

  /** Begin with what this tab showed before (`kept`), and otherwise with the study's choice. */
  begin({ settings, headline }, { setting, psi, tP, bySlide } = {}) {
    this.#settings = settings;
    const names = settings.map((each) => each.setting);
    fill(byId("setting"), names);
    this.opacity = Number(byId("opacity").value);
    this.takeSetting(names.includes(setting) ? setting : headline);
    if (this.chosen.psis.includes(psi)) byId("psi").value = this.psi = psi;
    if (tP >= LEAST_T_P && tP <= 1) this.takeTP(tP);
    this.bySlide = bySlide === true;
  }

  /** What the study has for the setting that is shown: outputs, the final one, and t_p. */
  get chosen() {
    return this.#settings.find(({ setting }) => setting === this.setting);
  }

  /** What a reload is to bring back. */
  get kept() {
    const { setting, psi, tP, bySlide } = this;
    return { setting, psi, tP, bySlide };
  }

  takeSetting(name) {
    this.setting = name;
    const { psis, final, t_p: tP } = this.chosen;
    fill(byId("psi"), psis);
    byId("setting").value = name;
    byId("psi").value = this.psi = final;
    this.takeTP(tP);
  }

  takeTP(tP) {
    this.tP = tP;
    byId("tp").value = tP;
    this.#showNumbers();
  }

  /** The t_p that lies some steps from that which is shown, among those that the page offers. */
  beside(steps) {
    return offered(this.tP + steps * T_P_STEP);
  }

  /** Whether a layer is to be seen. */
  shows(name) {
    return !this.isBare && byId(`show-${name}`).checked;
  }

  takeOpacity(opacity) {
    this.opacity = opacity;
    this.#showNumbers();
  }

  #showNumbers() {
    byId("tp-text").textContent = this.tP.toFixed(2);
    byId("tp-chosen").disabled = this.tP === this.chosen.t_p;
    byId("opacity-text").textContent = `${Math.round(100 * this.opacity)} %`;
    drawColourBar(this.tP);
  }
}

/** The nearest t_p among those that the page offers. */
export function offered(tP) {
  return Math.round(100 * Math.min(Math.max(tP, LEAST_T_P), 1)) / 100;
}

function fill(select, values) {
  select.replaceChildren(...values.map((value) => new Option(value)));
}

function drawColourBar(tP) {
  const context = byId("colour-bar").getContext("2d");
  const { width, height } = context.canvas;
  context.clearRect(0, 0, width, height);
  for (let x = 0; x < width; x++) {
    const probability = x / (width - 1);
    context.fillStyle = probability >= tP ? `rgb(${colourOf(probability, tP)})` : "#ffffff";
    context.fillRect(x, 0, 1, height);
  }
  context.fillStyle = "#101010";
  context.fillRect(Math.round(tP * (width - 1)) - 1, 0, 2, height);
}
