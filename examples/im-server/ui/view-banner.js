// Says when the connection is gone and when it is tried again; and that another tab has taken the device over.

import { h, icon, setText } from "./dom.js";

// Who is just connecting is not told about it.
const PATIENCE_MS = 1200;

/** `clock` is that of the STOMP client. Calls `onRetry()` and `onTakeBack()`. */
export class BannerView {
  #model;
  #clock;
  #text;
  #countdown;
  #retry;
  #since = null;
  #timer = null;

  constructor(model, { clock, onRetry, onTakeBack }) {
    this.#model = model;
    this.#clock = clock;
    this.#text = h("span", {});
    // The seconds are not read aloud one by one.
    this.#countdown = h("span", { "aria-hidden": "true" });
    this.#retry = h("button", { type: "button", class: "link", "data-testid": "try-now", onclick: onRetry }, "Try now");
    this.element = h(
      "div",
      { class: "banner", hidden: true, "data-testid": "banner" },
      h("span", { class: "spinner", "aria-hidden": "true" }),
      h("span", { role: "status" }, this.#text),
      this.#countdown,
      this.#retry,
    );
    this.cover = h(
      "div",
      { class: "cover", hidden: true, role: "alertdialog", "aria-labelledby": "cover-title", "data-testid": "taken-over" },
      h(
        "div",
        { class: "cover-card" },
        icon("chats"),
        h("h2", { id: "cover-title" }, "Open in another tab"),
        h("p", {}, "Your messages are shown in another tab or window of this browser."),
        h("button", { type: "button", class: "button primary", "data-testid": "use-here", onclick: onTakeBack }, "Use here"),
      ),
    );
  }

  update() {
    const { link } = this.#model;
    const wasCovered = !this.cover.hidden;
    this.cover.hidden = !link.takenOver;
    if (link.takenOver && !wasCovered) this.cover.querySelector("button").focus();
    clearTimeout(this.#timer);
    if (link.state === "connected" || link.state === "stopped" || link.state === "idle") {
      this.#since = null;
      this.element.hidden = true;
      return;
    }
    this.#since ??= Date.now();
    const shown = link.wasConnected || link.state === "waiting" || Date.now() - this.#since > PATIENCE_MS;
    this.element.hidden = !shown;
    const waiting = link.state === "waiting";
    const seconds = waiting ? Math.max(0, Math.ceil((link.retryAt - this.#clock.now()) / 1000)) : 0;
    const lost = navigator.onLine === false ? "You are offline." : "Connection lost.";
    setText(this.#text, link.wasConnected || waiting ? lost : "Connecting…");
    setText(this.#countdown, waiting && seconds > 0 ? `Trying again in ${seconds} s` : "Trying again…");
    this.#countdown.hidden = !link.wasConnected && !waiting;
    this.#retry.hidden = !waiting;
    this.#timer = setTimeout(() => this.update(), 250);
  }
}
