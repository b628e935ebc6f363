/** Keys of the page; those typed into a text field or a list of choices are left alone. */

/** `actions` by key, letters in lower case; `drawing` by key, in its place while `isDrawing()`. */
export function listen({ actions, drawing, isDrawing }) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key === "Escape" && isText(event.target)) event.target.blur();
    if (isText(event.target) || isTakenBy(event.target, event.key) || document.querySelector("dialog[open]")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const action = (isDrawing() ? drawing : actions)[key];
    if (!action || (event.repeat && !MAY_REPEAT.has(key))) return;
    event.preventDefault();
    action();
  });
}

const MAY_REPEAT = new Set(["j", "k", "ArrowDown", "ArrowUp", "[", "]", "+", "-", "Backspace"]);

function isText(target) {
  return target.matches?.("textarea, select, input[type=text]") ?? false;
}

/** Sliders need the arrows; buttons and boxes need space and enter. */
function isTakenBy(target, key) {
  if (target.matches?.("input[type=range]")) return key.startsWith("Arrow");
  return (target.matches?.("button, input[type=checkbox]") ?? false) && (key === " " || key === "Enter");
}
