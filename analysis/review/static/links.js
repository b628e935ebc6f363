/** Links to a section. They name no reader and hold no token, so a colleague can paste one into the search of theirs. */

import { byId } from "./dom.js";

/** The link that opens a section here; elsewhere what stands behind # is enough. */
export function linkTo(id) {
  return `${location.origin}${location.pathname}#${encodeURIComponent(id)}`;
}

/** Put the link that opens a section into the clipboard, or show it where the browser gives none. */
export async function copyLink(id) {
  const link = linkTo(id);
  try {
    await navigator.clipboard.writeText(link);
    byId("undone").textContent = "The link is copied; colleagues paste it into their search.";
  } catch {
    // Browsers give the clipboard to https and to this machine alone.
    byId("undone").textContent = `Copy this link: ${link}`;
  }
}

/** The section that a link or a pasted text names; null where it is no link. */
export function idIn(text) {
  const place = text.indexOf("#");
  if (place < 0) return null;
  try {
    return decodeURIComponent(text.slice(place + 1).trim()) || null;
  } catch {
    return null; // a link that was cut in the middle of a sign
  }
}
