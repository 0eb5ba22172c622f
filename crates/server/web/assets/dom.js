// The only way this page makes elements. Text is always a text node: nothing from the server can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** Properties that must be set on the object because the attribute means only the initial value. */
const AS_PROPERTY = new Set(["value", "checked", "disabled", "selected", "hidden", "open", "readOnly", "required"]);

/**
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes] `class`, attributes, `onclick`-like listeners; null and false leave out
 * @param {...(Node|string|number|null|undefined|false|Array)} children
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (AS_PROPERTY.has(name)) element[name] = value;
    else if (value === false) continue;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : String(child));
  }
}

/** Replaces all children. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Writes text only when it differs, so that a screen reader's place and a selection survive an update. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

/**
 * Makes the children of `parent` the rows of `items`, in order; rows are kept by key, so that focus, selection
 * and open details stay with their item.
 *
 * @param {Element} parent
 * @param {Map<string, {element: Element, update: (item: object) => void}>} rows kept by the caller between calls
 * @param {object[]} items
 * @param {(item: object) => string} keyOf
 * @param {(item: object) => {element: Element, update: (item: object) => void}} create
 */
export function keyed(parent, rows, items, keyOf, create) {
  const seen = new Set();
  let cursor = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (seen.has(key)) continue;
    seen.add(key);
    let row = rows.get(key);
    if (!row) {
      row = create(item);
      rows.set(key, row);
    }
    row.update(item);
    if (row.element === cursor) cursor = cursor.nextElementSibling;
    else parent.insertBefore(row.element, cursor);
  }
  for (const [key, row] of rows) {
    if (seen.has(key)) continue;
    row.element.remove();
    rows.delete(key);
  }
}

const ICONS = {
  overview: ["M3 13h4v8H3zM10 3h4v18h-4zM17 9h4v12h-4z"],
  targets: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18", "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8"],
  resources: ["M12 3l9 5-9 5-9-5z", "M3 13l9 5 9-5"],
  query: ["M4 6l6 6-6 6", "M12 19h8"],
  access: ["M8 11a4 4 0 1 0 0 8 4 4 0 0 0 0-8", "M11 12l9-9", "M16 7l3 3"],
  audit: ["M6 3h9l4 4v14H6z", "M9 11h6M9 15h6"],
  good: ["M5 12.5l4.5 4.5L19 7.5"],
  bad: ["M6 6l12 12M18 6L6 18"],
  warn: ["M12 4v10", "M12 18.5v.5"],
  unknown: ["M6 12h12"],
  system: ["M4 5h16v11H4z", "M9 20h6"],
  light: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8", "M12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M19 5l-2 2M7 17l-2 2"],
  dark: ["M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5"],
  logout: ["M10 4H5v16h5", "M14 8l4 4-4 4M18 12H9"],
};

/** A decorative icon: hidden from assistive technology, so a word must stand beside it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ class: `icon icon-${name}`, viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" })) {
    svg.setAttribute(key, value);
  }
  for (const shape of ICONS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", shape);
    svg.append(path);
  }
  return svg;
}

/** A state as a coloured pill with a shape and a word. */
export function pill(level, word) {
  return h("span", { class: `pill pill-${level}` }, icon(level), h("span", {}, word));
}

/**
 * A bar for a share of a whole. The number beside it carries the meaning, so the bar itself is decoration.
 * Its width goes through the CSS object model: style attributes are forbidden by the page's policy.
 */
export function meter() {
  const bar = h("span", { class: "meter-bar" });
  const element = h("span", { class: "meter", "aria-hidden": "true" }, bar);
  return {
    element,
    update(percent) {
      const known = percent !== null && Number.isFinite(percent);
      element.classList.toggle("meter-empty", !known);
      bar.style.width = known ? `${Math.min(100, Math.max(0, percent))}%` : "0";
      setAttribute(bar, "data-level", known && percent >= 90 ? "bad" : known && percent >= 75 ? "warn" : null);
    },
  };
}
