/** Fetching what is laid over the slide; what is drawn of it stands in layers.js. */

import { grown, sharedBox } from "./geometry.js";
import { Crop } from "./heatmap.js";
import { Latest } from "./latest.js";
import { getJson, getPicture, path } from "./server.js";

const COARSE_PX = 1024;
const FINE_PX = 1536; // with what lies around the view
const AROUND = 0.2; // share of the view that is fetched on each side, so that small moves ask for nothing
const ENOUGH = 1.2; // as sharp as the screen, or nearly

export class Overlays {
  #ahead = new Map(); // promises of what other slides will show, by address; null where it could not be had
  #latest = { coarse: new Latest(), fine: new Latest(), annotations: new Latest(), regions: new Latest() };

  /** `changed()` is called when something arrived or could not be had. */
  constructor(changed) {
    this.changed = changed;
    this.numLoading = 0;
    this.clear();
  }

  /** Forget everything: another slide, setting or output. */
  clear() {
    Object.values(this.#latest).forEach((latest) => latest.cancel());
    this.annotations = [];
    this.wereAnnotationsAsked = false;
    this.faults = new Map();
    this.clearPrediction();
  }

  /** Forget the heatmap and its regions. */
  clearPrediction() {
    this.crops = { coarse: null, fine: null };
    this.regions = [];
    this.verdicts = null;
    this.regionsOf = { psi: null, tP: null };
    for (const name of ["coarse", "fine", "regions"]) this.faults.delete(name);
  }

  /** Why something is not there, each reason once. */
  get faultText() {
    return [...new Set(this.faults.values())].join(" ");
  }

  /** The heatmap of the whole slide, and that of the view. */
  async loadHeatmap(source, visibleBox, screenPx) {
    const { slide } = source;
    const coarse = await this.#load("coarse", async (signal) =>
      (await this.#ahead.get(heatmapOf(source))) ?? readCrop(source, wholeOf(slide), COARSE_PX, signal),
    );
    if (!coarse) return;
    this.crops = { coarse, fine: null };
    this.changed();
    await this.sharpen(source, visibleBox(), screenPx);
  }

  /** Fetch the part that is seen, where the crops at hand are coarser than the screen. */
  async sharpen(source, visibleBox, screenPx) {
    const { coarse, fine } = this.crops;
    const seen = sharedBox(visibleBox, [0, 0, source.slide.width, source.slide.height]);
    if (!coarse || !seen) return;
    const wantedPx = Math.max(visibleBox[2], visibleBox[3]) / Math.min(screenPx, FINE_PX / (1 + 2 * AROUND));
    if (coarse.pixelPx <= wantedPx * ENOUGH) {
      this.#latest.fine.cancel();
      this.crops.fine = null;
      this.changed();
    } else if (!fine || !holds(fine.asked, seen) || fine.askedPx > wantedPx * ENOUGH) {
      const asked = sharedBox(grown(seen, AROUND), [0, 0, source.slide.width, source.slide.height]).map(Math.round);
      const crop = await this.#load("fine", (signal) => readCrop(source, asked, FINE_PX, signal));
      if (!crop) return;
      this.crops.fine = Object.assign(crop, { asked, askedPx: wantedPx });
      this.changed();
    }
  }

  async loadAnnotations(slideId) {
    this.wereAnnotationsAsked = true;
    const found = await this.#load("annotations", (signal) => this.#ask(annotationsOf(slideId), signal));
    if (!found) return;
    this.annotations = found.features;
    this.changed();
  }

  /** The regions at psi and t_p that are large enough to count, and the verdicts that rest on them. */
  async loadRegions(setting, slideId, { psi, tP }) {
    const address = regionsOf(setting, slideId, { psi, tP });
    const found = await this.#load("regions", (signal) => this.#ask(address, signal));
    if (!found) return;
    this.regions = found.features;
    this.verdicts = found.verdicts;
    this.regionsOf = { psi, tP };
    this.changed();
  }

  /** Have at hand what some other slides will show, of those in `heat` the heatmap, too; that of other ones is let go. */
  prepare({ setting, psi, tP }, slides, { annotations, heat }) {
    const wanted = slides.flatMap((slide) => {
      const ofJson = [regionsOf(setting, slide.slide_id, { psi, tP })];
      if (annotations) ofJson.push(annotationsOf(slide.slide_id));
      const source = { setting, psi, slide };
      const crops = heat.has(slide.slide_id) ? [[heatmapOf(source), () => readCrop(source, wholeOf(slide), COARSE_PX)]] : [];
      return [...ofJson.map((address) => [address, () => getJson(address)]), ...crops];
    });
    // What goes wrong is asked for again, and named, when it is to be shown.
    this.#ahead = new Map(wanted.map(([key, ask]) => [key, this.#ahead.get(key) ?? ask().catch(() => null)]));
  }

  /** Let go of what was fetched ahead: after an answer more of it may be seen. */
  forgetAhead() {
    this.#ahead.clear();
  }

  /** What is at hand, or what the server is asked for now. */
  async #ask(address, signal) {
    return (await this.#ahead.get(address)) ?? getJson(address, signal);
  }

  /** Whether regions and verdicts are those of a psi and t_p. */
  isOf({ psi, tP }) {
    return this.regionsOf.psi === psi && this.regionsOf.tP === tP;
  }

  async #load(name, ask) {
    this.numLoading += 1;
    this.changed();
    this.faults.delete(name);
    try {
      return await this.#latest[name].run(ask);
    } catch (error) {
      this.faults.set(name, error.message);
      return undefined;
    } finally {
      this.numLoading -= 1;
      this.changed();
    }
  }
}

function annotationsOf(slideId) {
  return path("api", "annotations", slideId);
}

function regionsOf(setting, slideId, { psi, tP }) {
  return `${path("api", "regions", setting, slideId)}?${new URLSearchParams({ psi, t_p: tP })}`;
}

function heatmapOf({ setting, psi, slide }) {
  return path("api", "heatmap", setting, slide.slide_id, psi);
}

function wholeOf({ width, height }) {
  return [0, 0, width, height];
}

async function readCrop(source, [x, y, width, height], maxPx, signal) {
  const place = new URLSearchParams({ x, y, width, height, max_px: maxPx });
  return Crop.read(await getPicture(`${heatmapOf(source)}?${place}`, signal));
}

function holds(box, inner) {
  const shared = sharedBox(box, inner);
  return shared !== null && shared[2] >= inner[2] - 2 && shared[3] >= inner[3] - 2;
}
