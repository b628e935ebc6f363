/** The stage's own controls: magnification, turning, light, colour profile, snapshot, and folding of the panels. */

import { byId, element } from "./dom.js";
import { NEUTRAL, shine } from "./light.js";
import { magnificationOf, nextStop, STOPS } from "./magnification.js";
import { download, snapshot } from "./snapshot.js";

const QUARTER = 90;
const PAN = 0.25; // share of the view
const LIGHT_TEXTS = {
  brightness: (value) => `${value > 0 ? "+" : ""}${Math.round(100 * value)} %`,
  contrast: (value) => `${value.toFixed(2)}\u00d7`,
  gamma: (value) => value.toFixed(2),
};

export class Microscope {
  #light = { ...NEUTRAL };

  /** `views()` are the slide views that are open, the first of them the main one; `caption()` says what is seen. */
  constructor({ views, caption, failed }) {
    Object.assign(this, { views, caption, failed });
    this.#connectMagnification();
    this.#connectLight();
    const clicks = {
      "turn-left": () => this.turnBy(-QUARTER),
      "turn-right": () => this.turnBy(QUARTER),
      mirror: () => this.mirror(),
      snapshot: () => this.keepSnapshot(),
      "fold-list": () => this.fold("list"),
      "fold-panel": () => this.fold("panel"),
    };
    for (const [id, act] of Object.entries(clicks)) byId(id).addEventListener("click", act);
    byId("turn").addEventListener("input", ({ target }) => this.#turnTo(Number(target.value)));
  }

  /** Keys of the stage, for keyboard.js. */
  get keys() {
    const pans = { ArrowLeft: [-PAN, 0], ArrowRight: [PAN, 0], ArrowUp: [0, -PAN], ArrowDown: [0, PAN] };
    return {
      ...Object.fromEntries(
        Object.entries(pans).map(([key, by]) => [`Shift+${key}`, () => this.views()[0].panBy(...by)]),
      ),
      PageUp: () => this.#step(1),
      PageDown: () => this.#step(-1),
      r: () => this.turnBy(QUARTER),
      "Shift+R": () => this.turnBy(-QUARTER),
      m: () => this.mirror(),
      p: () => this.keepSnapshot(),
      i: () => byId("compare").click(),
      f: () => this.foldAll(),
    };
  }

  turnBy(degrees) {
    this.#turnTo((this.views()[0].degrees + degrees + 360) % 360);
  }

  #turnTo(degrees) {
    this.views()[0].turnTo(degrees);
    this.show();
  }

  mirror() {
    this.views()[0].mirror();
    this.show();
  }

  #step(direction) {
    const [view] = this.views();
    if (view.umPerPx) view.magnifyTo(nextStop(view.umPerPx, direction));
  }

  /** Show how the main view lies. */
  show() {
    const [view] = this.views();
    const { umPerPx } = view;
    for (const button of byId("magnifications").children) {
      button.disabled = !umPerPx;
      button.ariaPressed = String(Boolean(umPerPx) && magnificationOf(umPerPx) === `${button.dataset.stop}\u00d7`);
    }
    byId("turn").value = view.degrees > 180 ? view.degrees - 360 : view.degrees;
    byId("turn-text").textContent = `${view.degrees}\u00b0`;
    byId("mirror").ariaPressed = String(view.isMirrored);
  }

  #connectMagnification() {
    const button = (stop) => {
      const made = element("button", { type: "button", className: "small" }, `${stop}\u00d7`);
      made.dataset.stop = String(stop);
      made.ariaLabel = `Magnify to ${stop} times`;
      made.addEventListener("click", () => this.views()[0].magnifyTo(stop));
      return made;
    };
    byId("magnifications").append(...STOPS.map(button));
  }

  #connectLight() {
    for (const name of Object.keys(NEUTRAL)) {
      byId(name).addEventListener("input", ({ target }) => {
        this.#light[name] = Number(target.value);
        this.showLight();
      });
    }
    byId("light-reset").addEventListener("click", () => {
      this.#light = { ...NEUTRAL };
      this.showLight();
    });
    byId("profile").addEventListener("change", ({ target }) => {
      for (const view of this.views()) view.hasProfile = target.checked;
    });
    this.showLight();
  }

  /** Show the light on all views; to be called when there is a new one, too. */
  showLight() {
    for (const [name, value] of Object.entries(this.#light)) {
      byId(name).value = value;
      byId(`${name}-text`).textContent = LIGHT_TEXTS[name](value);
    }
    shine(
      this.views().flatMap((view) => view.tileCanvases),
      this.#light,
    );
  }

  /** Say whether the slide carries a colour profile, and whether it is applied. */
  showProfile(slide) {
    byId("profile").disabled = !slide?.profile;
    byId("profile-text").textContent = slide?.profile
      ? `The slide's colour profile (${slide.profile})`
      : "The slide carries no colour profile";
  }

  async keepSnapshot() {
    const [view] = this.views();
    if (!view.isOpen) return;
    const { name, lines, warning } = this.caption();
    try {
      download(await snapshot(view, { light: this.#light, lines, warning }), name);
    } catch (error) {
      this.failed(error);
    }
  }

  /** Fold one of the panels away, or unfold it. */
  fold(name, isFolded = !document.body.classList.contains(`without-${name}`)) {
    document.body.classList.toggle(`without-${name}`, isFolded);
    byId(`fold-${name}`).ariaExpanded = String(!isFolded);
  }

  foldAll() {
    const isAny = ["list", "panel"].some((name) => !document.body.classList.contains(`without-${name}`));
    ["list", "panel"].forEach((name) => this.fold(name, isAny));
  }
}
