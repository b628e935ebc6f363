/** Building the page: texts go in as text, never as HTML. */

export function byId(id) {
  return document.getElementById(id);
}

/** An element with properties (class as className) and children, strings among them as text. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function table(heads, rows) {
  const cells = (values, tag) => element("tr", {}, ...values.map((value) => element(tag, {}, value)));
  return element(
    "table",
    {},
    element("thead", {}, cells(heads, "th")),
    element("tbody", {}, ...rows.map((row) => cells(row, "td"))),
  );
}
