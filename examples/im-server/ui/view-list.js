// The left side: who I am, search, and the conversations.

import { avatar } from "./avatar.js";
import { h, hiddenText, icon, iconButton, reconcile, setText } from "./dom.js";
import { listTime, memberLine, nameList } from "./format.js";

const SEARCH_DELAY_MS = 180;

/** Calls `onOpen(id)`, `onFound(message)`, `onPerson(name)`, `onCompose()`, `onSignOut()`; `findUsers(text)` finds people. */
export class ListView {
  #model;
  #options;
  #search;
  #list;
  #empty;
  #self;
  #people = [];
  #messages = [];
  #searchTimer = null;

  constructor(model, options) {
    this.#model = model;
    this.#options = options;
    this.#search = h("input", {
      type: "search",
      id: "search",
      placeholder: "Search or start a chat",
      "aria-label": "Search conversations and people",
      autocomplete: "off",
      spellcheck: "false",
      "data-testid": "search",
      oninput: () => this.#searched(),
      onkeydown: (event) => this.#searchKey(event),
    });
    this.#list = h("ul", {
      class: "conversations",
      role: "list",
      "data-testid": "conversation-list",
      onkeydown: (event) => this.#listKey(event),
    });
    this.#empty = h("div", { class: "list-empty" });
    this.#self = h("p", { class: "self-state", role: "status", "data-testid": "self-state" });
    this.element = h(
      "nav",
      { class: "sidebar", "aria-label": "Conversations" },
      h(
        "header",
        { class: "self" },
        avatar(model.me, { size: "small" }),
        h("div", { class: "self-text" }, h("p", { class: "self-name", "data-testid": "self-name" }, model.me), this.#self),
        iconButton("compose", "New conversation", { onclick: () => options.onCompose(), "data-testid": "compose" }),
        iconButton("settings", "Settings", { onclick: () => options.onSettings(), "data-testid": "settings-open" }),
        iconButton("exit", "Sign out", { onclick: () => options.onSignOut(), "data-testid": "sign-out" }),
      ),
      h("div", { class: "search" }, icon("search"), this.#search),
      h("div", { class: "list-scroll" }, this.#list, this.#empty),
    );
  }

  focusSearch() {
    this.#search.focus();
    this.#search.select();
  }

  focusItem(id) {
    const item = this.#list.querySelector(`[data-conversation="${CSS.escape(id)}"]`);
    (item ?? this.#search).focus();
  }

  update(openId, now = Date.now()) {
    const model = this.#model;
    setText(this.#self, model.connected ? "online" : "offline");
    const text = this.#text;
    const found = model.listed.filter(({ title }) => title.toLocaleLowerCase().includes(text));
    const rows = found.map((conversation) => this.#conversationRow(conversation, openId, now));
    const known = new Set(found.map(({ peer }) => peer));
    const people = text ? this.#people.filter((user) => user !== model.me && !known.has(user)) : [];
    if (people.length > 0) {
      rows.push({ key: "people", signature: "", render: () => h("li", { class: "list-heading" }, "People") });
      rows.push(...people.map((user) => this.#personRow(user)));
    }
    const messages = text ? this.#messages : [];
    if (messages.length > 0) {
      rows.push({ key: "messages", signature: "", render: () => h("li", { class: "list-heading" }, "Messages") });
      rows.push(...messages.map((message) => this.#messageRow(message, now)));
    }
    reconcile(this.#list, rows);
    this.#showEmpty(rows.length === 0, text);
  }

  get #text() {
    return this.#search.value.trim().toLocaleLowerCase();
  }

  #showEmpty(isEmpty, text) {
    const state = !isEmpty ? "" : text ? "none" : this.#model.ready ? "new" : "loading";
    if (this.#empty.dataset.state === state) return;
    this.#empty.dataset.state = state;
    this.#empty.replaceChildren();
    if (state === "none") this.#empty.append(h("p", {}, "Nobody and nothing found."));
    if (state === "loading") this.#empty.append(...[1, 2, 3].map(() => h("div", { class: "skeleton" })));
    if (state === "new") {
      this.#empty.append(
        h("p", {}, "No conversations yet."),
        h("button", { type: "button", class: "button", onclick: () => this.#options.onCompose() }, "Start one"),
      );
    }
  }

  #conversationRow(conversation, openId, now) {
    const { id, title, unread, peer, lastMessage } = conversation;
    const isOpen = id === openId;
    const pending = this.#model.outbox.of(id).at(-1);
    const typists = conversation.typists(now);
    const presence = peer === null ? null : this.#model.presenceOf(peer);
    const preview = typists.length > 0 ? { typing: typingText(conversation, typists) } : this.#preview(conversation, pending);
    const time = pending?.created ?? lastMessage?.timestamp;
    const when = time ? listTime(time, now) : "";
    return {
      key: id,
      signature: JSON.stringify([isOpen, unread, presence, preview, when]),
      render: () =>
        h(
          "li",
          {},
          h(
            "button",
            {
              type: "button",
              class: `conversation ${unread ? "has-unread" : ""}`,
              "aria-current": isOpen ? "true" : null,
              "data-conversation": id,
              "data-testid": "conversation",
              "data-focus": "open",
              onclick: () => this.#options.onOpen(id),
            },
            avatar(title, { group: peer === null, presence }),
            h(
              "span",
              { class: "conversation-text" },
              h(
                "span",
                { class: "conversation-top" },
                h("span", { class: "conversation-title" }, title),
                presence && presence !== "offline" && hiddenText(presence),
                h("span", { class: "conversation-time" }, when),
              ),
              h(
                "span",
                { class: "conversation-bottom" },
                preview.typing
                  ? h("span", { class: "preview typing" }, preview.typing)
                  : h(
                      "span",
                      { class: "preview" },
                      preview.state && icon(preview.state, stateLabel(preview.state)),
                      preview.who && h("span", { class: "preview-who" }, `${preview.who}: `),
                      h("bdi", {}, preview.text),
                    ),
                unread > 0 &&
                  h(
                    "span",
                    { class: "badge", "data-testid": "unread" },
                    unread > 99 ? "99+" : unread,
                    hiddenText(unread === 1 ? " unread message" : " unread messages"),
                  ),
              ),
            ),
          ),
        ),
    };
  }

  #preview(conversation, pending) {
    if (pending) return { state: pending.error ? "failed" : "sending", text: oneLine(pending.body) };
    const last = conversation.lastMessage;
    if (!last) return { text: conversation.kind === "group" ? "New group" : "" };
    if (last.kind === "member") return { text: memberLine(last, this.#model.me) };
    const text = last.recalled ? "Message recalled" : last.bare ? "Message" : last.body === null ? "Attachment" : oneLine(last.body);
    if (last.from === this.#model.me) return { state: conversation.status(last), text };
    return { who: conversation.kind === "direct" ? null : last.from, text };
  }

  #messageRow(message, now) {
    const { id, conversation, from, body, timestamp } = message;
    const { title, peer } = this.#model.conversation(conversation);
    const who = from === this.#model.me ? "You" : from;
    return {
      key: `message ${id}`,
      signature: body,
      render: () =>
        h(
          "li",
          {},
          h(
            "button",
            {
              type: "button",
              class: "conversation",
              "data-testid": "found",
              onclick: () => {
                this.#clear();
                this.#options.onFound(message);
              },
            },
            avatar(title, { group: peer === null }),
            h(
              "span",
              { class: "conversation-text" },
              h(
                "span",
                { class: "conversation-top" },
                h("span", { class: "conversation-title" }, title),
                h("span", { class: "conversation-time" }, listTime(timestamp, now)),
              ),
              h(
                "span",
                { class: "conversation-bottom" },
                h("span", { class: "preview" }, h("span", { class: "preview-who" }, `${who}: `), h("bdi", {}, oneLine(body ?? ""))),
              ),
            ),
          ),
        ),
    };
  }

  #personRow(user) {
    return {
      key: `person ${user}`,
      signature: "",
      render: () =>
        h(
          "li",
          {},
          h(
            "button",
            {
              type: "button",
              class: "conversation",
              "data-testid": "person",
              "data-person": user,
              onclick: () => {
                this.#clear();
                this.#options.onPerson(user);
              },
            },
            avatar(user),
            h(
              "span",
              { class: "conversation-text" },
              h("span", { class: "conversation-title" }, user),
              h("span", { class: "preview" }, "Start a conversation"),
            ),
          ),
        ),
    };
  }

  #searched() {
    clearTimeout(this.#searchTimer);
    this.update(this.#options.openId());
    const text = this.#search.value.trim();
    if (!text) {
      this.#people = [];
      this.#messages = [];
      return;
    }
    this.#searchTimer = setTimeout(async () => {
      const [people, messages] = await Promise.all([
        this.#options.findUsers(text).catch(() => []),
        this.#options.findMessages(text).catch(() => []),
      ]);
      if (this.#search.value.trim() !== text) return;
      this.#people = people;
      this.#messages = messages.filter(({ conversation }) => this.#model.conversation(conversation));
      this.update(this.#options.openId());
    }, SEARCH_DELAY_MS);
  }

  #clear() {
    this.#search.value = "";
    this.#people = [];
    this.#messages = [];
    this.update(this.#options.openId());
  }

  #searchKey(event) {
    if (event.key === "Escape") {
      this.#clear();
      event.stopPropagation();
    } else if (event.key === "ArrowDown") {
      event.preventDefault();
      this.#list.querySelector("button")?.focus();
    } else if (event.key === "Enter") {
      this.#list.querySelector("button")?.click();
    }
  }

  #listKey(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const items = [...this.#list.querySelectorAll("button")];
    const at = items.indexOf(document.activeElement) + step;
    if (at < 0) this.#search.focus();
    else items[at]?.focus();
  }
}

/** "typing…" or, in a group, who is. */
export function typingText(conversation, typists) {
  if (typists.length === 0) return "";
  if (conversation.kind === "direct") return "typing…";
  return `${nameList(typists)} ${typists.length === 1 ? "is" : "are"} typing…`;
}

const STATES = {
  sending: "Sending",
  sent: "Sent",
  delivered: "Delivered",
  read: "Read",
  failed: "Not sent",
};

/** The words for a message's state. */
export const stateLabel = (state) => STATES[state];

const oneLine = (text) => (text.length > 200 ? text.slice(0, 200) : text).replace(/\s+/gu, " ").trim();
