// The round (person) or square (group) picture made of a name's letters.

import { h, icon } from "./dom.js";
import { hue, initials } from "./format.js";

/** `presence`: `online`, `away` and `offline` show a dot, or that there is none; null shows none. It is decoration: say the state in words too. */
export function avatar(name, { group = false, presence = null, size = "" } = {}) {
  return h(
    "span",
    { class: `avatar hue-${hue(name)} ${group ? "group" : ""} ${size}`, "aria-hidden": "true" },
    group ? icon("people") : initials(name),
    presence && h("span", { class: `dot ${presence}` }),
  );
}
