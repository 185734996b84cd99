// The round (person) or square (group) picture made of a name's letters.

import { h, icon } from "./dom.js";
import { hue, initials } from "./format.js";

/** `online`: true and false show a dot for the presence, null shows none. It is decoration: say the state in words too. */
export function avatar(name, { group = false, online = null, size = "" } = {}) {
  return h(
    "span",
    { class: `avatar hue-${hue(name)} ${group ? "group" : ""} ${size}`, "aria-hidden": "true" },
    group ? icon("people") : initials(name),
    online !== null && h("span", { class: `dot ${online ? "online" : "offline"}` }),
  );
}
