/** Keys of the page; those typed into a text field or a list of choices are left alone. */

/** `actions` by key, letters in lower case, "Shift+R" and "Ctrl+Z" by these names; `drawing` by key, in its place while `isDrawing()`. */
export function listen({ actions, drawing, isDrawing }) {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Escape" && isText(event.target)) event.target.blur();
    if (isText(event.target) || isTakenBy(event.target, event.key) || document.querySelector("dialog[open]")) return;
    const acts = isDrawing() ? drawing : actions;
    const key = keysOf(event).find((name) => acts[name]);
    const action = acts[key];
    if (!action || (event.repeat && !MAY_REPEAT.has(key))) return;
    event.preventDefault();
    action();
  });
}

/**
 * What a press may mean, the first that is known counts. Digits count by their key where it writes something else, as
 * French keyboards do. AltGr, which sends Ctrl and Alt, is how many keyboards write [ and ]: what it writes counts.
 */
function keysOf(event) {
  const { key, code, shiftKey } = event;
  const isAlt = event.altKey || event.getModifierState("AltGraph");
  if (isAlt) return /^[^a-z0-9]$/i.test(key) ? [key] : [];
  if (event.ctrlKey || event.metaKey) return [`Ctrl+${shiftKey ? "Shift+" : ""}${key.toUpperCase()}`];
  if (key.length > 1) return [shiftKey ? `Shift+${key}` : key, key];
  const digit = /^Digit([0-9])$/.exec(code)?.[1];
  const shifted = shiftKey && /^[a-z]$/i.test(key) ? [`Shift+${key.toUpperCase()}`] : [];
  return [...shifted, key.toLowerCase(), ...(digit && !shiftKey ? [digit] : [])];
}

const PANS = ["Left", "Right", "Up", "Down"].map((side) => `Shift+Arrow${side}`);
const MAY_REPEAT = new Set(["j", "k", "ArrowDown", "ArrowUp", "[", "]", "+", "-", "Backspace", "Ctrl+Z", ...PANS]);

function isText(target) {
  return target.matches?.("textarea, select, input[type=text], input[type=number]") ?? false;
}

/** Sliders need the arrows; buttons and boxes need space and enter. */
function isTakenBy(target, key) {
  if (target.matches?.("input[type=range]")) return key.startsWith("Arrow");
  return (target.matches?.("button, input[type=checkbox]") ?? false) && (key === " " || key === "Enter");
}
