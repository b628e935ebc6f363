/** The reviewer's own outlines on the open slide: those that the server has, and the changes that it has not yet. */

import { Latest } from "./latest.js";
import { newName } from "./outbox.js";
import { getJson, path } from "./server.js";

export class Outlines {
  #outbox;
  #changed;
  #kept = null;
  #latest = new Latest();

  /** GeoJSON features in level-0 px, each with an `id`; null until they are known. */
  features = null;

  constructor({ outbox, changed }) {
    this.#outbox = outbox;
    this.#changed = changed;
    this.slideId = null;
  }

  clear() {
    this.#latest.cancel();
    this.slideId = this.#kept = this.features = null;
  }

  async load(slideId) {
    const isOther = slideId !== this.slideId;
    if (isOther) this.clear();
    this.slideId = slideId;
    const found = await this.#latest.run((signal) => getJson(addressOf(slideId), signal));
    if (!found) return;
    this.#kept = found.features;
    this.refresh();
  }

  /** Put the changes that wait over what the server has. */
  refresh() {
    if (!this.#kept) return;
    const waiting = this.#outbox.entries.filter(({ address }) => address === addressOf(this.slideId));
    this.features = waiting.reduce((features, { body }) => after(features, body), this.#kept);
    this.#changed();
  }

  /** Draw features, and take off those of some ids; a feature that is corrected is both. */
  change({ added = [], removed = [] }) {
    const named = added.map((feature) => ({ ...feature, id: feature.id ?? newName() }));
    this.#outbox.add(addressOf(this.slideId), { added: named, removed }, `slide ${this.slideId}`);
    this.refresh();
  }

  /** Draw predicted regions, those that are there already left out; `source` says what predicted them. */
  copy(regions, { setting, psi, tP }, kind) {
    const there = new Set(this.features.flatMap(({ id, properties }) => [id, properties.copied_from]));
    const added = regions
      .map(({ geometry, properties: { section_id: section } }) => {
        // Two regions share no corner, so the first one names a region, in every tab alike.
        const id = [setting, psi, tP, section, ...geometry.coordinates.flat(Infinity).slice(0, 2)].join(" ");
        return { type: "Feature", id, geometry, properties: { kind, section_id: section, copied_from: id } };
      })
      .filter(({ id }) => !there.has(id));
    if (added.length) this.change({ added });
    return added.length;
  }

  /** Told of every entry that the server has taken. */
  sent({ address, body }, { added }) {
    if (!this.#kept || address !== addressOf(this.slideId)) return;
    this.#kept = after(this.#kept, { ...body, added });
    this.refresh();
  }
}

function addressOf(slideId) {
  return path("api", "regions", slideId);
}

function after(features, { added, removed }) {
  const gone = new Set([...removed, ...added.map(({ id }) => id)]);
  return [...features.filter(({ id }) => !gone.has(id)), ...added];
}
