/** How long a section has been looked at, and whether with the heatmap. */

export class Visit {
  #seconds = 0;
  #since = null;
  sawHeatmap = false;

  constructor() {
    this.watch();
  }

  /** To be called whenever the page comes into sight or goes out of it. */
  watch() {
    if (this.#since !== null) this.#seconds += (performance.now() - this.#since) / 1000;
    this.#since = document.visibilityState === "visible" ? performance.now() : null;
  }

  get seconds() {
    const running = this.#since === null ? 0 : (performance.now() - this.#since) / 1000;
    return Math.round(10 * (this.#seconds + running)) / 10;
  }
}
