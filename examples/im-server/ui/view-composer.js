// Where one writes. Keeps a draft for each conversation.

import { h, icon } from "./dom.js";

const BORDERS = 2;
const coarse = matchMedia("(pointer: coarse)");

/** Calls `onSend(text)` and `onTyping()`. */
export class Composer {
  #options;
  #field;
  #send;
  #closed;
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
    this.#closed = h("p", { class: "composer-closed", hidden: true }, "You are no longer a member of this group.");
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
      h("div", { class: "composer-row" }, this.#field, this.#send),
      h("p", { id: "composer-hint", class: "visually-hidden" }, "Enter sends, Shift and Enter makes a new line."),
    );
  }

  open(conversation) {
    if (this.#conversation) this.#drafts.set(this.#conversation.id, this.#field.value);
    this.#conversation = conversation;
    this.#field.value = this.#drafts.get(conversation.id) ?? "";
    this.#field.setAttribute("aria-label", `Message to ${conversation.title}`);
    this.#fit();
  }

  update({ left }) {
    this.#closed.hidden = !left;
    this.element.querySelector(".composer-row").hidden = left;
  }

  focus() {
    this.#field.focus();
  }

  #typed() {
    this.#fit();
    if (this.#field.value.trim()) this.#options.onTyping();
  }

  #key(event) {
    // Enter that ends the input of a Chinese or Japanese word does not send; on a screen keyboard there is no Shift+Enter.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || coarse.matches) return;
    event.preventDefault();
    this.#submit();
  }

  #submit() {
    const text = this.#field.value.trim();
    if (text) {
      this.#field.value = "";
      this.#fit();
      this.#options.onSend(text);
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
