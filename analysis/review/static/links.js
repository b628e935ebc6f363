/** Links to a section. They name no reader and hold no token, so a colleague can paste one into the search of theirs. */

/** The link that opens a section here; elsewhere what stands behind # is enough. */
export function linkTo(id) {
  return `${location.origin}${location.pathname}#${encodeURIComponent(id)}`;
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
