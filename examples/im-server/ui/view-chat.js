// The conversation that is open: its head, its messages, the composer.

import { avatar } from "./avatar.js";
import { Composer } from "./view-composer.js";
import { h, hiddenText, icon, iconButton, reconcile, setText } from "./dom.js";
import { clockTime, dayName, daysBetween, fullTime, hue, lastSeen, memberLine, splitLinks } from "./format.js";
import { isShown } from "./conversation.js";
import { messageMenu } from "./view-menu.js";
import { stateLabel, typingText } from "./view-list.js";

// So long what is saved is kept at hand.
const SAVE_MS = 60_000;
// What is shown in place; the server gives these their type, and nothing that runs.
const PICTURES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
// Messages of one person within this time hang together.
const GROUP_MS = 5 * 60_000;
// This near to the end counts as being there.
const NEAR_END = 40;
// So long the line before new messages is kept in sight while more of them come.
const HOLD_MS = 3000;
// What is drawn within this time after a change of the history was not said just now.
const HUSH_MS = 700;
// So long a message that was looked for stands out.
const FOUND_MS = 2500;
// Older messages are fetched before the person hits the top.
const NEAR_START = 400;

/**
 * Calls `onBack()`, `onDetails()`, `onSend(conversation, text, replyTo)`, `onChange(conversation, kind, message, text)`,
 * `onFile(conversation, file)` and `onDownload(attachment)` (promises), `onTyping(conversation)`, `onRetry(key)`, `onDiscard(key)`,
 * `onOlder(conversation)`, `onReload(conversation)`, `onSeen(conversation, seq)`, `onCompose()`.
 */
export class ChatView {
  #model;
  #options;
  #conversation = null;
  #head;
  #log;
  #rows;
  #jump;
  #composer;
  #fault;
  #body;
  #empty;
  #atEnd = true;
  #placed = false;
  #holdUntil = 0;
  #hushed = null;
  #divider = null;

  constructor(model, options) {
    this.#model = model;
    this.#options = options;
    this.#head = {
      avatar: h("span", {}),
      title: h("h2", { tabindex: "-1", "data-testid": "chat-title" }),
      state: h("p", { class: "chat-state", "data-testid": "chat-state" }),
    };
    this.#rows = h("div", { class: "rows", "data-testid": "messages" });
    this.#log = h(
      "div",
      { class: "log", role: "log", "aria-live": "off", "aria-label": "Messages", tabindex: "0", onscroll: () => this.#scrolled() },
      this.#rows,
    );
    this.#jump = h(
      "button",
      { type: "button", class: "jump", hidden: true, "data-testid": "jump", onclick: () => this.#toEnd(true) },
      h("span", { class: "jump-count" }),
      icon("down"),
      hiddenText("Go to the latest message"),
    );
    this.#fault = h("p", { class: "chat-fault", role: "alert", "data-testid": "chat-fault" });
    this.#composer = new Composer({
      onSend: (text, replyTo) => {
        this.#atEnd = true;
        options.onSend(this.#conversation, text, replyTo);
      },
      onFile: (file) => this.#attempt(() => options.onFile(this.#conversation, file)),
      onEdit: (message, text) => this.#change("edit", message, text),
      onTyping: () => options.onTyping(this.#conversation),
    });
    this.#body = h(
      "div",
      { class: "chat-body", hidden: true },
      h(
        "header",
        { class: "chat-head" },
        iconButton("back", "Back to the conversations", { class: "icon-button back", onclick: options.onBack, "data-testid": "back" }),
        this.#head.avatar,
        h("div", { class: "chat-head-text" }, this.#head.title, this.#head.state),
        iconButton("info", "Details", { onclick: options.onDetails, "data-testid": "details-open" }),
      ),
      h("div", { class: "log-frame" }, this.#log, this.#jump),
      this.#fault,
      this.#composer.element,
    );
    this.#empty = h(
      "div",
      { class: "chat-empty" },
      icon("chats"),
      h("p", {}, "Choose a conversation, or start a new one."),
      h("button", { type: "button", class: "button primary", onclick: () => options.onCompose() }, "New conversation"),
    );
    this.element = h("section", { class: "chat", "aria-label": "Conversation" }, this.#empty, this.#body);
    new ResizeObserver(() => this.#resized()).observe(this.#log);
  }

  /** Shows a conversation, or none. */
  show(conversation) {
    if (this.#conversation === conversation) return;
    this.#conversation = conversation;
    setText(this.#fault, "");
    this.#body.hidden = !conversation;
    this.#empty.hidden = Boolean(conversation);
    this.#hush();
    this.#rows.replaceChildren();
    this.#atEnd = true;
    this.#placed = false;
    this.#holdUntil = 0;
    this.#divider = conversation?.divider ?? null;
    if (!conversation) return;
    this.#log.setAttribute("aria-label", `Messages with ${conversation.title}`);
    this.#head.avatar.replaceChildren();
    this.#composer.open(conversation);
    this.update();
  }

  /** Brings a message of the conversation, which is there, before the person's eyes. */
  reveal(seq) {
    this.update();
    const row = this.#rows.querySelector(`[data-seq="${seq}"]`);
    if (!row) return;
    this.#placed = true;
    row.scrollIntoView({ block: "center" });
    this.#atEnd = this.#isAtEnd();
    row.dataset.found = "";
    setTimeout(() => delete row.dataset.found, FOUND_MS);
    this.#afterScroll();
  }

  focusComposer() {
    this.#composer.focus();
  }

  focusTitle() {
    this.#head.title.focus();
  }

  update(now = Date.now()) {
    const conversation = this.#conversation;
    if (!conversation) return;
    this.#updateHead(conversation, now);
    this.#composer.update(conversation);

    const log = this.#log;
    const fromEnd = log.scrollHeight - log.scrollTop;
    const firstKey = this.#rows.querySelector("[data-seq]")?.dataset.seq;
    if (firstKey && conversation.messages.find(isShown)?.seq < Number(firstKey)) this.#hush();
    this.#draw(this.#describe(conversation, now));
    if (conversation.divider !== this.#divider) this.#holdUntil = now + HOLD_MS;
    this.#divider = conversation.divider;
    const grewAbove = firstKey && this.#rows.querySelector("[data-seq]")?.dataset.seq !== firstKey;

    if (!this.#placed) {
      this.#hush();
      this.#place(conversation);
    } else if (this.#atEnd) {
      this.#follow(now);
    } else if (grewAbove) {
      log.scrollTop = log.scrollHeight - fromEnd;
    }
    this.#afterScroll();
  }

  // History is not read aloud, only what comes from now on.
  #hush() {
    this.#log.setAttribute("aria-live", "off");
    clearTimeout(this.#hushed);
    this.#hushed = setTimeout(() => this.#log.setAttribute("aria-live", "polite"), HUSH_MS);
  }

  /** Marks as read what is before the person's eyes. */
  see() {
    const conversation = this.#conversation;
    if (!conversation || !this.#placed || document.visibilityState !== "visible" || !this.#body.offsetParent) return;
    if (this.#atEnd) {
      if (conversation.lastSeq > 0) this.#options.onSeen(conversation, conversation.lastSeq);
      return;
    }
    const end = this.#log.getBoundingClientRect().bottom;
    let seen = 0;
    for (const row of this.#rows.querySelectorAll("[data-seq]")) {
      if (row.getBoundingClientRect().bottom > end) break;
      seen = Number(row.dataset.seq);
    }
    if (seen > 0) this.#options.onSeen(conversation, seen);
  }

  #updateHead(conversation, now) {
    const { title, peer } = conversation;
    const presence = peer === null ? null : this.#model.presenceOf(peer);
    reconcile(this.#head.avatar, [
      { key: title, signature: String(presence), render: () => avatar(title, { group: peer === null, presence, size: "small" }) },
    ]);
    setText(this.#head.title, title);
    const typists = conversation.typists(now);
    this.#head.state.classList.toggle("typing", typists.length > 0);
    setText(this.#head.state, typists.length > 0 ? typingText(conversation, typists) : this.#stateText(conversation, now));
  }

  #stateText(conversation, now) {
    const { peer } = conversation;
    if (!this.#model.connected && peer !== null) return "";
    if (peer !== null) {
      const known = this.#model.presence.get(peer);
      if (this.#model.isOnline(peer)) return known.presence;
      return known?.lastSeen ? lastSeen(known.lastSeen, now) : known ? "offline" : "";
    }
    if (conversation.kind === "broadcast") return "From the administrators";
    const names = [...conversation.members.keys()];
    const online = names.filter((user) => this.#model.isOnline(user)).length;
    const members = `${names.length} ${names.length === 1 ? "member" : "members"}`;
    return this.#model.connected ? `${members}, ${online} online` : members;
  }

  // --- what is done to a message ---

  #change(kind, message, text) {
    return this.#attempt(() => this.#options.onChange(this.#conversation, kind, message, text));
  }

  async #attempt(work) {
    setText(this.#fault, "");
    try {
      await work();
    } catch (error) {
      setText(this.#fault, error.message);
    }
  }

  // A picture is shown, all else is offered to be saved.
  #attachment(attachment, name) {
    const load = async () => URL.createObjectURL(await this.#options.onDownload(attachment));
    if (PICTURES.has(attachment.type)) {
      const loaded = () => {
        URL.revokeObjectURL(picture.src);
        if (this.#atEnd) this.#toEnd(false);
      };
      const picture = h("img", { class: "picture", alt: name, "data-testid": "picture", onload: loaded });
      load().then((url) => picture.setAttribute("src", url)).catch(() => picture.replaceWith(name));
      return picture;
    }
    const save = () =>
      this.#attempt(async () => {
        const href = await load();
        h("a", { href, download: name }).click();
        setTimeout(() => URL.revokeObjectURL(href), SAVE_MS);
      });
    return h("button", { type: "button", class: "button small", "data-testid": "save", onclick: save }, icon("down"), "Save");
  }

  #menu(conversation, message) {
    const mine = message.from === this.#model.me;
    messageMenu({
      mine: message.reactions?.get(this.#model.me),
      onReact: (text) => this.#change("reaction", message, text),
      onReply: () => this.#composer.reply(message),
      onEdit: mine ? () => this.#composer.edit(message) : null,
      onRecall: conversation.mayRecall(message) ? () => this.#change("recall", message, "") : null,
    });
  }

  // The reactions, each with how many have it; one that I have can be taken back.
  #reactions(message) {
    const counts = new Map();
    for (const text of message.reactions?.values() ?? []) counts.set(text, (counts.get(text) ?? 0) + 1);
    const mine = message.reactions?.get(this.#model.me);
    return [...counts].map(([text, count]) =>
      h(
        "button",
        {
          type: "button",
          class: "reaction",
          "aria-pressed": String(text === mine),
          "aria-label": `${text}, ${count}`,
          "data-testid": "reaction",
          "data-reaction": text,
          onclick: () => this.#change("reaction", message, text === mine ? "" : text),
        },
        text,
        count > 1 ? ` ${count}` : "",
      ),
    );
  }

  #quote(conversation, id) {
    const quoted = conversation.find(id);
    const text = !quoted ? "an earlier message" : quoted.recalled ? "a recalled message" : quoted.bare ? `${quoted.from}: a message` : `${quoted.from}: ${quoted.body ?? ""}`;
    return h("p", { class: "quote", "data-testid": "quote" }, text);
  }

  // --- rows ---

  // The rows of a day share a section: its name, which sticks to the top, leaves together with it.
  #draw(rows) {
    const days = [];
    for (const row of rows) {
      if (days.length === 0 || row.startsDay) days.push({ key: row.startsDay ?? "start", rows: [] });
      days.at(-1).rows.push(row);
    }
    reconcile(
      this.#rows,
      days.map(({ key }) => ({ key, signature: "", render: () => h("div", { class: "day-rows" }) })),
    );
    days.forEach((day, i) => reconcile(this.#rows.children[i], day.rows));
  }

  #describe(conversation, now) {
    const rows = [];
    const { messages } = conversation;
    if (conversation.historyFailed) rows.push(this.#failedRow(conversation));
    else if (conversation.real && !conversation.complete) rows.push(loadingRow());
    if (!conversation.real || (conversation.complete && messages.length === 0)) {
      if (this.#model.outbox.of(conversation.id).length === 0) rows.push(greetingRow(conversation));
    }
    const items = [];
    // The order is that of seq: a clock that was set back, or this machine's being behind, must not begin an old day again.
    const push = (item, time) => items.push({ ...item, time: Math.max(time, items.at(-1)?.time ?? 0) });
    for (const message of messages.filter(isShown)) push({ message, from: message.from }, message.timestamp);
    for (const entry of this.#model.outbox.of(conversation.id)) push({ entry, from: this.#model.me }, entry.created);
    let divided = conversation.divider === null;
    items.forEach((item, i) => {
      const before = items[i - 1];
      const newDay = !before || daysBetween(before.time, item.time) !== 0;
      if (newDay) rows.push(dayRow(item.time, now));
      const isFirstNew = !divided && item.message?.seq > conversation.divider && item.from !== this.#model.me;
      if (isFirstNew) {
        rows.push(dividerRow());
        divided = true;
      }
      if (item.message && item.message.kind !== "message") {
        rows.push(this.#systemRow(item.message));
        return;
      }
      const opens = newDay || isFirstNew || !hangTogether(before, item);
      const after = items[i + 1];
      const closes = !after || daysBetween(item.time, after.time) !== 0 || !hangTogether(item, after);
      rows.push(this.#bubbleRow(conversation, item, opens, closes));
    });
    return rows;
  }

  #bubbleRow(conversation, { message, entry, from }, opens, closes) {
    const time = message?.timestamp ?? entry.created;
    const mine = from === this.#model.me;
    const state = entry ? (entry.error ? "failed" : "sending") : mine ? conversation.status(message) : null;
    const named = conversation.kind !== "direct" && !mine;
    // A message that was changed is another row: what is new in it is read aloud.
    const file = message?.attachment ? " file" : "";
    const version = message?.recalled ? " recalled" : message?.edited ? ` ${message.edited}` : "";
    const key = (message?.key ?? entry?.key ?? message?.id ?? `seq-${message.seq}`) + file + version;
    const label = state && this.#stateTitle(conversation, message, state);
    const name = named && h("p", { class: `sender ink-${hue(from)}`, "aria-hidden": "true" }, from);
    const picture = named && avatar(from, { size: "tiny" });
    // A live region reads what is added: a change of state must not add the text again.
    const replyTo = message?.replyTo ?? entry?.replyTo;
    const update = (element) => {
      element.querySelector(".reactions").replaceChildren(...(message ? this.#reactions(message) : []));
      element.className = ["message", mine ? "mine" : "theirs", opens && "opens", closes && "closes", state].filter(Boolean).join(" ");
      if (message) element.dataset.seq = message.seq;
      // A row of what was just written becomes that of the message.
      if (message && conversation.writable && !message.recalled && !element.querySelector(".more")) element.append(this.#more(conversation, message));
      if (!state) return;
      element.dataset.state = state;
      element.querySelector(".tick").replaceChildren(icon(state, label));
      element.querySelector(".failure")?.remove();
      if (entry?.error) element.append(this.#failure(entry));
    };
    return {
      key: `m ${from} ${key}`,
      signature: JSON.stringify([message?.seq, label, opens, closes, entry?.error, [...(message?.reactions ?? [])]]),
      update,
      render: () => {
        const element = h(
          "article",
          { "data-testid": "message", "data-from": from },
          picture,
          h(
            "div",
            { class: "bubble" },
            name,
            hiddenText(mine ? "You: " : `${from}: `),
            replyTo && !message?.recalled && this.#quote(conversation, replyTo),
            message?.attachment && !message.recalled && this.#attachment(message.attachment, message.body ?? ""),
            message?.recalled ? noText("This message was recalled.") : message?.bare ? noText("The text of this message was not kept.") : textOf(message ? message.body : entry.body),
            h(
              "span",
              { class: "meta" },
              message?.edited && !message.recalled && h("span", { "data-testid": "edited" }, "edited"),
              h("time", { datetime: new Date(time).toISOString(), title: fullTime(time) }, clockTime(time)),
              state && h("span", { class: "tick" }),
            ),
            h("div", { class: "reactions" }),
          ),
        );
        update(element);
        return element;
      },
    };
  }

  #more(conversation, { id }) {
    const open = () => {
      const message = conversation.find(id);
      if (message) this.#menu(conversation, message);
    };
    return iconButton("more", "Reply, react and more", { class: "icon-button more", "data-testid": "message-more", onclick: open });
  }

  #stateTitle(conversation, message, state) {
    if (conversation.kind === "direct" || !message) return stateLabel(state);
    const readers = conversation.others.filter((user) => conversation.members.get(user).read >= message.seq).length;
    return readers > 0 ? `Read by ${readers} of ${conversation.others.length}` : stateLabel(state);
  }

  #failure(entry) {
    return h(
      "p",
      { class: "failure", role: "alert" },
      `Not sent: ${entry.error}. `,
      h("button", { type: "button", class: "link", onclick: () => this.#options.onRetry(entry.key) }, "Try again"),
      " ",
      h("button", { type: "button", class: "link", onclick: () => this.#options.onDiscard(entry.key) }, "Discard"),
    );
  }

  #systemRow(message) {
    const text = message.kind === "member" ? memberLine(message, this.#model.me) : (message.body ?? "");
    return {
      key: `s ${message.seq}`,
      signature: text,
      render: () => h("p", { class: "system", "data-seq": message.seq, "data-testid": "system" }, text),
    };
  }

  #failedRow(conversation) {
    return {
      key: "failed",
      signature: conversation.id,
      render: () =>
        h(
          "p",
          { class: "system" },
          "The messages could not be loaded. ",
          h("button", { type: "button", class: "link", onclick: () => this.#options.onReload(conversation) }, "Try again"),
        ),
    };
  }

  // --- scrolling ---

  // Where one starts to read: at the "new messages" line if there is one, else at the end.
  #place(conversation) {
    if (conversation.real && !conversation.loaded) {
      this.#toEnd(false);
      return;
    }
    this.#placed = true;
    this.#toEnd(false);
    this.#backToLine();
  }

  // Keeps the end in sight as messages come; but nothing new goes by unseen while the tab is hidden, or while what was missed comes in.
  #follow(now) {
    this.#toEnd(false);
    if (document.visibilityState === "hidden" || now < this.#holdUntil) this.#backToLine();
  }

  #backToLine() {
    const line = this.#line;
    if (!line) return;
    const above = line.offsetTop - this.#log.clientHeight / 4;
    if (above < this.#log.scrollTop) this.#log.scrollTop = above;
    this.#atEnd = this.#isAtEnd();
  }

  get #line() {
    return this.#rows.querySelector(".divider");
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  #toEnd(smoothly) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#log.scrollTo({ top: this.#log.scrollHeight, behavior: smoothly && !calm ? "smooth" : "instant" });
    this.#atEnd = true;
  }

  #scrolled() {
    if (!this.#conversation || !this.#placed) return;
    this.#atEnd = this.#isAtEnd();
    this.#afterScroll();
    if (this.#log.scrollTop < NEAR_START) this.#options.onOlder(this.#conversation);
  }

  #resized() {
    if (!this.#conversation || !this.#placed) return;
    if (this.#atEnd) this.#toEnd(false);
    // A page that does not fill the screen cannot be scrolled to ask for more.
    if (this.#log.scrollHeight <= this.#log.clientHeight) this.#options.onOlder(this.#conversation);
    this.#afterScroll();
  }

  #afterScroll() {
    this.#jump.hidden = this.#atEnd;
    const { unread } = this.#conversation;
    setText(this.#jump.firstElementChild, unread > 0 ? String(unread) : "");
    this.see();
  }
}


function hangTogether(a, b) {
  const plain = (item) => item && (item.entry || item.message.kind === "message");
  return plain(a) && plain(b) && a.from === b.from && b.time - a.time < GROUP_MS;
}

function textOf(body) {
  if (body === null) return h("p", { class: "text unreadable" }, "This message is not text.");
  const parts = splitLinks(body).map(({ text, href }) =>
    href ? h("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, text) : text,
  );
  return h("p", { class: "text", dir: "auto", "data-testid": "text" }, parts);
}

const noText = (reason) => h("p", { class: "text unreadable", "data-testid": "text" }, reason);

function dayRow(time, now) {
  const name = dayName(time, now);
  const day = new Date(time).toDateString();
  return { key: `d ${day}`, startsDay: day, signature: name, render: () => h("h3", { class: "day" }, h("span", {}, name)) };
}

const dividerRow = () => ({
  key: "divider",
  signature: "",
  render: () => h("p", { class: "divider", "data-testid": "divider" }, h("span", {}, "New messages")),
});

const loadingRow = () => ({
  key: "loading",
  signature: "",
  render: () => h("p", { class: "loading" }, hiddenText("Loading messages")),
});

const greetingRow = ({ title, kind }) => ({
  key: "greeting",
  signature: "",
  render: () =>
    h(
      "div",
      { class: "greeting" },
      avatar(title, { group: kind !== "direct", size: "large" }),
      h("p", {}, kind !== "direct" ? `This is the start of ${title}.` : `This is the start of your conversation with ${title}.`),
      h("p", { class: "hint" }, "Say hello."),
    ),
});
