// Small helpers to make and keep elements. Text always becomes text nodes, never markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an element. Properties: `class`, `onevent` handlers, `data-*`, `aria-*` and other attributes; false, null and undefined leave
 * one out. Children: elements, strings, numbers, arrays of them; false and null are nothing.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== false && child !== undefined));
  return element;
}

/** One of the symbols of index.html. Without a label it is decoration. */
export function icon(name, label = null) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `icon icon-${name}`);
  if (label) {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
  } else {
    svg.setAttribute("aria-hidden", "true");
  }
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows only an icon. */
export function iconButton(name, label, properties = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, ...properties }, icon(name));
}

/** Text for screen readers alone. */
export const hiddenText = (text) => h("span", { class: "visually-hidden" }, text);

/**
 * Makes the children of `parent` match `rows`, keeping the elements of rows whose key stays, so that focus, selection and scroll position
 * live on. Rows: `{ key, signature, render(), update(element)? }`; an element whose signature changed is updated where the row can do so,
 * else rendered anew.
 */
export function reconcile(parent, rows) {
  const known = new Map();
  for (const child of parent.children) known.set(child.rowKey, child);
  let next = parent.firstElementChild;
  const used = new Set();
  for (const { key: name, signature, render, update } of rows) {
    // Keys come from others, too: one that comes twice must not leave an element behind.
    let key = name;
    while (used.has(key)) key += "+";
    used.add(key);
    let element = known.get(key);
    known.delete(key);
    if (element && element.rowSignature !== signature && update) {
      update(element);
    } else if (element && element.rowSignature !== signature) {
      const fresh = render();
      keepFocus(element, fresh);
      if (element === next) next = fresh;
      element = fresh;
    } else {
      element ??= render();
    }
    element.rowKey = key;
    element.rowSignature = signature;
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
  for (const gone of known.values()) gone.remove();
}

function keepFocus(old, fresh) {
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  old.replaceWith(fresh);
  if (!focused) return;
  const id = focused.dataset.focus;
  (id ? fresh.querySelector(`[data-focus="${id}"]`) : fresh)?.focus({ preventScroll: true });
}

/** Sets the text where it differs: a live region speaks only when something is new. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
