// The dialog that chooses people: for a chat, for a new group, for a group that exists.

import { avatar } from "./avatar.js";
import { h, icon, iconButton, reconcile, setText } from "./dom.js";
import { nameFault } from "./format.js";

const SEARCH_DELAY_MS = 180;

/**
 * Opens the dialog. `purpose` is `"start"` (one person, or on to a group) or `"add"`. Options: `findUsers(text)`, `suggested` names,
 * `excluded` names, `onPerson(name)`, `onGroup(name, members)` and `onAdd(members)` (promises: their failure is shown).
 */
export function peopleDialog(purpose, { title, findUsers, suggested, excluded, onPerson, onGroup, onAdd }) {
  let group = purpose === "add";
  let found = suggested;
  let timer = null;
  let busy = false;
  const chosen = new Set();

  const heading = h("h2", { id: "people-title" });
  const nameField = h("input", { id: "group-name", autocomplete: "off", spellcheck: "false", "data-testid": "group-name" });
  const nameRow = h("div", { class: "dialog-field" }, h("label", { for: "group-name" }, "Name of the group"), nameField);
  const search = h("input", {
    type: "search",
    placeholder: "Find people by name",
    "aria-label": "Find people by name",
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    "data-testid": "people-search",
    oninput: () => searched(),
    onkeydown: (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        list.querySelector("button")?.click();
      }
    },
  });
  const chips = h("div", { class: "chips" });
  const list = h("ul", { class: "people", role: "list", "data-testid": "people" });
  const nobody = h("p", { class: "people-none", role: "status" });
  const toGroup = h(
    "button",
    { type: "button", class: "conversation new-group", "data-testid": "new-group", onclick: () => become(true) },
    h("span", { class: "avatar group accent", "aria-hidden": "true" }, icon("people")),
    h("span", { class: "conversation-title" }, "New group"),
  );
  const fault = h("p", { class: "fault", role: "alert" });
  const done = h("button", { type: "submit", class: "button primary", "data-testid": "people-done" });
  const foot = h(
    "footer",
    { class: "dialog-foot" },
    h("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Cancel"),
    done,
  );
  const form = h(
    "form",
    { onsubmit: (event) => submit(event), novalidate: true },
    h("header", { class: "dialog-head" }, heading, iconButton("close", "Close", { onclick: () => dialog.close() })),
    nameRow,
    h("div", { class: "search" }, icon("search"), search),
    chips,
    toGroup,
    h("div", { class: "dialog-scroll" }, list, nobody),
    fault,
    foot,
  );
  const dialog = h(
    "dialog",
    {
      class: "dialog",
      "aria-labelledby": "people-title",
      "data-testid": "people-dialog",
      onclose: () => {
        clearTimeout(timer);
        dialog.remove();
      },
      // A click beside the dialog hits the dialog itself, not the form that fills it.
      onclick: (event) => event.target === dialog && dialog.close(),
    },
    form,
  );

  function become(next) {
    group = next;
    show();
    (group && purpose === "start" ? nameField : search).focus();
  }

  function show() {
    setText(heading, title ?? (group ? "New group" : "New conversation"));
    nameRow.hidden = !(group && purpose === "start");
    toGroup.hidden = group;
    foot.hidden = !group;
    setText(done, purpose === "add" ? "Add" : "Create group");
    done.disabled = busy || (purpose === "add" && chosen.size === 0);
    reconcile(chips, [...chosen].map(chipRow));
    const names = found.filter((user) => !excluded.includes(user));
    reconcile(list, names.map(personRow));
    const text = search.value.trim();
    setText(nobody, names.length > 0 ? "" : text ? "Nobody of this name." : "Type the beginning of a name.");
  }

  const chipRow = (user) => ({
    key: user,
    signature: "",
    render: () =>
      h(
        "button",
        { type: "button", class: "chip", "aria-label": `Do not add ${user}`, onclick: () => toggle(user) },
        avatar(user, { size: "tiny" }),
        user,
        icon("close"),
      ),
  });

  const personRow = (user) => ({
    key: user,
    signature: JSON.stringify([group, chosen.has(user)]),
    render: () =>
      h(
        "li",
        {},
        h(
          "button",
          {
            type: "button",
            class: "conversation",
            role: group ? "checkbox" : null,
            "aria-checked": group ? String(chosen.has(user)) : null,
            "data-testid": "pick",
            "data-person": user,
            "data-focus": "pick",
            onclick: () => (group ? toggle(user) : pick(user)),
          },
          avatar(user, { size: "small" }),
          h("span", { class: "conversation-title" }, user),
          group && h("span", { class: "check", "aria-hidden": "true" }, chosen.has(user) && icon("sent")),
        ),
      ),
  });

  function pick(user) {
    dialog.close();
    onPerson(user);
  }

  function toggle(user) {
    if (!chosen.delete(user)) chosen.add(user);
    show();
  }

  function searched() {
    clearTimeout(timer);
    const text = search.value.trim();
    timer = setTimeout(async () => {
      let people = suggested;
      if (text) people = await findUsers(text).catch(() => []);
      if (search.value.trim() !== text) return;
      found = people;
      show();
    }, SEARCH_DELAY_MS);
  }

  async function submit(event) {
    event.preventDefault();
    if (busy || !group) return;
    const name = nameField.value.trim();
    const wrong = purpose === "start" ? nameFault(name) : null;
    setText(fault, wrong ?? "");
    if (wrong) {
      nameField.focus();
      return;
    }
    busy = true;
    show();
    try {
      await (purpose === "add" ? onAdd([...chosen]) : onGroup(name, [...chosen]));
      dialog.close();
    } catch (error) {
      setText(fault, error.status === 409 ? "This name is taken. Choose another one." : error.message);
    }
    busy = false;
    show();
  }

  document.body.append(dialog);
  show();
  dialog.showModal();
  search.focus();
}
