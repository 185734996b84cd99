// The dialogs that act: on a message, and on what is mine (devices, people I have blocked).

import { h, iconButton, setText } from "./dom.js";

/** Offered first; any other sign can be typed. */
export const REACTIONS = ["👍", "❤️", "😂", "😮", "😢", "🙏"];

/** A modal dialog with a heading; gone when it is closed. */
export function sheet(title, testId, ...children) {
  const dialog = h(
    "dialog",
    {
      class: "dialog",
      "aria-label": title,
      "data-testid": testId,
      onclose: () => dialog.remove(),
      // A click beside the dialog hits the dialog itself, not what fills it.
      onclick: (event) => event.target === dialog && dialog.close(),
    },
    h(
      "div",
      { class: "sheet" },
      h("header", { class: "dialog-head" }, h("h2", {}, title), iconButton("close", "Close", { onclick: () => dialog.close() })),
      children,
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * What can be done with a message: `mine` is my reaction to it; `onReact(text)` gets an empty text to take it back. `onReply`, `onEdit`
 * and `onRecall` are null where that cannot be done.
 */
export function messageMenu({ mine, onReact, onReply, onEdit, onRecall }) {
  const act = (action) => () => {
    dialog.close();
    action();
  };
  const reaction = (text) =>
    h(
      "button",
      {
        type: "button",
        class: "reaction-choice",
        "aria-pressed": String(text === mine),
        "data-testid": "react",
        "data-reaction": text,
        onclick: act(() => onReact(text === mine ? "" : text)),
      },
      text,
    );
  const action = (label, testId, run, danger = false) =>
    run && h("button", { type: "button", class: ["button wide", danger && "danger"].filter(Boolean).join(" "), "data-testid": testId, onclick: act(run) }, label);
  const dialog = sheet(
    "Message",
    "message-menu",
    h("div", { class: "reaction-choices" }, REACTIONS.map(reaction)),
    h(
      "div",
      { class: "sheet-actions" },
      action("Reply", "reply", onReply),
      action("Edit", "edit", onEdit),
      action("Recall", "recall", onRecall, true),
    ),
  );
}

/** `load()` gives `{ devices, blocked }`; `onRemove(name)`, `onRename(name, label)`, `onUnblock(user)` are promises. `device` is this browser's. */
export function settingsDialog({ device, load, onRemove, onRename, onUnblock }) {
  const fault = h("p", { class: "fault", role: "alert" });
  const devices = h("ul", { class: "members", role: "list", "aria-label": "Devices", "data-testid": "devices" });
  const blocked = h("ul", { class: "members", role: "list", "aria-label": "Blocked people", "data-testid": "blocked" });
  sheet("Settings", "settings", fault, h("h3", {}, "Devices"), devices, h("h3", {}, "Blocked people"), blocked);

  const attempt = async (work) => {
    setText(fault, "");
    try {
      await work?.();
      show(await load());
    } catch (error) {
      setText(fault, error.message);
    }
  };

  const button = (label, testId, work) =>
    h("button", { type: "button", class: "button small", "data-testid": testId, onclick: () => attempt(work) }, label);

  const deviceRow = ({ name, label, registered }) =>
    h(
      "li",
      { class: "member", "data-testid": "device", "data-device": name },
      h(
        "div",
        { class: "member-text" },
        h("input", {
          class: "device-label",
          value: label,
          placeholder: name,
          maxlength: "64",
          "aria-label": `Name of the device ${name}`,
          "data-testid": "device-label",
          onchange: (event) => attempt(() => onRename(name, event.target.value.trim())),
        }),
        h("p", { class: "member-state" }, name === device ? "this browser" : `since ${new Date(registered).toLocaleDateString()}`),
      ),
      name !== device && button("Remove", "remove-device", () => onRemove(name)),
    );

  const personRow = (user) =>
    h(
      "li",
      { class: "member", "data-testid": "blocked-person", "data-user": user },
      h("p", { class: "member-text" }, user),
      button("Unblock", "unblock", () => onUnblock(user)),
    );

  function show(found) {
    devices.replaceChildren(...found.devices.map(deviceRow));
    blocked.replaceChildren(...(found.blocked.length > 0 ? found.blocked.map(personRow) : [h("li", { class: "member-state" }, "Nobody")]));
  }

  attempt();
}

/** How a group is run: `onSave({ title, open, history })` is a promise. */
export function groupDialog({ title, open, history }, onSave) {
  const fault = h("p", { class: "fault", role: "alert" });
  const titleField = h("input", { id: "group-title", value: title, autocomplete: "off", "data-testid": "group-title" });
  const check = (label, testId, checked) => {
    const box = h("input", { type: "checkbox", "data-testid": testId });
    box.checked = checked;
    return { box, row: h("label", { class: "check-row" }, box, label) };
  };
  const joining = check("Anybody may join", "group-open", open);
  const whole = check("New members see what was said before", "group-history", history === "start");
  const dialog = sheet(
    "Group",
    "group-dialog",
    h(
      "form",
      {
        onsubmit: async (event) => {
          event.preventDefault();
          try {
            await onSave({ title: titleField.value.trim(), open: joining.box.checked, history: whole.box.checked ? "start" : "joining" });
            dialog.close();
          } catch (error) {
            setText(fault, error.message);
          }
        },
      },
      h("div", { class: "dialog-field" }, h("label", { for: "group-title" }, "Title"), titleField),
      joining.row,
      whole.row,
      fault,
      h("footer", { class: "dialog-foot" }, h("button", { type: "submit", class: "button primary", "data-testid": "group-save" }, "Save")),
    ),
  );
}
