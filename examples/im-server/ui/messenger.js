// The signed-in screen: puts the views together, and decides which conversation is open.

import { BannerView } from "./view-banner.js";
import { ChatView } from "./view-chat.js";
import { DetailsView } from "./view-details.js";
import { h, setText } from "./dom.js";
import { directId } from "./format.js";
import { ListView } from "./view-list.js";
import { Model } from "./model.js";
import { Outbox } from "./outbox.js";
import { peopleDialog } from "./view-people.js";
import { Session } from "./session.js";
import { groupDialog, settingsDialog } from "./view-menu.js";

const MINUTE_MS = 60_000;
const HIDDEN_DRAW_MS = 200;
// Who has not looked at the page for so long is away.
const AWAY_MS = 5 * MINUTE_MS;

/** Options: `user`, `token`, `device`, `api`, `clock`, `storage`, `onSignedOut(reason)` with reason null where the person asked for it. */
export class Messenger {
  #model;
  #session;
  #list;
  #chat;
  #details;
  #banner;
  #panes;
  #open = null;
  #scheduled = false;
  #abort = new AbortController();
  #timers = [];
  #hiddenSince = null;

  constructor({ user, token, device, api, clock, storage, onSignedOut }) {
    this.#model = new Model(user, new Outbox(storage, user));
    this.#session = new Session({
      api,
      model: this.#model,
      device,
      token,
      clock,
      url: new URL("/ws", location.href.replace(/^http/, "ws")).href.split("#")[0],
      onChange: () => this.#schedule(),
      onArrival: (conversation, message) => this.#arrival(conversation, message),
      onSignedOut,
    });
    this.#list = new ListView(this.#model, {
      openId: () => this.#open?.id ?? null,
      onOpen: (id) => this.#go(id),
      onFound: (message) => this.#reveal(message),
      onPerson: (name) => this.#person(name),
      onCompose: () => this.#compose(),
      onSettings: () => this.#settings(device),
      onSignOut: () => onSignedOut(null),
      findUsers: (text) => this.#session.findUsers(text),
      findMessages: (text) => this.#session.findMessages(text),
    });
    this.#chat = new ChatView(this.#model, {
      onBack: () => this.#back(),
      onDetails: () => this.#details.show(this.#details.isOpen ? null : this.#open),
      onSend: (conversation, text, replyTo) => {
        conversation.divider = null;
        this.#session.sendText(conversation, text, replyTo);
      },
      onFile: (conversation, file) => this.#session.sendFile(conversation, file),
      onDownload: (attachment) => this.#session.download(attachment),
      onChange: (conversation, kind, message, text) => this.#session.change(conversation, kind, message, text),
      onTyping: (conversation) => this.#session.typing(conversation),
      onRetry: (key) => this.#session.retrySend(key),
      onDiscard: (key) => this.#session.discard(key),
      onOlder: (conversation) => this.#session.loadOlder(conversation),
      onReload: (conversation) => this.#reload(conversation),
      onSeen: (conversation, seq) => this.#session.markRead(conversation, seq),
      onCompose: () => this.#compose(),
    });
    this.#details = new DetailsView(this.#model, {
      onClose: () => {
        this.#details.show(null);
        this.#chat.focusTitle();
      },
      onPerson: (name) => this.#person(name),
      onAdd: (conversation) => this.#addPeople(conversation),
      onRemove: (conversation, member) => this.#session.removeMember(conversation, member),
      onMember: (conversation, member, change) => this.#session.changeMember(conversation, member, change),
      onBlock: (user) => this.#session.block(user),
      onGroup: async (conversation) =>
        groupDialog(await this.#session.group(conversation), (settings) => this.#session.changeGroup(conversation, settings)),
    });
    this.#banner = new BannerView(this.#model, {
      clock,
      onRetry: () => this.#session.retryNow(),
      onTakeBack: () => this.#session.takeBack(),
    });
    this.#panes = h("div", { class: "panes" }, this.#list.element, this.#chat.element, this.#details.element);
    this.element = h(
      "main",
      { class: "messenger", "data-pane": "list", "data-testid": "messenger" },
      h("h1", { class: "visually-hidden" }, "Messages"),
      this.#banner.element,
      this.#panes,
      this.#banner.cover,
    );
  }

  start() {
    const { signal } = this.#abort;
    window.addEventListener("hashchange", () => this.#follow(), { signal });
    window.addEventListener("online", () => this.#session.retryNow(), { signal });
    window.addEventListener("offline", () => this.#banner.update(), { signal });
    window.addEventListener("keydown", (event) => this.#key(event), { signal });
    document.addEventListener("visibilitychange", () => this.#visible(), { signal });
    // "Typing" ends, and "5 min ago" ages, without anything coming from the server.
    this.#timers.push(setInterval(() => this.#second(), 1000), setInterval(() => this.#schedule(), MINUTE_MS));
    if (document.visibilityState !== "visible") this.#hiddenSince = Date.now();
    this.#session.start();
    this.#follow();
    this.#update();
  }

  stop() {
    this.#abort.abort();
    this.#timers.forEach(clearInterval);
    this.#session.stop();
    document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
    this.element.remove();
  }

  // --- which conversation is open: the address says it, so that the browser's back button works ---

  #go(id) {
    const hash = id ? `#${encodeURIComponent(id)}` : "#";
    if (location.hash === hash) this.#follow();
    else location.hash = hash;
  }

  // Opens the conversation of a message that was found, and brings it into sight.
  async #reveal({ conversation: id, seq }) {
    this.#go(id);
    this.#follow();
    const conversation = this.#open;
    if (!conversation) return;
    await this.#session.reach(conversation, seq);
    if (conversation === this.#open) this.#chat.reveal(seq);
  }

  #back() {
    const { id } = this.#open ?? {};
    this.#go(null);
    this.#follow();
    if (id) this.#list.focusItem(id);
  }

  #follow() {
    let id = "";
    try {
      id = decodeURIComponent(location.hash.slice(1));
    } catch {
      // A hand-made address: nothing is open.
    }
    const conversation = id ? this.#model.conversation(id) : null;
    // What is not displayed has no size to place things by: the pane comes first.
    this.element.dataset.pane = conversation ? "chat" : "list";
    if (conversation !== this.#open) this.#show(conversation);
    if (!conversation) return;
    if (matchMedia("(pointer: coarse)").matches) this.#chat.focusTitle();
    else this.#chat.focusComposer();
  }

  #show(conversation) {
    if (this.#open) this.#open.divider = null;
    this.#open = conversation;
    if (conversation) {
      conversation.divider = conversation.unread > 0 ? conversation.myRead : null;
      this.#session.open(conversation);
    }
    this.#details.show(this.#details.isOpen && conversation ? conversation : null);
    this.#chat.show(conversation);
    this.#list.update(conversation?.id ?? null);
  }

  #reload(conversation) {
    if (conversation.loaded) this.#session.loadOlder(conversation);
    else this.#session.open(conversation);
  }

  // --- dialogs ---

  #person(name) {
    if (name !== this.#model.me) this.#go(directId(this.#model.me, name));
  }

  #compose() {
    const { me } = this.#model;
    peopleDialog("start", {
      findUsers: (text) => this.#session.findUsers(text),
      suggested: this.#acquaintances(),
      excluded: [me],
      onPerson: (name) => this.#person(name),
      onGroup: async (name, members) => this.#go((await this.#session.createGroup(name, members)).id),
    });
  }

  #settings(device) {
    settingsDialog({
      device,
      load: () => this.#session.settings(),
      onRemove: (name) => this.#session.removeDevice(name),
      onRename: (name, label) => this.#session.nameDevice(name, label),
      onUnblock: (user) => this.#session.unblock(user),
    });
  }

  #addPeople(conversation) {
    const excluded = [...conversation.members.keys()];
    peopleDialog("add", {
      title: `Add people to ${conversation.title}`,
      findUsers: (text) => this.#session.findUsers(text),
      suggested: this.#acquaintances().filter((name) => !excluded.includes(name)),
      excluded,
      onAdd: async (members) => {
        for (const member of members) await this.#session.addMember(conversation, member);
      },
    });
  }

  // The people of my conversations, those of the latest first.
  #acquaintances() {
    const names = this.#model.listed.flatMap((conversation) => conversation.others);
    return [...new Set(names)];
  }

  // --- what happens ---

  #arrival(conversation, message) {
    if (message.from === this.#model.me || message.seq <= conversation.lastSeq) return;
    const isOpen = conversation === this.#open;
    const looking = isOpen && document.visibilityState === "visible";
    if (isOpen && !looking) conversation.divide();
    // An open conversation speaks through its log.
    if (!isOpen && message.kind === "message") {
      setText(document.getElementById("announcer"), `New message from ${message.from}`);
    }
  }

  #visible() {
    if (document.visibilityState !== "visible") {
      this.#hiddenSince ??= Date.now();
      return;
    }
    this.#hiddenSince = null;
    this.#session.setAway(false);
    this.#session.retryNow();
    this.#update();
  }

  #key(event) {
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      if (this.#details.isOpen) {
        this.#details.show(null);
        this.#chat.focusComposer();
      } else if (this.#open) {
        this.#back();
      }
    } else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      this.#list.focusSearch();
    }
  }

  #second() {
    if (this.#hiddenSince !== null && Date.now() - this.#hiddenSince >= AWAY_MS) this.#session.setAway(true);
    this.#typingOver();
  }

  #typingOver() {
    for (const { typing } of this.#model.conversations.values()) {
      if (typing.size > 0) {
        const now = Date.now();
        for (const [user, until] of typing) if (until <= now) typing.delete(user);
        this.#schedule();
      }
    }
  }

  // Many changes of one moment are drawn once. A hidden tab has no animation frames, and its title must still count.
  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    const draw = () => {
      if (!this.#scheduled) return;
      this.#scheduled = false;
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      if (!this.#abort.signal.aborted) this.#update();
    };
    const frame = requestAnimationFrame(draw);
    const timer = setTimeout(draw, HIDDEN_DRAW_MS);
  }

  #update() {
    const { unread, link } = this.#model;
    const open = this.#open;
    if (open?.real && !open.loaded && !open.historyFailed && link.state === "connected") {
      // A reload opens the conversation before its unread count is known.
      if (open.unread > 0) open.divide();
      this.#session.open(open);
    }
    this.#panes.inert = link.takenOver;
    this.#banner.update();
    this.#chat.update();
    this.#details.update();
    this.#list.update(open?.id ?? null);
    document.title = unread > 0 ? `(${unread}) Messages` : "Messages";
  }
}
