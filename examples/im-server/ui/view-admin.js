// Who is connected to this node and what is consumed on it; ends sessions, and the node's service.

import { h, reconcile, setText } from "./dom.js";
import { fullTime, listTime } from "./format.js";
import { Rates, rateText } from "./rates.js";
import { sheet } from "./view-menu.js";

const PERIOD_MS = 3000;

/** `onSignOut()`, and `onRefused(notice)` when the key may no longer see this. */
export class AdminView {
  #api;
  #onRefused;
  #rates = new Rates();
  #timer = null;
  #stopped = false;
  /** Counts what was asked, so that an answer to an older question is not shown. */
  #asked = 0;
  #cursors = { sessions: [], destinations: [] };
  #status = h("p", { class: "admin-status", role: "status", "data-testid": "status" });
  #fault = h("p", { class: "fault", role: "alert", "data-testid": "fault" });
  #user = h("input", { type: "search", "aria-label": "Only this user", placeholder: "User", "data-testid": "user", onchange: () => this.#first("sessions") });
  #slow = h("input", { type: "checkbox", "data-testid": "slow", onchange: () => this.#first("sessions") });
  #sessions = table("Sessions", "sessions", ["User", "Device", "Address", "Since", "Waiting", "Unacknowledged", "State", ""]);
  #destinations = table("Destinations", "destinations", ["Name", "Depth", "Unacknowledged", "Consumers", "In per second", "Out per second"]);
  #pagers = { sessions: this.#pager("sessions"), destinations: this.#pager("destinations") };
  #onVisible = () => !document.hidden && this.#refresh();

  constructor({ api, onSignOut, onRefused }) {
    this.#api = api;
    this.#onRefused = onRefused;
    this.element = h(
      "main",
      { class: "admin" },
      h(
        "header",
        { class: "admin-head" },
        h("h1", {}, "Operations"),
        h("span", { class: "hint" }, location.host),
        h("button", { type: "button", class: "button danger small", "data-testid": "drain", onclick: () => this.#askDrain() }, "Drain…"),
        h("button", { type: "button", class: "button small", "data-testid": "sign-out", onclick: onSignOut }, "Sign out"),
      ),
      this.#status,
      this.#fault,
      h(
        "section",
        { "aria-labelledby": "sessions-title" },
        h("h2", { id: "sessions-title" }, "Connected"),
        h("div", { class: "admin-filter" }, this.#user, h("label", { class: "check-row" }, this.#slow, "Slow only")),
        this.#sessions.element,
        this.#pagers.sessions.element,
      ),
      h(
        "section",
        { "aria-labelledby": "destinations-title" },
        h("h2", { id: "destinations-title" }, "Destinations"),
        this.#destinations.element,
        this.#pagers.destinations.element,
      ),
    );
  }

  start() {
    document.addEventListener("visibilitychange", this.#onVisible);
    this.#refresh();
  }

  stop() {
    this.#stopped = true;
    document.removeEventListener("visibilitychange", this.#onVisible);
    clearTimeout(this.#timer);
    for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  }

  #pager(list) {
    const back = h("button", { type: "button", class: "button small", onclick: () => this.#turn(list, null) }, "Back");
    const on = h("button", { type: "button", class: "button small", "data-testid": `${list}-more` }, "More");
    on.addEventListener("click", () => this.#turn(list, on.dataset.next));
    const element = h("div", { class: "admin-pager", hidden: true }, back, on);
    const show = (next, isFirst) => {
      element.hidden = next === null && isFirst;
      back.disabled = isFirst;
      on.disabled = next === null;
      on.dataset.next = next ?? "";
    };
    return { element, show };
  }

  #turn(list, next) {
    if (next) this.#cursors[list].push(next);
    else this.#cursors[list].pop();
    this.#refresh();
  }

  #first(list) {
    this.#cursors[list] = [];
    this.#refresh();
  }

  async #refresh() {
    clearTimeout(this.#timer);
    const asked = (this.#asked += 1);
    try {
      const cursors = this.#cursors;
      const which = { cursor: cursors.sessions.at(-1), user: this.#user.value.trim(), slow: this.#slow.checked };
      const [sessions, destinations] = await Promise.all([
        this.#api.sessions(which),
        this.#api.destinations({ cursor: cursors.destinations.at(-1) }),
      ]);
      if (this.#stopped || asked !== this.#asked) return;
      this.#showSessions(sessions.sessions);
      this.#showDestinations(destinations.destinations);
      this.#pagers.sessions.show(sessions.next, cursors.sessions.length === 0);
      this.#pagers.destinations.show(destinations.next, cursors.destinations.length === 0);
      setText(this.#fault, "");
    } catch (error) {
      if (this.#stopped || asked !== this.#asked) return;
      if (error.status === 403) return this.#onRefused("This needs a key with the scope operate.");
      setText(this.#fault, error.message);
    }
    if (!document.hidden) this.#timer = setTimeout(() => this.#refresh(), PERIOD_MS);
  }

  #showSessions(sessions) {
    const rows = sessions.map((one) => ({
      key: one.id,
      signature: JSON.stringify(one),
      render: () =>
        h(
          "tr",
          { "data-testid": "session", "data-user": one.user, "data-slow": String(one.slow) },
          cell("User", one.user, "name"),
          cell("Device", one.device),
          cell("Address", one.address ?? "–"),
          h("td", { "data-label": "Since", title: fullTime(one.since) }, listTime(one.since)),
          cell("Waiting", count(one.depth), "number"),
          cell("Unacknowledged", count(one.unacked), "number"),
          h("td", { "data-label": "State" }, h("span", { class: one.slow ? "state slow" : "state" }, one.slow ? "slow" : "ok")),
          h(
            "td",
            { class: "action" },
            h(
              "button",
              {
                type: "button",
                class: "button small",
                "data-focus": "end",
                "data-testid": "end",
                "aria-label": `Disconnect ${one.user}, ${one.device}`,
                onclick: () => this.#askEnd(one),
              },
              "Disconnect…",
            ),
          ),
        ),
    }));
    this.#sessions.show(rows, this.#slow.checked ? "Nobody here is slow." : "Nobody is connected.");
  }

  #showDestinations(destinations) {
    const rates = this.#rates.read(destinations, performance.now());
    const rows = destinations.map((one) => {
      const rate = rates.get(one.name);
      const numbers = [count(one.depth), count(one.unacked), count(one.consumers), rateText(rate?.in), rateText(rate?.out)];
      const labels = ["Depth", "Unacknowledged", "Consumers", "In per second", "Out per second"];
      return {
        key: one.name,
        signature: numbers.join(),
        render: () =>
          h(
            "tr",
            { "data-testid": "destination", "data-name": one.name, "data-taken": one.taken },
            cell("Name", one.name, "name"),
            numbers.map((number, i) => cell(labels[i], number, "number")),
          ),
      };
    });
    this.#destinations.show(rows, "Nobody listens to a queue or topic.");
  }

  #askEnd({ id, user, device }) {
    this.#ask(`Disconnect ${user}?`, "end-session", [
      [`This session (${device})`, "end-one", async () => {
        await this.#api.endSession(id);
        return `${user} (${device}) was disconnected.`;
      }],
      [`All sessions of ${user}, on all nodes`, "end-all", async () => {
        await this.#api.endSessions(user);
        return `All sessions of ${user} were ended.`;
      }],
    ], "They may sign in again at once.");
  }

  #askDrain() {
    this.#ask("Drain this node?", "drain-node", [
      ["Drain it", "drain-now", async () => {
        await this.#api.drain();
        return "This node drains: it takes no new session and ends the others.";
      }],
    ], "It takes no new session, and ends those that it has. To take sessions again it has to be started anew.");
  }

  /** A dialog that says what will happen, and does it. `actions`: label, test id, and what is done, which gives what to say then. */
  #ask(title, testId, actions, consequence) {
    const dialog = sheet(
      title,
      testId,
      h("p", {}, consequence),
      h(
        "div",
        { class: "sheet-actions" },
        actions.map(([label, id, act]) =>
          h("button", { type: "button", class: "button danger wide", "data-testid": id, onclick: () => this.#act(dialog, act) }, label),
        ),
      ),
    );
  }

  async #act(dialog, act) {
    dialog.close();
    try {
      setText(this.#status, await act());
      setText(this.#fault, "");
    } catch (error) {
      if (this.#stopped) return;
      setText(this.#fault, error.status === 404 ? "This session has ended already." : error.message);
    }
    if (!this.#stopped) this.#refresh();
  }
}

const count = (number) => (number === null ? "–" : number.toLocaleString("en"));

const cell = (label, text, kind) => h("td", { "data-label": label, class: kind }, text);

/** A table that says so where it is empty. */
function table(label, testId, columns) {
  const body = h("tbody", {});
  const empty = h("p", { class: "admin-empty", "data-testid": `${testId}-empty`, hidden: true });
  const heads = columns.map((column) =>
    column ? h("th", { scope: "col" }, column) : h("td", {}),
  );
  const grid = h("table", { "aria-label": label, "data-testid": testId }, h("thead", {}, h("tr", {}, heads)), body);
  const show = (rows, nothing) => {
    grid.hidden = rows.length === 0;
    empty.hidden = rows.length > 0;
    setText(empty, nothing);
    reconcile(body, rows);
  };
  return { element: h("div", { class: "admin-table" }, grid, empty), show };
}
