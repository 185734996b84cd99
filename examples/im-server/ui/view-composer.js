// Where one writes. Keeps a draft for each conversation.

import { h, icon, iconButton } from "./dom.js";

const BORDERS = 2;
const coarse = matchMedia("(pointer: coarse)");

/** Calls `onFile(file)`, `onSend(text, replyTo)`, `onEdit(message, text)` and `onTyping()`. */
export class Composer {
  #options;
  #field;
  #send;
  #closed;
  #about;
  /** What is written is an answer to a message, or takes its place: `{ kind: "reply" | "edit", message }`. */
  #task = null;
  #drafts = new Map();
  #conversation = null;

  constructor(options) {
    this.#options = options;
    this.#field = h("textarea", {
      id: "composer",
      rows: "1",
      placeholder: "Message",
      autocomplete: "off",
      enterkeyhint: coarse.matches ? "enter" : "send",
      "aria-describedby": "composer-hint",
      "data-testid": "composer",
      oninput: () => this.#typed(),
      onkeydown: (event) => this.#key(event),
    });
    this.#send = h("button", { type: "submit", class: "send", "aria-label": "Send", title: "Send", "data-testid": "send" }, icon("send"));
    this.#about = h("div", { class: "composer-about", hidden: true, "data-testid": "composer-about" });
    const file = h("input", {
      type: "file",
      hidden: true,
      "data-testid": "file",
      onchange: () => {
        for (const one of file.files) options.onFile(one);
        file.value = "";
      },
    });
    const attach = iconButton("attach", "Attach a file", { "data-testid": "attach", onclick: () => file.click() });
    this.#closed = h("p", { class: "composer-closed", hidden: true });
    this.element = h(
      "form",
      {
        class: "composer",
        onsubmit: (event) => {
          event.preventDefault();
          this.#submit();
        },
      },
      this.#closed,
      this.#about,
      h("div", { class: "composer-row" }, file, attach, this.#field, this.#send),
      h("p", { id: "composer-hint", class: "visually-hidden" }, "Enter sends, Shift and Enter makes a new line."),
    );
  }

  open(conversation) {
    if (this.#conversation) this.#drafts.set(this.#conversation.id, this.#field.value);
    this.#conversation = conversation;
    this.#begin(null);
    this.#field.value = this.#drafts.get(conversation.id) ?? "";
    this.#field.setAttribute("aria-label", `Message to ${conversation.title}`);
    this.#fit();
  }

  /** What is written next answers a message. */
  reply(message) {
    this.#begin({ kind: "reply", message });
    this.focus();
  }

  /** What is written next takes the place of a message. */
  edit(message) {
    this.#begin({ kind: "edit", message });
    this.#field.value = message.body ?? "";
    this.#fit();
    this.focus();
  }

  #begin(task) {
    if (this.#task?.kind === "edit") this.#field.value = "";
    this.#task = task;
    this.#about.hidden = !task;
    if (!task) return;
    const title = task.kind === "edit" ? "Edit" : `Reply to ${task.message.from}`;
    this.#about.replaceChildren(
      h("p", { class: "composer-about-text" }, h("strong", {}, title), " ", task.message.body ?? ""),
      iconButton("close", "Cancel", { "data-testid": "composer-cancel", onclick: () => this.#cancel() }),
    );
  }

  #cancel() {
    this.#begin(null);
    this.#fit();
    this.focus();
  }

  update({ left, writable }) {
    const closed = left || !writable;
    this.#closed.textContent = left ? "You are no longer a member of this group." : "Only administrators write here.";
    this.#closed.hidden = !closed;
    this.element.querySelector(".composer-row").hidden = closed;
  }

  focus() {
    this.#field.focus();
  }

  #typed() {
    this.#fit();
    if (this.#field.value.trim()) this.#options.onTyping();
  }

  #key(event) {
    if (event.key === "Escape" && this.#task) {
      event.stopPropagation();
      this.#cancel();
      return;
    }
    // Enter that ends the input of a Chinese or Japanese word does not send; on a screen keyboard there is no Shift+Enter.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || coarse.matches) return;
    event.preventDefault();
    this.#submit();
  }

  #submit() {
    const text = this.#field.value.trim();
    if (text) {
      const task = this.#task;
      this.#begin(null);
      this.#field.value = "";
      this.#fit();
      if (task?.kind === "edit") this.#options.onEdit(task.message, text);
      else this.#options.onSend(text, task?.message.id ?? null);
    }
    this.#field.focus();
  }

  #fit() {
    const field = this.#field;
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight + BORDERS}px`;
    this.#send.classList.toggle("ready", field.value.trim() !== "");
  }
}
