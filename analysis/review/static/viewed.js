/** What is said of the open section at the psi and t_p that are shown, and whether these are the study's choice. */

import { byId } from "./dom.js";
import { areaText } from "./geometry.js";

/** `verdict` is that of the section at `viewed` {setting, psi, t_p, is_chosen}, null where there is none yet. */
export function showViewed(section, viewed, chosen) {
  const note = byId("viewed");
  const isOther = viewed.psi !== chosen.final || viewed.tP !== chosen.t_p;
  byId("not-chosen").hidden = !isOther;
  byId("not-chosen").textContent = isOther
    ? `Not the study's choice, which is ${chosen.final} at t_p ${chosen.t_p.toFixed(2)}.`
    : "";
  const call = section?.revealed ? viewed.verdicts?.[section.section_id] : null;
  const at = `${viewed.setting}, ${viewed.psi}, t_p ${viewed.tP.toFixed(2)}`;
  note.hidden = !section?.revealed;
  if (!viewed.verdicts) note.textContent = `${at}: \u2026`;
  else if (!call) note.textContent = `${at}: no verdict`;
  else note.textContent = `${at}: ${showCall(call)}`;
}

/** A verdict in words. */
export function showCall({ verdict, area_um2: area, area_factor: factor }) {
  const times = factor === null ? "" : ` (${factor.toFixed(2)} \u00d7 t_A)`;
  return `${verdict}, largest region ${areaText(area)}${times}`;
}
