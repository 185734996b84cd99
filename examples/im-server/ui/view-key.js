// Asks for the key with which a node is run.

import { h, setText } from "./dom.js";

/** Calls `onEntered(key)` with a key that the server lets see its sessions. `notice` says why it is asked for again. */
export function keyView({ api, notice, onEntered }) {
  const fault = h("p", { class: "fault", role: "alert", "data-testid": "key-error" });
  const field = h("input", {
    id: "key",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "key-hint",
    "data-testid": "key",
  });
  const submit = h("button", { type: "submit", class: "button primary wide", "data-testid": "key-submit" }, "Open");

  async function send(event) {
    event.preventDefault();
    const key = field.value.trim();
    if (submit.disabled || key === "") return;
    submit.disabled = true;
    setText(fault, "");
    api.token = key;
    try {
      await api.sessions({ limit: 1 });
      onEntered(key);
    } catch (error) {
      api.token = null;
      setText(fault, faultText(error));
      field.focus();
    } finally {
      submit.disabled = false;
    }
  }

  const element = h(
    "main",
    { class: "auth", "aria-labelledby": "key-title" },
    h(
      "div",
      { class: "auth-card" },
      h("img", { class: "admin-logo", src: "/icon.svg", alt: "" }),
      h("h1", { id: "key-title" }, "Operations"),
      h("p", { class: "auth-lead" }, "Who is connected to this node, and what waits on it."),
      notice && h("p", { class: "notice", role: "status" }, notice),
      h(
        "form",
        { onsubmit: send, novalidate: true },
        h("label", { for: "key" }, "Key"),
        field,
        h("p", { id: "key-hint", class: "hint" }, "An API key with the scope operate. This tab forgets it when it is closed."),
        fault,
        submit,
      ),
    ),
  );
  return { element, focus: () => field.focus() };
}

function faultText(error) {
  if (error.status === 401) return "This is not a valid key.";
  if (error.status === 403) return "This needs a key with the scope operate.";
  return error.message;
}
