// One conversation as the page knows it: messages by seq, markers, unread count. Pure: no network, no screen.

import { parseConversationId } from "./format.js";

/** Kinds that are shown as rows of the conversation. */
const SHOWN = new Set(["message", "member", "system"]);

export const isShown = (message) => SHOWN.has(message.kind);

// As the server counts: a change of something old, or of the members, is nothing new to read.
const countsAsUnread = ({ kind, recalled }) => (kind === "message" || kind === "system") && !recalled;

export class Conversation {
  #me;
  #bySeq = new Map();
  #byId = new Map();
  #sorted = null;
  #filledGaps = new Set();

  constructor(id, me) {
    const { kind, title, destination } = parseConversationId(id, me);
    this.#me = me;
    this.id = id;
    this.kind = kind;
    /** The group's name, or the other person's. */
    this.name = title;
    this.title = title;
    this.destination = destination;
    /** user -> { role, read, delivered, online, since }; `since` is the seq at which the member was added. */
    this.members = new Map([[me, newMember(0)]]);
    if (kind === "direct") this.members.set(title, newMember(0));
    this.lastSeq = 0;
    this.lastMessage = null;
    this.unread = 0;
    /** The server knows of it. A chat that was only opened here is not real until its first message. */
    this.real = false;
    /** I am no longer a member. */
    this.left = false;
    /** I may say something here. */
    this.writable = kind !== "broadcast";
    /** The last page of history has been fetched. */
    this.loaded = false;
    /** The last attempt to fetch history failed. */
    this.historyFailed = false;
    /** There is nothing older than what is here. */
    this.complete = false;
    /** The "new messages" line stands after this seq; null where there is none. */
    this.divider = null;
    /** user -> until when (ms since 1970) they count as typing. */
    this.typing = new Map();
  }

  /** The other person of a direct conversation. */
  get peer() {
    return this.kind === "direct" ? this.name : null;
  }

  get others() {
    return [...this.members.keys()].filter((user) => user !== this.#me);
  }

  get myRead() {
    return this.members.get(this.#me)?.read ?? 0;
  }

  get isOwner() {
    const role = this.members.get(this.#me)?.role;
    return role === "owner" || role === "admin";
  }

  /** The messages in the order of seq. */
  get messages() {
    this.#sorted ??= [...this.#bySeq.values()].sort((a, b) => a.seq - b.seq);
    return this.#sorted;
  }

  get firstSeq() {
    return this.messages[0]?.seq ?? null;
  }

  /** Takes what GET /conversations says of it. What came by other ways meanwhile and is newer stays. */
  merge(snapshot) {
    this.real = true;
    this.left = false;
    if (this.kind !== "broadcast") this.title = snapshot.title ?? this.title;
    this.writable = snapshot.writable ?? this.writable;
    const before = this.members;
    this.members = new Map();
    for (const { user, role, read, delivered, online } of snapshot.members) {
      const known = before.get(user);
      this.members.set(user, {
        role,
        read: Math.max(read ?? 0, known?.read ?? 0),
        delivered: Math.max(delivered ?? 0, known?.delivered ?? 0),
        online: Boolean(online),
        since: known?.since ?? 0,
      });
    }
    // What came while there was no connection is new to whoever has the conversation open.
    if (this.loaded && snapshot.last_seq > this.lastSeq && snapshot.unread > 0) this.divide();
    if (snapshot.last_seq >= this.lastSeq) {
      this.lastSeq = snapshot.last_seq;
      this.unread = this.myRead >= snapshot.last_seq ? 0 : snapshot.unread;
      if (snapshot.last_message && isShown(snapshot.last_message)) this.lastMessage = snapshot.last_message;
    }
  }

  /** Puts the "new messages" line after what has been read, unless there is one with something unread below it. */
  divide() {
    if (this.divider === null || this.unread === 0) this.divider = this.myRead;
  }

  /** Takes one stored message, live or from history. True where it was not known before. */
  add(message) {
    if (this.#bySeq.has(message.seq)) return false;
    this.real = true;
    const last = this.messages.at(-1);
    this.#bySeq.set(message.seq, message);
    this.#byId.set(message.id, message);
    if (!last || message.seq > last.seq) this.#sorted.push(message);
    else this.#sorted = null;

    const isNew = message.seq > this.lastSeq;
    if (isNew) this.lastSeq = message.seq;
    if (isShown(message) && message.seq >= (this.lastMessage?.seq ?? 0)) this.lastMessage = message;
    if (message.kind === "member") this.#changeMembers(message, isNew);
    if (message.replyTo) this.#change(message);
    // To write is to have read, and it ends the typing.
    this.mark("read", message.from, message.seq);
    this.typing.delete(message.from);
    if (isNew && message.from !== this.#me && countsAsUnread(message)) this.unread += 1;
    return true;
  }

  /** The message of this id, if it is here. */
  find(id) {
    return this.#byId.get(id) ?? null;
  }

  /** Whether I may take this message back for everyone. The server has the last word, and knows the time. */
  mayRecall(message) {
    return message.from === this.#me || this.isOwner;
  }

  // Does to an earlier message what an edit, a recall or a reaction says; one that is not here comes with all that from the history.
  #change({ kind, replyTo, from, body, seq }) {
    const target = this.#byId.get(replyTo);
    if (!target || seq <= target.asOf || target.recalled) return;
    if (kind === "edit") {
      if (seq <= (target.edited ?? 0)) return;
      Object.assign(target, { body, edited: seq, bare: false });
    } else if (kind === "recall") {
      Object.assign(target, { body: "", recalled: seq, reactions: new Map() });
      this.unread = this.#countUnread();
    } else if (kind === "reaction") {
      target.reactedAt ??= new Map();
      if (seq <= (target.reactedAt.get(from) ?? 0)) return;
      target.reactedAt.set(from, seq);
      target.reactions ??= new Map();
      target.reactions.delete(from);
      if (body) target.reactions.set(from, body);
    }
  }

  /** Takes a page of history. `before` is what was asked for, undefined for the last page. */
  addHistory({ messages, first_seq: first }, before) {
    for (const message of messages) this.add(message);
    if (before === undefined) this.loaded = true;
    if (messages.length === 0 ? before !== undefined || this.lastSeq === 0 : messages[0].seq <= first) this.complete = true;
  }

  /** Moves a member's `read` or `delivered` marker, forward only. */
  mark(which, user, seq) {
    const member = this.members.get(user);
    if (!member || member[which] >= seq) return false;
    member[which] = seq;
    if (user === this.#me && which === "read") this.unread = this.#countUnread();
    return true;
  }

  #countUnread() {
    const read = this.myRead;
    if (read >= this.lastSeq) return 0;
    if (this.firstSeq === null || this.firstSeq > read + 1) return Math.min(this.unread, this.lastSeq - read);
    return this.messages.filter((one) => one.seq > read && one.from !== this.#me && countsAsUnread(one)).length;
  }

  /** `sent`, `delivered` or `read`, for a stored message of mine. */
  status(message) {
    const others = [...this.members].filter(([user, { since }]) => user !== this.#me && since < message.seq);
    if (others.length === 0) return "sent";
    if (others.every(([, { read }]) => read >= message.seq)) return "read";
    if (others.every(([, { read, delivered }]) => Math.max(read, delivered) >= message.seq)) return "delivered";
    return "sent";
  }

  /** The first hole in the messages that has not been asked about, as `{ after, before }`, or null. */
  nextGap() {
    const { messages } = this;
    for (let i = 1; i < messages.length; i += 1) {
      const after = messages[i - 1].seq;
      const before = messages[i].seq;
      if (before > after + 1 && !this.#filledGaps.has(`${after}-${before}`)) return { after, before };
    }
    const last = messages.at(-1);
    if (this.loaded && last && last.seq < this.lastSeq && !this.#filledGaps.has(`${last.seq}-${this.lastSeq + 1}`)) {
      return { after: last.seq, before: this.lastSeq + 1 };
    }
    return null;
  }

  /** The hole was asked about: what is still missing there does not exist any more. */
  gapAsked({ after, before }) {
    this.#filledGaps.add(`${after}-${before}`);
  }

  /** Who is typing now. */
  typists(now) {
    return [...this.typing].filter(([, until]) => until > now).map(([user]) => user);
  }

  #changeMembers(message, isNew) {
    let change;
    try {
      change = JSON.parse(message.body);
    } catch {
      return;
    }
    const user = change?.user;
    if (typeof user !== "string") return;
    if (change.action === "added" || change.action === "joined") {
      const member = this.members.get(user);
      if (member) member.since = Math.max(member.since, message.seq);
      else if (isNew) this.members.set(user, newMember(message.seq));
      if (isNew && user === this.#me) this.left = false;
    } else if (isNew && (change.action === "removed" || change.action === "left")) {
      this.members.delete(user);
      if (user === this.#me) this.left = true;
    }
  }
}

const newMember = (since) => ({ role: "member", read: 0, delivered: 0, online: false, since });
